"""Forecast one column of a table at a horizon, from a window of all its columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor

from steadygrad.tasks.base import Batch, Batches, Better, Score, Sizes, Split, Task
from steadygrad.tasks.seasonal import seasonal

TRAIN, VAL = 7, 8  # tenths of the rows where the part ends; the test part is the newest rows
LEAST_SCALE = 0.1  # of `scale`: a window without any change must not silence the answer


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
    def sizes(self) -> Sizes:
        return Sizes(inputs=self.x.shape[1], outputs=self.horizon, steps=self.window)

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
