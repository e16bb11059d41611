"""Repair: from a fault to a remedy that is proven on the task, or to nothing at all."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad import _drawing
from steadygrad.diagnosis.caller import names_of
from steadygrad.diagnosis.forks import (
    LEAST_SEEDS,
    Better,
    Choice,
    Fork,
    choose,
    first_to_reach,
    sign_of,
)
from steadygrad.diagnosis.lag import Lag, steps_of
from steadygrad.diagnosis.trainings import (
    DEFAULT_STEPS,
    CourseTrainings,
    LoopTrainings,
    Trainings,
    needed_arguments,
)
from steadygrad.errors import check_count
from steadygrad.faults import NOT_JUDGED, Finding, known, verdict, worst_first
from steadygrad.record import Record
from steadygrad.remedies import Attached, Course, Remedy, parse


@dataclass(frozen=True)
class Repair:
    """What was found, tried and kept.

    Attributes:
        verdict: Of the model as it was.
        findings: Worst first.
        plan: Remedies to try, the most promising first, as `steadygrad.remedies.parse` reads them.
        choice: What the trainings said; None after a dry run, or where nothing is wrong.
        patch: The lines to paste for the remedy that was kept; empty if none was.
    """

    verdict: str
    findings: tuple[Finding, ...]
    plan: tuple[str, ...]
    choice: Choice | None
    patch: str = ""

    @property
    def remedy(self) -> Remedy | None:
        """The remedy that was kept, or None."""
        return None if self.choice is None or self.choice.kept is None else parse(self.choice.kept)

    def apply(self, model: nn.Module) -> Course:
        """Treat a new model with what was kept; it is left as it is if nothing was."""
        return Course(() if self.remedy is None else (self.remedy,), model)

    def attach(
        self, model: nn.Module, optimizer: torch.optim.Optimizer | None = None
    ) -> Attached | None:
        """Put what was kept to work in a live model and its optimiser; None if nothing was.

        Raises:
            ValueError: As `steadygrad.remedies.Attached`.
        """
        if self.remedy is None:
            return None
        return Attached(self.remedy, model, optimizer, names=names_of(model, optimizer))

    def __str__(self) -> str:
        lines = [f"verdict: {self.verdict}"]
        lines += [f"{f.fault}: {f.text}" for f in self.findings]
        if self.plan:
            lines.append(f"plan: {', '.join(self.plan)}")
        if self.choice is not None:
            kept = self.choice.kept or "nothing"
            lines += [f"kept: {kept} ({self.choice.why})", f"cost: {self.choice.seconds:.1f} s"]
        if self.patch:
            lines += ["to paste:", *(f"  {line}" for line in self.patch.split("\n"))]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        facts = [("verdict", self.verdict), *((f.fault, f.text) for f in self.findings)]
        facts += [("plan", ", ".join(self.plan))] if self.plan else []
        if self.choice is None:
            return _drawing.table(("part", "result"), facts)
        facts.append(("kept", f"{self.choice.kept or 'nothing'} ({self.choice.why})"))
        forks = [
            (f.candidate, f.seed, f"{f.score:.4g}", f"{f.seconds:.1f}") for f in self.choice.forks
        ]
        tried = _drawing.table(("tried", "seed", "score", "seconds"), forks)
        return _drawing.table(("part", "result"), facts) + tried

    def to_record(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "verdict": self.verdict,
            "findings": [f.to_record() for f in self.findings],
            "plan": list(self.plan),
            "choice": None if self.choice is None else asdict(self.choice),
            "patch": self.patch,
        }


def plan_of(
    findings: Sequence[Finding], most: int, allows: Callable[[Remedy], bool] = lambda _: True
) -> tuple[str, ...]:
    """The remedies of the findings by turns, the worst finding first, each once, at most so many.

    By turns, because the worst finding is not always the cause: a gradient that is not finite and
    steps that are far too long are found together, and only one of the two has the remedy.
    """
    faults, found = known(), {f.fault for f in findings}
    first = {name for f in findings for name in faults[f.fault].mended_by if name in found}
    order = sorted(worst_first(list(findings)), key=lambda f: f.fault not in first)
    each = [[spec for spec in f.remedies if allows(parse(spec))] for f in order]
    turns = (spec for turn in zip_longest(*each) for spec in turn if spec is not None)
    return tuple(dict.fromkeys(turns))[:most]


USUAL = (
    "learning-rate:factor=0.1",
    "learning-rate:factor=10",
    "orthogonal-init",
    "clip-norm",
    "learning-rate:factor=0.01",
)
"""What helps most often where nothing was named, or nothing that was named helps."""


def usual(
    tried: Sequence[str], most: int, allows: Callable[[Remedy], bool] = lambda _: True
) -> tuple[str, ...]:
    """The usual remedies that were not tried, of no rate if rates were, at most so many."""
    has_rates = any(spec.startswith("learning-rate") for spec in tried)
    left = (s for s in USUAL if s not in tried and not (has_rates and s.startswith("learning-")))
    return tuple(spec for spec in left if allows(parse(spec)))[:most]


def repair(
    model: nn.Module | Callable[[], nn.Module],
    train: Callable[..., Any],
    loss_fn: Callable[[nn.Module], Tensor] | None = None,
    *,
    lag: Lag = None,
    better: Better | None = None,
    remedies: Sequence[str] | None = None,
    most: int = 4,
    seeds: int = LEAST_SEEDS,
    seed: int = 0,
    steps: int = DEFAULT_STEPS,
    dry_run: bool = False,
    findings: Sequence[Finding] | None = None,
    target: float | None = None,
    record: Record | None = None,
    tell: Callable[[Fork], None] = lambda fork: None,
) -> Repair:
    """Find a remedy for a model, and prove it on the task.

    If nothing is wrong with the model, nothing is tried. Else the remedies that suit the findings,
    and if there are none or none helps the usual ones (other learning rates, a clip, orthogonal
    weights), are tried against nothing in short trainings of equal budget
    (`steadygrad.diagnosis.forks.choose`): judged by the score at the end, under fresh seeds, and
    kept only if better beyond noise. A training that ends with a score that is not finite, or no
    better than the network was before it, has failed, whatever it was in between.

    In the simplest form ``train`` is what every loop has: a function that does one step of the
    optimiser and returns its loss, or that does a whole training and returns its score; which of
    the two is found out by counting.

    - ``train()`` trains ``model`` in place. Weights and optimiser are put back after every
      training; a schedule of the learning rate is not.
    - ``train(model)`` trains what it is given, and makes its optimiser itself. It is given copies
      of ``model``, or what ``model()`` makes.
    - ``train(model, course)`` follows a course of remedies: it calls ``course.begin(optimizer)``,
      adds ``course.penalty(loss)`` to the loss, and calls ``course.gradients()`` after
      ``backward``; see `steadygrad.remedies.Course`. Remedies that add to the loss need this form.

    In the first two the untreated training is watched to find out what is wrong; in the third the
    model is diagnosed as it is made and, if it is healthy then, after a training.

    Args:
        model: The model, or a function that makes a new one. Of a model that is given, every
            training starts with its weights; random draws follow torch's, numpy's and Python's
            generators, which are seeded, and put back.
        train: As above.
        loss_fn: Loss of one batch with a model, for the form with a course.
        lag: Steps back that the task needs; without it vanishing is not checked.
        better: Which way a score is better. If not given: higher, but lower for a function that
            does one step, which returns a loss.
        remedies: To try, as text, whatever was found; those that suit the findings if not given.
        most: How many to try at most.
        seeds: Fresh seeds that a remedy has to prove itself under, at least three.
        seed: Of the first training; the fresh ones follow it.
        steps: Calls in a training of a function that does one step.
        dry_run: Find out what is wrong, and plan; try nothing.
        findings: Of a watch over a training that fails; nothing is looked at anew then.
        target: The score that counts as solved, if that is known. The remedies are then tried one
            after the other, and the first that reaches it under enough fresh seeds is kept
            (`steadygrad.diagnosis.forks.first_to_reach`).
        record: Where findings, trainings and choice are written.
        tell: Called after every training.

    Raises:
        ValueError: As `steadygrad.diagnose`; a remedy's text that cannot be read; ``better`` is
            neither way; a function that steps no optimiser of the model.

    Example:
        >>> import torch
        >>> from torch.nn.functional import mse_loss
        >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
        <torch._C.Generator object at ...>
        >>> x, y = torch.randn(50, 8, 2), torch.randn(8, 8)
        >>> model = torch.nn.LSTM(2, 8)
        >>> optimizer = torch.optim.SGD(model.parameters(), 0.1)
        >>> def train_step():
        ...     optimizer.zero_grad()
        ...     loss = mse_loss(model(x)[0][-1], y)
        ...     loss.backward()
        ...     optimizer.step()
        ...     return loss
        >>> found = repair(model, train_step, lag=49, steps=30, dry_run=True)
        >>> found.verdict, found.plan[0].partition(":")[0]
        ('vanishing', 'forget-bias')
    """
    if better is not None:
        sign_of(better)  # wrong before the first training
    check_count("most", most)
    check_count("seeds", seeds, LEAST_SEEDS)
    check_count("seed", seed, 0)
    check_count("steps", steps)
    steps_of(lag)
    for text in remedies or ():
        parse(text)
    trainings = _trainings(model, train, loss_fn, lag, better, steps)

    shown = cache(partial(_shown, model))

    def suits(remedy: Remedy) -> bool:
        return trainings.allows(remedy) and remedy.applicable(shown())

    try:
        found = verdict(list(findings or ()))
        if findings is None:
            looked = trainings.look(seed, dry_run)
            found, findings = looked.verdict, looked.findings
        plan = tuple(remedies or plan_of(findings, most, trainings.allows))
        # What was not judged is no health: without a name the usual suspects are tried.
        if not plan and found == NOT_JUDGED:
            plan = usual((), most, suits)
        chooser = _chooser(trainings, better or trainings.better, target, seeds, seed, tell)
        choice = None if dry_run or not plan else chooser(plan)
        if choice is not None and choice.kept is None and remedies is None:
            more = usual(plan, most, suits)
            plan = (*plan, *more)
            choice = choice if not more else choice.before(chooser(more))
    finally:
        trainings.close()
    kept = None if choice is None or choice.kept is None else parse(choice.kept)
    patch = ""
    if kept is not None:
        names = names_of(model if isinstance(model, nn.Module) else None)
        patch = kept.patch(shown(), names).text(names)
    result = Repair(found, tuple(findings), plan, choice, patch)
    if record is not None:
        record.note("repair", result.to_record())
    return result


def _shown(model: nn.Module | Callable[[], nn.Module]) -> nn.Module:
    """A model to look at; the caller's random state stays as it is."""
    if isinstance(model, nn.Module):
        return model
    with torch.random.fork_rng():
        return model()


def _chooser(
    trainings: Trainings,
    better: Better,
    target: float | None,
    seeds: int,
    seed: int,
    tell: Callable[[Fork], None],
) -> Callable[[Sequence[str]], Choice]:
    """Tries remedies: until one reaches the target if there is one, else against nothing."""
    if target is None:
        return partial(
            choose, score=trainings.score, better=better, seeds=seeds, first_seed=seed, tell=tell
        )
    return partial(
        first_to_reach,
        score=trainings.score,
        target=target,
        better=better,
        seeds=seeds,
        first_seed=seed + 1,
        tell=tell,
    )


def _trainings(
    model: nn.Module | Callable[[], nn.Module],
    train: Callable[..., Any],
    loss_fn: Callable[[nn.Module], Tensor] | None,
    lag: Lag,
    better: Better | None,
    steps: int,
) -> Trainings:
    if needed_arguments(train) < 2:
        return LoopTrainings(model, train, lag, steps, better)
    factory = (lambda: copy.deepcopy(model)) if isinstance(model, nn.Module) else model
    return CourseTrainings(factory, train, loss_fn, lag)
