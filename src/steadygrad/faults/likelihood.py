"""Likelihood: the loss itself throws large gradients."""

from collections.abc import Iterable, Mapping
from typing import ClassVar, final

import numpy as np

from steadygrad.faults.base import Fault, Threshold
from steadygrad.faults.finding import Finding
from steadygrad.faults.history import History, finite
from steadygrad.faults.spikes import SPIKE, jumps, spikes
from steadygrad.faults.thresholds import Thresholds


@final
class Likelihood(Fault):
    """Spikes before clipping, while the gradient does not grow with the lag."""

    name: ClassVar[str] = "likelihood"
    severity: ClassVar[int] = 60
    meaning: ClassVar[str] = (
        "The loss itself produces large gradients, not the backward pass through time: a "
        "likelihood whose scale or rate becomes extreme."
    )
    symptom: ClassVar[str] = "a negative log-likelihood falls without bound, or jumps"
    look_at: ClassVar[str] = "norms of `sg.watch` beside the gradient by lag"
    measured: ClassVar[str] = (
        "Gradient norms jump far beyond their median and their neighbours, while the gradient does "
        "not grow with the lag; where `w.loss` is called, one of the losses is below zero. Or, of "
        "losses that are mostly below zero, one or two in a hundred undo half of what the training "
        "has gained, for a step."
    )
    colour: ClassVar[str] = "#7d7d16"
    advice: ClassVar[tuple[str, ...]] = (
        "bound the scale that the loss divides by",
        "clip by norm",
        "check the targets",
    )
    thresholds: ClassVar[Mapping[str, Threshold]] = {"spike": SPIKE}
    caused_by: ClassVar[tuple[str, ...]] = ("lr-high",)

    def in_training(self, history: History, limits: Thresholds) -> Iterable[Finding]:
        if history.grows is not False:
            return
        # A scale that runs away takes the loss below zero, where no error or entropy can go.
        if len(history.loss) and min(history.loss) >= 0:
            return
        found = spikes(history.norm_pairs()[:, 0], limits)
        if found is None:
            yield from self._in_losses(history)
            return
        yield self.finding(
            "loss",
            f"In {found.count} of {found.steps} steps the gradient is up to {found.largest:.0f} "
            "times its median, and it does not grow in the backward pass through time: it comes "
            "from the loss itself.",
            evidence=found.evidence,
            confidence=found.confidence,
        )

    def _in_losses(self, history: History) -> Iterable[Finding]:
        """Of a training whose norms were seen at few of its steps, while every loss was told."""
        losses = finite(history.loss)
        if len(losses) == 0 or float(np.median(losses[len(losses) // 4 :])) >= 0:
            return
        found = jumps(losses)
        if found is None:
            return
        yield self.finding(
            "loss",
            f"{found.count} of {found.steps} losses jump up to {found.largest:.0f} times as far "
            "from their neighbours as usual, and undo half of what was gained: the likelihood "
            "divides by a scale that has become tiny.",
            evidence={
                "jumps": found.count,
                "losses": found.steps,
                "largest_over_usual": found.largest,
                "threshold": found.threshold,
            },
            confidence=found.confidence,
        )
