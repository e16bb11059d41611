"""Recurrent matrices whose singular values stay within a margin around one."""

from typing import final

import torch
from torch import Tensor, nn

from steadygrad.cells.exprnn import skew
from steadygrad.nn.parametrised import parametrise_

INSIDE = 1 - 1e-6
"""Where a singular value outside the margin starts: not on its edge, where no gradient is."""


@final
class SpectralMargin(nn.Module):
    r"""Parametrisation of each block, :math:`R = U \operatorname{diag}(s) V`, s near one.

    Stored ``(G, 2H+1, H)``: two skew matrices that turn the orthogonal bases of :math:`U` and
    :math:`V`, and one row :math:`p` for the singular values.

    Args:
        weight: Stacked recurrent weight ``(G*H, H)``.
        margin: :math:`m`.
    """

    left: Tensor
    right: Tensor

    def __init__(self, weight: Tensor, margin: float) -> None:
        super().__init__()
        self.margin = margin
        size = weight.shape[1]
        for name in ("left", "right"):
            self.register_buffer(name, weight.new_empty(len(weight) // size, size, size))

    def forward(self, stored: Tensor) -> Tensor:
        """``(G, 2H+1, H) -> (G*H, H)``."""
        size = stored.shape[2]
        a, b, p = stored.split([size, size, 1], 1)
        u = self.left @ torch.matrix_exp(skew(a)).to(stored.dtype)
        v = torch.matrix_exp(skew(b)).to(stored.dtype) @ self.right
        s = 1 + 2 * self.margin * (torch.sigmoid(p) - 0.5)
        return ((u * s) @ v).flatten(0, 1)

    @torch.no_grad()
    def right_inverse(self, weight: Tensor) -> Tensor:
        """Start from ``weight``, its singular values brought inside the margin."""
        u, s, v = torch.linalg.svd(weight.view_as(self.left))
        self.left.copy_(u)
        self.right.copy_(v)
        inside = ((s - 1) / self.margin).clamp(-INSIDE, INSIDE) if self.margin else s * 0
        stored = torch.zeros(len(u), 2 * u.shape[1] + 1, u.shape[1]).to(u)
        stored[:, -1] = torch.logit((inside + 1) / 2)
        return stored

    def extra_repr(self) -> str:
        """The options."""
        return f"blocks={len(self.left)}, margin={self.margin:g}"


def spectral_margin_(layer: nn.Module, margin: float = 0.1) -> nn.Module:
    r"""Keep the singular values of every recurrent gate block of ``layer`` near one.

    .. math::
        R = U \operatorname{diag}(s) V^\top, \qquad
        s_i = 1 + 2m \left(\sigma(p_i) - \tfrac12\right) \in [1 - m, 1 + m]

    with :math:`U` and :math:`V` orthogonal through the whole training. Over :math:`k` steps the
    matrix alone multiplies a gradient's length by :math:`(1-m)^k` to :math:`(1+m)^k`: it can
    explode and vanish, at a rate that is chosen. The paper finds a small margin to train faster
    and better than none. It turns :math:`U` and :math:`V` by Cayley steps along the geodesic of
    their gradient; here they are exponentials of skew matrices, and any optimiser will do.

    Args:
        layer: As `orthogonal_`.
        margin: :math:`m`, from 0 (orthogonal) to below 1.

    Returns:
        ``layer``; `free_` undoes it.

    Raises:
        TypeError: It is no recurrent layer.
        ValueError: Its blocks are not square, or its matrix has a form already; a margin out of
            range.

    References:
        Vorontsov, Trabelsi, Kadoury and Pal, *On Orthogonality and Learning Recurrent Networks
        with Long Term Dependencies*, 2017, section 2.
    """
    if not 0 <= margin < 1:
        raise ValueError(f"spectral_margin_: margin must be from 0 to below 1, got {margin}")
    parametrise_(layer, lambda weight: SpectralMargin(weight, margin))
    return layer
