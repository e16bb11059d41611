"""A file as a table of numbers, categories and dates, with every decision told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from steadygrad.errors import InputError, did_you_mean
from steadygrad.reading import dates as date_forms
from steadygrad.reading.cells import ColumnCells
from steadygrad.reading.dates import DateSpec
from steadygrad.reading.lines import Progress
from steadygrad.reading.numbers import (
    MISSING,
    Evidence,
    NumberStyle,
    convert,
    decide,
    measure_of,
    split_number,
)
from steadygrad.reading.options import ALL, Reading, listed
from steadygrad.reading.rows import FOOTER, Rows, is_total
from steadygrad.reading.sentinels import find_sentinels
from steadygrad.reading.sideways import turned
from steadygrad.reading.sources import STAMP, Raw, raw_of_frame, read_raw
from steadygrad.reading.spec import ColumnSpec, TableSpec
from steadygrad.reading.steps import order_rows

DEFAULT = Reading()
MAX_CATEGORIES = 20
TEXT_SHARE = 0.5  # a column with more text than this was never meant to be numbers
FEW = 2  # texts in a column of numbers are mistakes; more of them may be codes
LEAST_DATES = 0.9  # of its cells must be dates for the rest to be called mistakes


@dataclass(frozen=True)
class Category:
    """A column of few different texts.

    Args:
        codes: Of each row, the place of its text in ``kinds``; -1: none of them.
        kinds: The texts, sorted.
    """

    codes: np.ndarray
    kinds: tuple[str, ...]


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


@dataclass
class Draft:
    """A table while it is being understood."""

    path: Path
    raw: Raw
    reading: Reading
    spec: TableSpec | None
    is_turned: bool = False  # time ran across its columns
    notes: list[str] = field(default_factory=list)
    numbers: dict[str, np.ndarray] = field(default_factory=dict)
    categories: dict[str, Category] = field(default_factory=dict)
    texts: dict[str, ColumnCells] = field(default_factory=dict)
    unused: dict[str, ColumnCells] = field(default_factory=dict)  # by a model; totals stand there
    styles: dict[str, NumberStyle] = field(default_factory=dict)
    dropped: dict[str, ColumnSpec] = field(default_factory=dict)
    codes: dict[str, tuple[float, ...]] = field(default_factory=dict)
    dates: np.ndarray | None = None
    date_spec: DateSpec | None = None
    used: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """The file, for messages."""
        return str(self.path)

    def drop(self, name: str, why: str, row: int = -1, cell: str = "") -> None:
        """Leave a column out, and say so."""
        line = int(self.raw.lines[row]) if 0 <= row < len(self.raw.lines) else 0
        self.dropped[name] = ColumnSpec(name, "dropped", why=why, cell=cell, line=line)
        at = f" (line {line}: {cell!r})" if line and cell else ""
        self.notes.append(f"column {name!r} {why}{at}: dropped")


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
    _numbers(draft, rows)
    _dates(draft, rows)
    _texts(draft, rows)
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
            raise _no_column(draft, "--drop", name)
        del raw.columns[name]
        draft.dropped[name] = ColumnSpec(name, "dropped", why="left out as asked")
    _join_series(draft)
    reading = draft.reading
    for option, value in (("--series", reading.series), ("--known", reading.known)):
        for name in listed(value) if option == "--known" else filter(None, [value]):
            if name not in raw.columns and (option, value) != ("--known", ALL):
                raise _no_column(draft, option, name)
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
            raise _no_column(draft, "--series", name)
    joined = ColumnCells(together := ", ".join(names))
    for chunks in zip(*(raw.columns[n].strings() for n in names), strict=True):
        joined.add([", ".join(map(str.strip, cells)) for cells in zip(*chunks, strict=True)])
    raw.columns = {together: joined} | {n: c for n, c in raw.columns.items() if n not in names}
    raw.order = (together, *(n for n in raw.order if n not in names))
    draft.reading = replace(draft.reading, series=together)


def _no_column(draft: Draft, option: str, name: str) -> InputError:
    names = list(draft.raw.columns)
    return InputError(
        f"{draft.path}: {option} {name}: no such column{did_you_mean(name, names)}; there are:"
        f" {', '.join(names)}"
    )


def _numbers(draft: Draft, rows: Rows) -> None:
    """Read every column that is one of numbers; what else there is goes to ``texts``."""
    extra = _missing(draft)
    counts: dict[str, tuple[int, int]] = {}
    for name, cells in draft.raw.columns.items():
        known = draft.spec.column(name) if draft.spec else None
        if known is not None and known.role != "number" and not _is_date_of_digits(draft, name):
            draft.texts[name] = cells
            continue
        if name == draft.reading.series:
            draft.texts[name] = cells
            continue
        if not cells.is_plain:
            counted = _count(cells, extra)
            if counted is None:
                draft.texts[name] = cells
                continue
            counts[name] = counted
        draft.styles[name] = known.style if known is not None else NumberStyle()
    if draft.spec is None:
        _decide_styles(draft)
    rows.width = len(draft.styles.keys() - draft.raw.nameless)
    for name, style in draft.styles.items():
        cells = draft.raw.columns[name]
        values, bad = _converted(cells, style, extra)
        for row, cell in bad[:1000]:
            rows.bad(row, name, cell, "a number", len(bad))
        if not np.isfinite(values).any():
            if name in draft.styles and not bad:
                _drop_empty(draft, name, cells)
                continue
        draft.numbers[name] = values
    for name in [n for n in draft.styles if n in draft.dropped]:
        del draft.styles[name]


def _is_date_of_digits(draft: Draft, name: str) -> bool:
    dates = draft.spec.dates if draft.spec is not None else None
    return dates is not None and name in dates.columns and dates.is_number(name)


def _drop_empty(draft: Draft, name: str, cells: ColumnCells) -> None:
    nameless = name in draft.raw.nameless
    if nameless and not cells.first:
        draft.dropped[name] = ColumnSpec(name, "dropped", why="no name and no values")
        return
    draft.drop(name, "holds no number in any row", 0, cells.first)


def _missing(draft: Draft) -> frozenset[str]:
    if draft.spec is not None:
        return frozenset(draft.spec.missing)
    given = listed(draft.reading.missing)
    return frozenset(m.lower() for m in given if given != ("none",))


def _count(cells: ColumnCells, missing: frozenset[str]) -> tuple[int, int] | None:
    """Gather the evidence of a column; None if it is not one of numbers."""
    sample = [c for c in cells.sample() if c.lower() not in missing]
    cells.evidence.measure = measure_of(sample)
    numbers, texts, _ = replace(Evidence.nothing(), measure=cells.evidence.measure).see(sample)
    if texts > TEXT_SHARE * (numbers + texts):
        return None
    total = texts = 0
    for _, chunk in cells.texts():
        told = [c for c in chunk if c.strip().lower() not in missing] if missing else chunk
        found, wrong, _ = cells.evidence.see(told)
        total, texts = total + found, texts + wrong
    plain = sum(len(c) for c in cells.chunks if isinstance(c, np.ndarray))
    if texts > TEXT_SHARE * (total + texts + plain) or (texts > FEW and _is_coded(cells)):
        return None
    return total, texts


def _is_coded(cells: ColumnCells) -> bool:
    """Whether a column holds few different codes, at least half of them texts: 0, a, b."""
    kinds: set[str] = set()
    for chunk in cells.strings():
        kinds.update(c.strip() for c in chunk if not is_missing(c))
        if len(kinds) > MAX_CATEGORIES:
            return False
    return sum(split_number(c) is None for c in kinds) >= 0.5 * len(kinds)


def _decide_styles(draft: Draft) -> None:
    """Decide every column's style; a column that proves its decimal mark speaks for the file."""
    marks = (".", None) if draft.raw.points_are_decimal else draft.reading.marks
    proofs: dict[str, str] = {}
    for name in draft.styles:
        if date_forms.is_date_name(name):  # the point of 06.1981 is no decimal mark
            continue
        evidence = draft.raw.columns[name].evidence
        for mark in evidence.decimal:
            proofs.setdefault(mark, name)
        for mark, decimal in ((".", ","), (",", ".")):
            if mark in evidence.thousands:
                proofs.setdefault(decimal, name)
    file = next(iter(proofs.items())) if len(proofs) == 1 else None
    for name in draft.styles:
        evidence = draft.raw.columns[name].evidence
        style = decide(evidence, name, draft.where, marks, file)
        draft.styles[name] = style
        if style.text:
            other = (
                ""
                if file is None or file[1] == name or evidence.decimal
                else (
                    f" (column {file[1]!r} tells)"
                    if evidence.either and not evidence.thousands
                    else ""
                )
            )
            draft.notes.append(f"column {name!r}: {style.text}{other}")


