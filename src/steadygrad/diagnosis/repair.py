"""Repair: from a fault to a remedy that is proven on the task, or to nothing at all."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad.diagnosis.diagnose import diagnose
from steadygrad.diagnosis.forks import Better, Choice, Fork, choose, first_to_reach, sign_of
from steadygrad.diagnosis.lag import steps_of
from steadygrad.errors import check_count
from steadygrad.faults import Finding, verdict, worst_first
from steadygrad.record import Record
from steadygrad.remedies import Course, Remedy, parse

Trainer = Callable[[nn.Module, Course], float]
"""Trains a model for a fixed budget, on a course of remedies, and returns its validation score."""


@dataclass(frozen=True)
class Repair:
    """What was found, tried and kept.

    Attributes:
        verdict: Of the model as it was.
        findings: Worst first.
        plan: Remedies to try, the most promising first, as `steadygrad.remedies.parse` reads them.
        choice: What the trainings said; None after a dry run, or where nothing is wrong.
    """

    verdict: str
    findings: tuple[Finding, ...]
    plan: tuple[str, ...]
    choice: Choice | None

    @property
    def remedy(self) -> Remedy | None:
        """The remedy that was kept, or None."""
        return None if self.choice is None or self.choice.kept is None else parse(self.choice.kept)

    def apply(self, model: nn.Module) -> Course:
        """Treat a new model with what was kept; it is left as it is if nothing was."""
        return Course(() if self.remedy is None else (self.remedy,), model)

    def __str__(self) -> str:
        lines = [f"verdict: {self.verdict}"]
        lines += [f"{f.fault}: {f.text}" for f in self.findings]
        if self.plan:
            lines.append(f"plan: {', '.join(self.plan)}")
        if self.choice is not None:
            kept = self.choice.kept or "nothing"
            lines += [f"kept: {kept} ({self.choice.why})", f"cost: {self.choice.seconds:.1f} s"]
        return "\n".join(lines)

    def to_record(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "verdict": self.verdict,
            "findings": [f.to_record() for f in self.findings],
            "plan": list(self.plan),
            "choice": None if self.choice is None else asdict(self.choice),
        }


def plan_of(findings: Sequence[Finding], most: int) -> tuple[str, ...]:
    """The remedies of the findings, of the worst first, each once, at most so many."""
    ranked = [name for f in worst_first(list(findings)) for name in f.remedies]
    return tuple(dict.fromkeys(ranked))[:most]


def repair(
    model_factory: Callable[[], nn.Module],
    trainer: Trainer,
    loss_fn: Callable[[nn.Module], Tensor],
    *,
    lag: int | None = None,
    better: Better = "higher",
    remedies: Sequence[str] | None = None,
    most: int = 4,
    seeds: int = 4,
    seed: int = 0,
    dry_run: bool = False,
    findings: Sequence[Finding] | None = None,
    target: float | None = None,
    record: Record | None = None,
    tell: Callable[[Fork], None] = lambda fork: None,
) -> Repair:
    """Find a remedy for a model, and prove it on the task.

    The model is diagnosed as it is made and, if it is healthy then, after a training. If nothing
    is wrong, nothing is tried. Else the remedies that suit the findings are tried against nothing
    in short trainings of equal budget (`steadygrad.diagnosis.forks.choose`): judged by the task's
    validation score, under fresh seeds, and kept only if better beyond noise. Every training has a
    model of its own, so what was not kept leaves no trace.

    Args:
        model_factory: Makes a new model; random draws follow torch's generator, which is seeded.
        trainer: Trains a model for a fixed budget and returns its validation score. It calls
            ``course.begin(optimizer)``, adds ``course.penalty(loss)`` to the loss, and calls
            ``course.gradients()`` after ``backward``; see `steadygrad.remedies.Course`.
        loss_fn: Loss of one batch with a model, to look at its gradient.
        lag: Steps back that the task needs; without it vanishing is not checked.
        better: Which way a score is better.
        remedies: To try, as text; those that suit the findings if not given.
        most: How many to try at most.
        seeds: Fresh seeds that a remedy has to prove itself under.
        seed: Of the first training; the fresh ones follow it.
        dry_run: Diagnose and plan; train nothing.
        findings: Of a watch over a training that fails; nothing is diagnosed anew then.
        target: The score that counts as solved, if that is known. The remedies are then tried one
            after the other, and the first that reaches it under enough fresh seeds is kept
            (`steadygrad.diagnosis.forks.first_to_reach`).
        record: Where findings, trainings and choice are written.
        tell: Called after every training.

    Raises:
        ValueError: As `steadygrad.diagnose`; a remedy's text that cannot be read; ``better`` is
            neither way.

    Example:
        >>> import torch
        >>> from torch.nn.functional import mse_loss
        >>> x, y = torch.randn(30, 8, 2), torch.randn(8, 8)
        >>> def trainer(model, course):
        ...     optimizer = torch.optim.SGD(model.parameters(), 0.1)
        ...     course.begin(optimizer)
        ...     for _ in range(3):
        ...         optimizer.zero_grad()
        ...         loss = mse_loss(model(x)[0][-1], y)
        ...         (loss + course.penalty(loss)).backward()
        ...         course.gradients()
        ...         optimizer.step()
        ...     return -mse_loss(model(x)[0][-1], y).item()
        >>> found = repair(
        ...     lambda: torch.nn.LSTM(2, 8),
        ...     trainer,
        ...     lambda model: mse_loss(model(x)[0][-1], y),
        ...     lag=29,
        ...     dry_run=True,
        ... )
        >>> found.verdict, found.plan[0]
        ('vanishing', 'forget-bias:value=3.37')
    """
    sign_of(better)  # wrong before the first training
    check_count("most", most)
    check_count("seeds", seeds, 2)
    check_count("seed", seed, 0)
    steps_of(lag)
    for text in remedies or ():
        parse(text)
    run = _Trainings(model_factory, trainer)
    if findings is None:
        findings = diagnose_all(run.made(seed), loss_fn, lag)
        if not findings and not dry_run:
            findings = diagnose_all(run.trained(seed), loss_fn, lag)
    plan = tuple(remedies) if remedies is not None else plan_of(findings, most)
    choice = None
    if findings and plan and not dry_run and target is not None:
        choice = first_to_reach(
            plan, run.score, target, better=better, first_seed=seed + 1, tell=tell
        )
    elif findings and plan and not dry_run:
        choice = choose(plan, run.score, better=better, seeds=seeds, first_seed=seed, tell=tell)
    result = Repair(verdict(list(findings)), tuple(findings), plan, choice)
    if record is not None:
        record.note("repair", result.to_record())
    return result


def diagnose_all(
    model: nn.Module, loss_fn: Callable[[nn.Module], Tensor], lag: int | None
) -> list[Finding]:
    """Findings of one look."""
    return diagnose(model, lambda: loss_fn(model), lag).findings


class _Trainings:
    """Models made and trained under a seed; the random state of the caller stays as it is."""

    def __init__(self, factory: Callable[[], nn.Module], trainer: Trainer) -> None:
        self._factory, self._trainer = factory, trainer
        self._plain: dict[int, tuple[nn.Module, float]] = {}

    def made(self, seed: int) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self._factory()

    def trained(self, seed: int) -> nn.Module:
        """The model after a training without any remedy; its score is kept for later."""
        if seed not in self._plain:
            self._train(None, seed)
        return self._plain[seed][0]

    def score(self, name: str | None, seed: int) -> float:
        if name is None and seed in self._plain:
            return self._plain[seed][1]
        return self._train(name, seed)

    def _train(self, name: str | None, seed: int) -> float:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = self._factory()
            course = Course(() if name is None else (parse(name),), model)
            value = float(self._trainer(model, course))
        if name is None:
            self._plain[seed] = model, value
        return value
