"""Spikes among gradient norms: what the two faults about them share."""

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from steadygrad.faults.base import Threshold
from steadygrad.faults.finding import confidence
from steadygrad.faults.history import ENOUGH, FEW, LONG
from steadygrad.faults.thresholds import Thresholds

AROUND = 15  # losses before and after one that it is compared with
OUT = 10.0  # times the usual distance from the neighbours from which a loss stands out
UNDONE = 0.5  # of what the training has gained, from which such a loss counts
OFTEN = 0.015  # share of the losses from which outliers are no accidents of the data
FEWEST = 5  # of them
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


def jumps(losses: NDArray[np.float64]) -> Spikes | None:
    """Count the losses ``(S,)`` that undo half of what was gained, for a step; None if few do.

    Those at the start are left out: the first steps of a training may do so.
    """
    late = losses[len(losses) // 4 :]
    if len(late) < LONG:
        return None
    padded = np.pad(late, AROUND, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * AROUND + 1)
    rise = late - np.median(windows, 1)
    usual = float(np.median(np.abs(rise)))
    gain = float(np.median(losses[:FEW]) - np.median(late))
    bound = max(OUT * usual, UNDONE * gain)
    count = int((rise > bound).sum())
    if gain <= 0 or count < max(FEWEST, OFTEN * len(late)):
        return None
    return Spikes(
        count, len(late), float(rise.max()) / max(usual, 1e-12), bound / max(usual, 1e-12)
    )


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
