"""The history of a training: a few numbers per training step.

The rules read it from here; each wants enough numbers and concludes nothing without them.
"""

import math
from collections.abc import Iterable, MutableSequence, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from steadygrad.flow.state_change import StateChange

ENOUGH = 20  # norms or losses from which a rule may speak
ENOUGH_UPDATES = 5
LOSSES = 1024  # kept at most
LONG = 100  # steps over which a loss that stands says something
MOST = 0.75  # of the planned steps: some networks leave their plateau late
FEW = 5  # losses that make a start
NOISE = 3.0  # times the first loss from which a later one is no accident of its batch
ABSURD = 100.0  # times what a constant scores: no such loss is one of a model that works
KEPT = 0.5  # share of the best gain that a loss that falls has kept
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
        grows: Whether the gradient grows in the backward pass, if that was measured.
        planned: Steps of the whole training, if that is known.
        constant: What the best constant answer scored when it was last known; squared errors alone.
        memory: log10 of the gradient left per step back at the last look, in the layer that keeps
            most of it over twenty steps or more; None if there is none.
        changes: What single steps of the recurrent parameters did to the states.
    """

    before: MutableSequence[float] = field(default_factory=list)
    after: MutableSequence[float] = field(default_factory=list)
    update: MutableSequence[float] = field(default_factory=list)
    loss: MutableSequence[float] = field(default_factory=list)
    optimizer: str | None = None
    grows: bool | None = None
    planned: int | None = None
    constant: float | None = None
    memory: float | None = None
    changes: "MutableSequence[StateChange]" = field(default_factory=list)
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
        for kept in (self.before, self.after, self.update, self.loss, self.changes):
            kept.clear()
        self._stride, self._told = 1, 0

    def stands(self) -> bool:
        """Whether the loss has been told for long, most of the plan if there is one, unmoved."""
        told = len(self.loss) * self._stride
        return told >= max(LONG, MOST * (self.planned or 0)) and not self.falls()

    def is_slow(self) -> bool:
        """Whether enough losses were told to see that they have not come down to a half."""
        return len(self.loss) * self._stride >= ENOUGH and not falls_to(self.loss, 0.5)

    def rests(self) -> bool:
        """Whether the loss has been told for long, unmoved, whatever is planned."""
        return len(self.loss) * self._stride >= LONG and not self.falls()

    def is_at_rest(self) -> bool:
        """Whether the loss no longer comes down, wherever it stands, after a long training.

        Most of the plan if there is one; and no more than its noise explains, from the third
        quarter of the losses to the last.
        """
        values = finite(self.loss)
        if len(self.loss) * self._stride < max(LONG, MOST * (self.planned or 0)):
            return False
        if len(values) < ENOUGH:
            return False
        quarter = len(values) // 4
        before, last = values[-2 * quarter : -quarter], values[-quarter:]
        noise = math.hypot(float(np.std(before)), float(np.std(last))) / math.sqrt(quarter)
        return float(np.mean(before) - np.mean(last)) <= NOISE * noise

    def falls(self) -> bool:
        """Whether the loss has come down by a tenth."""
        return falls_to(self.loss, 0.9)

    def has_moved(self) -> bool:
        """Whether the loss has come down at all: by a twentieth."""
        return falls_to(self.loss, 0.95)

    def beats_first(self, to: float) -> bool:
        """Whether the last quarter of the losses lies below ``to`` times the very first one."""
        values = finite(self.loss)
        if len(values) < ENOUGH:
            return False
        first, last = float(values[0]), end_of(values)
        return last < (to * first if first > 0 else first)

    def is_absurd(self) -> bool:
        """Whether the loss is far above what a constant answer scores, if that is known.

        From there it may fall for long, and the model be worth nothing yet.
        """
        values = finite(self.loss)
        if self.constant is None or len(values) == 0:
            return False
        return end_of(values) > ABSURD * self.constant

    def has_diverged(self) -> bool:
        """Whether the loss ends far above where it began, after a blow-up."""
        values = finite(self.loss)
        if len(values) < ENOUGH:
            return False
        start = start_of(values)
        return start > 0 and end_of(values) > NOISE * start

    def creeps(self) -> bool:
        """Whether the loss still comes down, beyond its noise, in the later half of its course."""
        values = finite(self.loss)
        if len(values) < 2 * ENOUGH:
            return False
        quarter = len(values) // 4
        before, last = values[-2 * quarter : -quarter], values[-quarter:]
        noise = float(np.std(before) + np.std(last)) / math.sqrt(quarter)
        gain = float(np.mean(before) - np.mean(last))
        return gain > max(2 * noise, 0.01 * abs(float(np.mean(before))))

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
    """Whether the last quarter of the losses lies below ``to`` times their start, and stays there.

    A loss that has blown up and comes down again has not fallen: it is compared with where it
    began, before it blew up, and at least half of its best gain has to be kept.
    Of losses that change their sign, as a likelihood's may, what counts is that they fall.
    """
    values = finite(loss)
    if len(values) < ENOUGH:
        return False
    start, last = start_of(values), end_of(values)
    if not last < (to * start if start > 0 else start):
        return False
    return start - last >= KEPT * (start - _best(values))


def start_of(values: NDArray[np.float64]) -> float:
    """Where losses began, whatever came soon after: the lowest of three readings.

    The first quarter's median says it of a noisy loss, that of the first few where the loss blows
    up within that quarter, and the very first, with room for the noise of one batch, where it
    blows up at once.
    """
    first = float(values[0])
    readings = [np.median(values[: max(1, len(values) // 4)]), np.median(values[:FEW])]
    return float(min(*readings, NOISE * first if first > 0 else np.inf))


def end_of(values: NDArray[np.float64]) -> float:
    """Where losses are now: the median of the last quarter, of one at least."""
    return float(np.median(values[-max(1, len(values) // 4) :]))


def _best(values: NDArray[np.float64]) -> float:
    """The lowest median of a window: a single lucky batch is no best."""
    size = max(FEW, len(values) // 8)
    windows = np.lib.stride_tricks.sliding_window_view(values, min(size, len(values)))
    return float(np.median(windows[:: max(1, size // 2)], 1).min())


def finite(values: Sequence[float]) -> NDArray[np.float64]:
    """Those of ``values`` that are finite."""
    array = np.asarray(values, dtype=np.float64)
    return array[np.isfinite(array)]


def rate(factor: float) -> str:
    """The remedy that makes every step ``factor`` times as long, as text."""
    return f"learning-rate:factor={factor:.2g}"
