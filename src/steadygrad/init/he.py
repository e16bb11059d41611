"""He blocks: weights with which rectified units preserve the scale of their input."""

import torch
from torch import Generator, Tensor, nn

from steadygrad.init.blocks import matrix_blocks


@torch.no_grad()
def he_(weight: Tensor, blocks: int = 1, generator: Generator | None = None) -> Tensor:
    r"""Draw each row block from He's normal distribution.

    .. math::
        W_k \sim N(0, 2 / I)

    Args:
        weight: Stacked weight, ``(G*H, I)``; changed in place.
        blocks: How many gates ``G`` are stacked in it.
        generator: Source of randomness; torch's global one if not given.

    Returns:
        ``weight``.

    Raises:
        ValueError: ``weight`` is not a matrix, or its rows are not a multiple of ``blocks``.

    References:
        He, Zhang, Ren and Sun, *Delving Deep into Rectifiers*, 2015, equation 10.
    """
    for block in matrix_blocks(weight, blocks):
        nn.init.kaiming_normal_(block, nonlinearity="relu", generator=generator)
    return weight
