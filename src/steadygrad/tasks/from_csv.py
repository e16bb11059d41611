"""From a CSV to a forecasting task: target, inputs, sizes and split, each decided and said."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from steadygrad.errors import InputError
from steadygrad.tasks.calendar import calendar_inputs, calendar_periods, duration, spacing
from steadygrad.tasks.columns import Columns, drop_counters, read_columns
from steadygrad.tasks.forecast import Forecast, bounds
from steadygrad.tasks.seasonal import autocorrelation_period, best_period
from steadygrad.tasks.table import Table, read_table

DRIFT = 0.5  # standard deviations between the means of training and validation part
PERIOD_WINDOW = 168  # a window covers the period only up to here: time steps cost time


def read_forecast(
    path: Path,
    target: str | None = None,
    window: int | None = None,
    horizon: int | None = None,
) -> Forecast:
    """Make a forecasting task of a CSV.

    Args:
        path: A CSV with a header line.
        target: The column to predict; the last numeric one if not given.
        window: Rows seen; if not given, enough for the horizon and for one period.
        horizon: Rows ahead; if not given, one day, week or year by the dates, else 12.

    Raises:
        InputError: Anything about the file or the options that makes this impossible.
    """
    return make_forecast(read_table(path), target, window, horizon)


def make_forecast(
    table: Table, target: str | None = None, window: int | None = None, horizon: int | None = None
) -> Forecast:
    """Make a forecasting task of a table; arguments and errors as `read_forecast`."""
    path = table.path
    columns = read_columns(table)
    notes = list(columns.notes)
    target = _pick_target(columns, target, path)
    rows = len(table.lines)
    train_rows = bounds(rows)["train"][1]
    horizon, window, period = _sizes(path, columns, target, rows, window, horizon)
    inputs = _inputs(columns, target, train_rows, notes)
    y = columns.numbers[target]
    if np.ptp(y[:train_rows]) == 0:
        raise InputError(
            f"{path}: column {target!r} is constant in the training part (its first 70 %),"
            " nothing to learn; choose another --target"
        )
    change = _changes(y[:train_rows], horizon)
    known = ~columns.missing[target]
    if not known[train_rows:].any() or not known[bounds(rows)["test"][0] :].any():
        raise InputError(f"{path}: column {target!r} has no values in its last 30 % of rows")
    if not known.all():
        notes.append(f"{int((~known).sum())} missing targets are neither learnt nor scored")
    x = _standardise(np.stack(list(inputs.values()), axis=1), train_rows)
    drifts = _has_drift(y, train_rows)
    relative = [drifts and name in columns.numbers for name in inputs]
    if drifts:
        notes.append("the target's level drifts: each window is seen relative to its last row")
    return Forecast(
        x=x,
        relative=torch.tensor(relative).float(),
        drifts=drifts,
        y=torch.from_numpy(y),
        known=torch.from_numpy(known),
        window=window,
        horizon=horizon,
        scale=change,
        period=period,
        target=target,
        inputs=tuple(inputs),
        notes=tuple(notes),
        origin={"file": path.name, "rows": rows, "columns": len(table.columns)},
    )


def _pick_target(columns: Columns, target: str | None, path: Path) -> str:
    names = list(columns.numbers)
    if not names:
        raise InputError(
            f"{path}: no column of numbers besides the date; expected at least one to forecast"
        )
    varying = [name for name in names if name not in columns.constant]
    if target is None:
        if not varying:
            raise InputError(f"{path}: every numeric column is constant; nothing to forecast")
        return varying[-1]
    if target not in names:
        raise InputError(
            f"{path}: no numeric column {target!r} to forecast; there are: {', '.join(names)}"
        )
    if target in columns.constant:
        raise InputError(
            f"{path}: column {target!r} is constant ({columns.numbers[target][0]:g} in every"
            f" row), nothing to forecast; choose among: {', '.join(varying) or 'none'}"
        )
    return target


def _sizes(
    path: Path,
    columns: Columns,
    target: str,
    rows: int,
    window: int | None,
    horizon: int | None,
) -> tuple[int, int, int | None]:
    """Return horizon, window and period: as asked for, or as the dates and the rows allow."""
    train = columns.numbers[target][: bounds(rows)["train"][1]]
    cycles = calendar_periods(columns.dates) if columns.dates is not None else []
    if horizon is None:
        horizon = max(1, min(next((c for c in cycles if c <= 48), 12), rows // 20))
    found = autocorrelation_period(train)
    period = best_period(train, cycles + ([found] if found else []), horizon)
    if window is None:
        covering = period + horizon if period and period <= PERIOD_WINDOW else 0
        window = max(1, min(max(4 * horizon, 24, covering), len(train) // 3))
    if horizon < 1 or window < 1:
        raise InputError(f"window {window}, horizon {horizon}: both must be at least 1")
    parts = bounds(rows)
    shortest = min(last - first for first, last in parts.values())
    if len(train) < window + horizon or shortest < horizon:
        raise InputError(
            f"{path}: {rows} rows are too few for window {window} and horizon {horizon}: the"
            f" training part ({len(train)} rows) must hold one of each and the validation part"
            f" ({shortest} rows) one horizon; give more rows or smaller --window and --horizon"
        )
    return horizon, window, period


def _inputs(
    columns: Columns, target: str, train_rows: int, notes: list[str]
) -> dict[str, np.ndarray]:
    kept = drop_counters(columns.numbers, target, notes)
    inputs = {name: columns.numbers[name] for name in kept} | columns.categories
    flat = [name for name, v in inputs.items() if name != target and np.ptp(v[:train_rows]) == 0]
    for name in flat:
        where = "" if name in columns.constant else " in the training part"
        notes.append(f"column {name!r} is constant{where}: dropped")
    inputs = {name: values for name, values in inputs.items() if name not in flat}
    if columns.dates is not None:
        clock = calendar_inputs(columns.dates, train_rows)
        if clock:
            notes.append(f"inputs added from the dates: {', '.join(clock)}")
        inputs |= clock
        notes.append(f"rows lie {duration(spacing(columns.dates))} apart")
    return inputs


def _changes(train: np.ndarray, horizon: int) -> float:
    """Return the root mean square change over 1 to ``horizon`` rows in the training part."""
    squares = [np.mean((train[k:] - train[:-k]) ** 2) for k in range(1, horizon + 1)]
    return float(np.sqrt(np.mean(squares))) or 1.0


def _has_drift(y: np.ndarray, train_rows: int) -> bool:
    """Whether the target's level in the validation part is far from that of training.

    The test part has no say in this.
    """
    train, val = y[:train_rows], y[train_rows : bounds(len(y))["val"][1]]
    return bool(abs(val.mean() - train.mean()) > DRIFT * train.std())


def _standardise(x: np.ndarray, train_rows: int) -> Tensor:
    mean, deviation = x[:train_rows].mean(0), x[:train_rows].std(0)
    return torch.from_numpy((x - mean) / np.where(deviation > 0, deviation, 1.0)).float()
