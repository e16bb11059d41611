"""Forecast the rows after the last known one, and backtest from earlier rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steadygrad.errors import InputError
from steadygrad.reading import Table, TableSpec
from steadygrad.tasks.forecast import Forecast
from steadygrad.tasks.forecast_spec import ForecastSpec
from steadygrad.tasks.from_table import apply_spec
from steadygrad.tasks.intervals import Intervals
from steadygrad.tasks.seasonal import seasonal

Predict = Callable[[Tensor], Tensor]
LEVEL = 0.8


@dataclass(frozen=True)
class Ahead:
    """The forecast of one series from one row.

    Args:
        series: Its name, "" where there is one.
        after: The last known row, counted from 0 within its series.
        after_date: Its date, or None.
        dates: Of the rows ahead, ISO 8601, or None.
        values: The forecast, in the target's unit.
        low: Lower end of the interval; None where the level needs more windows than there were,
            or beyond the horizon that was trained.
        high: Upper end.
        truth: True values; None where they are not known.
    """

    series: str
    after: int
    after_date: str | None
    dates: tuple[str, ...] | None
    values: tuple[float, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    truth: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Backtest:
    """Scored forecasts from earlier rows.

    Args:
        forecasts: One for each origin, oldest first.
        scores: RMSE and MAE of each method over all forecasts, ours first.
        level: Of the intervals.
        coverage: Share of the truth within the intervals; None without intervals.
    """

    forecasts: tuple[Ahead, ...]
    scores: dict[str, dict[str, float]]
    level: float
    coverage: float | None


def forecast_table(
    table: Table,
    spec: ForecastSpec,
    predict: Predict,
    intervals: Intervals | None,
    *,
    horizon: int | None = None,
    level: float = LEVEL,
) -> tuple[list[Ahead], tuple[str, ...]]:
    """Forecast the rows after the last known target of each series of a table.

    Rows at the end without a target are rows to forecast: they give the dates and the values of
    inputs that are known ahead. A horizon beyond the trained one treats forecasts as known values
    and continues from them.

    Args:
        table: Read by ``spec.table``.
        spec: Of the model.
        predict: From windows ``(T, B, I)`` to outputs ``(B, K)``.
        intervals: Of the model.
        horizon: Rows ahead; as trained if not given.
        level: Of the intervals.

    Returns:
        One forecast for each series, and notes on how it was made.

    Raises:
        InputError: Too few rows, or a horizon beyond the known inputs.
    """
    wanted = spec.horizon if horizon is None else horizon
    if wanted < 1:
        raise InputError(f"horizon {wanted}: expected at least 1 row")
    task = apply_spec(table, spec)
    notes = list(task.notes)
    if wanted > spec.horizon:
        _check_recursion(table, spec, wanted)
        notes.append(
            f"rows beyond the trained horizon of {spec.horizon} are forecast from forecasts, and "
            "have no intervals"
        )
    found = _from_ends(task, spec, predict, intervals, level, notes)
    while len(found[0].values) < wanted:
        longer = apply_spec(_extended(table, spec, found), spec)
        further = _from_ends(longer, spec, predict, None, level, [])
        found = [_joined(a, b) for a, b in zip(found, further, strict=True)]
    return [_cut(ahead, wanted) for ahead in found], tuple(notes)


def forecast_from(
    task: Forecast,
    origins: Tensor,
    predict: Predict,
    intervals: Intervals | None,
    level: float = LEVEL,
) -> list[Ahead]:
    """Forecast from given rows of a task, with the truth where it is known."""
    made: list[Ahead] = []
    numbers = task.series_of(origins.numpy())
    values = task.values(predict(task.windows(origins)), origins)
    width = _widths(task, origins, intervals, level)
    ends = [*task.starts[1:], len(task.y)]
    for i, (origin, number) in enumerate(zip(origins.tolist(), numbers.tolist(), strict=True)):
        start, end = task.starts[number], ends[number]
        steps = np.arange(origin + 1, origin + task.horizon + 1)
        inside = steps[steps < end]
        truth = [float(task.y[r]) if bool(task.known[r]) else None for r in inside]
        truth += [None] * (len(steps) - len(inside))
        made.append(
            Ahead(
                task.series[number] if task.series else "",
                origin - start,
                None if task.dates is None else _iso(task.dates[origin]),
                _dates(task, origin, inside),
                tuple(values[i].tolist()),
                _ends(values[i] - width[i]),
                _ends(values[i] + width[i]),
                tuple(truth) if any(t is not None for t in truth) else (),
            )
        )
    return made


def backtest(
    task: Forecast,
    predict: Predict,
    intervals: Intervals | None,
    origins: int,
    level: float = LEVEL,
) -> Backtest:
    """Forecast from the last ``origins`` rows that lie a horizon apart, and compare with the truth.

    Raises:
        InputError: Too few rows for one.
    """
    if origins < 1:
        raise InputError(f"backtest {origins}: expected at least 1 origin")
    rows: list[int] = []
    for start, end in zip(task.starts, [*task.starts[1:], len(task.y)], strict=True):
        last = _last_known(task, start, end) - task.horizon
        first = start + task.window - 1
        rows += [r for k in range(origins) if (r := last - k * task.horizon) >= first]
    if not rows:
        raise InputError(
            f"{task.origin.get('file', '')}: too few rows to look back: a backtest needs"
            f" {task.window + task.horizon} (window {task.window}, horizon {task.horizon})"
        )
    at = torch.tensor(sorted(rows))
    made = forecast_from(task, at, predict, intervals, level)
    truth = task.truth(at).numpy()
    y = task.y.numpy()
    answers = {"model": np.array([a.values for a in made])}
    answers["last value"] = np.repeat(y[at.numpy()][:, None], task.horizon, 1)
    if task.period is not None and task.period <= task.window:
        answers[f"seasonal, {task.period} rows back"] = seasonal(
            y, at.numpy(), task.horizon, task.period
        )
    scores: dict[str, dict[str, float]] = {}
    for name, answer in answers.items():
        error = (answer - truth)[np.isfinite(truth)] / task.scale
        scores[name] = {
            "RMSE": float(np.sqrt(np.mean(error**2))) * task.scale,
            "MAE": float(np.abs(error).mean()) * task.scale,
        }
    inside = [
        low <= t <= high
        for a in made
        for t, low, high in zip(a.truth, a.low, a.high, strict=False)
        if t is not None and low is not None and high is not None
    ]
    return Backtest(tuple(made), scores, level, sum(inside) / len(inside) if inside else None)


def _from_ends(
    task: Forecast,
    spec: ForecastSpec,
    predict: Predict,
    intervals: Intervals | None,
    level: float,
    notes: list[str],
) -> list[Ahead]:
    """Forecast from the last known target of each series."""
    origins: list[int] = []
    ends = [*task.starts[1:], len(task.y)]
    held = 0
    for start, end in zip(task.starts, ends, strict=True):
        last = _last_known(task, start, end)
        if last - start + 1 < task.window:
            name = f" of series {task.series[len(origins)]!r}" if task.series else ""
            raise InputError(
                f"{task.origin.get('file', '')}: {last - start + 1} rows{name} with a known"
                f" {task.target!r}; the model sees {task.window}: give more rows"
            )
        held = max(held, task.horizon - (end - 1 - last))
        origins.append(last)
    ahead = [i.column for i in spec.inputs if i.source == "known"]
    if ahead and held > 0:
        notes.append(
            f"{', '.join(dict.fromkeys(ahead))}: known ahead in training, and not given for the"
            f" last {held} rows to be forecast: their last value is held; add rows with an empty"
            f" {task.target!r}"
        )
    return forecast_from(task, torch.tensor(origins), predict, intervals, level)


def _last_known(task: Forecast, start: int, end: int) -> int:
    """The last row of a series that has a target."""
    known = np.flatnonzero(task.known.numpy()[start:end])
    return start + int(known[-1]) if len(known) else start - 1


def _widths(task: Forecast, origins: Tensor, intervals: Intervals | None, level: float) -> Tensor:
    if intervals is None:
        return torch.full((len(origins), task.horizon), torch.inf, dtype=torch.float64)
    return intervals.width(level)[None] * task.units(origins).double() * task.scale


def _ends(values: Tensor) -> tuple[float | None, ...]:
    return tuple(v if np.isfinite(v) else None for v in values.tolist())


def _iso(moment: Any) -> str:
    """A date as ISO 8601, without the time of day where it is midnight."""
    text = str(np.datetime_as_string(np.datetime64(moment, "us"), unit="us"))
    day, _, clock = text.partition("T")
    clock = clock.removesuffix(".000000")
    return day if clock == "00:00:00" else f"{day}T{clock}"


def _dates(task: Forecast, origin: int, inside: np.ndarray) -> tuple[str, ...] | None:
    """Dates of the rows ahead: from the file if it has them, then extrapolated by its step."""
    if task.dates is None or task.spec is None:
        return None
    given = list(task.dates[inside])
    last = given[-1] if given else task.dates[origin]
    more = future_dates(last, task.spec.table, task.horizon - len(given))
    dates = [*given, *more]
    # one format for all: with the time of day if any has one
    texts = [_iso(d) for d in dates]
    if any("T" in t for t in texts):
        texts = [t if "T" in t else f"{t}T00:00:00" for t in texts]
    return tuple(texts)


def future_dates(last: np.datetime64, spec: TableSpec, count: int) -> list[np.datetime64]:
    """Return the dates of the next ``count`` rows, if the training file has a regular step.

    Args:
        last: Date of the last row.
        spec: How the file of the training was read.
        count: How many.
    """
    import pandas

    if count < 1:
        return []
    start = pandas.Timestamp(last)
    if spec.every is not None:
        step: Any = pandas.tseries.frequencies.to_offset(spec.every)
        return _stepped(start, step, count)
    months = {"1 month": 1, "3 months": 3, "1 year": 12}.get(spec.frequency)
    if months is not None:
        is_last = (start.is_month_end and start.day > 28) or start.day == 31
        shifts = range(months, months * count + 1, months)
        made = [
            start + (pandas.offsets.MonthEnd(k) if is_last else pandas.DateOffset(months=k))
            for k in shifts
        ]
        return [_micro(d) for d in made]
    if spec.frequency == "business day":
        return _stepped(start, pandas.offsets.BDay(), count)
    step = np.timedelta64(round((spec.step or 0.0) * 1e6), "us")
    return [last.astype("datetime64[us]") + k * step for k in range(1, count + 1)]


def _stepped(start: Any, step: Any, count: int) -> list[np.datetime64]:
    made: list[np.datetime64] = []
    for _ in range(count):
        start = start + step
        made.append(_micro(start))
    return made


def _micro(stamp: Any) -> np.datetime64:
    return stamp.to_datetime64().astype("datetime64[us]")


def _check_recursion(table: Table, spec: ForecastSpec, horizon: int) -> None:
    """Refuse a horizon beyond the trained one if inputs of future rows would be unknown."""
    unknown = [
        i.name
        for i in spec.inputs
        if i.source in ("number", "category", "known") and i.column != spec.target
    ]
    if unknown:
        told = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        raise InputError(
            f"horizon {horizon}: the model was trained for {spec.horizon} rows, and going on from"
            f" its forecasts would need {told} of rows to come: train with a horizon of {horizon}"
        )


def _extended(table: Table, spec: ForecastSpec, found: Sequence[Ahead]) -> Table:
    """Append the forecasts to a table as rows; all other columns repeat the last row."""
    bounds = zip(table.starts, [*table.starts[1:], table.rows], strict=True)
    rows: list[np.ndarray] = []
    target: list[np.ndarray] = []
    dates: list[np.ndarray] = []
    starts: list[int] = []
    for (start, _), ahead in zip(bounds, found, strict=True):
        starts.append(sum(len(r) for r in rows))
        kept = np.arange(start, start + ahead.after + 1)
        rows += [kept, np.full(len(ahead.values), kept[-1])]
        target += [table.numbers[spec.target][kept], np.array(ahead.values)]
        if table.dates is not None and ahead.dates is not None:
            dates += [table.dates[kept], np.array(ahead.dates, "datetime64[us]")]
    at = np.concatenate(rows)
    numbers = {n: v[at] for n, v in table.numbers.items()}
    numbers[spec.target] = np.concatenate(target)
    missing = {n: v[at] for n, v in table.missing.items()}
    missing[spec.target] = np.zeros(len(at), bool)
    return replace(
        table,
        numbers=numbers,
        missing=missing,
        categories={n: replace(c, codes=c.codes[at]) for n, c in table.categories.items()},
        dates=np.concatenate(dates) if dates else None,
        starts=tuple(starts),
    )


def _joined(first: Ahead, second: Ahead) -> Ahead:
    dates = None
    if first.dates is not None and second.dates is not None:
        dates = first.dates + second.dates
    return replace(
        first,
        dates=dates,
        values=first.values + second.values,
        low=first.low + second.low,
        high=first.high + second.high,
        truth=(),
    )


def _cut(ahead: Ahead, horizon: int) -> Ahead:
    return replace(
        ahead,
        dates=None if ahead.dates is None else ahead.dates[:horizon],
        values=ahead.values[:horizon],
        low=ahead.low[:horizon],
        high=ahead.high[:horizon],
        truth=ahead.truth[:horizon],
    )
