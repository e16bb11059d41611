"""Detect a diverged training, and choose the remedy for its rollback.

Two cases are distinguished. For a loss or gradient that is **not finite** in one step, the first
remedy is to skip such steps (``nonfinite``), as one bad batch is the usual cause. For a loss that
**blows up**, or a second non-finite step, the learning rate is divided by eight.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal, final

RATE = "learning-rate/8"
HALVINGS = 3  # of the learning rate: a factor of 2^3
NONFINITE = "nonfinite"
LOOK_BACK = 10  # training losses in the median
BLOWN = 5.0  # relative to the loss of the untrained network
GOOD = 1.5  # relative to the best validation: up to it a state is good
MANY = 3  # rollbacks allowed by --repair

Cause = Literal["nonfinite", "blown-up"]


@dataclass(frozen=True)
class Rescue:
    """One rollback to the last good state.

    Attributes:
        number: Counted from one.
        cause: Kind of divergence.
        diverged_at: Training step of the divergence.
        back_to: Training step of the restored state.
        remedy: The change since: a remedy on gradients, or a smaller rate.
        why: The divergence in one sentence.
        undo: File of the state before the remedy; used as the run's checkpoint it undoes the
            rollback.
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
        """The rollback in one sentence."""
        return (
            f"{self.why}; back to step {self.back_to}, continued with {self.remedy} (rollback "
            f"{self.number}; {self.undo} undoes it)"
        )

    def plain(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


def remedy_for(cause: Cause, earlier: Sequence[Rescue]) -> str:
    """The next remedy; none is tried twice for the same cause."""
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
        """Restore the result of `plain`."""
        self._recent = deque(losses, maxlen=LOOK_BACK)

    def see(self, loss: float) -> None:
        """Add the loss of a step; a skipped step does not count."""
        if math.isfinite(loss):
            self._recent.append(loss)

    def clear(self) -> None:
        """Forget them."""
        self._recent.clear()

    def blown(self, untrained: float) -> bool:
        """Whether they are far above that of the untrained network."""
        is_full = len(self._recent) == LOOK_BACK
        return is_full and median(self._recent) > BLOWN * untrained
