"""Forecast one column of a table at a horizon, from a window of all its columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor

from steadygrad.tasks.base import Batch, Batches, Better, InputError, Score, Split, Task
from steadygrad.tasks.calendar import calendar_inputs, calendar_periods, duration, spacing
from steadygrad.tasks.columns import Columns, drop_counters, read_columns
from steadygrad.tasks.seasonal import autocorrelation_period, best_period, seasonal
from steadygrad.tasks.table import read_table

TRAIN, VAL = 7, 8  # tenths of the rows where the part ends; the test part is the newest rows
DRIFT = 0.5  # standard deviations between the means of training and validation part
LEAST_SCALE = 0.1  # of `scale`: a window without any change must not silence the answer
PERIOD_WINDOW = 168  # a window covers the period only up to here: time steps cost time


@final
@dataclass(frozen=True, eq=False)
class Forecast(Task):
    r"""Predict the next ``horizon`` values of ``target`` from the last ``window`` rows.

    All horizons at once from the last hidden state, as the change from the last seen value

    .. math::
        \hat y_{t+k} = y_t + s_t \, o_k(x_{t-T+1}, \ldots, x_t), \qquad k = 1, \ldots, K

    Columns are standardised with the training part's mean and deviation, and nothing else. Where
    the target's level holds, :math:`s_t = s`, the root mean square change in the training part.
    Where it drifts between training and validation part, what was learnt of levels is of no use
    later: each window is then given relative to its last row, and :math:`s_t` is the target's
    deviation within the window. An untrained network starts near the last-value answer.

    The rows are split in order of time: 70 % train, 10 % validation, 20 % test; every target lies
    within its own part. Targets that are missing in the file are neither learnt nor scored.

    Args:
        x: Standardised inputs, ``(rows, I)``.
        relative: Which inputs are given relative to the window's last row, ``(I,)``, 0 or 1.
        drifts: Whether the target's level drifts.
        y: The target in its own unit, gaps filled, ``(rows,)``.
        known: Which targets were in the file, ``(rows,)``.
        window: Rows seen, ``T``.
        horizon: Values predicted, ``K``.
        scale: :math:`s`, in the target's unit.
        period: Season of the naive answer in rows, or None.
        target: Name of the predicted column.
        inputs: Names of the input columns, ``I`` of them.
        notes: What was done to the data.
        origin: File name, rows and columns, for the record.

    References:
        Ben Taieb et al., *A Review and Comparison of Strategies for Multi-step Ahead Time Series
        Forecasting*, 2012 (the direct multi-output strategy used here).
        Hyndman and Athanasopoulos, *Forecasting: Principles and Practice*, 2021, 5.2 (naive and
        seasonal naive answers).
        Kim et al., *Reversible Instance Normalization for Accurate Time-Series Forecasting against
        Distribution Shift*, 2022 (a window's own scale; here with its last value for its mean).
    """

    x: Tensor
    relative: Tensor
    drifts: bool
    y: Tensor
    known: Tensor
    window: int
    horizon: int
    scale: float
    period: int | None
    target: str
    inputs: tuple[str, ...]
    notes: tuple[str, ...]
    origin: dict[str, object]

    input_kind: ClassVar = "values"
    every_step: ClassVar = False
    better: ClassVar[Mapping[str, Better]] = {"RMSE": "lower", "MAE": "lower"}

    @property
    def input_size(self) -> int:
        return self.x.shape[1]

    @property
    def output_size(self) -> int:
        return self.horizon

    @property
    def time_steps(self) -> int:
        return self.window

    def origins(self, split: Split) -> np.ndarray:
        """Return the last seen row of every window whose targets lie in ``split``."""
        first, last = self._bounds()[split]
        return np.arange(max(first, self.window) - 1, last - self.horizon)

    def batches(self, split: Split, size: int, shuffle: tuple[int, int] | None = None) -> Batches:
        origins = self.origins(split)
        if shuffle is not None:
            origins = np.random.default_rng(shuffle).permutation(origins)
        return _Windows(self, torch.from_numpy(origins), size)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error of the change, in units of ``scale``, over the known targets."""
        change, s = targets[:, :-1], targets[:, -1:]
        known = change.isfinite()
        error = (outputs * s - change.nan_to_num()) * known
        return error.square().sum() / known.sum().clamp(min=1)

    def tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return squared error, absolute error and count, in the target's unit."""
        change, s = targets[:, :-1].double(), targets[:, -1:].double()
        known = change.isfinite()
        error = (outputs.double() * s - change)[known] * self.scale
        return torch.stack([error.square().sum(), error.abs().sum(), known.sum().double()])

    def figures(self, total: Tensor) -> dict[str, float]:
        squared, absolute, count = total.tolist()
        return {"RMSE": (squared / max(count, 1)) ** 0.5, "MAE": absolute / max(count, 1)}

    def naive(self, split: Split) -> list[Score]:
        origins = self.origins(split)
        y = self.y.double().numpy()
        last = np.repeat(y[origins][:, None], self.horizon, axis=1)
        answers = {"last value": last}
        if self.period is not None:
            name = f"seasonal, {self.period} rows back"
            answers[name] = seasonal(y, origins, self.horizon, self.period)
        rows = self._bounds()["train"][1]
        answers["training mean"] = np.full_like(last, y[:rows][self.known[:rows].numpy()].mean())
        targets = self.targets(torch.from_numpy(origins))
        scores: list[Score] = []
        for name, answer in answers.items():
            outputs = torch.from_numpy((answer - last) / self.scale) / targets[:, -1:]
            figures = self.figures(self.tally(outputs, targets))
            scores += [Score(name, figures[u], u, way) for u, way in self.better.items()]
        return scores

    def targets(self, origins: Tensor) -> Tensor:
        """Return ``(B, K + 1)``: the changes after each origin, and :math:`s_t`, over ``scale``.

        A change that the file does not have is NaN.
        """
        ahead = origins[:, None] + torch.arange(1, self.horizon + 1)
        change = (self.y[ahead] - self.y[origins][:, None]) / self.scale
        change = change.masked_fill(~self.known[ahead], torch.nan)
        s = torch.ones(len(origins), 1, dtype=change.dtype)
        if self.drifts:
            seen = self.y[origins[:, None] + torch.arange(1 - self.window, 1)]
            s = (seen.std(1, correction=0, keepdim=True) / self.scale).clamp(min=LEAST_SCALE)
        return torch.cat([change, s], dim=1).float()

    def facts(self) -> dict[str, object]:
        spans = {f"{split} windows": len(self.origins(split)) for split in self._bounds()}
        return {
            **self.origin,
            "target": self.target,
            "inputs": list(self.inputs),
            "window": self.window,
            "horizon": self.horizon,
            "period": self.period,
            **spans,
            "notes": list(self.notes),
        }

    def _bounds(self) -> dict[Split, tuple[int, int]]:
        return bounds(len(self.y))


class _Windows(Batches):
    def __init__(self, task: Forecast, origins: Tensor, size: int) -> None:
        self.task, self.origins, self.size = task, origins, size

    def __len__(self) -> int:
        return -(-len(self.origins) // self.size)

    def __getitem__(self, index: int) -> Batch:
        origins = self.origins[index * self.size : (index + 1) * self.size]
        back = torch.arange(1 - self.task.window, 1)
        x = self.task.x[origins + back[:, None]]
        return Batch(x - x[-1] * self.task.relative, self.task.targets(origins))


def bounds(rows: int) -> dict[Split, tuple[int, int]]:
    """Return first and one past the last row of each part, in order of time."""
    train, val = rows * TRAIN // 10, rows * VAL // 10
    return {"train": (0, train), "val": (train, val), "test": (val, rows)}


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
    table = read_table(path)
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
