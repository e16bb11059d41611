"""Scaled identity blocks: every unit starts as a memory of itself."""

import torch
from torch import Tensor, nn

from steadygrad.init.blocks import matrix_blocks


@torch.no_grad()
def identity_(weight: Tensor, blocks: int = 1, scale: float = 1.0) -> Tensor:
    r"""Fill each row block with ``scale`` times the identity.

    .. math::
        R_k = \text{scale} \cdot I

    At scale one a linear recurrence copies its state, and the gradient with it; below one both
    decay as :math:`\text{scale}^k` over :math:`k` steps, at a chosen rate.

    Args:
        weight: Stacked recurrent weight, ``(G*H, H)``; changed in place.
        blocks: How many gates ``G`` are stacked in it.
        scale: The value on the diagonal of each block.

    Returns:
        ``weight``.

    Raises:
        ValueError: The blocks are not square.

    References:
        Le, Jaitly and Hinton, *A Simple Way to Initialize Recurrent Networks of Rectified Linear
        Units*, 2015, section 3.
    """
    cut = matrix_blocks(weight, blocks)
    rows, columns = cut[0].shape
    if rows != columns:
        raise ValueError(
            f"an identity needs square blocks; a weight of shape {tuple(weight.shape)} cut into "
            f"{blocks} has blocks of shape {(rows, columns)}"
        )
    for block in cut:
        nn.init.eye_(block).mul_(scale)
    return weight
