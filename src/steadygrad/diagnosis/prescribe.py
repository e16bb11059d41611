"""From a fault to the remedies that may help, the most promising first."""

from dataclasses import replace

from torch import nn

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
    "nonfinite": ("skip-nonfinite", "clip-norm", "orthogonal-init", "clip-value"),
}
"""Preference where several apply; a remedy that names a fault in `helps` follows after these."""


def prescribe(finding: Finding, model: nn.Module) -> Finding:
    """Fill in the remedies that suit ``model``."""
    first = [n for n in RANKED.get(finding.fault, ()) if n in REMEDIES]
    rest = [n for n, r in REMEDIES.items() if finding.fault in r.helps and n not in first]
    suiting = [n for n in first + rest if REMEDIES[n]().applicable(model)]
    return replace(finding, remedies=tuple(suiting))
