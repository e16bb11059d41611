r"""Linear predictions from the same window: the baseline that a network must beat.

Ridge regression with as many outputs as the horizon has rows, on windows :math:`z` of the inputs,

.. math::
    W = (Z^\top Z + \alpha n I)^{-1} Z^\top Y

with :math:`\alpha` chosen on the validation part; once on all inputs, and once on the past of the
target alone (an autoregression).

References:
    Hastie, Tibshirani and Friedman, *The Elements of Statistical Learning*, 2009, 3.4.
    Zeng et al., *Are Transformers Effective for Time Series Forecasting?*, 2023 (linear models on
    the window beat most networks).
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from steadygrad.tasks.base import Batch, Split

if TYPE_CHECKING:
    from steadygrad.tasks.forecast import Forecast

MOST_WINDOWS = 20_000  # windows of the training part, evenly spread
MOST_FEATURES = 1024  # most features; with more, the window of all inputs is shortened
ALPHAS = tuple(10.0**k for k in range(-6, 3))
AT_ONCE = 1024


def linear_answers(task: "Forecast", target: int) -> dict[str, Callable[[Batch], Tensor]]:
    """Fit the linear predictors to the training part.

    Args:
        task: Its windows are the inputs.
        target: Index of the input that is the past of the target.

    Returns:
        By name, a function from a batch to outputs as of a model; empty if the training part holds
        no complete window.
    """
    inputs = task.x.shape[1]
    rows = max(1, min(task.window, MOST_FEATURES // inputs))
    seen = "same window" if rows == task.window else f"last {rows} rows"
    looks: dict[str, Callable[[Tensor], Tensor]] = {}
    if inputs > 1:
        looks[f"ridge, {seen}"] = lambda x: x[-rows:]
    own = min(task.window, MOST_FEATURES)
    told = "same window" if own == task.window else f"last {own} rows"
    looks[f"ridge, {told}" + (", the target's past alone" if inputs > 1 else "")] = lambda x: x[
        -own:, :, target : target + 1
    ]
    found = {name: _fit(task, look) for name, look in looks.items()}
    return {name: answer for name, answer in found.items() if answer is not None}


def _fit(task: "Forecast", look: Callable[[Tensor], Tensor]) -> Callable[[Batch], Tensor] | None:
    """Fit one predictor; None without data."""
    gram = cross = None
    count = 0
    for z, change in _pairs(task, look, "train"):
        gram = z.T @ z if gram is None else gram + z.T @ z
        cross = z.T @ change if cross is None else cross + z.T @ change
        count += len(z)
    if gram is None or cross is None or count < 2:
        return None
    values, vectors = torch.linalg.eigh(gram / count)
    values = values.clamp(min=0)
    turned = vectors.T @ (cross / count)
    errors = torch.zeros(len(ALPHAS), dtype=torch.float64)
    # In the basis of the eigenvectors, each alpha costs one division.
    seen = 0
    for z, change in _pairs(task, look, "val"):
        turned_z = z @ vectors
        for i, alpha in enumerate(ALPHAS):
            predicted = turned_z @ (turned / (values + alpha)[:, None])
            errors[i] += (predicted - change).square().sum()
        seen += len(z)
    best = ALPHAS[int(errors.argmin())] if seen else 1e-2
    weight = vectors @ (turned / (values + best)[:, None])

    def answer(batch: Batch) -> Tensor:
        return _features(look(batch.inputs)) @ weight

    return answer


def _features(x: Tensor) -> Tensor:
    """Flatten a window to one row and append a one: ``(T, B, I)`` -> ``(B, T * I + 1)``."""
    flat = x.double().transpose(0, 1).flatten(1)
    return torch.cat([flat, flat.new_ones(len(flat), 1)], 1)


def _pairs(
    task: "Forecast", look: Callable[[Tensor], Tensor], split: Split
) -> Iterator[tuple[Tensor, Tensor]]:
    """Features times the window's scale, and changes, of the complete windows of a part."""
    for batch in task.spread(split, MOST_WINDOWS, AT_ONCE):
        change, s = batch.targets[:, :-1].double(), batch.targets[:, -1:].double()
        whole = change.isfinite().all(1)
        if whole.any():
            yield (_features(look(batch.inputs)) * s)[whole], change[whole]
