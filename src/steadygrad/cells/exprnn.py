"""An orthogonal recurrence by construction: the matrix exponential of a skew matrix."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State
from steadygrad.cells.mod_relu import mod_relu


def skew(stored: Tensor) -> Tensor:
    """A skew matrix from the strict lower triangle of ``stored``, in float64.

    In float32 the resulting matrix would be 1e-5 from orthogonal, as it is on devices without
    float64.
    """
    if stored.device.type != "mps":
        stored = stored.double()
    lower = stored.tril(-1)
    return lower - lower.mT


def pair_(stored: Tensor, angle: Callable[[Tensor], Tensor]) -> None:
    """Fill ``stored`` with 2x2 skew blocks of ``angle(u)``, u from U(0, 1); zero elsewhere."""
    below = stored.new_zeros(len(stored) - 1)
    below[::2] = angle(torch.rand_like(below[::2]))
    stored.copy_(torch.diag(below, -1))


def reset_biases_(weights: Mapping[str, Tensor]) -> None:
    """Set ``bias_ih`` and ``bias_hh`` to zero, where there are any."""
    for name in ("bias_ih", "bias_hh"):
        if name in weights:
            nn.init.zeros_(weights[name])


@final
@dataclass(frozen=True)
class ExpRNN(Cell):
    r"""Orthogonal recurrence, the matrix an exponential.

    .. math::
        R &= \exp A, \qquad A = L - L^\top  \\
        z_t &= W x_t + b_{ih} + R h_{t-1} + b_{hh}  \\
        h_t &= \operatorname{sgn}(z_t) \max(0, |z_t| + b)

    :math:`L` is the strict lower triangle of ``weight_hh``. :math:`R` is a rotation (determinant
    one) whatever the optimiser does to :math:`A`, so the gradient :math:`R^\top \delta` keeps its
    length at every step and is lost only in inactive units: it cannot explode, and while
    :math:`b \ge 0` it does not vanish. Any optimiser will do; the paper gives :math:`A` a tenth of
    the learning rate of the rest. For a layer of another cell, and for a moving base point, see
    `steadygrad.nn.orthogonal_`.

    Args:
        start: Where :math:`A` starts, in blocks of two units: ``"torus"``, rotations by angles
            from :math:`U(-\pi, \pi)`; ``"cayley"``, the gentler ones of `steadygrad.cells.ScoRNN`.
            The input weights start Kaiming normal, :math:`b` from :math:`U(\pm 0.01)`, biases 0.

    Shapes:
        As `steadygrad.cells.Elman`; ``weight_hh (H, H)`` holds :math:`L`, its other entries are
        not used; ``mod_bias (H,)`` is :math:`b`.

    References:
        Lezcano-Casado and Martínez-Rubio, *Cheap Orthogonal Constraints in Neural Networks: A
        Simple Parametrization of the Orthogonal and Unitary Group*, 2019, sections 3 and 4.
    """

    name: ClassVar[str] = "exprnn"
    choose_when: ClassVar[str] = (
        "Copying or counting over hundreds to thousands of steps. It cannot forget at will: "
        "for text or noisy series take a gated cell."
    )
    gates: ClassVar[tuple[str, ...]] = ("candidate",)
    per_unit: ClassVar[Mapping[str, float]] = {"mod_bias": 0.0}

    start: Literal["torus", "cayley"] = "torus"

    def __post_init__(self) -> None:
        if self.start not in ("torus", "cayley"):
            raise ValueError(f"Unknown start '{self.start}'. Select from torus, cayley.")

    def reset_(self, weights: Mapping[str, Tensor]) -> None:
        reset_biases_(weights)
        nn.init.kaiming_normal_(weights["weight_ih"])
        nn.init.uniform_(weights["mod_bias"], -0.01, 0.01)
        if self.start == "torus":
            pair_(weights["weight_hh"], lambda t: t * torch.pi * 2 - torch.pi)
        else:
            pair_(weights["weight_hh"], lambda t: torch.tan(t * torch.pi / 4))

    def recurrent_matrix(self, stored: Tensor) -> Tensor:
        return torch.matrix_exp(skew(stored)).to(stored.dtype)

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        (h,) = state
        return (mod_relu(x.candidate + recur.candidate(h), unit.mod_bias),)
