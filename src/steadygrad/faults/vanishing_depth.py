"""Vanishing in depth: the gradient does not reach the lowest layers of a deep network."""

import math
from collections.abc import Iterable, Mapping
from typing import ClassVar, final

from steadygrad.faults.base import Fault, Threshold
from steadygrad.faults.dead import Dead
from steadygrad.faults.depth import DepthCase
from steadygrad.faults.finding import Finding, confidence
from steadygrad.faults.layer import times
from steadygrad.faults.saturated import Saturated
from steadygrad.faults.thresholds import Thresholds


@final
class VanishingDepth(Fault):
    """Less than the threshold of the gradient at the top reaches the lowest layer."""

    name: ClassVar[str] = "vanishing-depth"
    severity: ClassVar[int] = 35
    meaning: ClassVar[str] = (
        "The gradient shrinks from layer to layer in the backward pass of a deep network, so that "
        "the lowest layers hardly learn. Time is not involved."
    )
    symptom: ClassVar[str] = "a deeper network learns worse than a shallow one, or nothing"
    look_at: ClassVar[str] = "`print(sg.diagnose(model, loss_fn))`, the gradient layer by layer"
    measured: ClassVar[str] = (
        "Norm of the gradient at the lowest layer over that at the top one: of a recurrent layer "
        "at all its states together, at the step where it is largest; of any other at its output. "
        "Adam and similar optimisers rescale small gradients, down to their epsilon; plain SGD "
        "does not, and has a stricter threshold where the optimiser is known."
    )
    colour: ClassVar[str] = "#b0568c"
    advice: ClassVar[tuple[str, ...]] = (
        "residual connections around each layer; split a module of several layers into single ones "
        "first",
        "normalise between the layers",
        "fewer layers",
        "in feed-forward layers: He initialisation for ReLU, Glorot initialisation for tanh, no "
        "sigmoid units",
        "under Adam a smaller eps, such as 1e-16",
    )
    thresholds: ClassVar[Mapping[str, Threshold]] = {
        "vanishing_depth": Threshold(
            1e-5,
            "a ratio of the gradient at the lowest layer to that at the top below this is a fault",
            below=1.0,
        ),
        "vanishing_depth_plain": Threshold(
            1e-4,
            "the same under an optimiser that does not rescale the gradient, such as SGD",
            below=1.0,
        ),
    }
    caused_by: ClassVar[tuple[str, ...]] = ("lr-high",)

    def in_depth(self, case: DepthCase) -> Iterable[Finding]:
        limits = case.limits
        bound = limits.vanishing_depth if case.rescales else limits.vanishing_depth_plain
        layer, share = case.depth.lowest
        # Units that are shut explain that nothing passes, and are reported in its place.
        if not share < math.log10(bound) or case.found & {Saturated.name, Dead.name}:
            return
        count = len(case.depth.layers)
        yield self.finding(
            layer,
            f"The gradient vanishes in depth: of that at {case.depth.layers[-1]}, the top of "
            f"{count} layers, {times(share)} is left at {layer}.",
            evidence=case.evidence | {"log10_ratio": share, "threshold": bound},
            confidence=confidence(math.log10(bound) - share),
        )

    def check(self, limits: Thresholds) -> None:
        if not limits.vanishing_depth <= limits.vanishing_depth_plain:
            raise ValueError(
                "thresholds must satisfy vanishing_depth <= vanishing_depth_plain, got "
                f"{limits.vanishing_depth} and {limits.vanishing_depth_plain}"
            )
