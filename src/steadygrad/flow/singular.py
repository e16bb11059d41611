"""Singular values of matrices that may hold anything; torch's own raise where one is not finite."""

import torch
from torch import Tensor


def svdvals(matrices: Tensor) -> Tensor:
    """Singular values of ``(..., M, N)``, largest first; NaN for a matrix that is not finite."""
    finite = matrices.isfinite().all(-1).all(-1)
    values = torch.linalg.svdvals(matrices.masked_fill(~finite[..., None, None], 0.0))
    return values.masked_fill(~finite[..., None], torch.nan)
