"""Tables whose time runs across: a column for each date, each month or each hour of the day.

Read row by row, such a table would be learnt across its series, or once a year or a day. It is
turned so that each row holds one date and one value; what else a row held names its series.
"""

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from steadygrad.errors import InputError
from steadygrad.reading.cells import ColumnCells
from steadygrad.reading.date_names import is_date_name
from steadygrad.reading.date_parts import PARTS
from steadygrad.reading.date_words import month_numbers
from steadygrad.reading.dates import clock_format, formats_of, looks_like_date
from steadygrad.reading.numbers import split_number
from steadygrad.reading.sources import Raw

DATE, VALUE = "date", "value"
LEAST = 6  # dates across
MOST = 50_000_000  # values
YEAR = re.compile(r"[XYy]?((?:1[5-9]|20|21)\d\d)(?: \[YR\d{4}\])?")
HOUR = re.compile(r"(?:h|hr|he|hour|hora|heure|stunde|ora)?[ _.-]?(\d{1,2})(?::00|h)?", re.I)
TIME = re.compile(r"[ T]00:00(?::00(?:\.0+)?)?$")


@dataclass(frozen=True)
class Across:
    """Which columns time runs across.

    Args:
        what: For the reader: dates, months, hours.
        columns: Their names, in order.
        stamp: Of the place of a column and of the cell of ``base``: the date as text.
        base: The column of the year or the day that goes with them.
        left_out: Columns of sums over time, which belong to no date.
    """

    what: str
    columns: tuple[str, ...]
    stamp: Callable[[int, str], str]
    base: str | None = None
    left_out: tuple[str, ...] = ()


def turned(raw: Raw) -> Raw:
    """Return a table with one date in each row; as it is, if time does not run across it.

    Raises:
        InputError: It would have more values than can be held.
    """
    found = _dates(raw) or _months(raw) or _hours(raw)
    return raw if found is None else _turn(raw, found)


def _dates(raw: Raw) -> Across | None:
    names = list(raw.columns)
    years = {n: m[1] for n in names if (m := YEAR.fullmatch(n))}
    stamps = years if len(years) >= LEAST else {n: n for n in names if formats_of(n)}
    rest = [n for n in names if n not in stamps]
    if len(stamps) < LEAST or len(stamps) < 2 * len(rest):
        return None
    # A column of dates or months besides: its rows are no series. (geo\TIME: rows are of geo.)
    if any(is_date_name(n.split("\\")[0]) or n.strip().lower() in PARTS for n in rest):
        return None
    if years and len({np.sign(int(b) - int(a)) for a, b in _pairs(list(stamps.values()))}) > 1:
        return None
    texts = list(stamps.values())
    return Across("dates", tuple(stamps), lambda i, _: texts[i])


def _months(raw: Raw) -> Across | None:
    names = list(raw.columns)
    numbers = month_numbers(names)
    months = [n for n, k in zip(names, numbers, strict=True) if np.isfinite(k)]
    year = next((n for n in names if PARTS.get(n.strip().lower()) == "year"), None)
    if year is None or list(numbers[np.isfinite(numbers)]) != list(range(1, 13)):
        return None
    sums = [
        n
        for n in names
        if n not in (*months, year) and split_number(raw.columns[n].first) is not None
    ]
    return Across("months", tuple(months), _month_of, year, tuple(sums))


def _month_of(place: int, year: str) -> str:
    return f"{year.strip().removesuffix('.0')}-{place + 1:02d}"


def _hours(raw: Raw) -> Across | None:
    names = list(raw.columns)
    base = next((n for n in names if looks_like_date(raw.columns[n].first)), None)
    if base is None or not formats_of(raw.columns[base].first):
        return None
    minutes: dict[str, int] = {}
    for name in names:
        if name == base:
            continue
        if clock_format(name) in ("%H:%M", "%H:%M:%S"):
            hour, minute = name.strip().split(":")[:2]
            minutes[name] = 60 * int(hour) + int(minute)
        elif found := HOUR.fullmatch(name.strip()):
            minutes[name] = 60 * int(found[1])
    count = len(minutes)
    if count < 24 or 1440 % count:
        return None
    step = 1440 // count
    # Hours are also counted from 1 to 24: the first is that after midnight.
    places = np.array(list(minutes.values())) - next(iter(minutes.values()))
    if next(iter(minutes.values())) not in (0, step) or (np.diff(places) != step).any():
        return None

    def stamp(place: int, day: str) -> str:
        clock = f"{place * step // 60:02d}:{place * step % 60:02d}"
        return f"{TIME.sub('', day.strip())} {clock}" if day.strip() else ""

    return Across("hours", tuple(minutes), stamp, base)


def _turn(raw: Raw, across: Across) -> Raw:
    width, rows = len(across.columns), len(raw.lines)
    if width * rows > MOST:
        raise InputError(
            f"{rows} rows of {width} {across.what} are over {MOST} values: too many to be turned;"
            " save the table with one date in each row"
        )
    gone = {*across.columns, *across.left_out, across.base}
    kept = {n: _cells(c) for n, c in raw.columns.items() if n not in gone}
    values = [_cells(raw.columns[n]) for n in across.columns]
    bases = _cells(raw.columns[across.base]) if across.base else [""] * rows
    date, value = _free(DATE, kept), _free(VALUE, kept)
    columns: dict[str, ColumnCells] = {}
    for name, cells in {
        date: [across.stamp(i, base) for base in bases for i in range(width)],
        **{n: [c for c in cells for _ in range(width)] for n, cells in kept.items()},
        value: [cell for row in zip(*values, strict=True) for cell in row],
    }.items():
        columns[name] = ColumnCells(name)
        columns[name].add(cells)
    left = f"; left out: {', '.join(across.left_out)}" if across.left_out else ""
    note = (
        f"{width} {across.what} stand side by side ({across.columns[0]} to {across.columns[-1]}):"
        f" turned into rows, with columns {date!r} and {value!r}{left}"
    )
    return replace(
        raw,
        columns=columns,
        order=tuple(columns),
        lines=np.repeat(raw.lines, width),
        notes=[*raw.notes, note],
        nameless=raw.nameless & columns.keys(),
        stamps=set(),
    )


def _cells(column: ColumnCells) -> list[str]:
    return [cell for chunk in column.strings() for cell in chunk]


def _free(name: str, taken: dict[str, list[str]]) -> str:
    return name if name not in taken else f"{name} (turned)"


def _pairs(values: Sequence[str]) -> list[tuple[str, str]]:
    return list(itertools.pairwise(values))
