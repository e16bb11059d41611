"""Make a forecasting task from a table; choices of target, inputs and sizes are noted."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from steadygrad.errors import InputError, did_you_mean
from steadygrad.reading import Reading, Table, TableSpec, read_table
from steadygrad.reading.date_names import is_date_name
from steadygrad.reading.lines import Progress
from steadygrad.reading.options import ALL, listed
from steadygrad.tasks.calendar import calendar_inputs, calendar_periods, calendar_values
from steadygrad.tasks.forecast import MOST, Forecast, bounds, part_rows
from steadygrad.tasks.forecast_spec import ForecastSpec, InputSpec
from steadygrad.tasks.seasonal import autocorrelation_period, best_period

DEFAULT = Reading()
DRIFT = 0.5  # standard deviations between the means of training and validation part
PERIOD_WINDOW = 168  # longest window chosen to cover a period, since time steps cost time
STRANGE = 5.0  # standard deviations between the median of a new file and the training's mean
LARGEST = 1e300  # above it, the difference of two values may overflow


def read_forecast(
    path: Path,
    target: str | None = None,
    window: int | None = None,
    horizon: int | None = None,
    reading: Reading = DEFAULT,
    progress: Progress | None = None,
) -> Forecast:
    """Make a forecasting task from a file.

    Args:
        path: A table: CSV or similar, ARFF, .tsf, or another format of pandas; packed or not.
        target: The column to predict; the last numeric one if not given.
        window: Rows seen; if not given, enough for the horizon and for one period.
        horizon: Rows ahead; if not given, one day, week or year by the dates, else 12.
        reading: How to read the file, where that is ambiguous.
        progress: Called with the bytes read and the total.

    Raises:
        InputError: The file or the options do not allow it.
    """
    table = read_table(path, reading, progress=progress)
    return make_forecast(table, target, window, horizon, listed(reading.known))


def make_forecast(
    table: Table,
    target: str | None = None,
    window: int | None = None,
    horizon: int | None = None,
    known: tuple[str, ...] = (),
) -> Forecast:
    """Make a forecasting task from a table; arguments and errors as `read_forecast`.

    Args:
        table: The table.
        target: The column to predict.
        window: Rows seen.
        horizon: Rows ahead.
        known: Columns whose values are known ahead.
    """
    path = table.path
    notes = list(table.notes)
    varying = [name for name, v in table.numbers.items() if np.ptp(v) != 0]
    target = _pick_target(table, varying, target)
    if known == (ALL,) and ALL not in table.numbers:
        known = tuple(name for name in table.numbers if name != target)
    y = table.numbers[target]
    if float(np.abs(y).max()) > LARGEST:
        raise InputError(
            f"{path}: column {target!r} reaches {np.abs(y).max():g}; values above {LARGEST:g} can "
            "overflow: divide the column by a constant"
        )
    train = part_rows(table.starts, len(y), "train")
    horizon, window, period = _sizes(table, target, window, horizon)
    # Compute with the target in a unit in which its square cannot overflow.
    unit = float(np.abs(y).max()) or 1.0
    if all(np.ptp(y[a:b]) == 0 for a, b in train):
        raise InputError(
            f"{path}: column {target!r} is constant in the training part (its first 70 %),"
            " nothing to learn; choose another --target"
        )
    changes = [_changes(y[a:b] / unit, horizon) * unit for a, b in train]
    scale = float(np.sqrt(np.mean([(c / unit) ** 2 for c in changes]))) * unit
    scales = tuple((c or scale) / scale for c in changes)
    drifts = any(_has_drift(y[a:b] / unit) for a, b in _series(table))
    inputs = _inputs(table, target, horizon, known, notes)
    is_known = ~table.missing[target]
    for split in ("val", "test"):
        if not any(is_known[a:b].any() for a, b in part_rows(table.starts, len(y), split)):
            raise InputError(f"{path}: column {target!r} has no values in its last 30 % of rows")
    if not is_known.all():
        notes.append(f"{int((~is_known).sum())} missing targets are neither learnt nor scored")
    if drifts:
        notes.append("the target's level drifts: each window is seen relative to its last row")
    for split, most in MOST.items():
        rows = sum(b - a for a, b in part_rows(table.starts, len(y), split))
        if rows > most:
            notes.append(f"the {split} part is scored on {most} windows, evenly spread")
    read = _without_unused(table.spec, {target, *(i.column for i in inputs)})
    spec = ForecastSpec(read, target, inputs, window, horizon, period, scale, scales, drifts)
    return _task(table, spec, notes)


def _without_unused(spec: TableSpec, used: set[str]) -> TableSpec:
    """Mark columns that are not inputs as dropped, so that new files need not have them."""
    why = "only counts the rows, or is constant in the training part"
    columns = tuple(
        replace(c, role="dropped", why=why)
        if c.role in ("number", "category") and c.name not in used
        else c
        for c in spec.columns
    )
    return replace(spec, columns=columns)


def apply_spec(table: Table, spec: ForecastSpec) -> Forecast:
    """Make the task that the model was trained on from a new file, read by ``spec.table``.

    A series that is new since training is scaled by its own rows.

    Args:
        table: The new file.
        spec: Inputs and scaling, as in training.

    Raises:
        InputError: The file lacks columns that the model was trained with.
    """
    _check_columns(table, spec)
    notes = list(table.notes)
    trained = spec.table.names
    if trained and (strange := [n for n in table.spec.names if n not in trained]):
        told = ", ".join(strange[:5]) + (", ..." if len(strange) > 5 else "")
        notes.append(
            f"{len(strange)} series not there in training, scaled by their own rows: {told}"
        )
    if spec.table.step and table.spec.step and abs(table.spec.step / spec.table.step - 1) > 0.1:
        notes.append(
            f"rows lie {table.spec.frequency} apart, in training {spec.table.frequency}: a forecast"
            " of as many rows is another stretch of time"
        )
    notes += _strange_values(table, spec)
    return _task(table, spec, notes)


def _strange_values(table: Table, spec: ForecastSpec) -> list[str]:
    """Say which columns are far from what they were in training, as in another unit."""
    notes: list[str] = []
    for given in spec.inputs:
        values = table.numbers.get(given.column, np.empty(0))
        values = values[~table.missing.get(given.column, np.ones(len(values), bool))]
        if given.source != "number" or given.kind or len(given.mean) != 1 or not len(values):
            continue
        middle, mean, deviation = float(np.median(values)), given.mean[0], given.deviation[0]
        if abs(middle / deviation - mean / deviation) > STRANGE:
            notes.append(
                f"column {given.column!r}: its median {middle:.4g} is far from the values of the"
                f" training (mean {mean:.4g}, standard deviation {deviation:.3g}): another unit, or"
                " a state that the model has not seen; its forecasts are not to be trusted"
            )
    return notes


def _check_columns(table: Table, spec: ForecastSpec) -> None:
    """Refuse a table that lacks an input, or has it in another type."""
    wanted = {spec.target: "number"}
    wanted |= {i.column: "category" if i.kind else "number" for i in spec.inputs if i.column}
    for name, kind in wanted.items():
        if name in (table.categories if kind == "category" else table.numbers):
            continue
        column = table.spec.column(name)
        cell = f" (line {column.line}: {column.cell!r})" if column and column.cell else ""
        what = "holds no numbers" if kind == "number" else "holds too many different texts"
        raise InputError(f"{table.path}: column {name!r} {what}{cell}; the model was trained on it")
    if table.dates is None and any(i.source == "calendar" for i in spec.inputs):
        raise InputError(f"{table.path}: has no dates, which the model was trained with")


def _task(table: Table, spec: ForecastSpec, notes: list[str]) -> Forecast:
    y = table.numbers[spec.target]
    x = np.empty((len(y), len(spec.inputs)), np.float32)
    clock = {} if table.dates is None else calendar_values(table.dates)
    for i, given in enumerate(spec.inputs):
        _write(x[:, i], table, spec, given, clock)
    relative = [spec.drifts and i.source == "number" for i in spec.inputs]
    return Forecast(
        x=torch.from_numpy(x),
        relative=torch.tensor(relative).float(),
        drifts=spec.drifts,
        y=torch.from_numpy(y),
        known=torch.from_numpy(~table.missing[spec.target]),
        window=spec.window,
        horizon=spec.horizon,
        scale=spec.scale,
        period=spec.period,
        target=spec.target,
        inputs=tuple(i.name for i in spec.inputs),
        notes=tuple(notes),
        origin={
            "file": table.path.name,
            "rows": len(y),
            "columns": sum(c.why != "no name and no values" for c in table.spec.columns),
        },
        starts=table.starts,
        scales=_scales(table, spec),
        spec=spec,
        dates=table.dates,
        series=table.spec.names if len(table.starts) > 1 else (),
    )


def _scales(table: Table, spec: ForecastSpec) -> tuple[float, ...]:
    """The unit of each series, over that of the whole table."""
    if len(table.starts) == 1 and len(spec.scales) == 1:
        return spec.scales
    known = dict(zip(spec.table.names, spec.scales, strict=False))
    y = table.numbers[spec.target]
    return tuple(
        known[name] if name in known else (_changes(y[a:b] / spec.scale, spec.horizon) or 1.0)
        for name, (a, b) in zip(table.spec.names, _series(table), strict=True)
    )


def _series(table: Table) -> list[tuple[int, int]]:
    return list(zip(table.starts, [*table.starts[1:], table.rows], strict=True))


def _clock(table: Table) -> dict[str, np.ndarray]:
    if table.dates is None:
        return {}
    first, last = _series(table)[0]
    return calendar_inputs(table.dates, bounds(last - first)["train"][1], table.spec.step)


def _inputs(
    table: Table, target: str, horizon: int, known: tuple[str, ...], notes: list[str]
) -> tuple[InputSpec, ...]:
    """Choose the inputs, and scale them by the training part."""
    found: list[InputSpec] = []
    is_train = np.zeros(table.rows, bool)
    for first, last in part_rows(table.starts, table.rows, "train"):
        is_train[first:last] = True
    clock = _clock(table)
    candidates: list[InputSpec] = []
    for name in table.numbers:
        if name != target and name not in known and _counts_rows(table, name):
            notes.append(f"column {name!r} only counts the rows: dropped")
            continue
        if name in known and name == target:
            raise InputError(f"{table.path}: --known {name}: is the column to forecast")
        candidates.append(InputSpec(name, "number", name))
        if name in known:
            candidates.append(InputSpec(f"{name}, {horizon} rows ahead", "known", name))
    for name, category in table.categories.items():
        for kind in category.kinds:
            candidates.append(InputSpec(f"{name}={kind}", "category", name, kind))
            if name in known:
                told = f"{name}={kind}, {horizon} rows ahead"
                candidates.append(InputSpec(told, "known", name, kind))
    candidates += [InputSpec(name, "calendar") for name in clock]
    for given in candidates:
        values = _raw(table, given, horizon, clock)
        if given.name != target and np.ptp(values[is_train]) == 0:
            whole = "" if np.ptp(values) == 0 else " in the training part"
            notes.append(f"column {given.name!r} is constant{whole}: dropped")
            continue
        found.append(_scaled(table, given, horizon, clock, is_train))
    if clock:
        notes.append(f"inputs added from the dates: {', '.join(clock)}")
    return tuple(found)


def _scaled(
    table: Table,
    given: InputSpec,
    horizon: int,
    clock: Mapping[str, np.ndarray],
    is_train: np.ndarray,
) -> InputSpec:
    """Return the input with mean and deviation of its training part, per series."""
    values = _raw(table, given, horizon, clock)
    if len(table.starts) > 1 and given.source == "number":
        parts = [values[a:b] for a, b in part_rows(table.starts, table.rows, "train")]
    else:
        parts = [values[is_train]]
    moments = [_moments(part) for part in parts]
    return replace(given, mean=tuple(m for m, _ in moments), deviation=tuple(d for _, d in moments))


def _moments(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of values whose squares may overflow."""
    unit = float(np.abs(values).max()) or 1.0
    part = values / unit
    return float(part.mean()) * unit, (float(part.std()) or 1.0 / unit) * unit


