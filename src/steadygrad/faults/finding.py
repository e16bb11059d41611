"""A finding: a fault, where it is, and the numbers that decided."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

Key = tuple[str, str, str | None]
"""Fault, layer and gate: what makes two findings the same one at different times."""


@dataclass(frozen=True)
class Finding:
    """One fault in one place.

    Attributes:
        fault: Name of one of `steadygrad.faults.FAULTS`.
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
        effects: By remedy what it did to a copy of this model, in words; those that change nothing
            that could be measured so are not in it.
        patch: The lines to paste for the first remedy, in the reader's own names; empty if there
            is no remedy.
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
    effects: Mapping[str, str] = field(default_factory=dict)
    patch: str = ""

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
            "effects": dict(self.effects),
        }


def confidence(decades_beyond: float, exact: bool = True) -> float:
    """Confidence, from the distance to the threshold: 0.5 at it, 0.95 a decade beyond, 0.995 two.

    Args:
        decades_beyond: log10 of the number over its threshold.
        exact: Whether the number was measured exactly; else the confidence is halved.
    """
    sure = 1 - 0.5 * 10.0 ** -min(max(decades_beyond, 0.0), 6.0)
    return round(sure if exact else sure / 2, 4)
