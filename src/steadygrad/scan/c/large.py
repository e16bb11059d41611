"""Matrix products over all time steps at once, by the fastest library inside torch.

`torch.mm` goes to MKL, which on processors not of its maker reaches two thirds of what oneDNN does
at these shapes. oneDNN is reached through the operator that torch's own compiler uses.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

WORTH = 1 << 21  # multiplications from which the operator's fixed cost (25 microseconds) is small


@lru_cache(maxsize=1)
def _operator() -> object | None:
    """Torch's oneDNN linear, or None where this build has none."""
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
        return None
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x weight^T + bias``: ``(N, k), (m, k) -> (N, m)``."""
    operator = _operator()
    size = x.shape[0] * x.shape[1] * weight.shape[0]
    fits = x.dtype == torch.float32 and x.device.type == "cpu" and size >= WORTH
    if operator is None or not fits:
        return F.linear(x, weight, bias)
    return operator(x, weight, bias, "none", [], "")  # type: ignore[operator]


def product(a: Tensor, b: Tensor) -> Tensor:
    """``a b``: ``(n, k), (k, m) -> (n, m)``."""
    return linear(a, b.t(), None)


def outer(a: Tensor, b: Tensor) -> Tensor:
    """``a^T b`` over many rows: ``(N, n), (N, m) -> (n, m)``."""
    return linear(b.t(), a.t(), None).t()
