"""One axis of a drawing: the positions of values, and its ticks."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steadygrad.report.figures import plain, power

NARROWEST = 0.05  # decades: the labels of closer ticks would read the same


@dataclass(frozen=True)
class Axis:
    """Values from ``low`` to ``high``; if ``low`` is the greater, the axis is reversed.

    Args:
        low: Value at the start (left or bottom).
        high: Value at the end.
        is_log: The values are log10 of the numbers in the labels.
        powers: Label a log axis with powers of ten throughout.
    """

    low: float
    high: float
    is_log: bool = False
    powers: bool = False

    def at(self, value: float) -> float:
        """Position of ``value``, 0 at the start and 1 at the end."""
        return (value - self.low) / (self.high - self.low) + 0.0  # the sum turns -0.0 into 0.0

    def ticks(self) -> list[tuple[float, str]]:
        """Positions in [0, 1] and labels, four to eight of them where possible."""
        low, high = sorted((self.low, self.high))
        air = 1e-9 * (high - low)  # tolerance for rounding
        values = _decades(low, high, self.powers) if self.is_log else None
        if values is None and self.is_log:
            spread = _ones_twos_fives(low, high)
            spread = spread if len(spread) > 2 else _round_values(10**low, 10**high)
            values = [(math.log10(v), plain(v)) for v in spread if v > 0]
        if values is None:
            values = [(v, plain(v)) for v in _round_values(low, high)]
        return [(self.at(v), text) for v, text in values if low - air <= v <= high + air]


def around(values: NDArray[np.float64], *, is_log: bool = False, powers: bool = False) -> Axis:
    """Return an axis that holds all finite ``values``, with a small margin."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return Axis(-1.0 if is_log else 0.0, 1.0, is_log, powers)
    low, high = float(finite.min()), float(finite.max())
    if is_log and 0 < high - low < NARROWEST:
        low, high = (low + high - NARROWEST) / 2, (low + high + NARROWEST) / 2
    air = 0.05 * (high - low) or (0.5 if is_log else 0.5 * abs(low) or 0.5)
    return Axis(
        low - air if is_log or low < 0 or low - air > 0 else 0.0, high + air, is_log, powers
    )


def _decades(low: float, high: float, powers: bool) -> list[tuple[float, str]] | None:
    """Whole powers of ten; None if the axis is too short for them."""
    if high - low < 2 and not powers:
        return None
    stride = max(1, math.ceil((high - low) / 6))
    first = math.ceil(low / stride) * stride
    marks = range(first, math.floor(high) + 1, stride)
    as_powers = powers or any(abs(k) > 3 for k in marks)
    return [(k, power(k) if as_powers else plain(10.0**k)) for k in marks]


def _ones_twos_fives(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten between two log10 values."""
    exponents = range(math.floor(low), math.ceil(high) + 1)
    values = [float(f"{m}e{k}") for k in exponents for m in (1, 2, 5)]
    return [v for v in values if v > 0 and low <= math.log10(v) <= high]


def _round_values(low: float, high: float) -> list[float]:
    """About five round values between ``low`` and ``high``."""
    rough = (high - low) / 5
    if not rough > 0 or not math.isfinite(rough):
        return [low]
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [float(f"{k * step:.12g}") for k in range(first, math.floor(high / step + 1e-9) + 1)]
