"""Set the bias of one gate: its value at zero input and state."""

import torch
from torch import Tensor

from steadygrad.init.blocks import row_blocks


@torch.no_grad()
def gate_bias_(bias: Tensor, blocks: int, gate: int, value: float) -> Tensor:
    r"""Set the bias of one gate to ``value`` and leave the other gates alone.

    .. math::
        b_k = \text{value} \quad\Rightarrow\quad \text{gate}_k = \sigma(\text{value})
        \text{ at zero input and state}

    Args:
        bias: Stacked bias, ``(G*H,)``; changed in place.
        blocks: How many gates ``G`` are stacked in it.
        gate: Which of them, counted from 0.
        value: The bias of each of its ``H`` units.

    Returns:
        ``bias``.

    Raises:
        ValueError: The number of rows is not a multiple of ``blocks``.
        IndexError: There is no gate of that number.

    References:
        Gers, Schmidhuber and Cummins, *Learning to Forget*, 2000, section 3.
    """
    cut = row_blocks(bias, blocks)
    if not 0 <= gate < blocks:
        raise IndexError(f"no gate {gate} among {blocks}: expected 0 to {blocks - 1}")
    cut[gate].fill_(value)
    return bias