def _converted(
    cells: ColumnCells, style: NumberStyle, missing: frozenset[str]
) -> tuple[np.ndarray, list[tuple[int, str]]]:
    parts: list[np.ndarray] = []
    bad: list[tuple[int, str]] = []
    row = 0
    for chunk, texts in zip(cells.chunks, _chunks(cells), strict=True):
        if texts is None:
            assert isinstance(chunk, np.ndarray)
            parts.append(chunk)
            row += len(chunk)
            continue
        values, wrong = convert(texts, style, missing)
        bad += [(row + i, texts[i]) for i in wrong]
        parts.append(values)
        row += len(texts)
    values = np.concatenate(parts) if parts else np.empty(0)
    cells.chunks.clear()  # each column is held once
    for code in missing:
        try:
            values[values == float(code)] = np.nan
        except ValueError:
            continue
    return values, bad


def _chunks(cells: ColumnCells) -> list[list[str] | None]:
    strings = dict(cells.texts())
    found: list[list[str] | None] = []
    row = 0
    for size in cells.sizes:
        found.append(strings.get(row) if size else [])
        row += size
    return found


def _dates(draft: Draft, rows: Rows) -> None:
    """Find the column of dates, or the several that make one up."""
    given = draft.reading.date
    if draft.spec is not None:
        if (known := draft.spec.dates) is not None:
            if len(known.columns) == 1 and known.columns[0] in draft.raw.stamps:
                known = DateSpec(known.columns, "text", (STAMP,))
            _read_known_dates(draft, rows, known)
            if known.zoned and not any(date_forms.is_zoned(c.first) for c in _text_of(draft)):
                draft.notes.append(
                    "the dates have no offset from UTC, as those of the training had: taken in UTC"
                )
        return
    if given == "none":
        return
    wanted = listed(given)
    for name in wanted:
        if name not in draft.raw.columns:
            raise _no_column(draft, "--date", name)
    if _text_date(draft, rows, wanted) or _number_date(draft, rows, wanted):
        return
    for name in draft.numbers:
        is_year = date_forms.PARTS.get(name.strip().lower()) == "year"
        if not wanted and (is_year or date_forms.is_date_name(name)):
            draft.notes.append(
                f"column {name!r} holds numbers that are no dates in any known form: it is an input"
                " like any other, and the rows are taken in the order of the file; --date-format"
                " says how dates are written"
            )
    if wanted:
        cell = next(iter(draft.texts.get(wanted[0], ColumnCells("")).sample()), "")
        raise InputError(
            f"{draft.path}: --date {given}: these cells are no dates"
            + (f" ({cell!r})" if cell else "")
            + "; pass --date-format to say how they are written"
        )


