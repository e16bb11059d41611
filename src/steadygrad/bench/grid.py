"""Run a grid: every combination once, resumable after any interruption."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from steadygrad.bench.executors import Executor, Work
from steadygrad.bench.trial import Result, Trial, run_trial
from steadygrad.errors import InputError, RecordError
from steadygrad.plain import Misfit, fit
from steadygrad.record import Results
from steadygrad.spec import write_spec

MOST = 1_000_000  # most runs of one grid


@dataclass(frozen=True)
class Grid:
    """All combinations of tasks, lengths, cells, remedies and seeds.

    Args:
        tasks: Tasks, as text.
        cells: Cells, as text.
        remedies: Sets of remedies, as tuples of texts; the empty one is no remedy.
        lengths: Lengths for each task; its own if empty.
        seeds: How many seeds, counted from 0.
        base: All other options, the same for all runs.
    """

    tasks: tuple[str, ...]
    cells: tuple[str, ...] = ("lstm",)
    remedies: tuple[tuple[str, ...], ...] = ((),)
    lengths: tuple[int, ...] = ()
    seeds: int = 3
    base: Trial = field(default_factory=lambda: Trial(task="adding", cell="lstm"))

    def trials(self) -> list[Trial]:
        """All runs, every combination once, grouped by seed.

        Raises:
            InputError: A combination cannot be run.
        """
        if self.seeds < 1 or not self.tasks or not self.cells:
            raise InputError("a grid needs at least one task, one cell and one seed")
        sizes = (self.seeds, len(self.tasks), len(self.cells), len(self.lengths) or 1)
        if (count := math.prod((*sizes, len(self.remedies) or 1))) > MOST:
            raise InputError(f"a grid of {count:,} runs is more than the {MOST:,} that it may have")
        tasks = [task for text in self.tasks for task in self._with_lengths(text)]
        combined = itertools.product(range(self.seeds), tasks, self.cells, self.remedies)
        trials = [
            replace(self.base, task=task, cell=cell, remedies=remedies, seed=seed)
            for seed, task, cell, remedies in combined
        ]
        for trial in {replace(t, seed=0) for t in trials}:
            trial.check()
        return list(dict.fromkeys(trials))

    def _with_lengths(self, text: str) -> Iterator[str]:
        task: Any = replace(self.base, task=text).made()  # every task is a dataclass
        if self.lengths and "length" not in {option.name for option in fields(task)}:
            raise InputError(f"task {task.name} has no length; leave --lengths out")
        if not self.lengths:
            yield write_spec(task.name, task)
        for length in self.lengths:
            yield write_spec(task.name, replace(task, length=length))


@dataclass(frozen=True)
class Progress:
    """Progress of a grid.

    Args:
        total: Runs of the grid.
        found: Runs finished by an earlier call.
        done: Runs finished by now, including those.
        trial: The run just finished; None at the beginning.
        result: Its result.
    """

    total: int
    found: int
    done: int
    trial: Trial | None = None
    result: Result | None = None


def run_grid(
    grid: Grid,
    results: Results,
    executor: Executor,
    tell: Callable[[Progress], None] = lambda progress: None,
    *,
    again: bool = False,
    work: Work = run_trial,
) -> list[tuple[Trial, Result]]:
    """Execute the runs that are not in ``results`` yet, and return all of the grid.

    Every finished run is stored at once; an interrupted call loses only the runs in progress, and
    the next call continues from there.

    Args:
        grid: The grid.
        results: Finished runs, of this grid and others.
        executor: Executes the runs.
        tell: Called with the progress.
        again: Whether to repeat failed runs.
        work: Executes one run.

    Raises:
        InputError: A combination cannot be run; nothing was started.
    """
    trials = grid.trials()
    by_key = {trial.key: trial for trial in trials}
    if again:
        failed = {read_back(t).key for t, r in results.rows() if r.get("status") == "failed"}
        results.forget(failed & by_key.keys())
    finished = results.keys() & by_key.keys()
    done = len(finished)
    tell(Progress(len(trials), len(finished), done))
    left = [trial for trial in trials if trial.key not in finished]
    for trial, result in executor.run(work, left) if left else ():
        results.add(trial.key, asdict(trial), result)
        done += 1
        tell(Progress(len(trials), len(finished), done, trial, result))
    stored = {read_back(t).key: r for t, r in results.rows()}
    return [(trial, stored[trial.key]) for trial in trials]


def read_back(options: dict[str, Any]) -> Trial:
    """Read a trial back from a table of results, in which tuples are lists.

    Raises:
        RecordError: It is no trial.
    """
    try:
        return fit(Trial, options, "trial")
    except Misfit as error:
        raise RecordError(f"the table of results is damaged: {error}") from None
