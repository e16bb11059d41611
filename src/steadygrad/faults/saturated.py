"""Saturated: the units of a gate are stuck where its derivative is next to nothing."""

from collections.abc import Iterable, Mapping
from typing import ClassVar, final

from steadygrad.faults.base import Fault, Threshold
from steadygrad.faults.finding import Finding
from steadygrad.faults.layer import LayerCase


@final
class Saturated(Fault):
    """Of sigmoid and tanh gates; rectified units that never open are `Dead`."""

    name: ClassVar[str] = "saturated"
    severity: ClassVar[int] = 100
    meaning: ClassVar[str] = (
        "The units of a gate are stuck where its derivative is close to zero: they pass on no "
        "gradient."
    )
    symptom: ClassVar[str] = "learning is very slow, gates stay at 0 or 1"
    look_at: ClassVar[str] = "gate health in the diagnosis"
    measured: ClassVar[str] = (
        "Mean derivative and spread of the gate over steps and sequences, unit by unit: below 1 % "
        "of the largest possible and constant, or below a millionth and switching between the two "
        "extremes only. A gate that keeps its state for as long as the task needs is not reported."
    )
    colour: ClassVar[str] = "#a36c46"
    thresholds: ClassVar[Mapping[str, Threshold]] = {
        "dead_share": Threshold(
            0.9,
            ("a share of a gate's units permanently closed from which it is a fault"),
            at_most=1.0,
        ),
    }
    caused_by: ClassVar[tuple[str, ...]] = ("lr-high", "input-scale")

    def in_layer(self, case: LayerCase) -> Iterable[Finding]:
        what = "are stuck where their derivative is next to nothing"
        yield from case.shut_units(self, False, what)
