"""The order and the distances of rows: several series in one file, gaps, and a regular grid."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from steadygrad.errors import InputError
from steadygrad.reading.dates import need_pandas
from steadygrad.reading.options import Reading

HOUR, DAY = 3600.0, 86400.0
MONTH, YEAR = 365.2425 / 12 * DAY, 365.2425 * DAY
MOST_PAIRED = 12  # columns that are looked at two by two
MOST_DOUBLE = 0.02  # of the rows may share a date, as the hour does that comes twice in autumn


@dataclass
class Arranged:
    """Rows in order.

    Args:
        numbers: As given, in order.
        codes: Of the categories, in order.
        dates: In order, or None.
        starts: First row of each series.
        names: Of the series.
        series: The column that names them.
        only: The one that was taken.
        step: The usual distance between rows, in seconds.
        frequency: In words.
        every: The grid, as pandas has it.
        gaps: Steps longer than usual.
        longest_gap: The longest of them, in seconds.
    """

    numbers: dict[str, np.ndarray]
    codes: dict[str, np.ndarray]
    dates: np.ndarray | None
    starts: tuple[int, ...] = (0,)
    names: tuple[str, ...] = ()
    series: str | None = None
    only: str | None = None
    step: float | None = None
    frequency: str = ""
    every: str | None = None
    gaps: int = 0
    longest_gap: float = 0.0


def order_rows(
    path: Path,
    numbers: Mapping[str, np.ndarray],
    categories: Mapping[str, tuple[np.ndarray, tuple[str, ...]]],
    dates: np.ndarray | None,
    many: Mapping[str, np.ndarray],
    reading: Reading,
    file_series: str | None,
    notes: list[str],
    *,
    is_new: bool,
) -> Arranged:
    """Order the rows by series and date, and tell what the distances between them are.

    Args:
        path: The file, for messages.
        numbers: Columns of numbers.
        categories: Codes and kinds of the other columns.
        dates: One per row, or None.
        many: Columns of texts too many for a category, as codes: they could name series.
        reading: What is asked for.
        file_series: The column that names the series, where the format of the file has one.
        notes: Is told what was done.
        is_new: The file is read as that of a training was.

    Raises:
        InputError: Dates repeat and nothing says why; or the grid cannot be made.
    """
    codes = {name: c for name, (c, _) in categories.items()}
    made = Arranged(dict(numbers), codes, dates)
    series = reading.series or file_series
    if series is not None:
        _split_series(path, made, series, categories, reading.only, notes)
    elif dates is not None:
        _refuse_series(path, dates, numbers, categories, many)
    elif reading.date != "none":
        _refuse_undated(path, numbers, categories, many)
    if made.dates is not None:
        if reading.every is not None:
            _on_grid(path, made, reading.every, notes)
        _measure(made, notes, is_new=is_new)
    elif reading.every is not None:
        raise InputError(
            f"{path}: --every {reading.every}: needs a column of dates; none was found"
        )
    return made


def _take(made: Arranged, rows: np.ndarray) -> None:
    made.numbers = {n: v[rows] for n, v in made.numbers.items()}
    made.codes = {n: v[rows] for n, v in made.codes.items()}
    if made.dates is not None:
        made.dates = made.dates[rows]


def _split_series(
    path: Path,
    made: Arranged,
    series: str,
    categories: Mapping[str, tuple[np.ndarray, tuple[str, ...]]],
    only: str | None,
    notes: list[str],
) -> None:
    """Put the rows of each series together, in order of date."""
    codes, kinds = categories[series]
    made.series, made.only = series, only
    del made.codes[series]
    if only is not None:
        if only not in kinds:
            told = ", ".join(kinds[:10]) + (", ..." if len(kinds) > 10 else "")
            raise InputError(
                f"{path}: --only {only}: no such series in {series!r}; there are: {told}"
            )
        rows = np.flatnonzero(codes == kinds.index(only))
        _take(made, rows)
        made.names = (only,)
        if made.dates is not None:
            _sort(made, notes)
        notes.append(
            f"{len(rows)} rows of series {only!r}; the other {len(kinds) - 1} series left out"
        )
        return
    order = (
        np.lexsort((made.dates, codes))
        if made.dates is not None
        else np.argsort(codes, kind="stable")
    )
    _take(made, order)
    sorted_codes = codes[order]
    starts = np.flatnonzero(np.diff(sorted_codes, prepend=sorted_codes[0] - 1))
    made.starts = tuple(int(i) for i in starts)
    made.names = tuple(kinds[i] for i in sorted_codes[starts])
    if made.dates is not None:
        same = (np.diff(made.dates) == np.timedelta64(0, "us")) & (np.diff(sorted_codes) == 0)
        if (doubles := int(same.sum())) > max(1, MOST_DOUBLE * len(order)):
            at = int(np.flatnonzero(same)[0])
            told = str(made.dates[at].astype("datetime64[s]")).replace("T", " ")
            raise InputError(
                f"{path}: series {kinds[sorted_codes[at]]!r} has several rows of one date ({told};"
                f" {doubles} such rows): {series!r} does not tell them apart; pass --date with all"
                " columns that make up the time (Date,Time), or --date none to take the rows in"
                " the order of the file"
            )
    if len(starts) > 1:
        notes.append(
            f"{len(starts)} series by column {series!r}: one model is trained on all of them"
        )


def _sort(made: Arranged, notes: list[str]) -> None:
    assert made.dates is not None
    if (np.diff(made.dates) >= np.timedelta64(0, "s")).all():
        return
    # Newest first is turned round, so that rows of one date keep the order that they came in.
    backwards = (np.diff(made.dates) <= np.timedelta64(0, "s")).all()
    if backwards:
        _take(made, np.arange(len(made.dates))[::-1])
        notes.append("rows were newest first: turned round")
    else:
        _take(made, np.argsort(made.dates, kind="stable"))
        notes.append("rows were not in order of date: sorted")


def _refuse_series(
    path: Path,
    dates: np.ndarray,
    numbers: Mapping[str, np.ndarray],
    categories: Mapping[str, tuple[np.ndarray, tuple[str, ...]]],
    many: Mapping[str, np.ndarray],
) -> None:
    """Refuse dates that repeat: learnt as one series, the rows of several would be mixed."""
    ordered = np.sort(dates)
    doubles = int((np.diff(ordered) == np.timedelta64(0, "us")).sum())
    if doubles <= max(1, MOST_DOUBLE * len(dates)):
        return
    stamps = dates.astype(np.int64)
    candidates: dict[str, np.ndarray] = {n: c for n, (c, _) in categories.items()}
    candidates |= dict(many)
    for name, values in numbers.items():
        known = np.unique(values[:5000])
        if len(known) <= 1000 and (known == np.floor(known)).all():
            candidates[name] = np.unique(values, return_inverse=True)[1]
    best: list[tuple[int, str]] = []
    together: list[tuple[int, str, str]] = []
    for name, codes in candidates.items():
        kinds = _tells_apart(codes, stamps)
        if kinds:
            best.append((kinds, name))
    if not best and len(candidates) <= MOST_PAIRED:
        for (first, codes), (second, others) in itertools.combinations(candidates.items(), 2):
            kinds = _tells_apart(codes * (int(others.max()) + 1) + others, stamps)
            if kinds:
                together.append((kinds, first, second))
    share = len(dates) / (len(dates) - doubles)
    if best:
        kinds, name = min(best)
        example = f" --only {categories[name][1][0]!r}" if name in categories else " --only VALUE"
        raise InputError(
            f"{path}: every date comes {share:.3g} times: column {name!r} names {kinds} series in"
            f" one file; pass --series {name!r} to train one model on all, or with{example} on one;"
            " --date none takes the rows as one series in the order of the file"
        )
    if together:
        kinds, first, second = min(together)
        raise InputError(
            f"{path}: every date comes {share:.3g} times: columns {first!r} and {second!r} together"
            f" name {kinds} series in one file; pass --series '{first},{second}' to train one model"
            " on all; --date none takes the rows as one series in the order of the file"
        )
    raise InputError(
        f"{path}: every date comes {share:.3g} times, and no column tells the rows of a date apart;"
        " pass --date with all columns that make up the time (Date,Time), --series COLUMN if there"
        " are several series, or --date none to take the rows in the order of the file"
    )


def _refuse_undated(
    path: Path,
    numbers: Mapping[str, np.ndarray],
    categories: Mapping[str, tuple[np.ndarray, tuple[str, ...]]],
    many: Mapping[str, np.ndarray],
) -> None:
    """Refuse several series without dates: their times are of no known form, or only counted."""
    names: dict[str, np.ndarray] = {n: codes for n, (codes, _) in categories.items()}
    # A time of day comes again every day: then it is the rows of one time that follow each other.
    runs = {n: np.cumsum(np.diff(codes, prepend=codes[:1]) != 0) for n, codes in many.items()}
    for time, stamps in (*many.items(), *runs.items()):
        share = len(stamps) / len(np.unique(stamps))
        found = [n for n, codes in names.items() if _tells_apart(codes, stamps)]
        if share > 1 + MOST_DOUBLE and found:
            raise InputError(
                f"{path}: every cell of column {time!r} comes {share:.3g} times, and column"
                f" {found[0]!r} tells its rows apart: several series in one file; pass --series"
                f" {found[0]!r}, or --date none to take the rows as one series in the order of the"
                " file"
            )
    for count, values in numbers.items():
        again = np.flatnonzero(np.diff(values) != 1) + 1
        if not 0 < len(again) < len(values) / 5 or (values[again] != values[0]).any():
            continue
        names |= {n: v for n, v in numbers.items() if n != count}
        for name, codes in names.items():
            if np.array_equal(np.flatnonzero(np.diff(codes)) + 1, again):
                raise InputError(
                    f"{path}: column {count!r} counts from {values[0]:g} again where column"
                    f" {name!r} changes: {len(again) + 1} series in one file; pass --series"
                    f" {name!r}, or --date none to take the rows as one series in the order of the"
                    " file"
                )


def _tells_apart(codes: np.ndarray, stamps: np.ndarray) -> int:
    """Return how many series a column names, if no date repeats within one; else 0."""
    kinds = len(np.unique(codes))
    if not 1 < kinds < len(stamps) / 2:
        return 0
    pairs = np.unique(np.stack([codes, stamps]), axis=1).shape[1]
    return kinds if pairs >= (1 - MOST_DOUBLE) * len(stamps) else 0


def _on_grid(path: Path, made: Arranged, every: str, notes: list[str]) -> None:
    """Put every series on a regular grid: the mean of the rows of one step, gaps where none is."""
    pandas = need_pandas("a regular grid (--every)")
    assert made.dates is not None
    try:
        offset = pandas.tseries.frequencies.to_offset(every)
    except ValueError as error:
        raise InputError(f"--every {every}: {error}; expected 10min, 1h, 1D, 1MS, ...") from None
    bounds = [*made.starts, len(made.dates)]
    frames, starts, empty, merged = [], [], 0, 0
    for first, last in itertools.pairwise(bounds):
        part = slice(first, last)
        index = pandas.DatetimeIndex(made.dates[part])
        numbers = pandas.DataFrame({n: v[part] for n, v in made.numbers.items()}, index=index)
        codes = pandas.DataFrame({n: v[part] for n, v in made.codes.items()}, index=index)
        steps = numbers.resample(offset)
        count = steps.size().to_numpy()
        if len(count) > 50 * (last - first) + 1000:
            raise InputError(
                f"{path}: --every {every}: makes {len(count)} rows of {last - first};"
                " give a longer step"
            )
        empty += int((count == 0).sum())
        merged += int((count > 1).sum())
        kinds = codes.resample(offset).first().ffill().fillna(-1).astype(np.int64)
        starts.append(sum(len(f[0]) for f in frames))
        frames.append((steps.mean(), kinds))
    made.starts = tuple(starts)
    made.numbers = {
        n: np.concatenate([f[0][n].to_numpy(np.float64) for f in frames]) for n in made.numbers
    }
    made.codes = {n: np.concatenate([f[1][n].to_numpy() for f in frames]) for n in made.codes}
    made.dates = np.concatenate([f[0].index.to_numpy().astype("datetime64[us]") for f in frames])
    made.every = every
    told = f"rows put on a grid of {every}: {empty} steps have no row"
    notes.append(told + (f", {merged} hold several (their mean is taken)" if merged else ""))


def _measure(made: Arranged, notes: list[str], *, is_new: bool) -> None:
    """Tell the usual distance between rows, and where it is longer."""
    grid = "; --every {} puts them on a regular grid"
    assert made.dates is not None
    if made.series is None and made.every is None:
        _sort(made, notes)
    steps = np.diff(made.dates).astype(np.float64) / 1e6
    inside = np.ones(len(steps), bool)
    inside[[s - 1 for s in made.starts if s > 0]] = False
    steps = steps[inside]
    if len(steps) == 0:
        return
    ends = np.flatnonzero(inside)
    usual = float(np.median(steps))
    made.step = usual
    days = made.dates.astype("datetime64[D]").astype(np.int64)
    # 1970-01-01 was a Thursday: Monday is 0.
    weekday = (days + 3) % 7
    is_business = usual == DAY and bool((weekday < 5).all()) and float((steps == DAY).mean()) < 0.9
    longer = steps > 1.5 * usual
    if is_business:
        made.frequency = "business day"
        longer &= ~((weekday[:-1][inside] == 4) & (steps <= 3.5 * DAY))
    elif 28 * DAY <= usual <= 31 * DAY:
        made.frequency = "1 month"
        longer = steps > 45 * DAY
    elif 89 * DAY <= usual <= 92 * DAY:
        made.frequency = "3 months"
    elif 365 * DAY <= usual <= 366 * DAY:
        made.frequency = "1 year"
    else:
        made.frequency = duration(usual)
    made.gaps = int(longer.sum())
    made.longest_gap = float(steps[longer].max()) if made.gaps else 0.0
    doubles = int((steps == 0).sum())
    notes.append(
        "rows lie one business day apart (no row on Saturday and Sunday)"
        if is_business
        else f"rows lie {made.frequency} apart"
    )
    if made.gaps:
        at = made.dates[ends[np.flatnonzero(longer)[int(np.argmax(steps[longer]))]]]
        told = str(at.astype("datetime64[s]")).replace("T", " ")
        plural = "gap" if made.gaps == 1 else "gaps"
        notes.append(
            f"{made.gaps} {plural} in the dates, the longest {duration(made.longest_gap)} (after"
            f" {told}): rows are not evenly spaced"
            + ("" if is_new else grid.format("1B" if is_business else alias(usual)))
        )
    elif (
        not is_business and usual > 0 and float((np.abs(steps - usual) > 0.1 * usual).mean()) > 0.1
    ):
        notes.append(
            f"rows are not evenly spaced ({duration(float(steps.min()))} to"
            f" {duration(float(steps.max()))}){'' if is_new else grid.format(alias(usual))}"
        )
    if doubles:
        notes.append(
            f"{doubles} row{'s have' if doubles > 1 else ' has'} the date of the row before:"
            " kept in the order of the file"
        )


def duration(seconds: float) -> str:
    """Return a length of time in the largest unit that it fills: 1 hour, 31 days."""
    units = {"day": DAY, "hour": HOUR, "minute": 60.0}
    # Up to four days in hours: a gap of 50 hours is better told so than as 2.08333 days.
    if seconds % DAY and seconds < 4 * DAY:
        del units["day"]
    if seconds % HOUR and seconds < 4 * HOUR:
        units.pop("hour", None)
    name = next((name for name, length in units.items() if seconds >= length), "second")
    count = seconds / units.get(name, 1.0)
    return f"{count:.4g} {name}{'' if count == 1 else 's'}"


def alias(seconds: float) -> str:
    """Return a step as pandas writes it: 10min, 1h, 1D."""
    if 28 * DAY <= seconds <= 31 * DAY:
        return "1MS"
    for unit, length in (("D", DAY), ("h", HOUR), ("min", 60.0), ("s", 1.0)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{max(1, round(seconds * 1000))}ms"
