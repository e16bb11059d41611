"""The columns that date the rows: text, numbers, or parts."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from steadygrad.errors import InputError
from steadygrad.reading.cells import ColumnCells
from steadygrad.reading.date_names import is_clock_name, is_date_name
from steadygrad.reading.date_numbers import (
    clock_seconds,
    clock_texts,
    from_numbers,
    number_clock,
    number_dates,
)
from steadygrad.reading.date_parts import PARTS, from_parts, part_columns
from steadygrad.reading.date_words import is_zoned, month_numbers
from steadygrad.reading.dates import DateSpec, choose_formats, clock_format, read_dates
from steadygrad.reading.draft import Draft, no_column
from steadygrad.reading.options import listed
from steadygrad.reading.rows import FOOTER, Rows
from steadygrad.reading.sources import STAMP

LEAST_DATES = 0.9  # of its cells must be dates for the rest to be called mistakes


def find_dates(draft: Draft, rows: Rows) -> None:
    """Find the column of dates, or the several that make one up."""
    given = draft.reading.date
    if draft.spec is not None:
        if (known := draft.spec.dates) is not None:
            if len(known.columns) == 1 and known.columns[0] in draft.raw.stamps:
                known = DateSpec(known.columns, "text", (STAMP,))
            _read_known_dates(draft, rows, known)
            if known.zoned and not any(is_zoned(c.first) for c in _text_of(draft)):
                draft.notes.append(
                    "the dates have no offset from UTC, as those of the training had: taken in UTC"
                )
        return
    if given == "none":
        return
    wanted = listed(given)
    for name in wanted:
        if name not in draft.raw.columns:
            raise no_column(draft, "--date", name)
    if _text_date(draft, rows, wanted) or _number_date(draft, rows, wanted):
        return
    for name in draft.numbers:
        is_year = PARTS.get(name.strip().lower()) == "year"
        if not wanted and (is_year or is_date_name(name)):
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
            if head and np.isnat(read_dates(head, forms)).mean() > 0.5:
                if wanted or name == names[-1]:
                    raise InputError(
                        f"{draft.path}: --date-format {given}: column {name!r} is not written so"
                        f" ({head[0]!r})"
                    )
                continue
        else:
            forms = choose_formats(cells.strings, name, draft.where)
        if forms is None:
            continue
        clock = _text_clock(draft, name, wanted)
        spec = DateSpec((name,), "text", forms)
        if clock is not None:
            joined = _joined(cells, draft.texts[clock])
            form = _clock_form(draft.texts[clock])
            both = _with_clock(draft, forms, joined, form, f"{name} {clock}")
            if both is not None:
                spec = DateSpec((name, clock), "text", both)
        zoned = any(is_zoned(draft.texts[n].first) for n in spec.columns)
        _read_known_dates(draft, rows, replace(spec, zoned=zoned))
        if len(spec.columns) == 1:
            _add_number_clock(draft, rows, wanted)
        return True
    return False


def _with_clock(
    draft: Draft, forms: tuple[str, ...], joined: ColumnCells, clock: str, name: str
) -> tuple[str, ...] | None:
    """Return the forms of dates joined with their times; those of the dates may be asked for."""
    if draft.reading.date_format is not None:
        return tuple(f"{form} {clock}" for form in forms)
    return choose_formats(joined.strings, name, draft.where)


def _text_clock(draft: Draft, date: str, wanted: Sequence[str]) -> str | None:
    """Return the column of the time of day that belongs to a column of days."""
    is_clock = {n: is_clock_name(n) for n in draft.texts}
    for name in sorted(draft.texts, key=lambda n: not is_clock[n]):
        if name == date or (wanted and name not in wanted):
            continue
        sample = draft.texts[name].sample()[:200]
        clocks = sum(clock_format(cell) is not None for cell in sample)
        if sample and clocks >= LEAST_DATES * len(sample):
            # Durations look like times of day. But days that stand alone need no time.
            if wanted or is_clock[name] or _repeats(draft, date):
                return name
    return None


def _clock_form(cells: ColumnCells) -> str:
    """Return the commonest form of a column of times; its first cell may hold units."""
    forms = filter(None, map(clock_format, cells.sample()))
    return Counter(forms).most_common(1)[0][0]


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
    spec = part_columns(within | names)
    if spec is not None:
        spec = replace(spec, texts=tuple(n for n in spec.columns if n in names))
    else:
        for name, values in within.items():
            if len(rows.of(name)) <= FOOTER:
                spec = number_dates(values, name)
                if spec is not None:
                    break
    if spec is None:
        return False
    _read_known_dates(draft, rows, spec)
    if spec.kind == "number":
        clock = _text_clock(draft, spec.columns[0], wanted)
        if clock is not None:
            form = _clock_form(draft.texts[clock])
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
        sample = month_numbers(cells.sample()[:100] or [""])
        if np.isfinite(sample).mean() >= LEAST_DATES:
            months = [month_numbers(chunk) for chunk in cells.strings()]
            found[name] = np.concatenate(months)
    return found


def _add_number_clock(draft: Draft, rows: Rows, wanted: Sequence[str]) -> None:
    """Join a column of hours, or of digits such as 93000, to the days."""
    assert draft.dates is not None and draft.date_spec is not None
    kept = ~np.isnat(draft.dates) & rows.keep()
    names = sorted(draft.numbers, key=is_clock_name, reverse=True)
    for name in names:
        if name in draft.used or (wanted and name not in wanted):
            continue
        values = draft.numbers[name]
        clock = number_clock(values[kept], name, draft.dates[kept])
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
        chunks = [read_dates(c, spec.formats) for c in cells.strings()]
        dates = np.concatenate(chunks) if chunks else np.empty(0, "datetime64[us]")
        row = 0
        for chunk, texts in zip(chunks, cells.strings(), strict=True):
            for i in np.flatnonzero(np.isnat(chunk)):
                rows.bad(row + int(i), first, texts[i], "a date", int(np.isnat(dates).sum()))
            row += len(texts)
    elif spec.kind == "parts":
        names = _month_names(draft, spec.texts) if spec.texts else {}
        columns = [names[n] if n in names else draft.numbers[n] for n in spec.columns]
        dates = from_parts(columns, spec.formats)
        for i in np.flatnonzero(np.isnat(dates))[:1000]:
            rows.bad(int(i), first, "", "a date", int(np.isnat(dates).sum()))
    else:
        values = draft.numbers[first]
        dates = from_numbers(values, spec)
        for i in np.flatnonzero(np.isnat(dates))[:1000]:
            told = "" if np.isnan(values[i]) else f"{values[i]:g}"
            rows.bad(int(i), first, told, "a date", int(np.isnat(dates).sum()))
    if spec.clock.startswith("%"):
        times = draft.texts[spec.columns[-1]]
        cells = list(itertools.chain.from_iterable(times.strings()))
        seconds = clock_texts(cells, spec.clock)
        untimed = np.flatnonzero(np.isnat(seconds) & ~np.isnat(dates))
        for i in untimed[:1000]:
            rows.bad(int(i), spec.columns[-1], cells[i], "a date", len(untimed))
        dates = dates + seconds
    elif spec.clock:
        seconds = np.zeros(len(dates), "timedelta64[s]")
        values = draft.numbers[spec.columns[-1]]
        fine = np.isfinite(values)
        found = clock_seconds(values[fine], spec.clock)
        if found is not None:
            seconds[fine] = found
        dates = dates + seconds
    draft.dates, draft.date_spec, draft.used = dates, spec, spec.columns
