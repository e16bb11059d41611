"""Learning rate too high: each step replaces a large part of the weights."""

import math
from collections.abc import Iterable, Mapping
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from steadygrad.faults.base import Fault, Threshold
from steadygrad.faults.finding import Finding, confidence
from steadygrad.faults.history import (
    ENOUGH,
    ENOUGH_UPDATES,
    GOOD_STEP,
    History,
    falls_to,
    finite,
    rate,
)
from steadygrad.faults.thresholds import Thresholds

EXCUSED = ((2.0, 0.1), (1.0, 0.3))
"""Sizes of a single step, and the share of its start that the loss must come down to with it."""


def _replaces(update: NDArray[np.float64], history: History, limits: Thresholds) -> bool:
    """Whether steps replace the weights, and the loss is not where it would be without that.

    A loss that comes down from a blow-up falls, and is no better than that of the untrained net.
    Nor is it enough that it falls somewhat where a single step was larger than all the weights:
    such a step discards the initialisation.
    """
    largest = float(update.max())
    if largest < limits.update_replaces:
        return False
    wanted = [to for size, to in EXCUSED if largest >= size]
    if wanted:
        return not falls_to(history.loss, wanted[0])
    is_lasting = float(np.median(update[-10:])) >= limits.update_replaces
    return not history.beats_first(0.5 if is_lasting else 0.9)


@final
class LearningRateHigh(Fault):
    """The size of a step relative to the weights, unless the loss falls with it."""

    name: ClassVar[str] = "lr-high"
    severity: ClassVar[int] = 50
    meaning: ClassVar[str] = (
        "The learning rate is too high: each step replaces a large part of the weights."
    )
    symptom: ClassVar[str] = "the loss jumps from the first step on"
    look_at: ClassVar[str] = "relative step size, in `sg.watch` with `w.loss(loss)`"
    measured: ClassVar[str] = (
        "|step| / |weights| of the latest measured steps, or of a single one that replaces the "
        "weights, or that is large where the loss ends far above its start. Weights that have "
        "grown count as they were when the training began. Where the loss is known it must not be "
        "falling: a loss that comes down from a blow-up does not, nor one that is no better than "
        "the very first, while steps replace the weights, nor one that is still far from solved "
        "after a step that was larger than all the weights."
    )
    colour: ClassVar[str] = "#ab6a0e"
    advice: ClassVar[tuple[str, ...]] = (
        "lower the learning rate until a step changes the weights by about 1 %",
        "warm up over the first hundreds of steps",
    )
    thresholds: ClassVar[Mapping[str, Threshold]] = {
        "update_high": Threshold(
            0.1, "a size of a step relative to the weights from which it is too large"
        ),
        "update_replaces": Threshold(0.5, "the same, from which one single step is too large"),
    }

    def in_training(self, history: History, limits: Thresholds) -> Iterable[Finding]:
        update = finite(history.update)
        if len(update) == 0 or (history.falls() and not _replaces(update, history, limits)):
            return
        size, at_once = float(np.median(update[-10:])), float(update.max())
        # One step that replaces the weights is enough: what was there before is lost.
        if at_once >= limits.update_replaces:
            size, bound = at_once, limits.update_replaces
        elif len(update) >= ENOUGH_UPDATES and size >= limits.update_high:
            bound = limits.update_high
        elif history.has_diverged() and at_once >= limits.update_high:
            size, bound = at_once, limits.update_high
        else:
            return
        yield self.finding(
            "optimizer",
            f"A step changes the weights by {size:.1%} of their norm: it overwrites most of what "
            "was learned.",
            evidence={
                "update_ratio": size,
                "threshold": bound,
                "measurements": len(update),
                "loss": "not falling" if len(history.loss) >= ENOUGH else "not known",
            },
            confidence=confidence(math.log10(size / bound)),
        )

    def tuned(self, finding: Finding) -> tuple[str, ...]:
        """Rates that bring the measured step to a good size, then a few times shorter, longer."""
        factor = GOOD_STEP / float(finding.evidence["update_ratio"])
        return tuple(rate(factor * other) for other in (1.0, 0.3, 3.0))

    def check(self, limits: Thresholds) -> None:
        if not limits.update_low < limits.update_high <= limits.update_replaces:
            raise ValueError(
                "thresholds must satisfy 0 < update_low < update_high <= update_replaces, got "
                f"{limits.update_low}, {limits.update_high} and {limits.update_replaces}"
            )
