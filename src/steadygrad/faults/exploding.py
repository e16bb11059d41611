"""Exploding: the gradient grows in the backward pass through time."""

import math
from collections.abc import Iterable, Mapping
from typing import ClassVar, final

from steadygrad.faults.base import Fault, Moment, Threshold
from steadygrad.faults.finding import Finding, confidence
from steadygrad.faults.history import ENOUGH
from steadygrad.faults.layer import LayerCase, times
from steadygrad.faults.thresholds import Thresholds

FAR = 3  # times the threshold's decades, from which an exploding gradient is reported at once


@final
class Exploding(Fault):
    """A ratio over the lag above its threshold."""

    name: ClassVar[str] = "exploding"
    severity: ClassVar[int] = 20
    meaning: ClassVar[str] = (
        "The gradient grows in the backward pass through time, until an update does more harm "
        "than good."
    )
    symptom: ClassVar[str] = "the loss jumps, spikes or becomes NaN"
    look_at: ClassVar[str] = "norms of `sg.watch`, slope of the gradient by lag"
    measured: ClassVar[str] = (
        "Norm of the gradient at all states of a layer, at every step back, divided by the norm of "
        "the gradient that the loss sends into the top layer, by replay in float64; the largest "
        "ratio counts."
    )
    colour: ClassVar[str] = "#d44a18"
    advice: ClassVar[tuple[str, ...]] = ("lower the learning rate",)
    thresholds: ClassVar[Mapping[str, Threshold]] = {
        "exploding": Threshold(
            100.0,
            "a gradient at an earlier step more than this many times as large is a fault",
            above=1.0,
        ),
    }
    caused_by: ClassVar[tuple[str, ...]] = ("lr-high",)

    def in_layer(self, case: LayerCase) -> Iterable[Finding]:
        if case.peak is None or not case.explodes:
            return
        (at, ratio), name = case.peak, case.flow.name
        yield self.finding(
            name,
            f"The gradient in {name} grows in the backward pass: {at} steps earlier it is "
            f"{times(ratio)} times as large.",
            lag=at,
            evidence=case.travel
            | {
                "log10_ratio": ratio,
                "log10_without_leaps": ratio - case.leaps,
                "lag_measured": at,
                "threshold": case.limits.exploding,
            },
            confidence=confidence(ratio - math.log10(case.limits.exploding), case.is_exact),
        )

    def waits(self, finding: Finding, moment: Moment) -> bool:
        """A gradient that has just come to explode, and not far, may be a moment of learning.

        A network that stores a value passes through such states. While the loss falls they do no
        harm, however long they last; but for a loss that falls from where the blow-up itself put
        it, and is still far above that of a constant answer.
        """
        history = moment.history
        if history.is_absurd():
            return False
        if history.has_learned() or self._is_of_the_start(finding, moment):
            return True
        near = finding.evidence["log10_ratio"] < FAR * math.log10(moment.limits.exploding)
        is_new = bool(history.loss) and finding.key in moment.passing
        return near and (is_new or history.falls())

    @staticmethod
    def _is_of_the_start(finding: Finding, moment: Moment) -> bool:
        """Whether it is of the first steps of a training, and of single time steps alone.

        A normalisation divides by next to nothing where state and input are zero, until the first
        steps have moved its biases.
        """
        rest = finding.evidence.get("log10_without_leaps")
        if rest is None or rest >= math.log10(moment.limits.exploding):
            return False
        return 0 < max(len(moment.history.before), len(moment.history.loss)) < ENOUGH

    def check(self, limits: Thresholds) -> None:
        if not limits.vanishing < 1 < limits.exploding:
            raise ValueError(
                "thresholds must satisfy 0 < vanishing < 1 < exploding, "
                f"got {limits.vanishing} and {limits.exploding}"
            )
