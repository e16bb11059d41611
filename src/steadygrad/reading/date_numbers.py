"""Dates and times of day that are written as plain numbers."""

import re

import numpy as np

from steadygrad.reading.date_names import is_clock_name, is_date_name
from steadygrad.reading.dates import DateSpec, is_even, read_dates

MICRO = 1e6
DIGITS = (  # dates written as one number, and whether the column's name must speak of dates
    (8, "%Y%m%d", False),
    (10, "%Y%m%d%H", True),  # seconds since 1970 have ten digits, too
    (12, "%Y%m%d%H%M", False),
    (14, "%Y%m%d%H%M%S", False),
    (7, "%Y%j", True),
)
EXCEL_DAY = 25569  # that of 1970-01-01, counted from 1899-12-30
DAY_NAMES = re.compile(r"^(?:date|datum|day|dia|día|fecha|data|jour|日付|日期|날짜|дата)", re.I)


def number_dates(values: np.ndarray, name: str) -> DateSpec | None:
    """Recognise dates that are written as plain numbers: 20160104, 201601, 1.46e9 s, years."""
    known = values[np.isfinite(values)]
    if len(known) < 2 or known.min() < 1:
        return None
    hinted = is_date_name(name)
    steps = np.diff(known)
    unique = np.unique(known)
    rising = bool((steps >= 0).all() or (steps <= 0).all())
    # The rows of several series, or shuffled ones: few gaps between the days that there are.
    rising |= (
        hinted and len(unique) > 2 and bool(np.median(np.diff(unique)) == np.diff(unique).min())
    )
    if (known != np.floor(known)).any():
        return _fractions(unique, name, rising) if hinted else None
    low, high = float(known.min()), float(known.max())
    for digits, form, needs_name in DIGITS:
        least = 1500 * 10.0 ** (digits - 4) if form.startswith("%Y") else 10.0 ** (digits - 2)
        most = 2200 * 10.0 ** (digits - 4) if form.startswith("%Y") else 10.0**digits
        if not (least <= low and high < most) or not (hinted or (rising and not needs_name)):
            continue
        if digits < 8 and not rising:
            continue
        spec = DateSpec((name,), "number", (form,))
        if not np.isnat(from_numbers(unique[:: max(1, len(unique) // 5000)], spec)).any():
            return spec
    if hinted and rising and high < 1e6 and (spec := _six_digits(unique, name)):
        return spec
    if hinted and rising and 1500 <= low and high <= 2200:
        return DateSpec((name,), "year")
    if DAY_NAMES.match(name) and rising and 10_000 <= low and high <= 80_000:
        return DateSpec((name,), "excel")
    for unit in (1.0, 1e3, 1e6, 1e9):
        if hinted and 1e8 * unit <= low and high <= 4.2e9 * unit:
            return DateSpec((name,), "epoch", unit=unit)
        # From 2000 to 2036 in milliseconds or finer, row after row: nothing else looks so.
        if unit > 1 and rising and 946_684_800 * unit <= low and high <= 2.1e9 * unit:
            return DateSpec((name,), "epoch", unit=unit)
    return None


def _six_digits(known: np.ndarray, name: str) -> DateSpec | None:
    """Tell 201601, year and month, from 160104, year, month and day."""
    found: list[tuple[bool, DateSpec]] = []
    for form, low in (("%Y%m", 150_001), ("%y%m%d", 100)):
        spec = DateSpec((name,), "number", (form,))
        if known.min() >= low and not np.isnat(dates := from_numbers(known, spec)).any():
            found.append((is_even(dates, most=3.0), spec))
    even = [spec for is_even, spec in found if is_even]
    return even[0] if len(even) == 1 else found[0][1] if len(found) == 1 else None


def _fractions(known: np.ndarray, name: str, rising: bool) -> DateSpec | None:
    """Recognise 2016.01 and 01.2016, which read as numbers, and Excel's days with a time."""
    if DAY_NAMES.match(name) and rising and 10_000 <= known.min() and known.max() <= 80_000:
        return DateSpec((name,), "excel")
    if known.min() >= 1e8 and known.max() <= 4.2e9:
        return DateSpec((name,), "epoch")
    for form in ("%Y.%m", "%m.%Y"):
        spec = DateSpec((name,), "number", (form,))
        dates = np.sort(from_numbers(known, spec))
        if not np.isnat(dates).any() and is_even(dates, most=3.0):
            return spec
    return None


def from_numbers(values: np.ndarray, spec: DateSpec) -> np.ndarray:
    """Return the dates that numbers stand for, NaT where there is none."""
    finite = np.isfinite(values)
    dates = np.full(len(values), np.datetime64("NaT"), "datetime64[us]")
    if spec.kind == "epoch":
        dates[finite] = (
            (values[finite] * (MICRO / spec.unit)).astype(np.int64).astype("datetime64[us]")
        )
    elif spec.kind == "excel":
        # To the second: a fraction of a day holds no more.
        seconds = np.rint((values[finite] - EXCEL_DAY) * 86400).astype(np.int64)
        dates[finite] = seconds.astype("datetime64[s]").astype("datetime64[us]")
    elif spec.kind == "year":
        years = (values[finite].astype(np.int64) - 1970).astype("datetime64[Y]")
        dates[finite] = years.astype("datetime64[us]")
    else:
        (form,) = spec.formats
        write, read_as = NUMBER_TEXTS.get(form, ("{:.0f}", form))
        unique, back = np.unique(values[finite], return_inverse=True)
        texts = [write.format(v) for v in unique]
        if form == "%Y%m":  # strptime would take 20161 for a month, too
            texts = [f"{t[:4]}-{t[4:]}" for t in texts]
        dates[finite] = read_dates(texts, (read_as,))[back]
    return dates


# How numbers are written out to be read by a form, and the form they are then in.
NUMBER_TEXTS = {
    "%Y%m": ("{:.0f}", "%Y-%m"),
    "%Y.%m": ("{:.2f}", "%Y.%m"),
    "%m.%Y": ("{:07.4f}", "%m.%Y"),
    "%y%m%d": ("{:06.0f}", "%y%m%d"),
}


def number_clock(values: np.ndarray, name: str, dates: np.ndarray) -> str:
    """Return how a column of numbers tells the time of day: ``hour``, ``HHMM``, ``HHMMSS`` or "".

    Only where the dates alone repeat, and with the time no row repeats and all lie in order: what
    merely looks like a time does not do that.
    """
    if not np.isfinite(values).all() or (values != np.floor(values)).any() or values.min() < 0:
        return ""
    days = dates.astype("datetime64[D]")
    if (dates != days.astype("datetime64[us]")).any() or len(np.unique(days)) == len(days):
        return ""
    high = values.max()
    hinted = is_clock_name(name)
    if not hinted and (np.diff(values) == 1).all():  # it counts the rows
        return ""
    forms = [("hour", high <= 24 and hinted), ("HHMM", 24 < high <= 2400)]
    forms.append(("HHMMSS", 2400 < high <= 240000))
    for clock, fits in forms:
        if not fits:
            continue
        seconds = clock_seconds(values, clock)
        if seconds is None:
            continue
        steps = np.diff((days.astype("datetime64[s]") + seconds).astype(np.int64))
        if (steps > 0).all() or (steps < 0).all():
            return clock
        if hinted and (steps != 0).all():
            return clock
    return ""


def clock_texts(cells: list[str], form: str) -> np.ndarray:
    """Return the times of day that texts stand for, NaT where there is none."""
    days = read_dates(
        [f"1970-01-01 {c}" if c.strip() else "" for c in cells], (f"%Y-%m-%d {form}",)
    )
    return days - np.datetime64(0, "us")


def clock_seconds(values: np.ndarray, clock: str) -> np.ndarray | None:
    """Return the time of day that numbers stand for; None if they cannot be that."""
    whole = values.astype(np.int64)
    if clock == "hour":
        return (whole * 3600).astype("timedelta64[s]")
    if clock == "HHMM":
        whole = whole * 100
    hours, minutes, seconds = whole // 10000, whole // 100 % 100, whole % 100
    if (minutes > 59).any() or (seconds > 59).any() or (hours > 24).any():
        return None
    return (hours * 3600 + minutes * 60 + seconds).astype("timedelta64[s]")
