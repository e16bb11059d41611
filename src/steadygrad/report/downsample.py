"""Downsample curves, keeping extremes and non-finite points."""

import numpy as np
from numpy.typing import NDArray

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


def thinned(x: NDArray[np.float64], y: NDArray[np.float64], limit: int = 400) -> Curve:
    """Keep of each stretch of a curve its least, greatest and first non-finite point.

    A mean, or every n-th point, would hide the one step that exploded.

    Args:
        x: Ascending positions, ``(N,)``.
        y: Values, ``(N,)``; non-finite values are kept as faults.
        limit: About how many points to keep.
    """
    if len(x) <= limit:
        return x, y
    keep = {0, len(x) - 1}
    for part in np.array_split(np.arange(len(x)), max(1, limit // 3)):
        finite = part[np.isfinite(y[part])]
        if len(finite):
            keep |= {int(finite[y[finite].argmin()]), int(finite[y[finite].argmax()])}
        if len(finite) < len(part):
            keep.add(int(part[~np.isfinite(y[part])][0]))
    kept = np.array(sorted(keep))
    return x[kept], y[kept]


def spread(count: int, limit: int) -> NDArray[np.int64]:
    """Indices of at most ``limit`` of ``count`` entries, evenly spread, including both ends."""
    return np.unique(np.linspace(0, count - 1, min(count, max(limit, 1))).round().astype(np.int64))
