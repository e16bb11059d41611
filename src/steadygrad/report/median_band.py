"""Summarise several curves, such as those of the seeds, as a median with a band."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from steadygrad.report.plot import Line

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


def spread_line(name: str, curves: Sequence[Curve], style: str, *, holds: bool = True) -> Line:
    """The median of curves at all their positions, with a band from lowest to highest.

    Between its positions a curve keeps its last value. A single curve has no band.

    Args:
        name: Label in the key.
        curves: Ascending positions and values of each.
        style: One of `steadygrad.report.line_styles.STYLES`.
        holds: Whether a curve that has ended continues with its last value, instead of no longer
            counting.
    """
    x = np.unique(np.concatenate([a for a, _ in curves] or [np.zeros(0)]))
    held = np.full((len(curves), len(x)), np.nan)
    for row, (at, values) in zip(held, curves, strict=True):
        if not len(at):
            continue
        place = np.searchsorted(at, x, side="right") - 1
        there = (place >= 0) & (holds | (x <= at[-1]))
        row[there] = values[place[there]]
    if len(curves) < 2:
        return Line(name, x, held[0] if len(held) else x, style)
    counted = ~np.isnan(held).all(axis=0)
    middle, low, high = (np.full(len(x), np.nan) for _ in range(3))
    with np.errstate(invalid="ignore"):  # NumPy warns about infinities of both signs
        middle[counted] = np.nanmedian(held[:, counted], axis=0)
        low[counted] = np.nanmin(held[:, counted], axis=0)
        high[counted] = np.nanmax(held[:, counted], axis=0)
    return Line(name, x, middle, style, (low, high))
