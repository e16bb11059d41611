"""What a diagnosis says: a fault, where it is, and the numbers that decided."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

FAULTS = ("nonfinite", "exploding", "vanishing", "saturated", "dead")
"""Faults, the worst first; `Diagnosis.verdict` is the worst that was found, or ``healthy``."""


@dataclass(frozen=True)
class Thresholds:
    """The numbers that decide. Each stands in the evidence of the findings it decided.

    Args:
        vanishing: At the required lag, a ratio |dL/dh_(t-lag)| / |dL/dh_t| below this.
        exploding: A ratio above this.
        dead_share: Share of a gate's units, stuck where the derivative is dead, to report it from.
    """

    vanishing: float = 1e-4
    exploding: float = 1e3
    dead_share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.vanishing < 1 < self.exploding:
            raise ValueError(
                "thresholds must satisfy 0 < vanishing < 1 < exploding, "
                f"got {self.vanishing} and {self.exploding}"
            )
        if not 0 < self.dead_share <= 1:
            raise ValueError(f"dead_share must lie in (0, 1], got {self.dead_share}")


@dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes:
        fault: One of `FAULTS`.
        layer: Name of the layer, or of the tensor's owner.
        text: In plain words.
        gate: Name of the gate, if one is meant.
        lag: Steps back at which it shows.
        step: Training step at which it was first seen.
        evidence: The numbers and the threshold that decided.
        remedies: What may help, the most promising first, as `steadygrad.remedies.parse` reads it.
    """

    fault: str
    layer: str
    text: str
    gate: str | None = None
    lag: int | None = None
    step: int | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    remedies: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str, str | None]:
        """What makes two findings the same one at different times."""
        return self.fault, self.layer, self.gate

    def to_record(self) -> dict[str, Any]:
        """The finding as plain values."""
        return asdict(self) | {"remedies": list(self.remedies), "evidence": dict(self.evidence)}


def verdict(findings: list[Finding]) -> str:
    """The worst fault, or ``"healthy"``."""
    found = {f.fault for f in findings}
    return next((fault for fault in FAULTS if fault in found), "healthy")


def worst_first(findings: list[Finding]) -> list[Finding]:
    """Sort by fault; within one fault keep the order."""
    return sorted(findings, key=lambda f: FAULTS.index(f.fault))
