r"""Estimate the lag that a task needs from its data alone.

A cheap probe, ridge regression, predicts the targets from more and more of the past. Blocks of lags
are added one after the other, each about as long as all before it; a block counts if it explains
more of held-out targets, by at least ``LEAST`` of their variance, than the same block of other
sequences in every one of ``SHUFFLES`` draws. The estimate is the far end of the last such block.

The probe sees the inputs, their products at one time step, and of few inputs the products of any
two steps; dependences on products of more of them (parity) it cannot find. It then abstains, as on
noise.

References:
    Hastie, Tibshirani and Friedman, *The Elements of Statistical Learning*, 2009, 3.4 (ridge
    regression).
    Breiman, *Random Forests*, 2001, section 10 (importance by permutation).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from steadygrad.tasks.base import Task
from steadygrad.tasks.lag_pairs import far_end_of_pairs

SAMPLES = 3000
SHUFFLES = 19
LEAST = 0.01  # of the variance of the answers
BINS = 8  # bins of a block: the lags of one bin are averaged
RIDGE = 1e-3
MOST_INPUTS = 64  # symbols that are distinguished
MOST_PRODUCTS = 4  # most inputs for which squares and products are added
MOST_FEATURES = 16  # inputs of one time step; of more, their leading principal components
MOST_LAGS = 1024
WORTH = 0.25  # share of the explained variance below which a block cannot make a fault

Array = NDArray[np.float64]


@final
@dataclass(frozen=True)
class LagEstimate:
    """The result of the probe.

    Attributes:
        lag: Estimated steps back that the targets need; 0: only the last step; None: no
            estimate.
        confidence: Confidence in the far end, 0 to 1, from the shuffled blocks.
        explained: Share of the answers' variance that the probe explains on held-out samples.
        gains: Per block its first and last lag, and what it adds to ``explained``; last, if it
            decides, the best product of two steps.
    """

    lag: int | None
    confidence: float
    explained: float
    gains: tuple[tuple[int, int, float], ...]

    @property
    def needed(self) -> int | None:
        """The lag at which a vanished gradient counts as a fault; None: none.

        Distant inputs may matter little, and a network may do well without them: this is the end of
        the last block that brings `WORTH` of the explained variance. The present step alone needs
        no memory.
        """
        if not self.lag:
            return None
        worth = [last for _, last, gain in self.gains if gain >= WORTH * self.explained]
        return min(self.lag, max(worth, default=0)) or None

    @property
    def text(self) -> str:
        """The estimate in one sentence."""
        if self.lag is None:
            return "no lag could be estimated from the data: give one"
        if self.lag == 0:
            return (
                "predictions need no past step but the last, as estimated from the data"
                f" (a linear probe explains {self.explained:.0%} of them)"
            )
        steps = "1 past step" if self.lag == 1 else f"{self.lag} past steps"
        return (
            f"predictions need about {steps}, as estimated from the data"
            f" (a linear probe explains {self.explained:.0%} of them)"
        )


NOTHING = LagEstimate(None, 0.0, 0.0, ())


def estimate_lag(data: Task | tuple[Tensor, Tensor], seed: int = 0) -> LagEstimate:
    """Estimate how many steps back in the inputs the targets depend on.

    Takes about a second; deterministic for the same data and seed.

    Args:
        data: A task, whose training part is used; or inputs ``(T, B, I)``, or codes of symbols
            ``(T, B)``, and targets: ``(B, ...)`` after the last step or ``(T, B, ...)`` at each;
            integers are classes, negative ones are ignored. A few thousand targets are enough; at
            least a hundred are needed.
        seed: Of the shuffles, and of the choice of targets if every step has one.

    Raises:
        ValueError: The shapes of inputs and targets do not match.

    Example:
        >>> from steadygrad.tasks import Adding
        >>> estimate_lag(Adding(40)).lag
        39
    """
    rng = np.random.default_rng(seed)
    if not isinstance(data, Task):
        x, y = _samples([_checked(*data)], _every_step(*data), rng)
        return _probe(x, y, rng)
    if data.is_image:
        return NOTHING  # the targets of a text line (CTC) are not aligned with time steps
    batches = data.batches("train", 500, (0, 0))
    pairs = ((batch.inputs, batch.targets) for batch in batches)
    x, y = _samples(pairs, data.every_step, rng)
    return _probe(x, y, rng)


def _checked(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    codes = not inputs.is_floating_point()
    at_end = targets.dim() >= 1 and len(targets) == inputs.shape[min(1, inputs.dim() - 1)]
    if inputs.dim() != 3 - codes or not (at_end or _every_step(inputs, targets)):
        raise ValueError(
            "estimate_lag: expected inputs (T, B, I), or codes (T, B), and targets (B, ...) or "
            f"(T, B, ...), got {tuple(inputs.shape)} and {tuple(targets.shape)}"
        )
    return inputs.detach().cpu(), targets.detach().cpu()


def _every_step(inputs: Tensor, targets: Tensor) -> bool:
    return targets.dim() >= 2 and targets.shape[:2] == inputs.shape[:2]


def _samples(
    batches: Iterable[tuple[Tensor, Tensor]], every_step: bool, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Samples ``(N, lags, F)``, the latest input first, and targets ``(N, K)``."""
    seen: list[NDArray[np.float32]] = []
    answers: list[Array] = []
    count = 0
    for given, wanted in batches:
        inputs = given.numpy()
        if not given.is_floating_point():
            inputs = np.eye(MOST_INPUTS, dtype=np.float32)[inputs.clip(max=MOST_INPUTS - 1)]
        inputs = inputs.astype(np.float32)
        targets = wanted.numpy()
        if every_step:
            half = len(inputs) // 2
            long = min(half, MOST_LAGS)
            ends = rng.integers(half, len(inputs), (max(1, 2000 // inputs.shape[1]),))
            seen += [inputs[end - long + 1 : end + 1][::-1].swapaxes(0, 1) for end in ends]
            answers += [_columns(targets[end]) for end in ends]
            count += len(ends) * inputs.shape[1]
        else:
            seen.append(inputs[::-1][:MOST_LAGS].swapaxes(0, 1))
            answers.append(_columns(targets))
            count += inputs.shape[1]
        if count >= SAMPLES:
            break
    lags = min(s.shape[1] for s in seen)
    x = _narrow(np.concatenate([s[:, :lags] for s in seen])[:SAMPLES])
    y = np.concatenate(answers)[:SAMPLES]
    known = np.isfinite(y).all(1)
    return x[known], y[known]


def _narrow(x: NDArray[np.float32]) -> Array:
    """The features of a step; if too many, their leading principal components."""
    if x.shape[2] <= MOST_FEATURES:
        return x.astype(np.float64)
    some = x.reshape(-1, x.shape[2])[:: max(1, x.shape[0] * x.shape[1] // 20_000)]
    mean = some.mean(0)
    _, _, axes = np.linalg.svd(some - mean, full_matrices=False)
    return ((x - mean) @ axes[:MOST_FEATURES].T).astype(np.float64)


def _columns(targets: NDArray[Any]) -> Array:
    if np.issubdtype(targets.dtype, np.integer):
        classes = targets.reshape(-1).clip(max=MOST_INPUTS - 1)
        return np.where(classes[:, None] < 0, np.nan, np.eye(MOST_INPUTS)[classes])
    return targets.reshape(len(targets), -1).astype(np.float64)


def _probe(x: Array, y: Array, rng: np.random.Generator) -> LagEstimate:
    steps, x = _standardised(x), _with_products(x)
    train = rng.permutation(len(x)) < len(x) * 2 // 3  # the rest is held out
    y = y - y[train].mean(0)
    scale = float((y[~train] ** 2).sum())
    if len(x) < 100 or not scale > 0:
        return NOTHING
    features = np.empty((len(x), 0))
    error = scale
    gains: list[tuple[int, int, float]] = []
    edges: tuple[int, int] | None = None
    for first, last in _blocks(x.shape[1]):
        block = _binned(x[:, first : last + 1])
        wider = np.hstack([features, block])
        now = _error(wider, y, train)
        gain = (error - now) / scale
        gains.append((first, last, gain))
        if gain > LEAST and gain > _by_chance(features, block, y, train, error, rng) / scale:
            edges = first, last
        # A block that does not count stays in: later blocks have to add to it, too.
        features, error = wider, min(error, now)
    far = None if edges is None else _refined(x, y, train, edges)
    explained = max(0.0, 1 - error / scale)
    pair = far_end_of_pairs(steps, y, train, rng)
    if pair is not None and pair[0] > (far or 0):
        far, explained = pair[0], max(explained, pair[1])
        gains = [*gains, (far, far, pair[1])]
    # none of SHUFFLES permutations was as good: p <= 1 / (1 + SHUFFLES)
    sure = 0.0 if far is None else 1 - 1 / (1 + SHUFFLES)
    return LagEstimate(far, sure, explained, tuple(gains))


def _blocks(lags: int) -> list[tuple[int, int]]:
    """First and last lag of blocks, each about as long as all before it."""
    found, first = [], 0
    while first < lags:
        last = min(max(first, 2 * first - 1), lags - 1)
        if lags - 1 - last < (last - first + 1) // 2:
            last = lags - 1  # merge a short last block
        found.append((first, last))
        first = last + 1
    return found


def _with_products(x: Array) -> Array:
    """Standardised features of each step; if few, also their squares and products."""
    count = x.shape[2]
    if count <= MOST_PRODUCTS:
        pairs = [x[..., i] * x[..., j] for i in range(count) for j in range(i, count)]
        x = np.concatenate([x, np.stack(pairs, -1)], -1)
    return _standardised(x)


def _standardised(x: Array) -> Array:
    spread = x.std((0, 1))
    return (x - x.mean((0, 1))) / np.where(spread > 0, spread, 1)


def _binned(block: Array) -> Array:
    bins = np.array_split(np.arange(block.shape[1]), min(BINS, block.shape[1]))
    return np.concatenate([block[:, b].mean(1) * np.sqrt(len(b)) for b in bins], 1)


def _error(x: Array, y: Array, train: NDArray[np.bool_]) -> float:
    """Squared error of the probe on held-out samples."""
    mean = x[train].mean(0)
    a, b = x[train] - mean, y[train]
    gram = a.T @ a + RIDGE * len(a) * np.eye(a.shape[1])
    weights = np.linalg.solve(gram, a.T @ b)
    return float(((y[~train] - (x[~train] - mean) @ weights) ** 2).sum())


def _by_chance(
    features: Array,
    block: Array,
    y: Array,
    train: NDArray[np.bool_],
    error: float,
    rng: np.random.Generator,
) -> float:
    """The largest gain of this block when taken from other sequences."""
    # Permuted rows keep the block's distribution, but not its relation to the targets.
    return max(
        error - _error(np.hstack([features, block[rng.permutation(len(block))]]), y, train)
        for _ in range(SHUFFLES)
    )


def _refined(x: Array, y: Array, train: NDArray[np.bool_], edges: tuple[int, int]) -> int:
    """The smallest lag within a block that keeps nearly all of its gain."""
    first, last = edges
    near = np.hstack([_binned(x[:, a : b + 1]) for a, b in _blocks(first)] or [x[:, :0, 0]])
    whole = _error(np.hstack([near, _binned(x[:, first : last + 1])]), y, train)
    without = _error(near, y, train) if near.shape[1] else float((y[~train] ** 2).sum())
    for cut in np.unique(np.linspace(first, last, 9).round().astype(int)):
        now = _error(np.hstack([near, _binned(x[:, first : cut + 1])]), y, train)
        if without - now >= 0.95 * (without - whole):
            return int(cut)
    return last
