"""What a diagnosis says: a fault, where it is, and the numbers that decided."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from steadygrad.diagnosis.faults import FAULTS

WORST_FIRST = tuple(FAULTS)
Key = tuple[str, str, str | None]
"""Fault, layer and gate: what makes two findings the same one at different times."""


@dataclass(frozen=True)
class Thresholds:
    """The numbers that decide. Each stands in the evidence of the findings it decided.

    Args:
        vanishing: At the required lag, a ratio |dL/dh_(t-lag)| / |dL/dh_t| below this.
        exploding: A ratio above this.
        unlikely: In a training that is told its losses, a ratio at the required lag below this is
            reported at once; one between this and ``vanishing`` only after the loss has stood
            still for long, for optimisers that rescale the gradient often repair it themselves.
        dead_share: Share of a gate's units, shut for good, to report it from.
        growing: Root mean square of a state, at the end of a sequence over which it still grows.
        update_high: Size of a step relative to the weights from which it is too large.
        update_replaces: The same, from which one single step is too large.
        update_low: The same, below which it is too small.
        travel_low: What all planned steps together may move the weights by, relative to them,
            below which they cannot get anywhere.
        clip_tight: A norm before over the norm after clipping, in the median, from this on.
        spike: A norm over the median norm from this on.
        padding: Share of the loss's gradient that enters at padded steps, from this on.
    """

    vanishing: float = 1e-4
    exploding: float = 100.0
    unlikely: float = 1e-12
    dead_share: float = 0.9
    growing: float = 1e4
    update_high: float = 0.1
    update_replaces: float = 0.5
    update_low: float = 1e-5
    travel_low: float = 0.1
    clip_tight: float = 10.0
    spike: float = 100.0
    padding: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.vanishing < 1 < self.exploding:
            raise ValueError(
                "thresholds must satisfy 0 < vanishing < 1 < exploding, "
                f"got {self.vanishing} and {self.exploding}"
            )
        if not 0 < self.dead_share <= 1:
            raise ValueError(f"dead_share must lie in (0, 1], got {self.dead_share}")
        for name in ("growing", "clip_tight", "spike"):
            if not getattr(self, name) > 1:
                raise ValueError(f"{name} must be above 1, got {getattr(self, name)}")
        if not 0 < self.update_low < self.update_high <= self.update_replaces:
            raise ValueError(
                "thresholds must satisfy 0 < update_low < update_high <= update_replaces, "
                f"got {self.update_low}, {self.update_high} and {self.update_replaces}"
            )
        if not 0 < self.unlikely <= self.vanishing:
            raise ValueError(
                "thresholds must satisfy 0 < unlikely <= vanishing, "
                f"got {self.unlikely} and {self.vanishing}"
            )
        if not self.travel_low > 0:
            raise ValueError(f"travel_low must be above 0, got {self.travel_low}")
        if not 0 < self.padding <= 1:
            raise ValueError(f"padding must lie in (0, 1], got {self.padding}")


@dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes:
        fault: One of `steadygrad.diagnosis.FAULTS`.
        layer: Name of the layer, or of the tensor's owner.
        text: In plain words.
        gate: Name of the gate, if one is meant.
        lag: Steps back at which it shows.
        step: Training step at which it was first seen.
        evidence: The numbers and the threshold that decided.
        remedies: What may help, the most promising first, as `steadygrad.remedies.parse` reads it.
        confidence: 0.5 where a number just reaches its threshold, 0.95 a decade beyond; halved
            where the measurement is not exact. Of what is not finite, how sure its place is: 1
            where the very values were seen, 0.95 where a replay shows them, 0.5 where it is what
            is left when all else is finite.
        advice: What else helps, in words.
    """

    fault: str
    layer: str
    text: str
    gate: str | None = None
    lag: int | None = None
    step: int | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    remedies: tuple[str, ...] = ()
    confidence: float | None = None
    advice: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        """What makes two findings the same one at different times."""
        return self.fault, self.layer, self.gate

    def to_record(self) -> dict[str, Any]:
        """The finding as plain values."""
        return asdict(self) | {
            "remedies": list(self.remedies),
            "evidence": dict(self.evidence),
            "advice": list(self.advice),
        }


def confidence(decades_beyond: float, exact: bool = True) -> float:
    """How sure a number makes: 0.5 at its threshold, 0.95 a decade beyond, 0.995 two."""
    sure = 1 - 0.5 * 10.0 ** -min(max(decades_beyond, 0.0), 6.0)
    return round(sure if exact else sure / 2, 4)


def verdict(findings: list[Finding]) -> str:
    """The worst fault, or ``"healthy"``."""
    found = {f.fault for f in findings}
    return next((fault for fault in WORST_FIRST if fault in found), "healthy")


def worst_first(findings: list[Finding]) -> list[Finding]:
    """Sort by fault; within one fault keep the order."""
    return sorted(findings, key=lambda f: WORST_FIRST.index(f.fault))
