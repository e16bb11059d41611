r"""Prediction intervals by split-conformal residuals.

With residuals :math:`r_i = |y_i - \hat y_i| / s_i` of :math:`n` windows not used in training,
sorted, the interval of level :math:`p` around a forecast is

.. math::
    \hat y \pm s \, r_{(\lceil (n + 1) p \rceil)}

for each row ahead separately. If new windows are exchangeable with those, it covers the truth with
probability :math:`p` at least, for any model. Series change, so the coverage on the test part is
measured and reported, too.

References:
    Papadopoulos et al., *Inductive Confidence Machines for Regression*, 2002.
    Lei et al., *Distribution-Free Predictive Inference for Regression*, 2018.
    Stankeviciute et al., *Conformal Time-Series Forecasting*, 2021 (a quantile for each row ahead).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steadygrad.errors import InputError
from steadygrad.plain import fit
from steadygrad.tasks.base import Split
from steadygrad.tasks.forecast import AT_ONCE, Forecast

GRID = 200  # levels that are stored: 1/200, 2/200, ...
LEVELS = (0.5, 0.8, 0.9, 0.95)  # levels whose coverage is measured
MOST = 4000  # windows of a part that are used
Predict = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Intervals:
    """Half widths of prediction intervals, in units of a window's scale.

    Args:
        windows: Windows of the validation part that they were computed from.
        widths: For each row ahead, one for each level ``k / GRID``; None: too few windows for it.
        coverage: Share of the truth of the test part within the interval, by level.
    """

    windows: int
    widths: tuple[tuple[float | None, ...], ...]
    coverage: Mapping[str, float]

    def width(self, level: float) -> Tensor:
        """Return the half width for each row ahead ``(K,)``; infinite where it is not known.

        Args:
            level: Share of the truth that should lie within, such as 0.8.

        Raises:
            InputError: ``level`` is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise InputError(f"level {level:g}: expected a share above 0 and below 1, such as 0.8")
        place = math.ceil(level * GRID - 1e-9) - 1  # the next level on the grid: never too narrow
        if place >= GRID - 1:
            return torch.full((len(self.widths),), math.inf, dtype=torch.float64)
        found = [row[place] for row in self.widths]
        return torch.tensor([math.inf if w is None else w for w in found], dtype=torch.float64)

    def plain(self) -> dict[str, Any]:
        """Return the value as JSON can hold it."""
        return asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Intervals":
        """Read back what `plain` returned."""
        return fit(cls, plain, "intervals")


@dataclass(frozen=True)
class Residuals:
    """Errors of windows of one part.

    Args:
        errors: Forecast minus truth over the window's scale, ``(N, K)``; NaN without a truth.
        origins: Last input row of each window, ``(N,)``.
    """

    errors: np.ndarray
    origins: np.ndarray


def residuals(task: Forecast, predict: Predict, split: Split, most: int = MOST) -> Residuals:
    """Return the errors of at most ``most`` windows of a part, evenly spread.

    Args:
        task: The data.
        predict: From windows ``(T, B, I)`` to the model's outputs ``(B, K)``.
        split: The part.
        most: Windows.
    """
    origins = task.origins(split)
    if len(origins) > most:
        origins = origins[np.linspace(0, len(origins) - 1, most).astype(np.int64)]
    errors: list[Tensor] = []
    for part in torch.from_numpy(origins).split(AT_ONCE):
        wanted = task.targets(part)
        change, s = wanted[:, :-1].double(), wanted[:, -1:].double()
        errors.append(predict(task.windows(part)).double() - change / s)
    return Residuals(torch.cat(errors).numpy(), origins)


def make_intervals(val: Residuals, test: Residuals) -> Intervals:
    """Compute the widths on one part, and measure the coverage on another."""
    rows: list[tuple[float | None, ...]] = []
    windows = len(val.errors)
    for column in np.abs(val.errors).T:
        known = np.sort(column[np.isfinite(column)])
        n = len(known)
        windows = min(windows, n)
        # conformal rank ceil((n + 1) p); beyond n no residual bounds the error
        ranks = [math.ceil((n + 1) * k / GRID) for k in range(1, GRID)]
        rows.append(tuple(float(f"{known[r - 1]:.7g}") if r <= n else None for r in ranks))
    found = Intervals(windows, tuple(rows), {})
    error = np.abs(test.errors)
    known = np.isfinite(error)
    coverage: dict[str, float] = {}
    for level in LEVELS:
        width = found.width(level).numpy()
        if known.any() and np.isfinite(width).all():
            coverage[f"{level:g}"] = float((error <= width)[known].mean())
    return replace(found, coverage=coverage)
