"""A training that diverged: what was seen, and the remedy with which it goes on.

Two things are told apart. A loss or gradient that is **not finite** in one step: the first time
steps like it are left out (remedy ``nonfinite``), as one bad batch is the usual cause. A loss that
**blows up**, or numbers that are lost again: the learning rate is divided by eight.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal, final

RATE = "learning-rate/8"
HALVINGS = 3  # of the learning rate: 2^3
NONFINITE = "nonfinite"
LOOK_BACK = 10  # training losses whose median is looked at
BLOWN = 5.0  # over the loss of the untrained network
GOOD = 1.5  # over the best validation: up to there a state is one to go back to
MANY = 3  # rollbacks that --repair allows

Cause = Literal["nonfinite", "blown-up"]


@dataclass(frozen=True)
class Rescue:
    """One return to the last good state.

    Attributes:
        number: Counted from one.
        cause: What was seen.
        diverged_at: Training step at which it was.
        back_to: Training step of the state that was gone back to.
        remedy: What has been different since: a remedy on gradients, or a smaller rate.
        why: In one sentence what was seen.
        undo: File of the state before the remedy; as the run's checkpoint it undoes the rescue.
    """

    number: int
    cause: Cause
    diverged_at: int
    back_to: int
    remedy: str
    why: str
    undo: str

    @property
    def text(self) -> str:
        """For the reader."""
        return (
            f"{self.why}; back to step {self.back_to}, and on with {self.remedy}"
            f" (rollback {self.number}; {self.undo} undoes it)"
        )

    def plain(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


def remedy_for(cause: Cause, earlier: Sequence[Rescue]) -> str:
    """The next remedy: what was tried once for a cause is not tried again."""
    if cause == "nonfinite" and all(r.remedy != NONFINITE for r in earlier):
        return NONFINITE
    return RATE


@final
class Losses:
    """The latest training losses, and whether they have blown up."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=LOOK_BACK)

    def plain(self) -> list[float]:
        """The losses, oldest first."""
        return list(self._recent)

    def restore(self, losses: Sequence[float]) -> None:
        """Take up what `plain` returned."""
        self._recent = deque(losses, maxlen=LOOK_BACK)

    def see(self, loss: float) -> None:
        """Take up the loss of a step; one that was left out does not count."""
        if math.isfinite(loss):
            self._recent.append(loss)

    def clear(self) -> None:
        """Forget them."""
        self._recent.clear()

    def blown(self, untrained: float) -> bool:
        """Whether they are far above what an untrained network has."""
        is_full = len(self._recent) == LOOK_BACK
        return is_full and median(self._recent) > BLOWN * untrained
