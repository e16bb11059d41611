"""From a fault to the remedies that may help, the most promising first."""

from dataclasses import replace

from torch import nn

from steadygrad.diagnosis.faults import FAULTS
from steadygrad.diagnosis.finding import Finding
from steadygrad.remedies import REMEDIES

RANKED: dict[str, tuple[str, ...]] = {
    "vanishing": (
        "gated",
        "forget-bias",
        "chrono-init",
        "irnn",
        "orthogonal-init",
        "identity-init",
    ),
    "exploding": ("clip-norm", "orthogonal-init", "clip-value", "gated"),
    "saturated": ("orthogonal-init", "gated"),
    "dead": ("identity-init", "orthogonal-init", "gated"),
    "nonfinite": ("nonfinite", "clip-norm", "orthogonal-init", "clip-value"),
    "likelihood": ("clip-norm", "clip-value"),
    "growing": ("gated",),
    "clip-loose": ("clip-norm",),
}
"""What is worth a trial, most promising first. A reader's own remedies that name the fault follow;
of the house's there are too many to try them all, and docs/choose.md says when to take which."""


def prescribe(finding: Finding, model: nn.Module) -> Finding:
    """Fill in the remedies that suit ``model``, and what else helps."""
    first = [n for n in RANKED.get(finding.fault, ()) if n in REMEDIES]
    rest = [
        name
        for name, remedy in REMEDIES.items()
        if finding.fault in remedy.helps
        and name not in first
        and not remedy.__module__.startswith("steadygrad.")
    ]
    suiting = [n for n in first + rest if REMEDIES[n]().applicable(model)]
    advice = finding.advice or FAULTS[finding.fault].advice
    return replace(finding, remedies=tuple(suiting), advice=advice)
