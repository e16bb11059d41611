"""Bootstrap the difference of two samples, to tell an improvement from chance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SAMPLES = 10_000
FEWEST = 3  # a single value has no spread: its interval would have no width


@dataclass(frozen=True)
class Difference:
    """The difference of two medians over seeds, and its confidence interval.

    Attributes:
        value: Median of the first minus median of the second.
        low, high: 95 % percentile interval of it under resampling.
        seeds: Values in the smaller sample.
    """

    value: float
    low: float
    high: float
    seeds: int

    @property
    def is_beyond_chance(self) -> bool:
        """Whether the interval excludes zero; never with fewer than three values."""
        return self.seeds >= FEWEST and (self.low > 0 or self.high < 0)


def difference(first: Sequence[float], second: Sequence[float], seed: int = 0) -> Difference:
    r"""Bootstrap the difference of the medians of two samples, resampled independently.

    With three seeds there are only ten different resamples of a sample: the interval is then
    coarse and wide; it is useful from five seeds on.

    Args:
        first: One value per seed; a NaN counts as the worst, :math:`+\infty`.
        second: The same of the other sample.
        seed: Of the resampling.

    Raises:
        ValueError: A sample is empty.

    References:
        Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13 (percentile
        interval).
    """
    if not len(first) or not len(second):
        raise ValueError("difference: expected at least one value in each sample, got none")
    generator = np.random.default_rng(seed)
    medians = []
    for sample in (first, second):
        values = np.asarray(sample, dtype=np.float64)
        values = np.where(np.isnan(values), np.inf, values)  # a failed run counts as the worst
        drawn = generator.integers(len(values), size=(SAMPLES, len(values)))
        medians.append((np.median(values), np.median(values[drawn], axis=1)))
    (a, many_a), (b, many_b) = medians
    with np.errstate(invalid="ignore"):
        apart, value = many_a - many_b, float(a - b)
    apart[np.isnan(apart)] = 0.0  # inf - inf: two failed runs do not differ
    value = 0.0 if np.isnan(value) else value
    low, high = np.quantile(apart, [0.025, 0.975], method="nearest")
    return Difference(float(value), float(low), float(high), min(len(first), len(second)))
