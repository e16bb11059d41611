"""The demo's story: train, see the verdict, try what it prescribes, train the best in full."""

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from steadygrad.bench.demo_fit import Reader, Recipe, fit, score
from steadygrad.diagnosis import Diagnosis, Finding, diagnose
from steadygrad.diagnosis.trials import RemedyTrial, log10_ratio, trials
from steadygrad.errors import InputError
from steadygrad.record import Record, read
from steadygrad.remedies import REMEDIES, Applied, Remedy
from steadygrad.report import write
from steadygrad.tasks import Score
from steadygrad.tasks.pixels import UNIT, Pixels

BEFORE, AFTER, REPORT = "before.db", "after.db", "report.html"

Tell = Callable[[str, int, int], None]
"""Receives what is being done, how many epochs of it are done, and of how many."""


@dataclass(frozen=True)
class Trained:
    """One full run: what it became, and where its record is.

    ``verdict``, ``horizon`` and ``findings`` are those of the watch at the end of training;
    ``log10_ratio`` is the gradient left at the required lag in the weights that were scored.
    """

    remedy: str
    verdict: str
    horizon: int | None
    log10_ratio: float
    findings: tuple[Finding, ...]
    validation: float
    test: float
    seconds: float
    record: Path


@dataclass(frozen=True)
class Story:
    """How it went; ``after`` is None if nothing beat doing nothing."""

    lag: int
    unit: str
    naive: Score
    before: Trained
    trials: tuple[RemedyTrial, ...]
    after: Trained | None
    report: Path
    seconds: float


@dataclass(frozen=True)
class Demo:
    """A task, a budget, a folder, and somebody to tell.

    Args:
        task: The images.
        recipe: The budget of every run.
        out: Folder of the records and the report.
        tell: Hears how far it is.
    """

    task: Pixels
    recipe: Recipe
    out: Path
    tell: Tell

    def run(self) -> Story:
        """Run it all. The choice is made by validation; the test images come last.

        Raises:
            RecordError, InputError: What the folder holds cannot be replaced.
        """
        self._check_folder()
        began = time.perf_counter()
        torch.manual_seed(self.recipe.seed)
        start = Reader(self.task, self.recipe.hidden)
        before = self.train(start, None)
        tried = self.try_remedies(start, before.findings)
        winner = next((trial.remedy for trial in tried if trial.kept), None)
        after = None if winner is None else self.train(start, winner, tried)
        return Story(
            lag=self.task.required_lag,
            unit=UNIT,
            naive=self.task.naive("test")[0],
            before=before,
            trials=tuple(tried),
            after=after,
            report=self._report([run.record for run in (before, after) if run]),
            seconds=time.perf_counter() - began,
        )

    def train(
        self, start: nn.Module, remedy: Remedy | None, tried: list[RemedyTrial] | None = None
    ) -> Trained:
        """Train a copy of ``start`` in full, watched, and score it on the test images."""
        began = time.perf_counter()
        model = deepcopy(start)
        what = "plain RNN" if remedy is None else f"RNN with {remedy.spec}"
        path = self.out / (BEFORE if remedy is None else AFTER)
        with Record.create(path, config=asdict(self.recipe), overwrite=True) as record:
            record.note("title", "Digits, one pixel at a time")
            record.note("kind", "train")
            record.note("data", self.task.facts())
            applied = Applied()
            if remedy is not None:
                torch.manual_seed(self.recipe.seed)
                applied = remedy.apply(model)
                record.note("remedies", [_noted(remedy, applied.changed)])
                record.note("trials", [trial.to_record(UNIT) for trial in tried or []])
            epochs = self.recipe.epochs
            tell = self._progress(what, epochs)
            best, watch = fit(self.task, self.recipe, model, remedy, applied, epochs, tell, record)
            assert watch is not None  # a recorded training is watched
            test = Score(what, score(self.task, model, "test"), UNIT, "higher", ours=True)
            record.note("scores", [asdict(s) for s in (test, *self.task.naive("test"))])
        horizons = [flow.horizon for flow in watch.flow.values() if flow.horizon is not None]
        return Trained(
            remedy="nothing" if remedy is None else remedy.spec,
            verdict=watch.verdict,
            horizon=min(horizons, default=None),
            log10_ratio=log10_ratio(self.probe(model)),
            findings=tuple(watch.findings),
            validation=best,
            test=test.value,
            seconds=time.perf_counter() - began,
            record=path,
        )

    def try_remedies(self, start: nn.Module, findings: tuple[Finding, ...]) -> list[RemedyTrial]:
        """Try what the findings prescribe, each with the options worth a trial."""
        names = dict.fromkeys(name for finding in findings for name in finding.remedies)
        remedies = [variant for name in names for variant in REMEDIES[name].variants()]
        epochs = self.recipe.trial_epochs

        def short(model: nn.Module, remedy: Remedy | None, applied: Applied) -> float:
            what = f"trying {'nothing' if remedy is None else remedy.spec}"
            tell = self._progress(what, epochs)
            return fit(self.task, self.recipe, model, remedy, applied, epochs, tell)[0]

        return trials(start, remedies, short, self.probe, seed=self.recipe.seed)

    def probe(self, model: nn.Module) -> Diagnosis:
        """Diagnose a model on the first validation images."""
        batch = self.task.batches("val", self.recipe.batch_size)[0]
        return diagnose(
            model,
            lambda: self.task.loss(model(batch.inputs), batch.targets),
            self.task.required_lag,
        )

    def _check_folder(self) -> None:
        """Refuse at once what would be refused only after the training."""
        for path in (self.out / BEFORE, self.out / AFTER):
            if path.exists():
                read(path).close()
        if (self.out / REPORT).is_dir():
            raise InputError(
                f"{self.out / REPORT}: expected a file or nothing, found a folder; "
                "give another --out"
            )

    def _progress(self, what: str, epochs: int) -> Callable[[int], None]:
        self.tell(what, 0, epochs)
        return lambda done: self.tell(what, done, epochs)

    def _report(self, records: list[Path]) -> Path:
        runs = [read(path) for path in records]
        try:
            return write(runs, self.out / REPORT)
        finally:
            for run in runs:
                run.close()


def _noted(remedy: Remedy, changed: str) -> dict[str, Any]:
    """A remedy as a record keeps it, under the note ``remedies``."""
    options, claim = remedy.options, remedy.claim
    return {"name": remedy.name, "options": options, "claim": claim, "changed": changed}
