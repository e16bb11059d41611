"""The history of a training: the few numbers that every step leaves behind.

The rules read it from here; each wants enough numbers and concludes nothing without them.
"""

from collections.abc import Iterable, MutableSequence, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

ENOUGH = 20  # norms or losses from which a rule may speak
ENOUGH_UPDATES = 5
LOSSES = 1024  # kept at most
LONG = 200  # steps over which a loss that stands says something
MOST = 0.75  # of the planned steps: some networks leave their plateau late
GOOD_STEP = 0.03
"""Size of a step relative to the weights that networks at their start bear well."""


@dataclass
class History:
    """What is known of a training, in the order of its steps; any part may be missing.

    Attributes:
        before: Global gradient norms before clipping.
        after: The same steps' norms after it.
        update: Sizes of steps relative to the weights, where they were measured.
        loss: Training losses.
        optimizer: Name of the optimiser's class.
        grows: Whether the gradient grows on its way back through time, if that was measured.
        planned: Steps of the whole training, if that is known.
    """

    before: MutableSequence[float] = field(default_factory=list)
    after: MutableSequence[float] = field(default_factory=list)
    update: MutableSequence[float] = field(default_factory=list)
    loss: MutableSequence[float] = field(default_factory=list)
    optimizer: str | None = None
    grows: bool | None = None
    planned: int | None = None
    _stride: int = 1
    _told: int = 0

    def see_loss(self, value: float) -> None:
        """Take the loss of the next step; of a long training every n-th is kept, from its start."""
        if self._told % self._stride == 0:
            self.loss.append(value)
        self._told += 1
        if len(self.loss) >= LOSSES:
            del self.loss[1::2]
            self._stride *= 2

    def restore(self, stride: int, told: int) -> None:
        """Go on with the losses that are here, of which every ``stride``-th was kept."""
        self._stride, self._told = stride, told

    @property
    def kept(self) -> tuple[int, int]:
        """Every how many losses one is kept, and how many were told."""
        return self._stride, self._told

    def forget(self) -> None:
        """Begin anew: what comes belongs to another way of training."""
        for kept in (self.before, self.after, self.update, self.loss):
            kept.clear()
        self._stride, self._told = 1, 0

    def stands(self) -> bool:
        """Whether the loss has been told for long, most of the plan if there is one, unmoved."""
        told = len(self.loss) * self._stride
        return told >= max(LONG, MOST * (self.planned or 0)) and not self.falls()

    def rests(self) -> bool:
        """Whether the loss has been told for long, unmoved, whatever is planned."""
        return len(self.loss) * self._stride >= LONG and not self.falls()

    def falls(self) -> bool:
        """Whether the loss has come down by a tenth."""
        return falls_to(self.loss, 0.9)

    def norm_pairs(self) -> NDArray[np.float64]:
        """``(S, 2)``: norms before and after clipping, where both are finite and above zero."""
        if len(self.before) == 0:
            return np.empty((0, 2))
        pairs = np.column_stack([self.before, self.after]).astype(np.float64)
        return pairs[(np.isfinite(pairs) & (pairs > 0)).all(1)]

    def has_learned(self) -> bool:
        """Whether the loss is a tenth of what it was, or less."""
        return falls_to(self.loss, 0.1)


def of_losses(losses: Iterable[float]) -> History:
    """What is known where only the losses are."""
    history = History()
    for value in losses:
        history.see_loss(value)
    return history


def falls_to(loss: Sequence[float], to: float) -> bool:
    """Whether the last quarter of the losses lies below ``to`` times the first quarter.

    Of losses that change their sign, as a likelihood's may, what counts is that they fall.
    """
    values = finite(loss)
    if len(values) < ENOUGH:
        return False
    quarter = len(values) // 4
    first, last = float(np.median(values[:quarter])), float(np.median(values[-quarter:]))
    return last < (to * first if first > 0 else first)


def finite(values: Sequence[float]) -> NDArray[np.float64]:
    """Those of ``values`` that are finite."""
    array = np.asarray(values, dtype=np.float64)
    return array[np.isfinite(array)]


def rate(factor: float) -> str:
    """The remedy that makes every step ``factor`` times as long, as text."""
    return f"learning-rate:factor={factor:.2g}"
