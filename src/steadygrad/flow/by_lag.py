"""How much of a gradient is left after so many steps: the curve, its horizon, its slope."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steadygrad.flow.quantity import Quantity, declare, smallest
from steadygrad.scan import Tap, log10_sum_squares

QUANTITIES: tuple[Quantity, ...] = (
    declare(
        Quantity(
            "log10_ratio", "log10", "Share of the gradient that is left after so many steps back."
        )
    ),
    declare(
        Quantity(
            "slope",
            "decades per step",
            "Powers of ten that each step back costs (0: nothing lost).",
            title="Slope",
            at_look=smallest("slope"),
        )
    ),
)


@dataclass(frozen=True)
class LagCurve:
    r"""Share of the gradient left after ``k`` steps back, as log10.

    .. math::
        r(k) = \log_{10} \frac{|\partial L / \partial s_{s-k}|}{|\partial L / \partial s_s|}

    from a source step ``s``, the last one at which the loss enters; of the states of a layer, or of
    its input.

    Attributes:
        log10_ratio: ``(K,)``, entry ``k`` is the lag. ``-inf`` where nothing is left, ``+inf``
            where the gradient is infinite, ``nan`` where it is NaN.
        sources: How many source steps this is the median of.
        mode: ``"total"``: the loss enters at one step, and the total gradient is measured.
            ``"per source"``: it enters at many, and each source is measured by itself.
    """

    log10_ratio: NDArray[np.float64]
    sources: int
    mode: str

    @property
    def max_lag(self) -> int:
        """The longest lag that was measured."""
        return len(self.log10_ratio) - 1

    @property
    def slope(self) -> float | None:
        """Decades per step: least-squares slope of the finite part; None below two lags."""
        lags = np.arange(len(self.log10_ratio))
        finite = np.isfinite(self.log10_ratio)
        if finite.sum() < 2:
            return None
        return float(np.polyfit(lags[finite], self.log10_ratio[finite], 1)[0])

    @property
    def mean_lag(self) -> float | None:
        r"""Effective memory: the mean lag at which the gradient lives, in steps.

        .. math:: \bar k = \frac{\sum_k k\, r(k)}{\sum_k r(k)}

        For a gradient that decays as :math:`a^k` this is :math:`a / (1 - a)`; for one that is
        carried on unchanged, half the longest lag. None if there is no lag, or no number.
        """
        ratio = self.log10_ratio
        if self.max_lag < 1 or np.isnan(ratio).any() or np.isposinf(ratio).any():
            return None
        share = 10.0 ** (ratio - ratio.max())  # the largest is 1: no overflow
        return float((np.arange(len(share)) * share).sum() / share.sum())

    def horizon(self, log10_threshold: float = -4.0) -> int | None:
        """The longest lag up to which the ratio never falls below the threshold.

        As in `kept`, the ratio is that to the largest so far. Equal to `max_lag` if it never does
        (the true horizon may lie beyond); None if there is no lag to measure, or the gradient is
        NaN.
        """
        if self.max_lag < 1 or np.isnan(self.log10_ratio).any():
            return None
        below = np.flatnonzero(_to_largest(self.log10_ratio) < log10_threshold)
        return int(below[0]) - 1 if len(below) else self.max_lag

    def at(self, lag: int) -> float:
        """Ratio at ``lag``, or at the longest lag that was measured if that is shorter.

        NaN if none was measured.
        """
        if self.max_lag < 0:
            return float("nan")
        return float(self.log10_ratio[min(lag, self.max_lag)])

    def kept(self, lag: int) -> float:
        r"""What is left at ``lag`` of the largest gradient up to there.

        .. math:: X(L) = r(L) - \max_{j \le L} r(j)

        A gradient that first grows and then fades has faded, though it may be no smaller than at
        its source. NaN if none was measured, or one is NaN.
        """
        if self.max_lag < 0:
            return float("nan")
        return float(_to_largest(self.log10_ratio)[min(lag, self.max_lag)])


def _to_largest(ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each entry to the largest up to it; what is infinite is not lost."""
    largest = np.maximum.accumulate(ratio)
    with np.errstate(invalid="ignore"):
        return np.where(np.isposinf(ratio), 0.0, ratio - largest)


def curve(tap: Tap, source: Tensor, sent: Tensor | None = None) -> NDArray[np.float64]:
    """Measure the ratio of all states together from a source step of each row.

    Args:
        tap: Norms that a backward loop saw.
        source: ``(B,)``, the source's time step of each row; -1 leaves a row out.
        sent: ``(B,)``, log10 of what the ratio is to; each row's own norm at its source if not
            given.

    Returns:
        ``(K,)``, log10 ratios by lag. At each lag the norm is over the rows that reach so far
        back, and is compared with the same rows' norm at their sources.
    """
    # What a step hands on is all its states: an LSTM may keep in c what h does not show.
    norms = log10_sum_squares(tap.log10_norm.movedim(0, -1))
    return curve_of(norms, tap.present, source, tap.reverse, sent)


def curve_of(
    norms: Tensor, present: Tensor, source: Tensor, reverse: bool, sent: Tensor | None = None
) -> NDArray[np.float64]:
    """As `curve`, of log10 norms ``(T, B)`` and which of them there are.

    Where nothing arrives in the first steps, as behind a delay, the ratio is to the first that
    does; nothing is lost before it. NaN where nothing arrives at all.
    """
    norms, present = norms.cpu(), present.cpu()
    source = source.cpu()
    steps = norms.shape[0]
    kept = (source >= 0).nonzero().flatten()
    if len(kept) == 0:
        return np.empty(0)
    first = torch.where(present, torch.arange(steps)[:, None], steps).amin(0)
    end = present.sum(0) - 1
    reach = (end - source if reverse else source - first)[kept]
    longest = int(reach.max())
    lags = torch.arange(longest + 1)
    index = (source[kept] + lags[:, None]) if reverse else (source[kept] - lags[:, None])
    valid = lags[:, None] <= reach
    values = norms[index.clamp(0, steps - 1), kept]
    there = log10_sum_squares(values.masked_fill(~valid, -torch.inf))
    arrives = (~torch.isneginf(there)).nonzero().flatten().tolist()
    at = arrives[0] if arrives else 0
    start = (values[at] if sent is None else sent.cpu()[kept]).expand_as(values)
    ratio = there - log10_sum_squares(start.masked_fill(~valid, -torch.inf))
    if sent is None:
        ratio[:at] = 0.0
    return ratio.numpy()


def median_curve(curves: list[NDArray[np.float64]], mode: str) -> LagCurve:
    """Combine the curves of several sources: the median at each lag that any reaches.

    NaN is a finding, not a gap: a lag at which any source is NaN is NaN.
    """
    curves = [c for c in curves if len(c)]
    if not curves:
        return LagCurve(np.empty(0), 0, mode)
    longest = max(map(len, curves))
    # The middle value itself, not the mean of two: -inf and a number have no mean.
    ratio = np.empty(longest)
    for lag in range(longest):
        there = np.sort([c[lag] for c in curves if len(c) > lag])
        ratio[lag] = np.nan if np.isnan(there).any() else there[(len(there) - 1) // 2]
    return LagCurve(ratio, len(curves), mode)
