"""Rotation blocks: an orthogonal matrix whose eigenvalues lie all around the unit circle."""

import math

import torch
from torch import Generator, Tensor

from steadygrad.init.blocks import matrix_blocks


@torch.no_grad()
def rotation_(
    weight: Tensor, blocks: int = 1, angle: float = math.pi, generator: Generator | None = None
) -> Tensor:
    r"""Fill each row block with rotations of pairs of units.

    .. math::
        R_k = \operatorname{blockdiag}_j \begin{pmatrix} \cos\theta_j & -\sin\theta_j \\
        \sin\theta_j & \cos\theta_j \end{pmatrix}, \qquad \theta_j \sim U(-\text{angle},
        \text{angle})

    the real form of a diagonal unitary matrix :math:`\operatorname{diag}(e^{i\theta_j})`. A pair
    is a clock of period :math:`2\pi/\theta_j`: many of them distinguish many delays. At angle 0 it
    is the identity. With an odd size the last unit keeps its value.

    Args:
        weight: Stacked recurrent weight, ``(G*H, H)``; changed in place.
        blocks: How many gates ``G`` are stacked in it.
        angle: The largest rotation, in radians.
        generator: Source of randomness; torch's global one if not given.

    Returns:
        ``weight``.

    Raises:
        ValueError: The blocks are not square.

    References:
        Arjovsky, Shah and Bengio, *Unitary Evolution Recurrent Neural Networks*, 2016, section 4
        (the diagonal factor of a unitary matrix, angles from U(-π, π)).
    """
    for block in matrix_blocks(weight, blocks):
        rows, columns = block.shape
        if rows != columns:
            raise ValueError(f"rotations need square blocks, got {(rows, columns)}")
        theta = torch.empty(rows // 2).uniform_(-angle, angle, generator=generator)
        cos, sin = theta.cos().to(block), theta.sin().to(block)
        even, odd = torch.arange(0, rows - 1, 2), torch.arange(1, rows, 2)
        block.zero_()
        block[even, even], block[even, odd] = cos, -sin
        block[odd, even], block[odd, odd] = sin, cos
        if rows % 2:
            block[-1, -1] = 1.0
    return weight
