"""Stand-ins for a run of a grid, importable by worker processes."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from steadygrad.bench import Local, Result, Trial
from steadygrad.bench.executors import Work


def without_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run grids in this process: for tests of what a command is asked and what it tells."""

    def run(_: Local, work: Work, trials: Sequence[Trial]) -> Iterator[tuple[Trial, Result]]:
        return ((trial, work(trial)) for trial in trials)

    monkeypatch.setattr(Local, "run", run)


def trivial(trial: Trial) -> Result:
    """The seed, at once."""
    return {"status": "unsolved", "figures": {"x": float(trial.seed)}, "unit": "x", "seconds": 0.0}


def slow(trial: Trial) -> Result:
    """A tenth of a second."""
    time.sleep(0.1)
    return trivial(trial)


def deadly(trial: Trial) -> Result:
    """Kill the worker in the run of seed 3; the others take a moment."""
    if trial.seed == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return slow(trial)


def deadly_once(trial: Trial) -> Result:
    """Kill the worker in the first attempt at seed 3 alone; a file remembers it."""
    mark = Path(os.environ["STEADYGRAD_TEST_MARK"])
    if trial.seed == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return trivial(trial)
