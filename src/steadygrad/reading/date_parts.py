"""Dates in columns of their parts: year, month, day, hour, and so on."""

from collections.abc import Mapping, Sequence

import numpy as np

from steadygrad.reading.dates import DateSpec

PARTS: dict[str, str] = {
    name: part
    for part, names in {
        "year": "year yr yy yyyy jahr año ano anio année annee anno rok год 年 년 연도",
        "quarter": "quarter qtr quartal trimestre trimester kwartał квартал 季度 분기",
        "month": "month mon mo mm monat mes mois mese mês miesiąc месяц 月 월",
        "week": "week wk isoweek woche kw semaine semana settimana неделя 周 週 주",
        "yearday": "doy yday dayofyear day_of_year julian jday jul ydy",
        "day": "day dy dd dom tag dia día jour giorno dzień день 日 일",
        "hour": "hour hr hrs hh stunde hora heure ora godzina час 时 時 시",
        "minute": "minute min mn mi minuto minuta минута 分 분",
        "second": "second sec ss sekunde segundo seconde secondo 秒 초",
    }.items()
    for name in names.split()
}
ORDER = ("year", "quarter", "month", "week", "yearday", "day", "hour", "minute", "second")
BOUNDS = {"year": (0, 9999), "quarter": (1, 4), "month": (1, 12), "week": (1, 53)}
BOUNDS |= {"yearday": (1, 366), "day": (1, 31), "hour": (0, 24), "minute": (0, 59)}
BOUNDS |= {"second": (0, 60)}
# What stands below the year, the first that there is; then what may stand below that.
BELOW_YEAR = {
    "month": ("day", "hour", "minute", "second"),
    "yearday": ("hour", "minute", "second"),
    "week": (),
    "quarter": (),
}


def part_columns(numbers: Mapping[str, np.ndarray]) -> DateSpec | None:
    """Find columns of year, month, day, hour, ...; of year and day of the year; quarter or week."""
    by_part: dict[str, str] = {}
    for name, values in numbers.items():
        part = PARTS.get(name.strip().lower().replace(" ", ""))
        if part == "month" and "month" in by_part and "hour" in by_part:  # YY MM DD hh mm
            part = "minute"
        if part is not None and _fits(part, values):
            by_part.setdefault(part, name)
    if "year" not in by_part:
        return None
    middle = next((p for p in BELOW_YEAR if p in by_part), None)
    if middle == "month" and "day" not in by_part and "yearday" in by_part:
        middle = "yearday"
    if middle is None:
        return None
    parts = ["year", middle]
    for part in BELOW_YEAR[middle]:
        if part not in by_part:  # an hour of a month is no time
            break
        parts.append(part)
    return DateSpec(tuple(by_part[p] for p in parts), "parts", tuple(parts))


def _fits(part: str, values: np.ndarray) -> bool:
    """Whether the values of a column can be that part of a date; few may be missing."""
    low, high = BOUNDS[part]
    known = values[np.isfinite(values)]
    fits = (known >= low) & (known <= high) & (known == np.floor(known))
    return len(known) > 0.9 * len(values) and bool(fits.all())


def from_parts(columns: Sequence[np.ndarray], parts: Sequence[str]) -> np.ndarray:
    """Put year, month, day, hour, ... together; a year of two digits is 1969 to 2068.

    Args:
        columns: Of the parts.
        parts: What they are; () means year, month, day, hour, minute, second.
    """
    known = np.isfinite(np.stack(columns)).all(0)
    names = parts or ("year", "month", *BELOW_YEAR["month"])
    by_part = {
        n: np.where(known, v, 1).astype(np.int64) for n, v in zip(names, columns, strict=False)
    }
    year = by_part["year"]
    if year.max() < 100:
        year = np.where(year >= 69, 1900 + year, 2000 + year)
    start = (year - 1970).astype("datetime64[Y]")
    if "quarter" in by_part:
        day = (start.astype("datetime64[M]") + 3 * (by_part["quarter"] - 1)).astype("datetime64[D]")
    elif "month" in by_part:
        day = (start.astype("datetime64[M]") + (by_part["month"] - 1)).astype("datetime64[D]")
    else:
        day = start.astype("datetime64[D]")
    if "week" in by_part:  # ISO: week 1 holds January 4; weeks begin on Monday, as 1969-12-29 did
        fourth = day.astype(np.int64) + 3
        monday = fourth - (fourth + 3) % 7
        day = (monday + 7 * (by_part["week"] - 1)).astype("datetime64[D]")
    lengths = {"yearday": 86400, "day": 86400, "hour": 3600, "minute": 60, "second": 1}
    whole = day.astype("datetime64[us]")
    for part, length in lengths.items():
        if part in by_part:
            count = by_part[part] - (length == 86400)
            whole = whole + (count * length).astype("timedelta64[s]")
    whole[~known] = np.datetime64("NaT")
    return whole