def _text_of(draft: Draft) -> list[ColumnCells]:
    """Return the columns of text that the dates are read from."""
    return [draft.texts[n] for n in draft.used if n in draft.texts]


def _text_date(draft: Draft, rows: Rows, wanted: Sequence[str]) -> bool:
    names = [n for n in (wanted or draft.texts) if n in draft.texts]
    if not wanted:  # dates that never change, such as those of an export, come last
        names.sort(key=lambda n: len(set(draft.texts[n].sample())) < 2)
    for name in names:
        cells = draft.texts[name]
        given = draft.reading.date_format
        if given is not None:
            forms: tuple[str, ...] | None = (given.replace("%b", "m%m").replace("%B", "m%m"),)
            head = next(iter(cells.strings()), [])[:200]
            if head and np.isnat(date_forms.read_dates(head, forms)).mean() > 0.5:
                if wanted or name == names[-1]:
                    raise InputError(
                        f"{draft.path}: --date-format {given}: column {name!r} is not written so"
                        f" ({head[0]!r})"
                    )
                continue
        else:
            forms = date_forms.choose_formats(cells.strings, name, draft.where)
        if forms is None:
            continue
        clock = _text_clock(draft, name, wanted)
        spec = DateSpec((name,), "text", forms)
        if clock is not None:
            joined = _joined(cells, draft.texts[clock])
            both = _with_clock(draft, forms, joined, draft.texts[clock].first, f"{name} {clock}")
            if both is not None:
                spec = DateSpec((name, clock), "text", both)
        is_zoned = any(date_forms.is_zoned(draft.texts[n].first) for n in spec.columns)
        _read_known_dates(draft, rows, replace(spec, zoned=is_zoned))
        if len(spec.columns) == 1:
            _add_number_clock(draft, rows, wanted)
        return True
    return False


