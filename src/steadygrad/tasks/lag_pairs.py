r"""Find dependences on the product of two time steps, as in the exclusive or of two bits.

.. math::
    C_{ij} = \operatorname{corr}(x_i x_j, y), \qquad i, j \text{ over lags and features}

One matrix product computes all pairs. The best pair on half of the samples must explain ``LEAST``
of the targets' variance on the other half, and more than the best pair for targets of other
sequences.
"""

import numpy as np
from numpy.typing import NDArray

LEAST = 0.05
SHUFFLES = 19
MOST = 400  # most lags times features

Array = NDArray[np.float64]


def far_end_of_pairs(
    x: Array, y: Array, train: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[int, float] | None:
    """The farther lag of the best pair, and the share of the variance that it explains.

    Args:
        x: ``(N, lags, F)``, standardised.
        y: ``(N, K)``, centred; the direction in which it varies most is used.
        train: ``(N,)``, the samples that choose the pair.
        rng: For the shuffles.
    """
    flat = x.reshape(len(x), -1)
    if flat.shape[1] > MOST or not np.any(y):
        return None
    answer = y @ np.linalg.svd(y, full_matrices=False)[2][0]
    a, b = flat[train], answer[train]
    best = _correlations(a, b)
    i, j = np.unravel_index(np.argmax(best), best.shape)
    held, wanted = flat[~train][:, i] * flat[~train][:, j], answer[~train]
    if held.std() == 0 or wanted.std() == 0:
        return None
    share = float(np.corrcoef(held, wanted)[0, 1] ** 2)
    if share < LEAST:
        return None
    by_chance = max(_correlations(a, b[rng.permutation(len(b))]).max() for _ in range(SHUFFLES))
    if best[i, j] <= by_chance:
        return None
    return int(max(i, j)) // x.shape[2], share


def _correlations(a: Array, b: Array) -> Array:
    """Absolute correlation of products of two columns of different steps with ``b``."""
    b = (b - b.mean()) / max(float(b.std()), 1e-12)
    mean, square = a.T @ a / len(a), (a**2).T @ a**2 / len(a)
    spread = np.sqrt(np.maximum(square - mean**2, 1e-12))
    found = np.abs(a.T @ (a * b[:, None])) / len(a) / spread
    found[spread < 1e-5] = 0
    return found
