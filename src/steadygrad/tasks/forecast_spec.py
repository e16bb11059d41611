"""Everything that a forecast needs to know about its data, as one frozen JSON-able value."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from steadygrad.plain import Misfit, fit
from steadygrad.reading import TableSpec

Source = Literal["number", "category", "calendar", "known"]


@dataclass(frozen=True)
class InputSpec:
    """One input of the model.

    Args:
        name: Name for display.
        source: A column of numbers; one text of a column of categories; the calendar; or a column
            that is known ahead, given as it will be ``horizon`` rows later.
        column: Source column.
        kind: The text, for a column of categories.
        mean: Mean of the training part, which is subtracted. One value per series, or one for
            all.
        deviation: Standard deviation of the training part, the divisor. As ``mean``.
    """

    name: str
    source: Source
    column: str = ""
    kind: str = ""
    mean: tuple[float, ...] = (0.0,)
    deviation: tuple[float, ...] = (1.0,)


@dataclass(frozen=True)
class ForecastSpec:
    """Target, inputs and scaling of a forecast.

    Args:
        table: Specification of the file's format.
        target: The column to forecast.
        inputs: In the model's order.
        window: Rows seen.
        horizon: Rows ahead.
        period: Season of the naive answer, in rows.
        scale: Unit of the model's answers, in the target's unit.
        scales: The same for each series, over ``scale``.
        drifts: Whether windows are given relative to their last row.
    """

    table: TableSpec
    target: str
    inputs: tuple[InputSpec, ...]
    window: int
    horizon: int
    period: int | None
    scale: float
    scales: tuple[float, ...]
    drifts: bool

    def plain(self) -> dict[str, Any]:
        """Return the value as JSON can hold it."""
        return dataclasses.asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "ForecastSpec":
        """Read back what `plain` returned, also after conversion to and from JSON.

        Raises:
            Misfit: It is of another type, or out of range.
        """
        found = fit(cls, plain, "data")
        for name in ("window", "horizon"):
            if getattr(found, name) < 1:
                raise Misfit(f"data.{name}: expected at least 1, got {getattr(found, name)}")
        for given in found.inputs:
            if not given.column and given.source != "calendar":
                raise Misfit(f"data.inputs: {given.name!r}, a {given.source}, is of no column")
        return found
