"""Dead: units of a ReLU never open."""

from collections.abc import Iterable, Mapping
from typing import ClassVar, final

from steadygrad.faults.base import Fault, Threshold
from steadygrad.faults.finding import Finding
from steadygrad.faults.layer import LayerCase
from steadygrad.faults.saturated import Saturated


@final
class Dead(Fault):
    """Of rectified units; gates that are stuck are `Saturated`."""

    name: ClassVar[str] = "dead"
    severity: ClassVar[int] = 110
    meaning: ClassVar[str] = "Units of a ReLU never open: they can no longer be trained."
    symptom: ClassVar[str] = "ReLU units never change"
    look_at: ClassVar[str] = "dead units in the diagnosis"
    measured: ClassVar[str] = "Share of units that are never positive over steps and sequences."
    colour: ClassVar[str] = "#797979"
    thresholds: ClassVar[Mapping[str, Threshold]] = Saturated.thresholds
    caused_by: ClassVar[tuple[str, ...]] = ("lr-high", "input-scale")

    def in_layer(self, case: LayerCase) -> Iterable[Finding]:
        yield from case.shut_units(self, True, "never open")
