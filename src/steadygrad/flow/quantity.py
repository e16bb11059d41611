"""What a quantity states about itself; records, reports and the documentation read it from here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from steadygrad.flow.through_time import TimeFlow

AtLook = Callable[[Mapping[str, "TimeFlow"]], float | None]
"""Takes what one look has measured, by layer, and returns a number, or None where there is none."""


@final
@dataclass(frozen=True)
class Quantity:
    """A quantity by name.

    Args:
        name: As in records. A star at its end stands for a number or the name of a gate.
        unit: Of its values; "1" for a plain ratio.
        meaning: One line.
        title: Of its chart; the name in words if not given.
        is_log: Whether its chart has a log axis.
        is_share: Whether it is yes or no at each step: a share only over many.
        beside: Name of the quantity in whose chart it is drawn.
        label: In the key of a chart that shows several.
        at_look: How a watch and a diagnosis take it from each look; one that has none is measured
            by a function of its own, or as the training goes on.
    """

    name: str
    unit: str
    meaning: str
    title: str = ""
    is_log: bool = False
    is_share: bool = False
    beside: str = ""
    label: str = ""
    at_look: AtLook | None = field(default=None, compare=False)

    def to_record(self) -> dict[str, Any]:
        """The description as plain values, for those who draw from the record alone."""
        return {
            "unit": self.unit,
            "meaning": self.meaning,
            "title": self.title or self.name[:1].upper() + self.name[1:].replace("_", " "),
            "log": self.is_log,
            "share": self.is_share,
            "beside": self.beside,
            "label": self.label,
        }


_DECLARED: dict[str, Quantity] = {}


def declare(quantity: Quantity) -> Quantity:
    """Make a quantity known; call it once in the file that measures it."""
    _DECLARED[quantity.name] = quantity
    return quantity


def declared() -> dict[str, Quantity]:
    """Every quantity that is declared so far, yours too, by name."""
    return dict(sorted(_DECLARED.items()))


def at_look(flows: Mapping[str, "TimeFlow"]) -> dict[str, float]:
    """The numbers of one look, by name."""
    found = {name: q.at_look(flows) for name, q in declared().items() if q.at_look is not None}
    return {name: value for name, value in found.items() if value is not None}


def to_record() -> dict[str, Any]:
    """Descriptions of all quantities, as the note ``quantities`` of a record."""
    return {name: quantity.to_record() for name, quantity in declared().items()}


def smallest(attribute: str) -> AtLook:
    """The smallest value of an attribute of `TimeFlow` over the layers that have one.

    Of a stack the lowest layer counts, at which the whole way ends.
    """

    def take(flows: Mapping[str, "TimeFlow"]) -> float | None:
        values = [getattr(flow, attribute) for flow in flows.values() if flow.is_lowest]
        return min((float(v) for v in values if v is not None), default=None)

    return take
