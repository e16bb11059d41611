"""Findings on a training as a whole, from the few numbers that every step leaves behind.

Each rule wants enough numbers and concludes nothing without them.
"""

import math
from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass, field

import numpy as np

from steadygrad.diagnosis.finding import Finding, Thresholds, confidence

ENOUGH = 20  # norms or losses from which a rule may speak
ENOUGH_UPDATES = 5
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
    """

    before: MutableSequence[float] = field(default_factory=list)
    after: MutableSequence[float] = field(default_factory=list)
    update: MutableSequence[float] = field(default_factory=list)
    loss: Sequence[float] = field(default_factory=list)
    optimizer: str | None = None
    grows: bool | None = None


def judge_history(history: History, thresholds: Thresholds) -> list[Finding]:
    """Name what is wrong with the steps that a training takes."""
    rules = (_rate_high, _rate_low, _clip_tight, _spikes)
    return [found for rule in rules if (found := rule(history, thresholds))]


def _rate_high(history: History, thresholds: Thresholds) -> Finding | None:
    update = _finite(history.update)
    if len(update) < ENOUGH_UPDATES or _falls(history.loss, 0.9):
        return None
    size = float(np.median(update[-10:]))
    if size < thresholds.update_high:
        return None
    return Finding(
        "lr-high",
        "optimizer",
        f"A step changes the weights by {size:.1%} of themselves: little of what was learned "
        "stays.",
        evidence={
            "update_ratio": size,
            "threshold": thresholds.update_high,
            "measurements": len(update),
            "loss": "not falling" if len(history.loss) >= ENOUGH else "not known",
        },
        confidence=confidence(math.log10(size / thresholds.update_high)),
    )


def _rate_low(history: History, thresholds: Thresholds) -> Finding | None:
    update = _finite(history.update)
    # A decayed or warming rate is small at one end only; what is too low is small throughout.
    if len(update) < ENOUGH_UPDATES or len(history.loss) < ENOUGH or _falls(history.loss, 0.95):
        return None
    size = float(np.max(update))
    if not 0 < size < thresholds.update_low:
        return None
    return Finding(
        "lr-low",
        "optimizer",
        f"No step has changed the weights by more than {size:.1e} of themselves, and the loss has "
        "hardly moved.",
        evidence={
            "update_ratio": size,
            "threshold": thresholds.update_low,
            "measurements": len(update),
        },
        confidence=confidence(math.log10(thresholds.update_low / size)),
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
    usual = np.median(pairs, 0)
    column = 1 if history.grows is not False else 0
    over = pairs[:, column] / usual[column]
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
