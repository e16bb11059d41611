"""Compute percentiles of many short histories at once."""

import torch
from torch import Tensor


def percentile(rows: Tensor, percent: float) -> Tensor:
    """Percentile of each row of ``(K, H)``, interpolated linearly as numpy does: ``(K,)``.

    Selects from the nearer end of each row: a twentieth of the time of ``torch.quantile`` if the
    percentile is near an end. Infinite entries are allowed.
    """
    count = rows.shape[1]
    place = percent / 100 * (count - 1)
    low = min(int(place), count - 1)
    if low < count // 2:  # topk of the nearer end is cheaper than a sort
        end = rows.topk(min(low + 2, count), largest=False).values
        below, above = end[:, low], end[:, min(low + 1, count - 1)]
    else:
        end = rows.topk(count - low).values
        below, above = end[:, -1], end[:, max(count - low - 2, 0)]
    # Interpolating between two infinite neighbours would give inf - inf = NaN.
    return torch.where(below == above, below, torch.lerp(below, above, place - low))
