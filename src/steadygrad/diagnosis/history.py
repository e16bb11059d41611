"""Findings on a training as a whole, from the few numbers that every step leaves behind.

Each rule wants enough numbers and concludes nothing without them.
"""

import math
from collections.abc import Iterable, MutableSequence, Sequence
from dataclasses import dataclass, field

import numpy as np

from steadygrad.diagnosis.finding import Finding, Thresholds, confidence

ENOUGH = 20  # norms or losses from which a rule may speak
ENOUGH_UPDATES = 5
NEAR = 10  # steps before and after a spike that are compared with it
LOSSES = 1024  # kept at most
LONG = 200  # steps over which a loss that stands says something
MOST = 0.75  # of the planned steps: some networks leave their plateau late
SCALE_FREE = ("adam", "rmsprop", "adagrad", "adadelta", "adamax", "lion", "muon", "shampoo")
"""Optimisers, by the beginning of a part of their name, that divide by the gradient's size."""


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
        return _falls(self.loss, 0.9)

    def has_learned(self) -> bool:
        """Whether the loss is a tenth of what it was, or less."""
        return _falls(self.loss, 0.1)


def of_losses(losses: Iterable[float]) -> History:
    """What is known where only the losses are."""
    history = History()
    for value in losses:
        history.see_loss(value)
    return history


def judge_history(history: History, thresholds: Thresholds) -> list[Finding]:
    """Name what is wrong with the steps that a training takes."""
    rules = (_rate_high, _rate_low, _clip_tight, _spikes)
    return [found for rule in rules if (found := rule(history, thresholds))]


def _rate_high(history: History, thresholds: Thresholds) -> Finding | None:
    update = _finite(history.update)
    if len(update) == 0 or history.falls():
        return None
    size, at_once = float(np.median(update[-10:])), float(update.max())
    # One step that replaces the weights is enough: what was there before is lost.
    if at_once >= thresholds.update_replaces:
        size, bound = at_once, thresholds.update_replaces
    elif len(update) >= ENOUGH_UPDATES and size >= thresholds.update_high:
        bound = thresholds.update_high
    else:
        return None
    return Finding(
        "lr-high",
        "optimizer",
        f"A step changes the weights by {size:.1%} of themselves: little of what was learned "
        "stays.",
        evidence={
            "update_ratio": size,
            "threshold": bound,
            "measurements": len(update),
            "loss": "not falling" if len(history.loss) >= ENOUGH else "not known",
        },
        confidence=confidence(math.log10(size / bound)),
    )


def _rate_low(history: History, thresholds: Thresholds) -> Finding | None:
    update = _finite(history.update)
    # A decayed or warming rate is small at one end only; what is too low is small throughout.
    if len(update) < ENOUGH_UPDATES or len(history.loss) < ENOUGH:
        return None
    size = float(np.max(update))
    travel = size * history.planned if history.planned else math.inf
    is_small = size < thresholds.update_low and not _falls(history.loss, 0.95)
    # Along a plan that is known, a loss that creeps down does not make it arrive.
    is_short = travel < thresholds.travel_low and not _falls(history.loss, 0.5)
    if size <= 0 or not (is_small or is_short):
        return None
    beyond = thresholds.travel_low / travel if is_short else thresholds.update_low / size
    text = f"No step has changed the weights by more than {size:.1e} of themselves"
    if is_short:
        text += f": all {history.planned} steps together move them by {travel:.1%} at most."
    else:
        text += ", and the loss has hardly moved."
    return Finding(
        "lr-low",
        "optimizer",
        text,
        evidence={
            "update_ratio": size,
            "threshold": thresholds.travel_low if is_short else thresholds.update_low,
            "measurements": len(update),
            **({"travel": travel, "steps": history.planned} if history.planned else {}),
        },
        confidence=confidence(math.log10(beyond)),
    )


def _clip_tight(history: History, thresholds: Thresholds) -> Finding | None:
    name = (history.optimizer or "").lower()
    if any(kind in name for kind in SCALE_FREE):
        return None
    pairs = _pairs(history)
    if len(pairs) < ENOUGH:
        return None
    ratio = pairs[:, 0] / pairs[:, 1]
    share, cut = float((ratio > 1 + 1e-4).mean()), float(np.median(ratio))
    if share < 0.95 or cut < thresholds.clip_tight or _falls(history.loss, 0.5):
        return None
    return Finding(
        "clip-tight",
        "optimizer",
        f"{share:.0%} of the steps are clipped, in the median to 1/{cut:.0f} of their gradient.",
        evidence={
            "clipped_share": share,
            "before_over_after": cut,
            "median_norm_before": float(np.median(pairs[:, 0])),
            "median_norm_after": float(np.median(pairs[:, 1])),
            "threshold": thresholds.clip_tight,
            "steps": len(pairs),
        },
        # Without the optimiser's name it may be one that does not mind.
        confidence=confidence(math.log10(cut / thresholds.clip_tight), exact=bool(name)),
    )


def _spikes(history: History, thresholds: Thresholds) -> Finding | None:
    pairs = _pairs(history)
    if len(pairs) < ENOUGH:
        return None
    column = 1 if history.grows is not False else 0
    over = _over_neighbours(pairs[:, column])
    spikes = int((over >= thresholds.spike).sum())
    # One spike that passes is an accident of training, not a fault of it.
    if spikes < max(3, len(pairs) // 100):
        return None
    largest = float(over.max())
    evidence = {
        "spikes": spikes,
        "steps": len(pairs),
        "largest_over_median": largest,
        "threshold": thresholds.spike,
    }
    sure = confidence(math.log10(largest / thresholds.spike))
    if history.grows is False:
        # A scale that runs away takes the loss below zero, where no error or entropy can go.
        if len(history.loss) and min(history.loss) >= 0:
            return None
        text = (
            f"In {spikes} of {len(pairs)} steps the gradient is up to {largest:.0f} times its "
            "median, and it does not grow on its way back through time: the loss itself throws it."
        )
        return Finding("likelihood", "loss", text, evidence=evidence, confidence=sure)
    text = (
        f"In {spikes} of {len(pairs)} steps a gradient of up to {largest:.0f} times the median "
        "reaches the optimiser."
    )
    return Finding("clip-loose", "optimizer", text, evidence=evidence, confidence=sure)


def _over_neighbours(norms: np.ndarray) -> np.ndarray:
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


def _falls(loss: Sequence[float], to: float) -> bool:
    """Whether the last quarter of the losses lies below ``to`` times the first quarter.

    Of losses that change their sign, as a likelihood's may, what counts is that they fall.
    """
    values = _finite(loss)
    if len(values) < ENOUGH:
        return False
    quarter = len(values) // 4
    first, last = float(np.median(values[:quarter])), float(np.median(values[-quarter:]))
    return last < (to * first if first > 0 else first)


def _finite(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    return array[np.isfinite(array)]


def _pairs(history: History) -> np.ndarray:
    """``(S, 2)``: positive finite norms before and after."""
    if len(history.before) == 0:
        return np.empty((0, 2))
    pairs = np.column_stack([history.before, history.after]).astype(np.float64)
    return pairs[(np.isfinite(pairs) & (pairs > 0)).all(1)]
