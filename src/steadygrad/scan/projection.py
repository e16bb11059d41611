"""Project the input of every gate, ``W x + b_ih``, for features or codes of symbols."""

import torch
from torch import Tensor
from torch.nn import functional as F


def is_codes(x: Tensor) -> bool:
    """Whether an input is codes of symbols, whole numbers ``(N,)``, and not features ``(N, I)``."""
    return not (x.is_floating_point() or x.is_complex() or x.dtype == torch.bool)


def project(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``(N, I) -> (N, G*H)``; for a code the column of W that its one-hot features would select."""
    if not is_codes(x):
        return F.linear(x, weight, bias)
    picked = F.embedding(x, weight.t().contiguous())
    return picked if bias is None else picked + bias


def weight_gradient(grad: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Gradient of W from that of the projection, ``(N, G*H)``."""
    if not is_codes(x):
        return grad.t() @ x
    rows = grad.new_zeros(weight.shape[1], weight.shape[0])
    return rows.index_add_(0, x, grad).t()
