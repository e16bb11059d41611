"""Spikes among gradient norms: what the two faults about them share."""

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from steadygrad.faults.base import Threshold
from steadygrad.faults.finding import confidence
from steadygrad.faults.history import ENOUGH
from steadygrad.faults.thresholds import Thresholds

NEAR = 10  # steps before and after a spike that are compared with it
SPIKE = Threshold(100.0, "a norm over the median norm from which it is a spike", above=1.0)


@final
@dataclass(frozen=True)
class Spikes:
    """Norms far beyond the usual.

    Attributes:
        count: How many.
        steps: Among how many norms.
        largest: The largest over what is usual.
        threshold: From where a norm counts.
    """

    count: int
    steps: int
    largest: float
    threshold: float

    @property
    def evidence(self) -> dict[str, Any]:
        """The numbers that decided."""
        return {
            "spikes": self.count,
            "steps": self.steps,
            "largest_over_median": self.largest,
            "threshold": self.threshold,
        }

    @property
    def confidence(self) -> float:
        """From the largest."""
        return confidence(math.log10(self.largest / self.threshold))


def spikes(norms: NDArray[np.float64], limits: Thresholds) -> Spikes | None:
    """Count the spikes among ``norms`` ``(S,)``; None if they are too few to be a fault."""
    if len(norms) < ENOUGH:
        return None
    over = _over_neighbours(norms)
    count = int((over >= limits.spike).sum())
    # One spike that passes is an accident of training, not a fault of it.
    if count < max(3, len(norms) // 100):
        return None
    return Spikes(count, len(norms), float(over.max()), limits.spike)


def _over_neighbours(norms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Norms over what is usual: all in all, at the start, just before and just after.

    Norms of a training that has arrived are small, and what they once were is no spike; neither
    is a rise that lasts, which is learning that begins.
    """
    usual = max(float(np.median(norms)), float(np.median(norms[:ENOUGH])))
    padded = np.pad(norms, NEAR, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, NEAR)
    before, after = windows[: len(norms)], windows[NEAR + 1 :]
    near = np.maximum(np.median(before, 1), np.median(after, 1))
    return norms / np.maximum(usual, near)
