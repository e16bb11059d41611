"""Options that say how a file is to be read, where its own content leaves it open or misleads."""

from dataclasses import dataclass
from typing import Literal

from steadygrad.errors import InputError

ALL = "all"  # of `Reading.known`
SEPARATORS = (".", ",", " ", "'")


@dataclass(frozen=True)
class Reading:
    """How to read a file; what is not given is decided from the file and said.

    Args:
        encoding: Of a text file, as Python names it: cp949, gb18030, cp1252.
        delimiter: Between columns: , or ; or | or tab or blank.
        header: none: the first line holds data; columns are then named 1, 2, 3.
        skip_rows: Lines before the header that are not part of the table.
        decimal: Decimal mark of numbers: . or ,
        thousands: Mark between groups of three digits: , or . or ' or a blank.
        date: Column of the date, or several with commas between (Date,Time); none: rows are taken
            in the order of the file.
        date_format: Of the date column, as strptime has it: %d/%m/%Y %H:%M.
        series: Column that names the series of each row, where several are stacked in one file, or
            columns that do so together, with commas between: one model is trained on all of them.
        only: With --series: the one series to take.
        every: Step of a regular grid to put the rows on: 10min, 1h, 1D. Rows that are not there
            become gaps.
        missing: Cells that stand for a missing value, with commas between: -200,n.d. none: no
            number stands for a missing value.
        known: Columns whose values are known ahead, with commas between: they are also given for
            the rows to be forecast. all: every column of numbers but the target.
        drop: Columns to leave out, with commas between.
    """

    encoding: str | None = None
    delimiter: str | None = None
    header: Literal["auto", "none"] = "auto"
    skip_rows: int = 0
    decimal: str | None = None
    thousands: str | None = None
    date: str | None = None
    date_format: str | None = None
    series: str | None = None
    only: str | None = None
    every: str | None = None
    missing: str | None = None
    known: str | None = None
    drop: str | None = None

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            InputError: Which, and what was expected.
        """
        if self.decimal not in (None, ".", ","):
            raise InputError(f"--decimal {self.decimal}: expected . or ,")
        if self.thousands not in (None, *SEPARATORS):
            raise InputError(f"--thousands {self.thousands}: expected , or . or ' or a blank")
        if self.decimal is not None and self.decimal == self.thousands:
            raise InputError(f"--decimal and --thousands are both {self.decimal}: one must differ")
        if self.skip_rows < 0:
            raise InputError(f"--skip-rows {self.skip_rows}: expected 0 or above")
        if self.only is not None and self.series is None:
            raise InputError("--only: names one series; give --series COLUMN with it")
        if self.encoding is not None:
            try:
                "".encode(self.encoding)
            except LookupError:
                raise InputError(
                    f"--encoding {self.encoding}: unknown; expected utf-8, cp1252, cp949, ..."
                ) from None

    @property
    def marks(self) -> tuple[str | None, str | None]:
        """Decimal and thousands mark; a given point or comma settles the other."""
        other = {".": ",", ",": "."}
        decimal = self.decimal or other.get(self.thousands or "")
        if self.thousands in (" ", "'"):
            decimal = self.decimal
        return decimal, self.thousands or (other[decimal] if decimal else None)


def listed(text: str | None) -> tuple[str, ...]:
    """Split an option that holds several values at its commas."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())
