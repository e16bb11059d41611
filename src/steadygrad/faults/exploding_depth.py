"""Exploding in depth: the gradient grows on its way down a deep network."""

import math
from collections.abc import Iterable, Mapping
from typing import ClassVar, final

from steadygrad.faults.base import Fault, Threshold
from steadygrad.faults.depth import DepthCase
from steadygrad.faults.exploding import Exploding
from steadygrad.faults.finding import Finding, confidence
from steadygrad.faults.layer import times


@final
class ExplodingDepth(Fault):
    """More than the threshold of the gradient at the top reaches some layer below."""

    name: ClassVar[str] = "exploding-depth"
    severity: ClassVar[int] = 25
    meaning: ClassVar[str] = (
        "The gradient grows from layer to layer in the backward pass of a deep network, until the "
        "steps of the lowest layers do more harm than good. Time is not involved."
    )
    symptom: ClassVar[str] = (
        "the loss of a deep network jumps or becomes NaN where that of a shallow one falls"
    )
    look_at: ClassVar[str] = "`print(sg.diagnose(model, loss_fn))`, the gradient layer by layer"
    measured: ClassVar[str] = (
        "As for vanishing-depth, at the layer where it is largest. Where the gradient explodes in "
        "time, only that is reported: it then grows in depth, too."
    )
    colour: ClassVar[str] = "#c8612f"
    advice: ClassVar[tuple[str, ...]] = (
        "smaller weights between the layers: He initialisation for ReLU, Glorot initialisation for "
        "tanh",
        "normalise between the layers",
        "clip by norm",
    )
    thresholds: ClassVar[Mapping[str, Threshold]] = {
        "exploding_depth": Threshold(
            100.0,
            "a ratio of the gradient at a layer to that at the top above this is a fault",
            above=1.0,
        ),
    }
    caused_by: ClassVar[tuple[str, ...]] = ("lr-high",)

    def in_depth(self, case: DepthCase) -> Iterable[Finding]:
        layer, share = case.depth.largest
        beyond = share - math.log10(case.limits.exploding_depth)
        if Exploding.name in case.found or not beyond > 0:
            return
        yield self.finding(
            layer,
            f"The gradient grows in depth: at {layer} it is {times(share)} times that at "
            f"{case.depth.layers[-1]}, the top layer.",
            evidence=case.evidence
            | {"log10_ratio": share, "threshold": case.limits.exploding_depth},
            confidence=confidence(beyond),
        )
