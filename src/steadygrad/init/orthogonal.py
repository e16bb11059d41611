"""Orthogonal blocks: a linear recurrence that preserves the length of every gradient."""

import torch
from torch import Generator, Tensor, nn

from steadygrad.init.blocks import matrix_blocks


@torch.no_grad()
def orthogonal_(
    weight: Tensor, blocks: int = 1, gain: float = 1.0, generator: Generator | None = None
) -> Tensor:
    r"""Fill each row block with its own random orthogonal matrix times ``gain``.

    .. math::
        R_k R_k^\top = \text{gain}^2 \, I

    All singular values of a block are ``gain``. (An orthogonal *stacked* matrix would not do: its
    blocks would be orthogonal to each other, and none would preserve length over time.) A block
    that is not square is semi-orthogonal.

    Args:
        weight: Stacked recurrent weight, ``(G*H, N)``; changed in place.
        blocks: How many gates ``G`` are stacked in it.
        gain: Every singular value of each block.
        generator: Source of randomness; torch's global one if not given.

    Returns:
        ``weight``.

    Raises:
        ValueError: ``weight`` is not a matrix, or its rows are not a multiple of ``blocks``.

    References:
        Saxe, McClelland and Ganguli, *Exact Solutions to the Nonlinear Dynamics of Learning in
        Deep Linear Neural Networks*, 2014, section 3.
    """
    for block in matrix_blocks(weight, blocks):
        nn.init.orthogonal_(block, gain, generator=generator)
    return weight
