"""Fuzzy time series: convert numbers to memberships in overlapping sets, and back."""

from dataclasses import dataclass
from typing import Self, final

import torch
from torch import Tensor


@final
@dataclass(frozen=True)
class FuzzySets:
    r"""A universe of discourse cut into overlapping triangular sets.

    Set k has the membership

    .. math::
        \mu_k(v) = \max(0, 1 - |v - m_k| / w), \qquad m_k = m_0 + k w

    so that the memberships of two neighbours sum to one; beyond the ends the outermost set has
    membership one. `fuzzify` gives the input of an LSTM instead of the number, `subscript` the
    number of the strongest set (as in fuzzy time series), and `defuzzify` the mean of the centres
    weighted by memberships. The conversion is invertible between the first and the last centre; by
    subscript the error is at most w/2.

    This is a transform of the *data*, in front of any recurrent layer. The LSTM with fuzzy gates
    is the cell ``fuzzy-lstm``. Fit it on the training part alone.

    Args:
        first: :math:`m_0`, centre of the lowest set.
        width: w, distance of neighbouring centres.
        count: How many sets.

    References:
        Song and Chissom, *Fuzzy Time Series and Its Models*, 1993.
        Chen, *Forecasting Enrollments Based on Fuzzy Time Series*, 1996 (equal intervals over the
        range with a margin).

    Example:
        >>> sets = FuzzySets.fit(torch.tensor([0.0, 10.0]), count=3, margin=0.0)
        >>> sets.fuzzify(torch.tensor(2.5))
        tensor([0.5000, 0.5000, 0.0000])
    """

    first: float
    width: float
    count: int

    def __post_init__(self) -> None:
        if self.count < 2 or not self.width > 0:
            raise ValueError(
                "FuzzySets: expected at least 2 sets of a positive width, got "
                f"count={self.count}, width={self.width}"
            )

    @classmethod
    def fit(cls, series: Tensor, count: int = 7, margin: float = 0.1) -> Self:
        """Spread ``count`` sets over the range of ``series``, widened by ``margin`` of it.

        Raises:
            ValueError: The series is empty, constant or not finite.
        """
        values = series.double()
        if not values.numel() or not bool(values.isfinite().all()):
            raise ValueError("FuzzySets.fit: expected finite values, got none or some that are not")
        low, high = float(values.min()), float(values.max())
        if low == high:
            raise ValueError(f"FuzzySets.fit: the series is {low} throughout; nothing to partition")
        air = margin * (high - low)
        if count < 2:
            raise ValueError(f"FuzzySets.fit: expected at least 2 sets, got {count}")
        return cls(low - air, (high - low + 2 * air) / (count - 1), count)

    @property
    def centres(self) -> Tensor:
        """The centres, ``(count,)``."""
        return self.first + self.width * torch.arange(self.count, dtype=torch.float64)

    def fuzzify(self, values: Tensor) -> Tensor:
        """Memberships ``(..., count)`` of values ``(...)``; they sum to one."""
        centres = self.centres.to(values)
        held = values.clamp(centres[0], centres[-1])
        return (1 - (held[..., None] - centres).abs() / self.width).clamp_min(0)

    def subscript(self, values: Tensor) -> Tensor:
        """Number of the strongest set, ``(...)`` int64."""
        return self.fuzzify(values).argmax(-1)

    def defuzzify(self, memberships: Tensor) -> Tensor:
        """Values ``(...)`` of memberships ``(..., count)``, not all zero."""
        centres = self.centres.to(memberships)
        return (memberships * centres).sum(-1) / memberships.sum(-1)
