"""A file as a table of numbers, categories and dates, with every decision told."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from steadygrad.errors import InputError, did_you_mean
from steadygrad.reading.cells import ColumnCells
from steadygrad.reading.date_columns import find_dates
from steadygrad.reading.date_words import is_changed
from steadygrad.reading.dates import read_dates
from steadygrad.reading.draft import Category, Draft, missing_marks, no_column
from steadygrad.reading.lines import Progress
from steadygrad.reading.number_columns import read_numbers
from steadygrad.reading.numbers import NumberStyle
from steadygrad.reading.options import ALL, Reading, listed
from steadygrad.reading.rows import Rows
from steadygrad.reading.sentinels import find_sentinels
from steadygrad.reading.sideways import turned
from steadygrad.reading.sources import Raw, raw_of_frame, read_raw
from steadygrad.reading.spec import ColumnSpec, TableSpec
from steadygrad.reading.steps import order_rows
from steadygrad.reading.text_columns import read_texts

DEFAULT = Reading()


@dataclass(frozen=True)
class Table:
    """A table as it was understood.

    Args:
        path: The file.
        numbers: Columns of numbers in float64, in order of date, gaps filled.
        missing: Which rows of a column were missing and are filled.
        categories: Columns of few different texts.
        dates: ``datetime64[us]``, one per row, or None.
        starts: The first row of each series; ``(0,)`` for one.
        spec: How it was read.
        notes: One sentence for each thing that was done.
    """

    path: Path
    numbers: dict[str, np.ndarray]
    missing: dict[str, np.ndarray]
    categories: dict[str, Category]
    dates: np.ndarray | None
    starts: tuple[int, ...]
    spec: TableSpec
    notes: tuple[str, ...]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.missing.values()), next(iter(self.numbers.values()), ())))


def read_table(
    path: Path,
    reading: Reading = DEFAULT,
    *,
    data: bytes | None = None,
    progress: Progress | None = None,
    spec: TableSpec | None = None,
) -> Table:
    """Read a file as a table, whatever its form.

    Args:
        path: The file.
        reading: What its reader says about it.
        data: Its content, if it is in memory already.
        progress: Is called with the bytes read and their number.
        spec: How a file like it was understood: nothing is decided then, all is read as that was.

    Raises:
        InputError: It cannot be read, or could be read in two ways; the message names the cell and
            the option to pass.
    """
    reading.check()
    return _understood(path, read_raw(path, reading, data, progress, spec), reading, spec)


def read_frame(
    frame: Any, reading: Reading = DEFAULT, *, spec: TableSpec | None = None, name: str = "frame"
) -> Table:
    """Read a pandas frame as a table; its index, if it is named or holds dates, is a column.

    Args:
        frame: A ``pandas.DataFrame``.
        reading: As in `read_table`.
        spec: As in `read_table`.
        name: Of the frame, for messages.

    Raises:
        InputError: As `read_table`.
    """
    reading.check()
    index = spec.dates.columns[0] if spec is not None and spec.dates is not None else None
    return _understood(Path(name), raw_of_frame(frame, name, index), reading, spec)


def _understood(path: Path, raw: Raw, reading: Reading, spec: TableSpec | None) -> Table:
    is_turned = False
    if raw.has_header and (spec is None or spec.is_turned):
        try:
            upright = turned(raw)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        is_turned = upright is not raw
        raw = upright
    draft = Draft(path, raw, reading, spec, is_turned, list(raw.notes))
    _names(draft)
    rows = Rows(raw.lines, path, trained=None if spec is None else _date_form(spec))
    read_numbers(draft, rows)
    find_dates(draft, rows)
    read_texts(draft, rows)
    rows.tell(draft.notes)
    keep = rows.keep()
    _select(draft, keep)
    _sentinels(draft)
    return _arranged(draft)


def _date_form(spec: TableSpec) -> str:
    return ", ".join(spec.dates.formats).replace("m%m", "%b") if spec.dates is not None else ""


def _names(draft: Draft) -> None:
    """Leave out empty columns without a name and those not wanted; check the options' names."""
    raw, reading = draft.raw, draft.reading
    for name in listed(reading.drop):
        if name not in raw.columns:
            raise no_column(draft, "--drop", name)
        del raw.columns[name]
        draft.dropped[name] = ColumnSpec(name, "dropped", why="left out as asked")
    _join_series(draft)
    reading = draft.reading
    for option, value in (("--series", reading.series), ("--known", reading.known)):
        for name in listed(value) if option == "--known" else filter(None, [value]):
            if name not in raw.columns and (option, value) != ("--known", ALL):
                raise no_column(draft, option, name)
    if draft.spec is not None:
        for name in list(raw.columns):
            known = draft.spec.column(name)
            if known is None or known.role == "dropped":  # whatever it holds, it is not used
                draft.unused[name] = raw.columns.pop(name)
                draft.dropped[name] = ColumnSpec(name, "dropped", why="not used in training")
        needed = [c.name for c in draft.spec.columns if c.role != "dropped"]
        absent = [name for name in needed if name not in raw.columns]
        if absent:
            raise InputError(
                f"{draft.path}: has no column {absent[0]!r}, which the model was trained with;"
                f" there are: {', '.join(raw.order)}{did_you_mean(absent[0], raw.order)}"
            )


