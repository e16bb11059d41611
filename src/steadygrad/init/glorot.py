"""Glorot blocks: input weights drawn for the fan of one gate, not of the stack."""

import torch
from torch import Generator, Tensor, nn

from steadygrad.init.blocks import matrix_blocks


@torch.no_grad()
def glorot_(
    weight: Tensor, blocks: int = 1, gain: float = 1.0, generator: Generator | None = None
) -> Tensor:
    r"""Draw each row block from Glorot's uniform distribution.

    .. math::
        W_k \sim U(-a, a), \qquad a = \text{gain} \sqrt{6 / (I + H)}

    The fan is that of one gate. Over the whole stack of an LSTM :math:`H` would count four times,
    and the weights would be too small.

    Args:
        weight: Stacked input weight, ``(G*H, I)``; changed in place.
        blocks: How many gates ``G`` are stacked in it.
        gain: Factor on the bound :math:`a`.
        generator: Source of randomness; torch's global one if not given.

    Returns:
        ``weight``.

    Raises:
        ValueError: ``weight`` is not a matrix, or its rows are not a multiple of ``blocks``.

    References:
        Glorot and Bengio, *Understanding the Difficulty of Training Deep Feedforward Neural
        Networks*, 2010, equation 16.
    """
    for block in matrix_blocks(weight, blocks):
        nn.init.xavier_uniform_(block, gain, generator=generator)
    return weight
