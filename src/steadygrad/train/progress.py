"""The progress of a run: everything but tensors that a resumed run needs."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from steadygrad.plain import is_count, is_real

Status = Literal["running", "finished", "diverged"]
HALVE_AFTER = 3  # validations without improvement


@dataclass
class Progress:
    """Counters of a run; the only mutable state besides tensors.

    Args:
        step: Training steps done.
        epoch: Passes through the training part done.
        index: Batches of the current epoch done.
        best: Lowest validation loss.
        best_step: The step it was reached at.
        stale: Validations since then.
        seconds: Training time so far, in seconds.
        status: ``running``, or how it ended.
        first: Validation loss of the untrained network.
    """

    step: int = 0
    epoch: int = 0
    index: int = 0
    best: float = math.inf
    best_step: int = 0
    stale: int = 0
    halvings: int = 0
    seconds: float = 0.0
    status: Status = "running"
    first: float = math.inf

    def __post_init__(self) -> None:
        for name in ("step", "epoch", "index", "best_step", "stale", "halvings"):
            if not is_count(getattr(self, name)):
                raise ValueError(f"{name} counts from 0 on, got {getattr(self, name)}")
        if not (0 <= self.seconds < math.inf and is_real(self.best)):
            raise ValueError("seconds or best is not a valid number")

    def judge(self, loss: float) -> bool:
        """Count a validation, and return whether it is the best so far."""
        if self.step == 0:
            self.first = loss
        if loss < self.best:
            self.best, self.best_step, self.stale = loss, self.step, 0
            return True
        self.stale += 1
        if self.stale % HALVE_AFTER == 0:
            self.halvings += 1
        return False

    def begin_again(self) -> None:
        """Run on from here as a run of its own: what was best so far belongs to another."""
        self.best, self.best_step, self.stale, self.seconds = math.inf, self.step, 0, 0.0
        self.status = "running"

    def learning_rate(self, start: float) -> float:
        """Return the current learning rate: halved each time validation stalled."""
        return start * 0.5**self.halvings

    def plain(self) -> dict[str, Any]:
        """Return the counters as JSON-able values."""
        return dataclasses.asdict(self)