def _with_clock(
    draft: Draft, forms: tuple[str, ...], joined: ColumnCells, first: str, name: str
) -> tuple[str, ...] | None:
    """Return the forms of dates joined with their times; those of the dates may be asked for."""
    clock = date_forms.clock_format(first)
    if draft.reading.date_format is not None and clock is not None:
        return tuple(f"{form} {clock}" for form in forms)
    return date_forms.choose_formats(joined.strings, name, draft.where)


def _text_clock(draft: Draft, date: str, wanted: Sequence[str]) -> str | None:
    """Return the column of the time of day that belongs to a column of days."""
    is_clock = {n: date_forms.is_clock_name(n) for n in draft.texts}
    for name in sorted(draft.texts, key=lambda n: not is_clock[n]):
        if name == date or (wanted and name not in wanted):
            continue
        sample = draft.texts[name].sample()[:200]
        clocks = sum(date_forms.clock_format(cell) is not None for cell in sample)
        if sample and clocks >= LEAST_DATES * len(sample):
            # Durations look like times of day. But days that stand alone need no time.
            if wanted or is_clock[name] or _repeats(draft, date):
                return name
    return None


def _repeats(draft: Draft, name: str) -> bool:
    """Whether the first cells of a column are not all different."""
    sample = draft.texts[name].sample() if name in draft.texts else draft.numbers[name].tolist()
    return len(set(sample)) < len(sample)


def _joined(dates: ColumnCells, times: ColumnCells) -> ColumnCells:
    both = ColumnCells("")
    for days, clocks in zip(dates.strings(), times.strings(), strict=True):
        both.add(
            [
                f"{d} {t}" if d.strip() and t.strip() else ""
                for d, t in zip(days, clocks, strict=True)
            ]
        )
    return both


