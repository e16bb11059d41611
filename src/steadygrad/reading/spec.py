"""What was understood of a table: one frozen value, JSON-able, to be applied to new files."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from steadygrad.plain import fit
from steadygrad.reading.dates import DateSpec
from steadygrad.reading.numbers import NumberStyle

Role = Literal["number", "category", "date", "series", "dropped"]


@dataclass(frozen=True)
class ColumnSpec:
    """One column.

    Args:
        name: Of the column.
        role: What it is used as.
        style: How its numbers are written.
        missing: Numbers that stand for a missing value.
        kinds: Its categories.
        why: Of a dropped column: the reason, in words.
        cell: Of a dropped column: its first cell that could not be read.
        line: The line of that cell.
    """

    name: str
    role: Role
    style: NumberStyle = NumberStyle()  # noqa: RUF009  # frozen
    missing: tuple[float, ...] = ()
    kinds: tuple[str, ...] = ()
    why: str = ""
    cell: str = ""
    line: int = 0


@dataclass(frozen=True)
class TableSpec:
    """How a file was read.

    Args:
        format: text, arff, tsf, jsonl, json, parquet, feather, xlsx.
        encoding: Of a text.
        delimiter: Between columns.
        has_header: Whether its first line names the columns.
        skip_rows: Lines before that.
        columns: In the order of the file.
        dates: How the dates are written; None: rows are in the order of the file.
        step: The usual distance between two rows, in seconds; None without dates.
        frequency: The same in words: 1 hour, 1 month, business days.
        every: The step of the regular grid that the rows were put on, as pandas has it.
        gaps: How many steps between rows are longer than usual.
        longest_gap: The longest of them, in seconds.
        series: The column that names the series of each row.
        only: The one series that was taken.
        names: The series, in the order of the rows.
        missing: Cells that stand for a missing value, in lower case.
        is_turned: Whether time ran across its columns; ``columns`` are those of the turned table.
    """

    format: str = "text"
    encoding: str = "utf-8"
    delimiter: str = ","
    has_header: bool = True
    skip_rows: int = 0
    columns: tuple[ColumnSpec, ...] = ()
    dates: DateSpec | None = None
    step: float | None = None
    frequency: str = ""
    every: str | None = None
    gaps: int = 0
    longest_gap: float = 0.0
    series: str | None = None
    only: str | None = None
    names: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    is_turned: bool = False

    def column(self, name: str) -> ColumnSpec | None:
        """Return what is known of a column."""
        return next((c for c in self.columns if c.name == name), None)

    def plain(self) -> dict[str, Any]:
        """Return the value as JSON can hold it."""
        return dataclasses.asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "TableSpec":
        """Read back what `plain` returned, also after a trip through JSON."""
        return fit(cls, plain, "table")
