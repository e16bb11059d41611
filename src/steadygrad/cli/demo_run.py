"""What the demo does: train, see the verdict, try what it prescribes, train the best in full."""

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad.diagnosis import Diagnosis, Trial, Watch, diagnose, trials
from steadygrad.diagnosis.trials import log10_ratio
from steadygrad.record import Record, read
from steadygrad.remedies import REMEDIES, Remedy
from steadygrad.report import write
from steadygrad.tasks import Score, Split
from steadygrad.tasks.pixels import UNIT, Pixels

WATCHING = 0.1  # share of the time: runs are short here, and the picture needs its rows


@dataclass(frozen=True)
class Recipe:
    """The budget of every run of the demo, the same with and without a remedy.

    The optimiser is plain: one that divides by the gradient's size, such as Adam, hides a small
    gradient for a while.

    Args:
        hidden: Hidden units.
        epochs: Passes through the training images in a full run.
        trial_epochs: The same in a trial.
        batch_size: Images in a batch.
        learning_rate: Step size of gradient descent.
        momentum: Its momentum.
        seed: Fixes weights and order of the images; not the split of the images.
    """

    hidden: int = 128
    epochs: int = 25
    trial_epochs: int = 4
    batch_size: int = 64
    learning_rate: float = 2e-3
    momentum: float = 0.9
    seed: int = 0


@dataclass(frozen=True)
class Trained:
    """One full run: what it became, and where its record is."""

    remedy: str
    verdict: str
    horizon: int | None
    log10_ratio: float
    validation: float
    test: float
    seconds: float
    record: Path


@dataclass(frozen=True)
class Story:
    """The demo's outcome; ``after`` is None if nothing beat doing nothing."""

    lag: int
    unit: str
    naive: Score
    before: Trained
    findings: list[dict[str, Any]]
    trials: list[dict[str, Any]]
    after: Trained | None
    report: Path
    seconds: float


Tell = Callable[[str, int, int], None]
"""Receives what is being done, how many epochs of it are done, and of how many."""


class Reader(nn.Module):
    """A recurrence over the pixels and a linear layer on its last state."""

    def __init__(self, task: Pixels, hidden: int) -> None:
        super().__init__()
        self.rnn = nn.RNN(task.input_size, hidden)
        self.head = nn.Linear(hidden, task.output_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(T, B, 1)`` to scores ``(B, 10)``."""
        return self.head(self.rnn(x)[0][-1])


@dataclass(frozen=True)
class Demo:
    """One demo: a task, a budget, a folder and somebody to tell."""

    task: Pixels
    recipe: Recipe
    out: Path
    tell: Tell

    def run(self) -> Story:
        """Run it all; the test images are looked at only after the choice is made."""
        began = time.perf_counter()
        torch.manual_seed(self.recipe.seed)
        start = Reader(self.task, self.recipe.hidden)
        before, watched = self._full(start, None, [])
        tried = self._trials(start, [f.remedies for f in watched.findings])
        winner = next((t.remedy for t in tried if t.kept), None)
        told = [t.to_record(UNIT) for t in tried]
        after = None if winner is None else self._full(start, winner, told)[0]
        runs = [read(trained.record) for trained in (before, after) if trained]
        try:
            report = write(runs, self.out / "report.html")
        finally:
            for run in runs:
                run.close()
        return Story(
            lag=self.task.required_lag,
            unit=UNIT,
            naive=self.task.naive("test")[0],
            before=before,
            findings=[finding.to_record() for finding in watched.findings],
            trials=told,
            after=after,
            report=report,
            seconds=time.perf_counter() - began,
        )

    def probe(self, model: nn.Module) -> Diagnosis:
        """Diagnose a model on the first validation images."""
        batch = self.task.batches("val", self.recipe.batch_size)[0]
        return diagnose(
            model,
            lambda: self.task.loss(model(batch.inputs), batch.targets),
            self.task.required_lag,
        )

    def score(self, model: nn.Module, split: Split) -> float:
        """Share of the images of ``split`` that are named rightly, in per cent."""
        with torch.no_grad():
            batches = self.task.batches(split, 512)
            tallies = [self.task.tally(model(b.inputs), b.targets) for b in batches]
        return self.task.figures(torch.stack(tallies).sum(0))[UNIT]

    def _trials(self, start: nn.Module, prescribed: list[tuple[str, ...]]) -> list[Trial]:
        names = dict.fromkeys(name for names in prescribed for name in names)
        remedies = [variant for name in names for variant in REMEDIES[name].variants()]

        def fit(model: nn.Module, remedy: Remedy | None) -> float:
            what = f"trial of {remedy.spec if remedy else 'nothing'}"
            return self._fit(model, remedy, what, self.recipe.trial_epochs)

        return trials(start, remedies, fit, self.probe, seed=self.recipe.seed)

    def _full(
        self, start: nn.Module, remedy: Remedy | None, tried: list[dict[str, Any]]
    ) -> tuple[Trained, Watch]:
        """Train from the start in full, recorded; score what was best on validation images."""
        began = time.perf_counter()
        model = deepcopy(start)
        what = "plain RNN" if remedy is None else f"with {remedy.spec}"
        path = self.out / ("before.db" if remedy is None else "after.db")
        torch.manual_seed(self.recipe.seed)
        changed = None if remedy is None else remedy.apply(model).changed
        with Record.create(path, config=asdict(self.recipe), overwrite=True) as record:
            record.note("title", f"Digits, one pixel at a time: {what}")
            record.note("kind", "train")
            record.note("data", self.task.facts())
            if remedy is not None:
                record.note("remedies", [_described(remedy, changed)])
                record.note("trials", tried)
            seen: list[Watch] = []
            validation = self._fit(model, remedy, what, self.recipe.epochs, record, seen)
            test = Score(what, self.score(model, "test"), UNIT, "higher", ours=True)
            record.note("scores", [asdict(s) for s in (test, *self.task.naive("test"))])
        left = log10_ratio(self.probe(model))
        horizons = [flow.horizon for flow in seen[0].flow.values() if flow.horizon is not None]
        return Trained(
            "nothing" if remedy is None else remedy.spec,
            seen[0].verdict,
            min(horizons, default=None),
            left,
            validation,
            test.value,
            time.perf_counter() - began,
            path,
        ), seen[0]
