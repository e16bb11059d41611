"""Functions that ONNX lacks, by others that it has, without the loss of small results.

The exporter of torch writes ``expm1(x)`` as ``exp(x) - 1``, ``log1p(x)`` as ``log(1 + x)`` and
``log_sigmoid(x)`` as ``log(sigmoid(x))``: a small result loses its digits to the one beside it. Of
a decay near one, as that of ``rg-lru``, three digits were left.
"""

from typing import Any

import torch
from torch import Tensor


def decompositions() -> dict[Any, Any]:
    """What `torch.export.ExportedProgram.run_decompositions` puts in their places."""
    aten = torch.ops.aten
    return {
        aten.expm1.default: expm1,
        aten.log1p.default: log1p,
        aten.log_sigmoid.default: log_sigmoid,
        aten.log_sigmoid_forward.default: lambda x: (log_sigmoid(x), x.new_zeros(0)),
    }


def expm1(x: Tensor) -> Tensor:
    r""":math:`e^x - 1 = 2t / (1 - t)` with :math:`t = \tanh(x / 2)`; above one as it stands."""
    t = torch.tanh(x * 0.5)
    return torch.where(x < 1, 2 * t / (1 - t), torch.exp(x) - 1)


def log1p(x: Tensor) -> Tensor:
    r""":math:`\log(1 + x) = \log(u)\,x / (u - 1)`, with u the rounded sum: its error cancels."""
    u = 1 + x
    small = torch.where(u == 1, x, torch.log(u) * (x / (u - 1)))
    return torch.where(x.abs() < 0.5, small, torch.log(u))


def log_sigmoid(x: Tensor) -> Tensor:
    r""":math:`-\log(1 + e^{-x})`."""
    return -torch.relu(-x) - log1p(torch.exp(-x.abs()))