def _join_series(draft: Draft) -> None:
    """Make one column of several that name the series together: store,item."""
    raw = draft.raw
    asked = draft.spec.series if draft.spec is not None else draft.reading.series
    names = listed(asked)
    if asked in (None, *raw.columns) or len(names) < 2:
        return
    for name in names:
        if name not in raw.columns:
            raise no_column(draft, "--series", name)
    joined = ColumnCells(together := ", ".join(names))
    for chunks in zip(*(raw.columns[n].strings() for n in names), strict=True):
        joined.add([", ".join(map(str.strip, cells)) for cells in zip(*chunks, strict=True)])
    raw.columns = {together: joined} | {n: c for n, c in raw.columns.items() if n not in names}
    raw.order = (together, *(n for n in raw.order if n not in names))
    draft.reading = replace(draft.reading, series=together)


def _select(draft: Draft, keep: np.ndarray) -> None:
    """Keep the rows that hold data."""
    if keep.all():
        return
    draft.numbers = {n: v[keep] for n, v in draft.numbers.items()}
    draft.raw.many = {n: v[keep] for n, v in draft.raw.many.items()}
    draft.raw.lines = draft.raw.lines[keep]
    if draft.dates is not None:
        draft.dates = draft.dates[keep]
    for name, category in list(draft.categories.items()):
        codes = category.codes[keep]
        used = np.unique(codes[codes >= 0])
        if draft.spec is None and len(used) < len(category.kinds):
            turned = np.full(len(category.kinds) + 1, -1)
            turned[used] = np.arange(len(used))
            category = Category(turned[codes], tuple(category.kinds[i] for i in used))
        else:
            category = Category(codes, category.kinds)
        draft.categories[name] = category


def _sentinels(draft: Draft) -> None:
    """Read numbers that stand for a missing value as missing, and say so."""
    if draft.spec is not None:
        for column in draft.spec.columns:
            values = draft.numbers.get(column.name, np.empty(0))
            for code in column.missing:
                values[values == code] = np.nan
            draft.codes[column.name] = column.missing
        return
    if draft.reading.missing == "none":
        return
    values = {n: v for n, v in draft.numbers.items() if n not in draft.used}
    found, warnings = find_sentinels(values)
    draft.notes += warnings
    for name, (code, count, low, high) in found.items():
        column = draft.numbers[name]
        column[column == code] = np.nan
        draft.codes[name] = (code,)
        draft.notes.append(
            f"column {name!r}: {code:g} is far outside of the rest ({low:g} to {high:g}), in"
            f" {count} row{'s'[: count > 1]}: read as missing; --missing none keeps it as a number"
        )


