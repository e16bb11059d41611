"""Dates: which form a column has, decided from all its cells; pandas reads them by that form."""

import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from steadygrad.errors import InputError
from steadygrad.reading.date_words import (
    HAS_TIME,
    REMEMBERED,
    TAIWAN,
    TIME_FIRST,
    ZONE,
    ZONES,
    rewrite,
)
from steadygrad.reading.numbers import MISSING

MOST_FORMS = 4  # of one column: midnight without its time, seconds without their fraction, ...
SAMPLE = 400
SIMPLE = b"0123456789:./- T\x1f"  # cells of these letters alone need no rewriting
MARKS = re.compile(r"[AP]M|Z|\+")  # which need none either
LATE = re.compile(r"(?<![\d:])24:00")
CLOCK = (
    (r"(?P<I>\d{1,2}):\d\d:\d\d\.\d+ ?[AP]M", "%I:%M:%S.%f{s}%p"),
    (r"\d{1,2}:\d\d:\d\d ?[AP]M", "%I:%M:%S{s}%p"),
    (r"\d{1,2}:\d\d ?[AP]M", "%I:%M{s}%p"),
    (r"\d{1,2} ?[AP]M", "%I{s}%p"),
    (r"\d{1,2}\.\d\d\.\d\d\.\d+ ?[AP]M", "%I.%M.%S.%f{s}%p"),
    (r"\d{1,2}\.\d\d\.\d\d ?[AP]M", "%I.%M.%S{s}%p"),
    (r"\d{1,2}:\d\d:\d\d\.\d+", "%H:%M:%S.%f"),
    (r"\d{1,2}:\d\d:\d\d", "%H:%M:%S"),
    (r"\d{1,2}:\d\d", "%H:%M"),
    (r"\d{1,2}\.\d\d\.\d\d", "%H.%M.%S"),
    (r"\d{1,2}\.\d\d", "%H.%M"),
    (r"\d\d-\d\d-\d\d", "%H-%M-%S"),
    (r"\d\d\d\d\d\d", "%H%M%S"),
    (r"\d\d\d\d", "%H%M"),
    (r"\d\d?h\d\d", "%Hh%M"),
    (r"\d\d?h", "%Hh"),
    (r"\d\d", "%H"),
)
DIGIT_CLOCKS = frozenset({"%H%M%S", "%H%M", "%H"})  # alone, these are numbers
_SEP = r"[-/. ]"
_TEXT_SEP = r"[-/., ]{1,2}"
DAYS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"\d{4}(?P<a>[-/., ])\d{1,2}(?P=a)\d{1,2}", ("%Y{a}%m{a}%d",)),
    (rf"\d{{1,2}}(?P<a>{_SEP})\d{{1,2}}(?P=a)\d{{4}}", ("%d{a}%m{a}%Y", "%m{a}%d{a}%Y")),
    (
        rf"\d{{1,2}}(?P<a>{_SEP})\d{{1,2}}(?P=a)\d{{2}}",
        ("%d{a}%m{a}%y", "%m{a}%d{a}%y", "%y{a}%m{a}%d"),
    ),
    (r"\d{4}(?P<a>[-/.:])\d{1,2}", ("%Y{a}%m",)),
    (r"\d{4}(?P<a>-?)\d{3}", ("%Y{a}%j",)),
    (r"\d{1,2}(?P<a>[-/.])\d{4}", ("%m{a}%Y",)),
    (r"\d{8}", ("%Y%m%d",)),
    (r"\d{6}", ("%y%m%d",)),  # only with a time behind it
    (rf"\d{{1,2}}(?P<a>{_TEXT_SEP})?m\d\d(?P<b>{_TEXT_SEP})?\d{{4}}", ("%d{a}m%m{b}%Y",)),
    (rf"\d{{1,2}}(?P<a>{_TEXT_SEP})?m\d\d(?P<b>{_TEXT_SEP})?\d\d", ("%d{a}m%m{b}%y",)),
    (rf"m\d\d(?P<a>{_TEXT_SEP})\d{{1,2}}(?P<b>{_TEXT_SEP})\d{{4}}", ("m%m{a}%d{b}%Y",)),
    (rf"m\d\d(?P<a>{_TEXT_SEP})?\d{{4}}", ("m%m{a}%Y",)),
    (r"m\d\d(?P<a>[-/.' ]{1,2})\d\d", ("m%m{a}%y",)),
    (rf"\d{{4}}(?P<a>{_TEXT_SEP})?m\d\d(?P<b>{_TEXT_SEP})\d{{1,2}}", ("%Y{a}m%m{b}%d",)),
    (rf"\d{{4}}(?P<a>{_TEXT_SEP})?m\d\d", ("%Y{a}m%m",)),
    (r"\d{4}-W\d\d-\d", ("%G-W%V-%u",)),
)
_COMPILED = [(re.compile(day), forms) for day, forms in DAYS]
_CLOCKS = [(re.compile(clock), form) for clock, form in CLOCK]
BETWEEN = re.compile(r"[ T_,:]{1,2}|\s*-\s*|")
ISO = frozenset(
    {"%Y-%m-%d", "%Y-%m"}
    | {f"%Y-%m-%d{s}{c}" for s in " T" for c in ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f")}
)


@dataclass(frozen=True)
class DateSpec:
    """How the dates of a file are written.

    Args:
        columns: The date's column; then that of the time, if it stands apart; or year, month, ...
        kind: ``text``: by ``formats``; ``parts``: one column each for year, month, ...;
            ``number``: digits such as 20160104; ``epoch``: seconds since 1970; ``excel``: days
            since 1899-12-30; ``year``.
        formats: As strptime has them, the commonest first; of ``parts``: year, month, ...
        clock: How the time's column is written, if that of the date is one of numbers, or it is
            itself: ``hour``, ``HHMM``, ``HHMMSS``, or as strptime has it.
        unit: Units in a second, of ``epoch``.
        texts: Of ``parts``: the columns that hold names of months.
        zoned: Whether times end in an offset from UTC or the name of a zone.
    """

    columns: tuple[str, ...]
    kind: str
    formats: tuple[str, ...] = ()
    clock: str = ""
    unit: float = 1.0
    texts: tuple[str, ...] = ()
    zoned: bool = False

    def is_number(self, column: str) -> bool:
        """Whether a column of the date is read as numbers, not as text."""
        if self.kind == "parts":
            return column not in self.texts
        has_clock = bool(self.clock) and not self.clock.startswith("%")
        is_clock = len(self.columns) > 1 and column == self.columns[-1]
        return has_clock if is_clock else self.kind != "text"


@lru_cache(REMEMBERED)
def formats_of(cell: str) -> tuple[str, ...]:
    """Return every form, as strptime has it, in which the cell could be a date."""
    text = rewrite(cell)
    text = ZONE.sub("", text) if HAS_TIME.search(text) else text
    found: list[str] = []
    for day, forms in _COMPILED:
        match = day.match(text)
        if match is None:
            continue
        rest = text[match.end() :]
        clock = "" if not rest else _clock(rest, packed=forms == ("%Y%m%d",))
        is_day = any(part in forms[0] for part in ("d", "j", "u"))
        # An hour of a month is no time; and six digits alone could be any number.
        if clock is None or (clock and not is_day) or (not clock and forms == ("%y%m%d",)):
            continue
        marks = {k: v or "" for k, v in match.groupdict().items()}
        found += [form.format(**marks) + clock for form in forms]
    return tuple(found)


def _clock(rest: str, *, packed: bool) -> str | None:
    """Return the form of a time behind a date; only behind 20160104 may it follow at once."""
    between = BETWEEN.match(rest)
    assert between is not None
    time = rest[between.end() :]
    if not between.group() and not packed:
        return None
    for clock, form in _CLOCKS:
        if clock.fullmatch(time):
            return between.group() + form.format(s=" " if re.search(r" [AP]M$", time) else "")
    return None


def clock_format(cell: str) -> str | None:
    """Return the form of a time of day that stands alone, or None."""
    text = rewrite(cell)
    for clock, form in _CLOCKS[:14]:
        if form in DIGIT_CLOCKS:
            continue
        if clock.fullmatch(text):
            return form.format(s=" " if " " in text else "")
    return None


def looks_like_date(cell: str) -> bool:
    """Whether the cell has the form of a date or of a time of day."""
    if not any(c.isdigit() for c in cell) or len(cell) > 40:
        return False
    return bool(formats_of(cell)) or clock_format(cell) is not None


def read_dates(cells: list[str], formats: Sequence[str]) -> np.ndarray:
    """Return ``datetime64[us]``, NaT where a cell is in none of the forms.

    Times with an offset from UTC are taken in UTC.
    """
    joined = "\x1f".join(cells)
    plain = _is_plain(joined, cells)
    zoned = (
        any(ZONE.search(c) for c in cells[:100] if HAS_TIME.search(c))
        or "+" in joined
        or "Z" in joined
    )
    # To numpy, 1611259200 is a year.
    is_iso = plain and not zoned and formats and formats[0] in ISO
    if is_iso and all(cell[4:5] == "-" for cell in cells if cell):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                return np.array(cells, "datetime64[us]")
        except (ValueError, UserWarning, DeprecationWarning):
            pass
    texts = [c.strip() for c in cells] if plain else [rewrite(c) for c in cells]
    shift = np.zeros(len(texts), "timedelta64[us]")
    if zoned or not plain:
        texts, shift = _zones(texts)
    # The end of a day; neither the year in 23/Dec/2024:00:00:00 nor the minute in 17:24:00.
    late = [i for i, t in enumerate(texts) if "24:00" in t and LATE.search(t)]
    for i in late:
        texts[i] = LATE.sub("00:00", texts[i])
    dates = np.full(len(texts), np.datetime64("NaT"), "datetime64[us]")
    left = np.arange(len(texts))
    for form in formats:
        if len(left) == 0:
            break
        dates[left] = _strptime([texts[i] for i in left], form)
        left = left[np.isnat(dates[left])]
    if late:
        dates[late] += np.timedelta64(1, "D")
    return dates - shift


def _is_plain(joined: str, cells: list[str]) -> bool:
    """Whether strptime knows the cells as they are."""
    if _has_other(joined) and _has_other(MARKS.sub("", joined)):
        return False
    # Points before a blank or at the end (18. 11. 2021.), trimesters (T1 2020), the time in front.
    if "." in joined and (". " in joined or ".\x1f" in joined or joined.endswith(".")):
        return False
    if "- " in joined:  # from when to when; 2020- 06- 11
        return False
    if "T" in joined and (joined.startswith("T") or "\x1fT" in joined):
        return False
    ends = [cell.strip() for cell in (*cells[:50], *cells[-50:])]
    return not any(TIME_FIRST.fullmatch(cell) or TAIWAN.match(cell) for cell in ends)


def _has_other(joined: str) -> bool:
    """Whether there are letters beside the simple ones."""
    return bool(joined.encode("utf-8", "surrogatepass").translate(None, SIMPLE))


def _strptime(texts: list[str], form: str) -> np.ndarray:
    pandas = need_pandas("dates of this form")
    found = pandas.to_datetime(pandas.Series(texts, dtype=object), format=form, errors="coerce")
    return found.to_numpy().astype("datetime64[us]")


def _zones(texts: list[str]) -> tuple[list[str], np.ndarray]:
    """Take offsets off the ends; return how far each lies ahead of UTC."""
    bare: list[str] = []
    minutes: list[int] = []
    for text in texts:
        zone = ZONE.search(text) if HAS_TIME.search(text) else None
        if zone is None:
            bare.append(text)
            minutes.append(0)
            continue
        bare.append(text[: zone.start()])
        mark = zone[1]
        if mark[0] in "+-":
            digits = mark[1:].replace(":", "").ljust(4, "0")
            size = int(digits[:2]) * 60 + int(digits[2:])
            minutes.append(-size if mark[0] == "-" else size)
        else:
            minutes.append(int(ZONES[mark] * 60))
    return bare, np.array(minutes, "timedelta64[m]").astype("timedelta64[us]")


def need_pandas(what: str) -> Any:
    """Import pandas.

    Raises:
        InputError: It is not installed.
    """
    try:
        import pandas
    except ModuleNotFoundError:
        raise InputError(
            f"{what}: reading them needs pandas: pip install 'steadygrad[cli]'"
        ) from None
    return pandas


Cells = Callable[[], Iterable[list[str]]]


def choose_formats(cells: Cells, column: str, where: str) -> tuple[str, ...] | None:
    """Choose the forms of a column of dates; None if it holds none.

    Args:
        cells: Returns all cells, chunk by chunk.
        column: Its name, for the message.
        where: The file, for the message.

    Raises:
        InputError: Day and month could be exchanged, and nothing tells which is which.
    """
    sample: list[str] = []
    for chunk in cells():
        sample += [c for c in chunk[:SAMPLE] if c.strip().lower() not in MISSING]
        if len(sample) >= SAMPLE:
            break
    known = [formats_of(cell) for cell in sample[:SAMPLE]]
    if not known or sum(map(bool, known)) < 0.5 * len(known):
        return None
    first = next(forms for forms in known if forms)
    found: list[tuple[int, tuple[str, ...], np.ndarray]] = []
    for form in first:
        forms, dates = _completed(form, cells)
        found.append((int(np.isnat(dates).sum()), forms, dates))
    least = min(bad for bad, _, _ in found)
    best = [(forms, dates) for bad, forms, dates in found if bad == least]
    if least == len(best[0][1]):
        return None
    if len(best) > 1:
        best = _most_regular(best)
    if len(best) > 1:
        told = " or ".join(f"--date-format '{forms[0]}'" for forms, _ in best)
        cell = next(c for c, forms in zip(sample, known, strict=False) if forms)
        raise InputError(
            f"{where}: column {column!r}: {cell.strip()!r} can be read in {len(best)} ways, and no"
            f" cell tells which is the day and which the month; pass {told}"
        )
    _refuse_quarters(best[0][1], best[0][0], column, where)
    _refuse_calendars(best[0][1], best[0][0], column, where)
    _refuse_exchanged(best[0][1], best[0][0], column, where)
    return best[0][0]


def _refuse_quarters(dates: np.ndarray, forms: tuple[str, ...], column: str, where: str) -> None:
    """Ask about 2020-01 to 2020-04 in every year: the numbers could be those of quarters."""
    if _order(forms[0]) not in ("Ym", "mY"):
        return
    months = np.unique(dates[~np.isnat(dates)].astype("datetime64[M]").astype(np.int64))
    if len(months) >= 8 and months.max() - months.min() > 24 and (months % 12 < 4).all():
        raise InputError(
            f"{where}: column {column!r}: the month is 1 to 4 in every year, so these may be"
            f" quarters; write them as 2020Q3, or pass --date-format '{forms[0]}' if they are"
            " months"
        )


def _refuse_calendars(dates: np.ndarray, forms: tuple[str, ...], column: str, where: str) -> None:
    """Ask about whole dates of the years 2400 to 2650, or about 1400: of another calendar?"""
    known = dates[~np.isnat(dates)]
    first, last = (int(str(d)[:4]) for d in (known.min(), known.max()))
    names = {(2440, 2640): "Buddhist (2563 is 2020)", (1300, 1470): "Persian or Islamic"}
    name = next((n for (a, b), n in names.items() if a <= first and last <= b), None)
    if name is not None:
        raise InputError(
            f"{where}: column {column!r}: the years {first} to {last} look like those of the {name}"
            f" calendar; write the dates in the Gregorian one, or pass --date-format '{forms[0]}'"
            " if they are"
        )


def _refuse_exchanged(dates: np.ndarray, forms: tuple[str, ...], column: str, where: str) -> None:
    """Refuse days and months that a spreadsheet has exchanged where it took one for the other."""
    known = dates[~np.isnat(dates)]
    days = known.astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    day = (days - months).astype(int) + 1
    month = months.astype(int) % 12 + 1
    if _order(forms[0]) not in ("dmY", "mdY") or _is_ordered(known) or (day > 12).all():
        return
    # The other way round, wherever that is a date.
    first = months - (month - 1).astype("timedelta64[M]")
    other = (first + (day - 1).astype("timedelta64[M]")).astype("datetime64[D]")
    turned = np.where(day <= 12, other + (month - 1).astype("timedelta64[D]"), days)
    if is_even(turned + (known - days)) and _is_ordered(turned):
        at = int(np.flatnonzero(np.diff(days) != np.diff(turned))[0])
        raise InputError(
            f"{where}: column {column!r}: in some cells the day stands first and in others the"
            f" month (around {days[at]} and {turned[at + 1]}), as where a spreadsheet took one for"
            " the other; write all dates alike"
        )


def _completed(form: str, cells: Cells) -> tuple[tuple[str, ...], np.ndarray]:
    """Read by a form, and add those of the cells it does not read, if their order is the same."""
    forms: tuple[str, ...] = (form,)
    order = _order(form)
    parts: list[tuple[tuple[str, ...], np.ndarray]] = []
    for chunk in cells():
        dates = read_dates(chunk, forms)
        while len(forms) < MOST_FORMS:
            bad = np.flatnonzero(np.isnat(dates))
            others = (f for i in bad[:50] for f in formats_of(chunk[i]) if f not in forms)
            other = next((f for f in others if _order(f) == order), None)
            if other is None:
                break
            forms += (other,)
            dates = read_dates(chunk, forms)
        parts.append((forms, dates))
    if any(own != forms for own, _ in parts):  # a form that a later chunk brought
        parts = [(forms, read_dates(chunk, forms)) for chunk in cells()]
    return forms, np.concatenate([dates for _, dates in parts])


def _order(form: str) -> str:
    return "".join(re.findall(r"%([YyGmdVuj])", form)).replace("y", "Y")


def _most_regular(
    candidates: list[tuple[tuple[str, ...], np.ndarray]],
) -> list[tuple[tuple[str, ...], np.ndarray]]:
    """Keep what the distances between the rows tell apart: even ones, or at least one direction.

    Else even ones between the dates that there are: of rows that were shuffled.
    """
    for test in (is_even, _is_ordered, lambda dates: is_even(np.unique(dates))):
        passed = [c for c in candidates if test(c[1][~np.isnat(c[1])])]
        if len(passed) == 1:
            return passed
        if passed:
            candidates = passed
    return candidates


def is_even(dates: np.ndarray, most: float = 1.2) -> bool:
    """Whether the dates go one way, in steps of at most ``most`` times the median one."""
    steps = np.diff(dates).astype(np.float64)
    steps = -steps if len(steps) and steps[0] < 0 else steps
    return len(steps) > 2 and steps.min() > 0 and float(steps.max() / np.median(steps)) <= most


def _is_ordered(dates: np.ndarray) -> bool:
    steps = np.diff(dates).astype(np.float64)
    return bool((steps >= 0).all() or (steps <= 0).all())
