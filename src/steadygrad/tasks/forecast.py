"""Forecast one column of a table at a horizon, from a window of all its columns."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor

from steadygrad.tasks.base import (
    BEYOND,
    BLOCKS,
    Batch,
    Batches,
    Better,
    Margin,
    Score,
    Sizes,
    Split,
    Task,
)
from steadygrad.tasks.forecast_spec import ForecastSpec
from steadygrad.tasks.linear import linear_answers
from steadygrad.tasks.seasonal import seasonal

TRAIN, VAL = 7, 8  # ends of the parts in tenths of the rows; the test part holds the newest rows
MOST: Mapping[Split, int] = {"val": 20_000, "test": 100_000}  # windows that are scored
AT_ONCE = 4096  # windows scored together
LEAST_SCALE = 0.1  # least unit of a window, relative to `scale`: a constant window must not give 0


@final
@dataclass(frozen=True, eq=False)
class Forecast(Task):
    r"""Predict the next ``horizon`` values of ``target`` from the last ``window`` rows.

    All horizons at once from the last hidden state, as the change from the last seen value

    .. math::
        \hat y_{t+k} = y_t + s_t \, o_k(x_{t-T+1}, \ldots, x_t), \qquad k = 1, \ldots, K

    Columns are standardised with the training part's mean and deviation alone. If the target's
    level is stable, :math:`s_t = s`, the root mean square change in the training part.
    If it drifts between training and validation part, learnt levels do not transfer: each window is
    then given relative to its last row, and :math:`s_t` is the target's
    deviation within the window. An untrained network starts near the last-value answer.

    With several series in one table, each has its own parts, scaling and unit
    :math:`s_j`, and no window spans two of them.

    The rows are split in order of time: 70 % train, 10 % validation, 20 % test; every target lies
    within its own part. Targets missing in the file are neither learnt nor scored.

    Args:
        x: Standardised inputs, ``(rows, I)``.
        relative: Which inputs are given relative to the window's last row, ``(I,)``, 0 or 1.
        drifts: Whether the target's level drifts.
        y: The target in its own unit, gaps filled, ``(rows,)``.
        known: Whether each target was in the file, ``(rows,)``.
        window: Rows seen, ``T``.
        horizon: Values predicted, ``K``.
        scale: :math:`s`, in the target's unit.
        period: Season of the naive answer in rows, or None.
        target: Name of the predicted column.
        inputs: Names of the input columns, ``I`` of them.
        notes: How the data were prepared.
        origin: File name, rows and columns, for the record.
        starts: First row of each series.
        scales: Unit of each series, over ``scale``.
        spec: How the file was read; None for a task that was not read from one.
        dates: Of the rows, ``datetime64[us]``, or None.
        series: Names of the series, where there are several.

    References:
        Ben Taieb et al., *A Review and Comparison of Strategies for Multi-step Ahead Time Series
        Forecasting*, 2012 (the direct multi-output strategy used here).
        Hyndman and Athanasopoulos, *Forecasting: Principles and Practice*, 2021, 5.2 (naive and
        seasonal naive answers).
        Kim et al., *Reversible Instance Normalization for Accurate Time-Series Forecasting against
        Distribution Shift*, 2022 (a window's own scale; here with its last value for its mean).
        Hyndman and Koehler, *Another Look at Measures of Forecast Accuracy*, 2006 (MASE).
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
    starts: tuple[int, ...] = (0,)
    scales: tuple[float, ...] = (1.0,)
    spec: ForecastSpec | None = None
    dates: np.ndarray | None = None
    series: tuple[str, ...] = ()

    input_kind: ClassVar = "values"
    every_step: ClassVar = False
    better: ClassVar[Mapping[str, Better]] = {"RMSE": "lower", "MAE": "lower", "MASE": "lower"}

    @property
    def sizes(self) -> Sizes:
        return Sizes(inputs=self.x.shape[1], outputs=self.horizon, steps=self.window)

    def origins(self, split: Split) -> np.ndarray:
        """Return the last input row of every window whose targets lie in ``split``.

        At most `MOST` validation or test windows, evenly spread.
        """
        found = [
            np.arange(max(first, start + self.window) - 1, last - self.horizon)
            for start, (first, last) in zip(self.starts, self._parts(split), strict=True)
        ]
        origins = np.concatenate(found)
        most = MOST.get(split, len(origins))
        if len(origins) > most:
            origins = origins[np.linspace(0, len(origins) - 1, most).astype(np.int64)]
        return origins

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
        """Return squared error, absolute error and count, in units of ``scale``.

        Not in the target's unit, in which squares may overflow (1e200).
        """
        change, s = targets[:, :-1].double(), targets[:, -1:].double()
        known = change.isfinite()
        error = (outputs.double() * s - change)[known]
        return torch.stack([error.square().sum(), error.abs().sum(), known.sum().double()])

    def figures(self, total: Tensor) -> dict[str, float]:
        """Return RMSE and MAE in the target's unit, and MASE.

        MASE is the MAE over that of the seasonal (or last-value) answer one step ahead, in the
        training part.
        """
        squared, absolute, count = total.tolist()
        mae = absolute / max(count, 1) * self.scale
        return {
            "RMSE": (squared / max(count, 1)) ** 0.5 * self.scale,
            "MAE": mae,
            "MASE": mae / self._step_error,
        }

    def naive(self, split: Split) -> list[Score]:
        scores: list[Score] = []
        for name, (answer, learnt) in self._answers.items():
            total = torch.zeros(3, dtype=torch.float64)
            for batch, origins in self._chunks(split):
                total += self.tally(answer(batch, origins), batch.targets)
            figures = self.figures(total)
            scores += [
                Score(name, figures[u], u, way, learnt=learnt) for u, way in self.better.items()
            ]
        return scores

    def margin(self, predict: Callable[[Batch], Tensor]) -> Margin | None:
        """Compare with the best of the other answers, window by window of the test part.

        The difference of the squared errors is averaged over `BLOCKS` stretches of the test part,
        each long compared with the horizon, so that their spread estimates the noise.
        """
        ours: list[Tensor] = []
        others: dict[str, list[Tensor]] = {name: [] for name in self._answers}
        for batch, origins in self._chunks("test"):
            ours.append(self._window_errors(predict(batch), batch.targets))
            for name, (answer, _) in self._answers.items():
                others[name].append(self._window_errors(answer(batch, origins), batch.targets))
        mine = torch.cat(ours)
        theirs = {name: torch.cat(errors) for name, errors in others.items()}
        rival = min(theirs, key=lambda name: float(theirs[name].nanmean()))
        return Margin.of(
            rival,
            mine.numpy(),
            theirs[rival].numpy(),
            blocks=min(BLOCKS, len(mine) // (2 * self.horizon)),
            beyond=BEYOND,
        )

    def spread(self, split: Split, most: int, size: int) -> Batches:
        """Return batches of at most ``most`` windows of a part, evenly spread, in order."""
        origins = self.origins(split)
        if len(origins) > most:
            origins = origins[np.linspace(0, len(origins) - 1, most).astype(np.int64)]
        return _Windows(self, torch.from_numpy(origins), size)

    def _window_errors(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error of each window, in units of ``scale``; NaN without any target."""
        change, s = targets[:, :-1].double(), targets[:, -1:].double()
        return (outputs.double() * s - change).square().nanmean(1)

    def _chunks(self, split: Split) -> "_Chunks":
        return _Chunks(self, torch.from_numpy(self.origins(split)), AT_ONCE)

    @cached_property
    def _answers(self) -> dict[str, tuple[Callable[[Batch, np.ndarray], Tensor], bool]]:
        """The simple answers by name: a function from a batch to outputs; whether learnt."""
        y = self.y.double().numpy()

        def as_outputs(answer: np.ndarray, batch: Batch, origins: np.ndarray) -> Tensor:
            change = (answer - y[origins][:, None]) / self.scale
            return torch.from_numpy(change) / batch.targets[:, -1:]

        def last(batch: Batch, origins: np.ndarray) -> Tensor:
            return torch.zeros(len(origins), self.horizon, dtype=torch.float64)

        def season(batch: Batch, origins: np.ndarray) -> Tensor:
            assert self.period is not None
            return as_outputs(seasonal(y, origins, self.horizon, self.period), batch, origins)

        means = np.array([_mean(y[a:b][self.known.numpy()[a:b]]) for a, b in self._parts("train")])

        def mean(batch: Batch, origins: np.ndarray) -> Tensor:
            level = means[self.series_of(origins)][:, None]
            return as_outputs(np.repeat(level, self.horizon, 1), batch, origins)

        answers: dict[str, tuple[Callable[[Batch, np.ndarray], Tensor], bool]] = {
            "last value": (last, False)
        }
        if self.period is not None:
            answers[f"seasonal, {self.period} rows back"] = (season, False)
        answers["training mean"] = (mean, False)
        for name, answer in linear_answers(self, self.inputs.index(self.target)).items():
            answers[name] = ((lambda batch, _, answer=answer: answer(batch)), True)
        return answers

    @cached_property
    def _step_error(self) -> float:
        """Mean absolute error of the seasonal or last-value answer in the training part."""
        y = self.y.double().numpy()
        known = self.known.numpy()
        for lag in filter(None, (self.period, 1)):
            errors: list[np.ndarray] = []
            for a, b in self._parts("train"):
                both = known[a:b][lag:] & known[a:b][: b - a - lag]
                errors.append(np.abs(y[a:b][lag:] - y[a:b][: b - a - lag])[both])
            joined = np.concatenate(errors)
            if len(joined) and joined.mean() > 0:
                return float(joined.mean())
        return self.scale

    def series_of(self, origins: np.ndarray) -> np.ndarray:
        """Return the number of the series that each row belongs to."""
        return np.searchsorted(np.array(self.starts), origins, side="right") - 1

    def targets(self, origins: Tensor) -> Tensor:
        """Return ``(B, K + 1)``: the changes after each origin, and :math:`s_t`, over ``scale``.

        Changes to missing targets are NaN.
        """
        ahead = origins[:, None] + torch.arange(1, self.horizon + 1)
        change = (self.y[ahead] - self.y[origins][:, None]) / self.scale
        change = change.masked_fill(~self.known[ahead], torch.nan)
        return torch.cat([change, self.units(origins)], dim=1).float()

    def units(self, origins: Tensor) -> Tensor:
        """Return :math:`s_t` of each window over ``scale``, ``(B, 1)``."""
        s = torch.tensor(self.scales, dtype=self.y.dtype)[self.series_of(origins.numpy())][:, None]
        if self.drifts:
            seen = self.y[origins[:, None] + torch.arange(1 - self.window, 1)] / self.scale
            s = torch.maximum(seen.std(1, correction=0, keepdim=True), LEAST_SCALE * s)
        return s

    def windows(self, origins: Tensor) -> Tensor:
        """Return the inputs of the windows that end at these rows, ``(T, B, I)``."""
        x = self.x[origins + torch.arange(1 - self.window, 1)[:, None]]
        return x - x[-1] * self.relative

    def values(self, outputs: Tensor, origins: Tensor) -> Tensor:
        """Turn a model's outputs ``(B, K)`` into the target's own unit, in float64."""
        # in float32, as for the targets in training and scoring
        change = outputs.double() * self.units(origins).float().double()
        return self.y[origins][:, None] + change * self.scale

    def truth(self, origins: Tensor) -> Tensor:
        """Return the true values after these rows, ``(B, K)``; NaN where missing in the file."""
        ahead = origins[:, None] + torch.arange(1, self.horizon + 1)
        return self.y[ahead].masked_fill(~self.known[ahead], torch.nan)

    def data_spec(self) -> Mapping[str, Any] | None:
        return None if self.spec is None else {"kind": "forecast", **self.spec.plain()}

    def facts(self) -> dict[str, object]:
        splits: tuple[Split, ...] = ("train", "val", "test")
        spans = {f"{split} windows": len(self.origins(split)) for split in splits}
        return {
            **self.origin,
            "target": self.target,
            "inputs": list(self.inputs),
            "window": self.window,
            "horizon": self.horizon,
            "period": self.period,
            **spans,
            "notes": list(self.notes),
            **({} if self.spec is None else {"understood": self.spec.plain()}),
        }

    def _parts(self, split: Split) -> list[tuple[int, int]]:
        return part_rows(self.starts, len(self.y), split)


class _Chunks:
    """Batches with the origins of their windows."""

    def __init__(self, task: Forecast, origins: Tensor, size: int) -> None:
        self.batches, self.origins = _Windows(task, origins, size), origins
        self.size = size

    def __iter__(self) -> Iterator[tuple[Batch, np.ndarray]]:
        for index, batch in enumerate(self.batches):
            yield batch, self.origins[index * self.size : (index + 1) * self.size].numpy()


class _Windows(Batches):
    def __init__(self, task: Forecast, origins: Tensor, size: int) -> None:
        self.task, self.origins, self.size = task, origins, size

    def __len__(self) -> int:
        return -(-len(self.origins) // self.size)

    def __getitem__(self, index: int) -> Batch:
        origins = self.origins[index * self.size : (index + 1) * self.size]
        return Batch(self.task.windows(origins), self.task.targets(origins))


def bounds(rows: int) -> dict[Split, tuple[int, int]]:
    """Return first and one past the last row of each part, in order of time."""
    train, val = rows * TRAIN // 10, rows * VAL // 10
    return {"train": (0, train), "val": (train, val), "test": (val, rows)}


def part_rows(starts: tuple[int, ...], rows: int, split: Split) -> list[tuple[int, int]]:
    """Return first and one past the last row of a part of each series."""
    ends = (*starts[1:], rows)
    found: list[tuple[int, int]] = []
    for start, end in zip(starts, ends, strict=True):
        first, last = bounds(end - start)[split]
        found.append((start + first, start + last))
    return found


def _mean(values: np.ndarray) -> float:
    """Mean of values whose sum may overflow."""
    unit = float(np.abs(values).max(initial=0)) or 1.0
    return float((values / unit).mean()) * unit if len(values) else 0.0
