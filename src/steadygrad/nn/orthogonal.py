"""Recurrent matrices that stay orthogonal while they learn, in any layer."""

from typing import Literal, final

import torch
from torch import Tensor, nn

from steadygrad.cells.exprnn import skew
from steadygrad.cells.scornn import cayley
from steadygrad.nn.parametrised import held_by, parametrise_

MAPS = {
    "matrix_exp": torch.matrix_exp,
    # Halved, and turned, so that all maps begin as I + A: one learning rate fits all.
    "cayley": lambda a: cayley(a / -2),
}


def nearest(blocks: Tensor) -> Tensor:
    """The orthogonal matrices nearest to ``blocks`` in the Frobenius norm: their polar factors."""
    u, _, v = torch.linalg.svd(blocks.double() if blocks.device.type != "mps" else blocks)
    return (u @ v).to(blocks.dtype)


@final
class Orthogonal(nn.Module):
    r"""Parametrisation of a stacked weight by orthogonal blocks, :math:`R_k = B_k \, \phi(A_k)`.

    :math:`A_k` is the skew matrix of the strict lower triangle of what is stored, ``(G, H, H)``,
    :math:`\phi` the map, and :math:`B_k` a fixed orthogonal base, at first the orthogonal matrix
    nearest to the weight that was there. Assigning to the weight moves the base.

    torch's own ``parametrizations.orthogonal`` takes a whole weight, and would make a stack of
    gates orthogonal as one tall matrix, which means nothing in time; for a single block the two
    agree.

    Args:
        weight: Stacked recurrent weight ``(G*H, H)``.
        map: ``"matrix_exp"`` or ``"cayley"``.
    """

    base: Tensor

    def __init__(self, weight: Tensor, map: str) -> None:
        super().__init__()
        self.map = map
        size = weight.shape[1]
        self.register_buffer("base", weight.new_empty(len(weight) // size, size, size))

    def forward(self, stored: Tensor) -> Tensor:
        """``(G, H, H) -> (G*H, H)``."""
        turned = MAPS[self.map](skew(stored))
        return (self.base.to(turned.dtype) @ turned).to(stored.dtype).flatten(0, 1)

    @torch.no_grad()
    def right_inverse(self, weight: Tensor) -> Tensor:
        """Take the orthogonal blocks nearest to ``weight`` as base, and start from there."""
        self.base.copy_(nearest(weight.view_as(self.base)))
        return torch.zeros_like(self.base)

    def extra_repr(self) -> str:
        """The options."""
        return f"blocks={len(self.base)}, map={self.map!r}"


def orthogonal_(layer: nn.Module, map: Literal["matrix_exp", "cayley"] = "matrix_exp") -> nn.Module:
    r"""Keep every recurrent gate block of ``layer`` orthogonal through its whole training.

    .. math::
        R_k = B_k \, e^{A_k} \quad\text{or}\quad R_k = B_k (I - A_k/2)^{-1} (I + A_k/2),
        \qquad A_k^\top = -A_k

    :math:`R_k^\top \delta` has the length of :math:`\delta` after every step of any optimiser:
    what a gradient loses in time, it loses in the nonlinearities. Each block keeps the sign of
    its determinant. It starts at the orthogonal matrix nearest to the weights that are there.

    Give the stored skew matrices (``layer.parametrizations.weight_hh_l0.original``) a smaller
    learning rate, a tenth as a rule, and no weight decay, which would draw them to the base. As
    they grow large the map bends: `rebase_` from time to time, or never.

    Args:
        layer: One of our layers, or a `torch.nn.RNN`, `LSTM`, `GRU` or cell; all its layers and
            directions are treated, in place.
        map: :math:`e^A`, or the Cayley transform, cheaper and without the eigenvalue -1.

    Returns:
        ``layer``; `free_` undoes it.

    Raises:
        TypeError: It is no recurrent layer.
        ValueError: Its blocks are not square, or its matrix has a form already; no such map.

    References:
        Lezcano-Casado and Martínez-Rubio, *Cheap Orthogonal Constraints in Neural Networks*, 2019.
        Lezcano-Casado, *Trivializations for Gradient-Based Optimization on Manifolds*, 2019
        (the base).
    """
    if map not in MAPS:
        raise ValueError(f"no map {map!r}; there are: {', '.join(MAPS)}")
    parametrise_(layer, lambda weight: Orthogonal(weight, map))
    return layer


@torch.no_grad()
def rebase_(layer: nn.Module) -> nn.Module:
    """Move the base of an `orthogonal_` layer to where its matrices are; values stay.

    Dynamic trivialisation: the map is exact and undistorted near the base, so that moving it
    every K optimiser steps follows the group more closely (K = 1 is Riemannian gradient descent).
    An optimiser's momentum refers to the old base.

    Returns:
        ``layer``.

    Raises:
        ValueError: The layer was not given to `orthogonal_`.
    """
    found = list(held_by(layer, Orthogonal))
    if not found:
        raise ValueError(f"{type(layer).__name__} is not orthogonal by construction")
    for stored, item in found:
        stored.copy_(item.right_inverse(item(stored)))
    return layer