def _raw(
    table: Table, given: InputSpec, horizon: int, clock: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Return the values of an input before they are scaled."""
    if given.source == "calendar":
        return clock[given.name]
    if given.kind or given.column in table.categories:
        category = table.categories[given.column]
        place = category.kinds.index(given.kind) if given.kind in category.kinds else -2
        values = (category.codes == place).astype(np.float64)
    else:
        values = table.numbers[given.column]
    if given.source == "known":
        values = _ahead(values, horizon, _series(table))
    return values


def _write(
    into: np.ndarray,
    table: Table,
    spec: ForecastSpec,
    given: InputSpec,
    clock: Mapping[str, np.ndarray],
) -> None:
    """Write an input, scaled as in training, per series if it was so there."""
    values = _raw(table, given, spec.horizon, clock)
    if len(given.mean) == 1:
        into[:] = _centred(values, given.mean[0], given.deviation[0])
        return
    moments = zip(given.mean, given.deviation, strict=True)
    known = dict(zip(spec.table.names, moments, strict=True))
    for name, (first, last) in zip(table.spec.names, _series(table), strict=True):
        mean, deviation = known.get(name) or _moments(values[first:last])
        into[first:last] = _centred(values[first:last], mean, deviation)


def _centred(values: np.ndarray, mean: float, deviation: float) -> np.ndarray:
    return (
        values / deviation - mean / deviation if deviation > 1e150 else (values - mean) / deviation
    )


def _ahead(values: np.ndarray, horizon: int, series: list[tuple[int, int]]) -> np.ndarray:
    """Shift values by ``horizon`` rows within each series; the last rows repeat the last value."""
    moved = values.copy()
    for first, last in series:
        moved[first : max(first, last - horizon)] = values[first + horizon : last]
        moved[max(first, last - horizon) : last] = values[last - 1]
    return moved


def _counts_rows(table: Table, name: str) -> bool:
    """Whether a column grows by a fixed step: a row counter or a clock, useless as an input."""
    first, last = _series(table)[0]
    steps = np.diff(table.numbers[name][first:last])
    if len(steps) == 0:
        return False
    return bool(np.allclose(steps, steps.mean(), rtol=1e-3, atol=0)) and steps.mean() != 0


def _pick_target(table: Table, varying: list[str], target: str | None) -> str:
    path, names = table.path, list(table.numbers)
    if not names:
        cells = [c for c in table.spec.columns if c.role == "dropped" and c.cell]
        told = "; ".join(f"column {c.name!r} line {c.line}: {c.cell!r}" for c in cells[:3])
        raise InputError(
            f"{path}: no column of numbers besides the date; expected at least one to forecast"
            + (f" (not readable as numbers: {told})" if told else "")
        )
    if target is None:
        if not varying:
            raise InputError(f"{path}: every numeric column is constant; nothing to forecast")
        # Nobody forecasts a clock that a file has beside its dates, or a count of its rows.
        likely = [n for n in varying if not (is_date_name(n) and _counts_rows(table, n))]
        return (likely or varying)[-1]
    if target not in names:
        column = table.spec.column(target)
        why = ""
        if column is not None and column.cell:
            why = f" (line {column.line}: {column.cell!r} is not a number)"
        raise InputError(
            f"{path}: no numeric column {target!r} to forecast{why}; there are: {', '.join(names)}"
            f"{did_you_mean(target, names) if column is None else ''}"
        )
    if target not in varying:
        raise InputError(
            f"{path}: column {target!r} is constant ({table.numbers[target][0]:g} in every"
            f" row), nothing to forecast; choose among: {', '.join(varying) or 'none'}"
        )
    return target


def _sizes(
    table: Table, target: str, window: int | None, horizon: int | None
) -> tuple[int, int, int | None]:
    """Return horizon, window and period: as given, or chosen from the dates and the rows."""
    path = table.path
    series = _series(table)
    first, last = max(series, key=lambda pair: pair[1] - pair[0])
    rows = last - first
    y = table.numbers[target][first:last]
    y = y / (float(np.abs(y).max()) or 1.0)
    train = y[: bounds(rows)["train"][1]]
    cycles = calendar_periods(table.spec.step)
    if horizon is None:
        horizon = max(1, min(next((c for c in cycles if c <= 48), 12), rows // 20))
    found = autocorrelation_period(train) if len(train) > 12 else None
    period = best_period(train, cycles + ([found] if found else []), horizon)
    if window is None:
        covering = period + horizon if period and period <= PERIOD_WINDOW else 0
        window = max(1, min(max(4 * horizon, 24, covering), len(train) // 3))
    if horizon < 1 or window < 1:
        raise InputError(f"window {window}, horizon {horizon}: both must be at least 1")
    parts = bounds(rows)
    shortest = min(b - a for a, b in parts.values())
    if len(train) < window + horizon or shortest < horizon:
        which = "rows" if len(series) == 1 else "rows of the longest series"
        raise InputError(
            f"{path}: {rows} {which} are too few for window {window} and horizon {horizon}: the"
            f" training part ({len(train)} rows) must hold one of each and the validation part"
            f" ({shortest} rows) one horizon; give more rows or smaller --window and --horizon"
        )
    return horizon, window, period


def _changes(train: np.ndarray, horizon: int) -> float:
    """Return the root mean square change over 1 to ``horizon`` rows in the training part."""
    squares = [
        np.mean((train[k:] - train[:-k]) ** 2) for k in range(1, min(horizon, len(train) - 1) + 1)
    ]
    return float(np.sqrt(np.mean(squares))) if squares else 0.0


def _has_drift(y: np.ndarray) -> bool:
    """Whether the target's level in the validation part is far from that of training.

    The test part is not used.
    """
    parts = bounds(len(y))
    train, val = y[: parts["train"][1]], y[slice(*parts["val"])]
    if len(train) == 0 or len(val) == 0:
        return False
    return bool(abs(val.mean() - train.mean()) > DRIFT * train.std())