def _number_date(draft: Draft, rows: Rows, wanted: Sequence[str]) -> bool:
    """Find dates in columns of numbers: year, month, day apart, 20160104, seconds since 1970."""
    keep = rows.clean()  # a total may stand in the column of months, too
    within = {
        n: np.where(keep, v, np.nan) for n, v in draft.numbers.items() if not wanted or n in wanted
    }
    names = _month_names(draft, wanted)
    spec = date_forms.part_columns(within | names)
    if spec is not None:
        spec = replace(spec, texts=tuple(n for n in spec.columns if n in names))
    else:
        for name, values in within.items():
            if len(rows.of(name)) <= FOOTER:
                spec = date_forms.number_dates(values, name)
                if spec is not None:
                    break
    if spec is None:
        return False
    _read_known_dates(draft, rows, spec)
    if spec.kind == "number":
        clock = _text_clock(draft, spec.columns[0], wanted)
        if clock is not None:
            form = date_forms.clock_format(draft.texts[clock].first) or "%H:%M"
            joined = replace(spec, columns=(*spec.columns, clock), clock=form)
            _read_known_dates(draft, rows, joined)
        else:
            _add_number_clock(draft, rows, wanted)
    return True


def _month_names(draft: Draft, wanted: Sequence[str]) -> dict[str, np.ndarray]:
    """Return columns of names of months as numbers."""
    found: dict[str, np.ndarray] = {}
    for name, cells in draft.texts.items():
        if wanted and name not in wanted:
            continue
        sample = date_forms.month_numbers(cells.sample()[:100] or [""])
        if np.isfinite(sample).mean() >= LEAST_DATES:
            months = [date_forms.month_numbers(chunk) for chunk in cells.strings()]
            found[name] = np.concatenate(months)
    return found


def _add_number_clock(draft: Draft, rows: Rows, wanted: Sequence[str]) -> None:
    """Join a column of hours, or of digits such as 93000, to the days."""
    assert draft.dates is not None and draft.date_spec is not None
    kept = ~np.isnat(draft.dates) & rows.keep()
    names = sorted(draft.numbers, key=date_forms.is_clock_name, reverse=True)
    for name in names:
        if name in draft.used or (wanted and name not in wanted):
            continue
        values = draft.numbers[name]
        clock = date_forms.number_clock(values[kept], name, draft.dates[kept])
        if clock:
            spec = draft.date_spec
            joined = replace(spec, columns=(*spec.columns, name), clock=clock)
            _read_known_dates(draft, rows, joined)
            return


def _read_known_dates(draft: Draft, rows: Rows, spec: DateSpec) -> None:
    """Read the dates as ``spec`` has them; rows without one are named."""
    first = spec.columns[0]
    if spec.kind == "text":
        cells = draft.texts[first]
        if len(spec.columns) == 2 and not spec.clock:
            cells = _joined(cells, draft.texts[spec.columns[1]])
        chunks = [date_forms.read_dates(c, spec.formats) for c in cells.strings()]
        dates = np.concatenate(chunks) if chunks else np.empty(0, "datetime64[us]")
        row = 0
        for chunk, texts in zip(chunks, cells.strings(), strict=True):
            for i in np.flatnonzero(np.isnat(chunk)):
                rows.bad(row + int(i), first, texts[i], "a date", int(np.isnat(dates).sum()))
            row += len(texts)
    elif spec.kind == "parts":
        names = _month_names(draft, spec.texts) if spec.texts else {}
        columns = [names[n] if n in names else draft.numbers[n] for n in spec.columns]
        dates = date_forms.from_parts(columns, spec.formats)
        for i in np.flatnonzero(np.isnat(dates))[:1000]:
            rows.bad(int(i), first, "", "a date", int(np.isnat(dates).sum()))
    else:
        values = draft.numbers[first]
        dates = date_forms.from_numbers(values, spec)
        for i in np.flatnonzero(np.isnat(dates))[:1000]:
            told = "" if np.isnan(values[i]) else f"{values[i]:g}"
            rows.bad(int(i), first, told, "a date", int(np.isnat(dates).sum()))
    if spec.clock.startswith("%"):
        times = draft.texts[spec.columns[-1]]
        seconds = np.concatenate([date_forms.clock_texts(c, spec.clock) for c in times.strings()])
        dates = dates + seconds
    elif spec.clock:
        seconds = np.zeros(len(dates), "timedelta64[s]")
        values = draft.numbers[spec.columns[-1]]
        fine = np.isfinite(values)
        found = date_forms.clock_seconds(values[fine], spec.clock)
        if found is not None:
            seconds[fine] = found
        dates = dates + seconds
    draft.dates, draft.date_spec, draft.used = dates, spec, spec.columns


