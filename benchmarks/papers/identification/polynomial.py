"""Polynomial NARX by least squares, its lags and degree chosen by simulation; degree 1 is ARX."""

from dataclasses import dataclass
from itertools import combinations_with_replacement, product
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.papers.harness import Settings
from benchmarks.papers.identification.protocol import Simulate, rmse
from steadygrad.tasks.system_id import Record

Floats = NDArray[np.float64]
LARGEST = 1e3  # standard deviations; a simulation beyond diverges


@final
@dataclass(frozen=True)
class Polynomial:
    """A polynomial of ``u_t ... u_{t-inputs}`` and ``y_{t-1} ... y_{t-outputs}``.

    Args:
        inputs: Longest delay of the input.
        outputs: Longest delay of the output.
        degree: Of the polynomial.
        products: Whether it has products of different variables, or powers of each alone.
    """

    inputs: int
    outputs: int
    degree: int
    products: bool = False

    @property
    def longest(self) -> int:
        """Steps before the first prediction."""
        return max(self.inputs, self.outputs)

    def terms(self, delayed: Floats) -> Floats:
        """Monomials ``(N, terms)`` of delayed values ``(N, variables)``, the constant first."""
        one = np.ones((len(delayed), 1))
        if not self.products:
            return np.concatenate([one, *(delayed**k for k in range(1, self.degree + 1))], 1)
        with_one = np.concatenate([one, delayed], 1)
        factors = range(with_one.shape[1])
        found = with_one[:, list(combinations_with_replacement(factors, self.degree))]
        return found.prod(2)

    def fit(self, u: Floats, y: Floats) -> Floats:
        """Weights of the terms, one step ahead."""
        at, steps = self.longest, len(y)
        columns = [u[at - k : steps - k] for k in range(self.inputs + 1)]
        columns += [y[at - k : steps - k] for k in range(1, self.outputs + 1)]
        found = np.linalg.lstsq(self.terms(np.stack(columns, 1)), y[at:], rcond=None)[0]
        return np.asarray(found, np.float64)

    def run(self, weights: Floats, u: Floats, begun: Floats) -> Floats:
        """Go on from the true outputs ``begun`` over all of ``u``, on its own outputs."""
        found = np.concatenate([begun, np.full(len(u) - len(begun), np.nan)])
        for t in range(len(begun), len(u)):
            own = found[t - self.outputs : t][::-1]
            delayed = np.concatenate([u[t - self.inputs : t + 1][::-1], own])
            found[t] = (self.terms(delayed[None]) @ weights)[0]
            if not abs(found[t]) < LARGEST:
                break
        return found[len(begun) :]


def fit(train: Record, val: Record, settings: Settings) -> tuple[Simulate, float]:
    """Least squares for each pair of longest delays, degree and form; the best is kept.

    The best in simulation of the validation part; or with ``by_aic``, as published, by Akaike's
    criterion there, the delays first, for degree 1, and the degree then.

    Settings: ``input_delays``, ``output_delays``, ``degrees``, ``products``, what to try of each.
    """
    delays = [settings[k] for k in ("input_delays", "output_delays")]
    shapes = [settings[k] for k in ("degrees", "products")]
    if not settings.get("by_aic"):
        sizes = [Polynomial(*size) for size in product(*delays, *shapes)]
        return min((_tried(size, train, val, settings) for size in sizes), key=lambda t: t[1])[:2]
    lines = [_tried(Polynomial(*d), train, val, settings) for d in product(*delays, [1])]
    best = min(lines, key=lambda t: t[2])[3]
    sizes = [Polynomial(best.inputs, best.outputs, d, products) for d, products in product(*shapes)]
    return min((_tried(size, train, val, settings) for size in sizes), key=lambda t: t[2])[:2]


def _tried(
    model: Polynomial, train: Record, val: Record, settings: Settings
) -> tuple[Simulate, float, float, Polynomial]:
    """A fitted model, its error on the validation part, and Akaike's criterion there."""
    weights = model.fit(*(series.double().numpy().ravel() for series in train))
    simulate, begin = simulator(model, weights), settings["begin"]
    error = rmse(simulate, val, begin)
    return simulate, error, akaike(error, len(val[1]) - begin, len(weights)), model


def akaike(error: float, count: int, weights: int) -> float:
    """``2 k + N log(N e^2 / (N - k))``, the form of the published code; infinite if too few."""
    if not 0 < error < np.inf or count <= weights:
        return float("inf")
    return float(2 * weights + count * np.log(count * error**2 / (count - weights)))


def simulator(model: Polynomial, weights: Floats) -> Simulate:
    """The model's free run as `Simulate`."""

    def simulate(u: Tensor, begun: Tensor) -> Tensor:
        found = model.run(weights, u.double().numpy().ravel(), begun.double().numpy().ravel())
        return torch.from_numpy(found)[:, None, None]

    return simulate
