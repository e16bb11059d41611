"""An orthogonal recurrence by construction: the scaled Cayley transform of a skew matrix."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State
from steadygrad.cells.exprnn import pair_, reset_biases_, skew
from steadygrad.cells.mod_relu import mod_relu


def cayley(a: Tensor) -> Tensor:
    r"""The orthogonal matrix :math:`(I + A)^{-1}(I - A)` of a skew matrix :math:`A`."""
    one = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    return torch.linalg.solve(one + a, one - a)


@final
@dataclass(frozen=True)
class ScoRNN(Cell):
    r"""Orthogonal recurrence with the scaled Cayley transform.

    .. math::
        R &= (I + A)^{-1} (I - A) D, \qquad A = L - L^\top, \quad
        D = \operatorname{diag}(-1, \dots, -1, 1, \dots, 1)  \\
        z_t &= W x_t + b_{ih} + R h_{t-1} + b_{hh}  \\
        h_t &= \operatorname{sgn}(z_t) \max(0, |z_t| + b)

    :math:`L` is the strict lower triangle of ``weight_hh``. :math:`D` is fixed, with a share
    ``negative`` of its entries minus one: a Cayley transform alone never has the eigenvalue -1,
    and comes near it only with a large :math:`A`. It fixes the sign of the determinant. The
    gradient :math:`R^\top \delta` keeps its length at every step, so it cannot explode, and is
    lost only in inactive units. The paper trains :math:`A` with a tenth of the learning rate of
    the rest.

    This is the paper's form, for column vectors; the released code multiplies row vectors, and
    its :math:`R` is the transpose of this one. It starts as there: rotations of pairs of units by
    angles from :math:`U(0, \pi/2)`, input weights from :math:`U(\pm 0.01)` (set for inputs that
    are one-hot or pixels), biases and :math:`b` zero.

    Args:
        negative: Share of the diagonal :math:`D` that is -1; 0.5 in the paper's copy task.

    Shapes:
        As `steadygrad.cells.Elman`; ``weight_hh (H, H)`` holds :math:`L`, its other entries are
        not used; ``mod_bias (H,)`` is :math:`b`.

    References:
        Helfrich, Willmott and Ye, *Orthogonal Recurrent Neural Networks with Scaled Cayley
        Transform*, 2018, section 3.
    """

    name: ClassVar[str] = "scornn"
    choose_when: ClassVar[str] = (
        "As `exprnn`; with its signs the Cayley transform also reaches reflections."
    )
    gates: ClassVar[tuple[str, ...]] = ("candidate",)
    per_unit: ClassVar[Mapping[str, float]] = {"mod_bias": 0.0}

    negative: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.negative <= 1:
            raise ValueError(f"ScoRNN: negative must be a share from 0 to 1, got {self.negative}")

    def reset_(self, weights: Mapping[str, Tensor]) -> None:
        reset_biases_(weights)
        nn.init.uniform_(weights["weight_ih"], -0.01, 0.01)
        # The paper's -sqrt((1 - cos t) / (1 + cos t)) above the diagonal, t from U(0, pi/2), is
        # tan(t/2) below it.
        pair_(weights["weight_hh"], lambda t: torch.tan(t * torch.pi / 4))

    def recurrent_matrix(self, stored: Tensor) -> Tensor:
        size = len(stored)
        d = stored.new_ones(size)
        d[: round(self.negative * size)] = -1
        return cayley(skew(stored)).to(stored.dtype) * d

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        (h,) = state
        return (mod_relu(x.candidate + recur.candidate(h), unit.mod_bias),)
