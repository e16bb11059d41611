"""Learning rate too low: the steps are too small to get anywhere."""

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
    LONG,
    History,
    falls_to,
    finite,
    rate,
)
from steadygrad.faults.thresholds import Thresholds

STILL = 0.02  # of the weights' norm: what all steps of a training that stands have moved them by
FADED = 1e-3  # share of the greatest norm of the gradient below which it is gone


@final
class LearningRateLow(Fault):
    """Steps that have been tiny throughout, or a plan that cannot move the weights far."""

    name: ClassVar[str] = "lr-low"
    severity: ClassVar[int] = 140
    meaning: ClassVar[str] = (
        "The learning rate is too low: the steps are too small to make progress."
    )
    symptom: ClassVar[str] = "the loss does not move at all"
    look_at: ClassVar[str] = "relative step size, in `sg.watch` with `steps=` and `w.loss(loss)`"
    measured: ClassVar[str] = (
        "|step| / |weights| has been tiny from the first measurement on while the loss has hardly "
        "moved; or all steps so far have moved the weights by 2 % at most while the loss stands; "
        "or all steps that are planned cannot move the weights far; or a schedule has made "
        "most of them tiny before the loss has come down to a half. Without the loss "
        "nothing is concluded: a trained network takes small steps, too."
    )
    colour: ClassVar[str] = "#288a49"
    advice: ClassVar[tuple[str, ...]] = (
        "raise the learning rate until a step changes the weights by about 1 %, and lower it again "
        "if the loss jumps",
    )
    thresholds: ClassVar[Mapping[str, Threshold]] = {
        "update_low": Threshold(
            1e-5, "a size of a step relative to the weights below which it is too small"
        ),
        "travel_low": Threshold(
            0.1,
            "the largest total change of the weights over all planned steps, relative to the "
            "weights, below which training cannot succeed",
        ),
    }

    def in_training(self, history: History, limits: Thresholds) -> Iterable[Finding]:
        update = finite(history.update)
        # A decayed or warming rate is small at one end only; what is too low is small throughout.
        if len(update) < ENOUGH_UPDATES or len(history.loss) < ENOUGH:
            return
        size = float(np.max(update))
        travel = size * history.planned if history.planned else math.inf
        is_small = size < limits.update_low and not history.has_moved()
        # Along a plan that is known, a loss that creeps down does not make it arrive.
        is_short = travel < limits.travel_low and not falls_to(history.loss, 0.5)
        told = len(history.loss) * history.kept[0]
        moved = float(np.mean(update)) * told  # early steps, measured more often, are no smaller
        is_still = told >= 2 * LONG and moved < STILL and not history.has_moved()
        if size > 0 and not (is_small or is_short or is_still):
            yield from self._decayed(update, history, limits)
        if size <= 0 or not (is_small or is_short or is_still):
            return
        threshold, beyond = limits.update_low, limits.update_low / size
        if is_short:
            threshold, beyond = limits.travel_low, limits.travel_low / travel
        elif not is_small:
            threshold, beyond = STILL / told, STILL / moved
        text = f"No step has changed the weights by more than {size:.1e} of their norm"
        if is_short:
            text += f": all {history.planned} steps together move them by {travel:.1%} at most."
        elif is_small:
            text += ", and the loss has hardly moved."
        else:
            text += f": {told} steps have moved them by {moved:.1%} at most, and the loss stands."
        yield self.finding(
            "optimizer",
            text,
            evidence={
                "update_ratio": size,
                "threshold": threshold,
                "measurements": len(update),
                **({"travel": travel, "steps": history.planned} if history.planned else {}),
            },
            confidence=confidence(math.log10(beyond)),
        )

    def _decayed(
        self, update: NDArray[np.float64], history: History, limits: Thresholds
    ) -> Iterable[Finding]:
        """Steps that were of a good size, and for most of the training are next to nothing."""
        told, (stride, _) = len(history.loss), history.kept
        if len(update) < ENOUGH or told * stride < LONG:
            return
        # The last third of what was measured is a third of the training at least: late steps are
        # measured less often than early ones.
        usual, first = float(np.max(update[-(len(update) // 3) :])), float(np.max(update))
        if usual >= limits.update_low or falls_to(history.loss, 0.5) or history.creeps():
            return
        norms = finite(history.before)
        # Where the gradient has gone as well, steps are small for that, whatever the rate.
        late = max(1, len(norms) // 3)
        if len(norms) and np.max(norms[-late:]) < FADED * np.max(norms):
            return
        yield self.finding(
            "optimizer",
            f"The steps have shrunk from {first:.1e} of the weights to {usual:.1e} at most, before "
            "the loss came down: the rate decays too fast.",
            evidence={
                "update_ratio": first,
                "late": usual,
                "threshold": limits.update_low,
                "measurements": len(update),
            },
            confidence=confidence(math.log10(limits.update_low / max(usual, 1e-12))),
            advice=("step the scheduler once an epoch, not once a batch, or let it decay slower",),
        )

    def tuned(self, finding: Finding) -> tuple[str, ...]:
        """Rates that bring the measured step to a good size, then a few times shorter, longer."""
        factor = GOOD_STEP / float(finding.evidence["update_ratio"])
        return tuple(rate(factor * other) for other in (1.0, 0.3, 3.0))
