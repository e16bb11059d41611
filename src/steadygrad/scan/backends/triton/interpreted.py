"""The device's library for Triton's interpreter, which has none: torch's functions on the CPU."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.runtime.interpreter import TensorHandle

from steadygrad.scan.backends.triton.printer.operations import LIBRARY

OWN: dict[str, Callable[..., torch.Tensor]] = {
    "erfc": torch.special.erfc,
    "rint": torch.round,
    "pow": torch.pow,
}


def _by_torch(function: Callable[..., torch.Tensor]) -> Callable[..., Any]:
    def call(*operands: Any) -> Any:
        values = [torch.from_numpy(np.ascontiguousarray(o.handle.data)) for o in operands]
        result = function(*values).numpy()
        scalar = operands[0].type.scalar
        return tl.core.tensor(
            TensorHandle(result, scalar), tl.block_type(scalar, list(result.shape))
        )

    return call


libdevice = SimpleNamespace(
    **{name: _by_torch(OWN.get(name) or getattr(torch, name)) for name in (*LIBRARY, *OWN)}
)
"""By the names of ``triton.language.extra.libdevice``."""
