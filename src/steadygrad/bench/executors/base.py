"""The interface of an executor."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from steadygrad.bench.trial import Result, Trial

Work = Callable[[Trial], Result]
Done = tuple[Trial, Result]

ATTEMPTS = 3
"""How often a run is started whose worker dies, before it counts as failed."""


class Executor(Protocol):
    """Executes runs in any order, and yields each once when it is finished."""

    def run(self, work: Work, trials: Sequence[Trial]) -> Iterator[Done]:
        """Execute all ``trials``; closing the iterator stops the current runs.

        A run whose worker dies is restarted, and after `ATTEMPTS` deaths yielded as failed: every
        run is yielded exactly once.
        """
        ...


def died(trial: Trial) -> dict[str, Any]:
    """The result of a run that killed its workers."""
    text = f"the worker died {ATTEMPTS} times in this run (killed, or out of memory)"
    return {"status": "failed", "figures": {}, "text": text, "seconds": None}
