"""Dates: how they are written, how far apart they lie, and which cycles they suggest."""

import re
from collections.abc import Mapping
from datetime import datetime

import numpy as np

ISO = re.compile(r"\d{4}-\d\d(-\d\d([ T]\d\d:\d\d(:\d\d(\.\d+)?)?)?)?")
# Day before month first: with a day above 12 only one of the two can be read, and where both
# can, only the guess of a period hangs on it.
FORMATS = tuple(
    day + clock
    for day in ("%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d.%m.%Y", "%d-%m-%Y", "%b %Y", "%d %b %Y")
    for clock in ("", " %H:%M", " %H:%M:%S", "T%H:%M:%S")
)
PARTS = ("year", "month", "day", "hour", "minute")
HOUR, DAY, YEAR = 3600.0, 86400.0, 365.2425 * 86400.0


def parse_dates(cells: list[str]) -> np.ndarray | None:
    """Return ``datetime64[s]`` values, or None if the cells are not all dates of one form."""
    words = [cell.strip() for cell in cells]
    if all(ISO.fullmatch(word) for word in words):
        try:
            return np.array(words, dtype="datetime64[s]")
        except ValueError:  # the form of a date, and no such day: 2021-13-45
            return None
    for form in FORMATS:
        try:
            datetime.strptime(words[0], form)  # cheap: most forms fail on the first cell
            return np.array([datetime.strptime(word, form) for word in words], "datetime64[s]")
        except ValueError:
            continue
    return None


def parse_split_dates(
    numbers: Mapping[str, np.ndarray],
) -> tuple[np.ndarray, tuple[str, ...]] | None:
    """Put columns named year, month, day, hour together; at least year and month are needed."""
    by_part = {name.lower(): name for name in numbers if name.lower() in PARTS}
    if not {"year", "month"} <= set(by_part):
        return None
    used = [by_part[part] for part in PARTS if part in by_part]
    parts = [numbers[name] for name in used]
    if not all(np.isfinite(p).all() and (p == np.floor(p)).all() for p in parts):
        return None
    year, month, *rest = parts
    dates = (year.astype(int) - 1970).astype("datetime64[Y]").astype("datetime64[M]")
    dates = (dates + (month.astype(int) - 1)).astype("datetime64[s]")
    named = [part for part in PARTS if part in by_part][2:]
    seconds = {"day": DAY, "hour": HOUR, "minute": 60.0}
    for part, values in zip(named, rest, strict=True):
        steps = (values - (part == "day")) * seconds[part]
        dates = dates + steps.astype("timedelta64[s]")
    return dates, tuple(used)


def spacing(dates: np.ndarray) -> float:
    """Return the usual distance between two rows, in seconds."""
    return float(np.median(np.diff(dates).astype(np.float64)))


def duration(seconds: float) -> str:
    """Return a length of time in the largest unit that it fills: 1 hour, 31 days."""
    units = {"day": DAY, "hour": HOUR, "minute": 60.0}
    name = next((name for name, length in units.items() if seconds >= length), "second")
    count = seconds / units.get(name, 1.0)
    return f"{count:g} {name}{'' if count == 1 else 's'}"


def calendar_periods(dates: np.ndarray) -> list[int]:
    """Return the cycles of the calendar in rows, shortest first: a day, a week, a year."""
    if len(dates) < 2:
        return []
    step = spacing(dates)
    if step <= 0:
        return []
    cycles = [round(length / step) for length in (DAY, 7 * DAY, YEAR)]
    return [cycle for cycle in cycles if cycle > 1]


def calendar_inputs(dates: np.ndarray, train_rows: int) -> dict[str, np.ndarray]:
    """Return sine and cosine of the time of day and of the year, where the rows resolve them.

    The time of year needs three years of training rows: with fewer, it only numbers the weeks
    that were seen, and a model learns them by heart.
    """
    seconds = dates.astype(np.int64).astype(np.float64)
    step = spacing(dates)
    inputs: dict[str, np.ndarray] = {}
    train_span = seconds[train_rows - 1] - seconds[0]
    for name, length, known in (
        ("day", DAY, train_span >= 7 * DAY),
        ("year", YEAR, train_span >= 3 * YEAR),
    ):
        if known and 0 < step <= length / 4:
            phase = 2 * np.pi * (seconds % length) / length
            inputs[f"sin({name})"], inputs[f"cos({name})"] = np.sin(phase), np.cos(phase)
    return inputs