def _totals(cells: ColumnCells, name: str, rows: Rows) -> None:
    """Name the rows at the end that are a total, by a text that stands in no other row."""
    last = cells.last(FOOTER)
    count = next((i for i, cell in enumerate(reversed(last)) if not is_total(cell)), len(last))
    if not count or sum(is_total(c) for chunk in cells.strings() for c in chunk) > count:
        return
    for i in range(count):
        row = cells.rows - 1 - i
        rows.bad(row, name, last[-1 - i], "that of a row of data", count)


def _texts(draft: Draft, rows: Rows) -> None:
    """Turn columns of few different texts into categories; leave out the rest, with a cell."""
    for name, cells in draft.unused.items():
        _totals(cells, name, rows)
    for name, cells in draft.texts.items():
        if name in draft.used:
            continue
        _totals(cells, name, rows)
        known = draft.spec.column(name) if draft.spec else None
        is_series = name == (draft.spec.series if draft.spec else draft.reading.series)
        limit = cells.rows if is_series else min(MAX_CATEGORIES, max(2, cells.rows // 10))
        kinds = known.kinds if known and not is_series else None
        if kinds:  # few rows of a new file do not make fewer categories
            limit = len(kinds)
        category, first = _category(cells, limit, kinds)
        if category is not None:
            if kinds and (strange := int((category.codes < 0).sum())):
                draft.notes.append(
                    f"column {name!r}: {strange} rows hold a text that was not there in training:"
                    " read as none of its categories"
                )
            draft.categories[name] = category
            continue
        kind = "dates" if date_forms.formats_of(first[1]) else "texts"
        what = (
            "holds dates, but they are not taken as those of the rows"
            if kind == "dates"
            else f"holds neither numbers nor dates, and too many different texts (over {limit})"
        )
        draft.drop(name, what, *first)
        # Names of series are looked for among them, too; without dates, what repeats.
        if kind == "texts":
            share = 0.1 if draft.dates is not None else 0.9  # times of no known form are many
            many, _ = _category(cells, max(20, int(share * cells.rows)), None)
            if many is not None:
                draft.raw.many[name] = many.codes


def _category(
    cells: ColumnCells, limit: int, kinds: tuple[str, ...] | None
) -> tuple[Category | None, tuple[int, str]]:
    """Number the texts of a column; None if there are more than ``limit``. And its first cell."""
    number: dict[str, int] = {kind: i for i, kind in enumerate(kinds or ())}
    codes: list[np.ndarray] = []
    first: tuple[int, str] = (-1, "")
    row = 0
    for chunk in cells.strings():
        found = np.empty(len(chunk), np.int64)
        for i, cell in enumerate(chunk):
            text = cell.strip()
            if kinds is None:
                found[i] = number.setdefault(text, len(number))
            else:
                found[i] = number.get(text, -1)
            if first[0] < 0 and text:
                first = (row + i, text)
        if len(number) > limit:
            return None, first
        codes.append(found)
        row += len(chunk)
    ordered = tuple(sorted(number))
    place = {kind: i for i, kind in enumerate(ordered)}
    turned = np.array([place[kind] for kind in number] + [-1], np.int64)
    return Category(turned[np.concatenate(codes or [np.empty(0, np.int64)])], ordered), first


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
        if spec.kind == "text" and date_forms.is_changed(cell):
            stamp = str(date_forms.read_dates([cell], spec.formats)[0])[:16].replace("T", " ")
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
        missing=tuple(sorted(_missing(draft))),
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


def is_missing(cell: str) -> bool:
    """Whether a cell stands for a missing value."""
    return cell.strip().lower() in MISSING


Texts = Mapping[str, ColumnCells]
