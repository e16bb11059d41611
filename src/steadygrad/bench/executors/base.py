"""What every executor promises."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from steadygrad.bench.trial import Result, Trial

Work = Callable[[Trial], Result]
Done = tuple[Trial, Result]

ATTEMPTS = 3
"""How often a run is begun whose worker dies, before it counts as failed."""


class Executor(Protocol):
    """Does runs, in any order, and hands each over once when it is done."""

    def run(self, work: Work, trials: Sequence[Trial]) -> Iterator[Done]:
        """Do all ``trials``; closing the iterator stops what is under way.

        A run whose worker dies is begun again, and after `ATTEMPTS` deaths handed over as failed:
        no run is lost, none is handed over twice.
        """
        ...


def died(trial: Trial) -> dict[str, Any]:
    """The result of a run that no worker lived through."""
    text = f"the worker died {ATTEMPTS} times in this run (killed, or out of memory)"
    return {"status": "failed", "figures": {}, "text": text, "seconds": None}
