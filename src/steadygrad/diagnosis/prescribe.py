"""From a fault to the remedies that may help, the most promising first."""

import math
from collections.abc import Callable
from dataclasses import replace

from torch import nn

from steadygrad.diagnosis.faults import FAULTS
from steadygrad.diagnosis.finding import Finding
from steadygrad.remedies import parse, ranked

GOOD_STEP = 0.03
"""Size of a step relative to the weights that networks at their start bear well."""


def prescribe(finding: Finding, model: nn.Module) -> Finding:
    """Fill in the remedies that suit ``model``, and what else helps."""
    tuned = MEASURED.get(finding.fault, lambda finding: ())(finding)
    names = dict.fromkeys((*tuned, *ranked(finding.fault)))
    suiting = [name for name in names if parse(name).applicable(model)]
    advice = finding.advice or FAULTS[finding.fault].advice
    return replace(finding, remedies=tuple(suiting), advice=advice)


def _to_good_step(finding: Finding) -> tuple[str, ...]:
    """Rates that bring the measured step to a good size, then a few times shorter and longer."""
    factor = GOOD_STEP / float(finding.evidence["update_ratio"])
    return tuple(_rate(factor * other) for other in (1.0, 0.3, 3.0))


def _to_the_lag(finding: Finding) -> tuple[str, ...]:
    """Where the layer itself cuts the gradient: let it pass over the whole sequence."""
    steps, cut = finding.evidence.get("time_steps"), finding.evidence.get("truncate")
    return (f"truncate:steps={steps}",) if cut and steps and steps > cut else ()


def _against_the_clip(finding: Finding) -> tuple[str, ...]:
    """A clip that always acts sets the length of a step; a longer one undoes it."""
    cut = float(finding.evidence["before_over_after"])
    return _rate(cut), _rate(math.sqrt(cut))


def _to_good_weights(finding: Finding) -> tuple[str, ...]:
    """Weights that are lost already are not kept from a broken gradient, but brought back."""
    is_weight = finding.evidence.get("tensor") == finding.layer
    return ("rollback",) if is_weight else ()


def _rate(factor: float) -> str:
    return f"learning-rate:factor={factor:.2g}"


MEASURED: dict[str, Callable[[Finding], tuple[str, ...]]] = {
    "lr-high": _to_good_step,
    "lr-low": _to_good_step,
    "clip-tight": _against_the_clip,
    "truncated": _to_the_lag,
    "nonfinite": _to_good_weights,
}
"""Remedies whose options follow from what was measured."""