def _arranged(draft: Draft) -> Table:
    """Put the rows in order, or on a grid; fill gaps; and write down what was understood."""
    numbers = {n: v for n, v in draft.numbers.items() if n not in draft.used}
    arranged = order_rows(
        draft.path,
        numbers,
        {n: (c.codes, c.kinds) for n, c in draft.categories.items()},
        draft.dates,
        draft.raw.many,
        draft.reading if draft.spec is None else _as_before(draft.spec),
        draft.raw.series,
        draft.notes,
        is_new=draft.spec is not None,
    )
    if draft.date_spec is not None:
        spec = draft.date_spec
        plural = "columns" if len(spec.columns) > 1 else "column"
        written = spec.formats[:1] if spec.kind in ("text", "number") else ()
        form = written[0].replace("m%m", "%b") if written else ""
        told = f", as {form}" if form else ""
        cell = " ".join(draft.texts[n].first for n in spec.columns if n in draft.texts)
        if spec.kind == "text" and is_changed(cell):
            stamp = str(read_dates([cell], spec.formats)[0])[:16].replace("T", " ")
            told += f" ({cell} is {stamp} UTC)" if ":" in cell else f" ({cell} is {stamp[:10]})"
        draft.notes.insert(0, f"{plural} {', '.join(spec.columns)} read as the date{told}")
    categories = {
        n: Category(codes, draft.categories[n].kinds) for n, codes in arranged.codes.items()
    }
    missing: dict[str, np.ndarray] = {}
    for name, values in list(arranged.numbers.items()):
        mask = fill(name, values, arranged.starts, draft.notes)
        if mask.all():
            draft.drop(name, "holds no number in any row")
            del arranged.numbers[name]
            continue
        missing[name] = mask
    for name, category in categories.items():
        kinds = len(category.kinds)
        draft.notes.append(f"column {name!r}: {kinds} categories, one input each")
    spec = TableSpec(
        format=draft.raw.format,
        encoding=draft.raw.encoding,
        delimiter=draft.raw.delimiter,
        has_header=draft.raw.has_header,
        skip_rows=draft.reading.skip_rows,
        columns=tuple(_column_spec(draft, name, arranged.series) for name in draft.raw.order),
        dates=draft.date_spec,
        step=arranged.step,
        frequency=arranged.frequency,
        every=arranged.every,
        gaps=arranged.gaps,
        longest_gap=arranged.longest_gap,
        series=arranged.series,
        only=arranged.only,
        names=arranged.names,
        missing=tuple(sorted(missing_marks(draft))),
        is_turned=draft.is_turned,
    )
    return Table(
        draft.path,
        arranged.numbers,
        missing,
        categories,
        arranged.dates,
        arranged.starts,
        spec,
        tuple(draft.notes),
    )


def _as_before(spec: TableSpec) -> Reading:
    date = None if spec.dates is not None else "none"  # nothing is asked again
    return Reading(series=spec.series, only=spec.only, every=spec.every, date=date)


def _column_spec(draft: Draft, name: str, series: str | None) -> ColumnSpec:
    if name in draft.used:
        style = draft.styles.get(name, NumberStyle())
        return ColumnSpec(name, "date", style)
    if name in draft.dropped:
        return draft.dropped[name]
    if name == series:
        return ColumnSpec(name, "series")
    if name in draft.categories:
        return ColumnSpec(name, "category", kinds=draft.categories[name].kinds)
    style = draft.styles.get(name, NumberStyle())
    return ColumnSpec(name, "number", style, draft.codes.get(name, ()))


def fill(name: str, values: np.ndarray, starts: Sequence[int], notes: list[str]) -> np.ndarray:
    """Fill gaps forward in place (a series' first rows: backward); return where they were."""
    infinite = int(np.isinf(values).sum())
    bad = ~np.isfinite(values)
    count = int(bad.sum())
    if count == 0 or count == len(values):
        return bad
    for first, last in zip(starts, [*starts[1:], len(values)], strict=True):
        part, wrong = values[first:last], bad[first:last]
        if not wrong.any():
            continue
        if wrong.all():  # nothing known of this series: the mean of what is known of all
            part[:] = values[~bad].mean()
            continue
        last_good = np.maximum.accumulate(np.where(wrong, -1, np.arange(len(part))))
        # The rows before the first value have no past; the training part starts there, so its
        # first value leaks nothing into validation or test.
        last_good[last_good < 0] = int(np.argmin(wrong))
        part[:] = part[last_good]
    kinds = f"{count - infinite} missing" if count > infinite else ""
    kinds += (" and " if kinds and infinite else "") + (f"{infinite} infinite" if infinite else "")
    notes.append(f"column {name!r}: {kinds} values filled forward")
    return bad
