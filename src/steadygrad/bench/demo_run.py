"""Run the demo: train, diagnose, try the prescribed remedies, and train with the best."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from steadygrad.bench.demo_fit import Reader, Recipe, fit, score
from steadygrad.diagnosis import Diagnosis, Finding, diagnose
from steadygrad.diagnosis.forks import NOTHING, Choice, Scored, choose
from steadygrad.record import Record, read
from steadygrad.record.ownership import refuse_foreign
from steadygrad.remedies import Course, Remedy, parse
from steadygrad.report import write
from steadygrad.tasks import Score
from steadygrad.tasks.pixels import UNIT, Pixels

BEFORE, AFTER, REPORT = "before.db", "after.db", "report.html"

Tell = Callable[[str, int, int], None]
"""Called with the current task, the epochs done, and their total."""


@dataclass(frozen=True)
class Trained:
    """One full run: its results, and its record.

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
    """The results of the demo; ``after`` is None if no remedy beat the untreated network."""

    lag: int
    unit: str
    naive: Score
    before: Trained
    choice: Choice
    after: Trained | None
    report: Path
    seconds: float


@dataclass(frozen=True)
class Demo:
    """The demo.

    Args:
        task: The images.
        recipe: The budget of every run.
        out: Folder of the records and the report.
        tell: Called with the progress.
    """

    task: Pixels
    recipe: Recipe
    out: Path
    tell: Tell

    def run(self) -> Story:
        """Run the demo. Remedies are chosen on the validation part; the test part is used last.

        Raises:
            RecordError, InputError: Files in the folder cannot be replaced.
        """
        self._check_folder()
        began = time.perf_counter()
        before = self.train(None)
        choice = self.try_remedies(before.findings)
        after = None if choice.kept is None else self.train(choice.kept, choice)
        return Story(
            lag=self.task.required_lag,
            unit=UNIT,
            naive=self.task.naive("test")[0],
            before=before,
            choice=choice,
            after=after,
            report=self._report([run.record for run in (before, after) if run]),
            seconds=time.perf_counter() - began,
        )

    def made(self, name: str | None, seed: int) -> tuple[Reader, Course]:
        """The network under a seed, with a remedy or without."""
        torch.manual_seed(seed)
        model = Reader(self.task, self.recipe.hidden)
        return model, Course(() if name is None else (parse(name),), model)

    def train(self, name: str | None, choice: Choice | None = None) -> Trained:
        """Train in full, watched, and score on the test images."""
        began = time.perf_counter()
        what = "plain RNN" if name is None else f"RNN with {name}"
        path = self.out / (BEFORE if name is None else AFTER)
        with Record.create(path, config=asdict(self.recipe), overwrite=True) as record:
            record.note("title", "Digits, one pixel at a time")
            record.note("kind", "train")
            record.note("data", self.task.facts())
            model, course = self.made(name, self.recipe.seed)
            if choice is not None:
                record.note("remedies", [_noted(course.remedies[0], course.applied[0].changed)])
                trials = [fork.to_record(choice.kept, UNIT) for fork in choice.forks]
                record.note("trials", trials)
                record.note("choice", choice.why)
            epochs = self.recipe.epochs
            tell = self._progress(what, epochs)
            best, watch = fit(self.task, self.recipe, model, course, epochs, tell, record)
            assert watch is not None  # a training with a record is watched
            test = Score(what, score(self.task, model, "test"), UNIT, "higher", ours=True)
            record.note("scores", [asdict(s) for s in (test, *self.task.naive("test"))])
        horizons = [f.horizon for f in watch.flow.values() if f.is_lowest and f.horizon is not None]
        return Trained(
            remedy=name or NOTHING,
            verdict=watch.verdict,
            horizon=min(horizons, default=None),
            log10_ratio=self.probe(model).log10_ratio,
            findings=tuple(watch.findings),
            validation=best,
            test=test.value,
            seconds=time.perf_counter() - began,
            record=path,
        )

    def try_remedies(self, findings: tuple[Finding, ...]) -> Choice:
        """Try the remedies that the findings prescribe, with several options each."""
        given = [parse(spec) for finding in findings for spec in finding.remedies]
        also = [variant for remedy in given for variant in type(remedy).variants()]
        specs = list(dict.fromkeys(remedy.spec for remedy in (*given, *also)))
        seeds = self.recipe.fresh_seeds
        return choose(specs, self.score, seeds=seeds, finalists=1, first_seed=self.recipe.seed)

    def score(self, name: str | None, seed: int) -> Scored:
        """Train briefly under a seed; return the best validation score and the model's state."""
        epochs, recipe = self.recipe.trial_epochs, replace(self.recipe, seed=seed)
        tell = self._progress(f"trying {name or NOTHING}, seed {seed}", epochs)
        with torch.random.fork_rng(devices=[]):
            before = self.probe(self.made(None, seed)[0]).log10_ratio
            model, course = self.made(name, seed)
            changed = "; ".join(applied.changed for applied in course.applied)
            best, _ = fit(self.task, recipe, model, course, epochs, tell)
        found = self.probe(model)
        return Scored(best, before, found.log10_ratio, found.verdict, changed)

    def probe(self, model: nn.Module) -> Diagnosis:
        """Diagnose a model on the first validation images."""
        batch = self.task.batches("val", self.recipe.batch_size)[0]
        return diagnose(
            model,
            lambda: self.task.loss(model(batch.inputs), batch.targets),
            self.task.required_lag,
        )

    def _check_folder(self) -> None:
        """Refuse early what would otherwise be refused after the training."""
        refuse_foreign(self.out / name for name in (BEFORE, AFTER, REPORT))
        for path in (self.out / BEFORE, self.out / AFTER):
            if path.exists():
                read(path).close()

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
    """A remedy as an entry of the note ``remedies``."""
    options, claim = remedy.options, remedy.claim
    return {"name": remedy.name, "options": options, "claim": claim, "changed": changed}
