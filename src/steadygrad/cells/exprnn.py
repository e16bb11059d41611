"""An orthogonal recurrence by construction: the matrix exponential of a skew matrix."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State
from steadygrad.cells.mod_relu import mod_relu


def skew(stored: Tensor) -> Tensor:
    """A skew matrix from the strict lower triangle of ``stored``, in float64.

    Rounding in float32 would leave the matrix made of it 1e-5 from orthogonal; a device without
    float64 has to live with that.
    """
    if stored.device.type != "mps":
        stored = stored.double()
    lower = stored.tril(-1)
    return lower - lower.mT


@final
@dataclass(frozen=True)
class ExpRNN(Cell):
    r"""Orthogonal recurrence, the matrix an exponential.

    .. math::
        R &= \exp A, \qquad A = L - L^\top  \\
        z_t &= W x_t + b_{ih} + R h_{t-1} + b_{hh}  \\
        h_t &= \operatorname{sgn}(z_t) \max(0, |z_t| + b)

    :math:`L` is the strict lower triangle of ``weight_hh``. :math:`R` is a rotation (determinant one) whatever the optimiser does to :math:`A`, so the
    gradient :math:`R^\top \delta` keeps its length at every step and can only lose in units that
    are silent: it cannot explode, and while :math:`b \ge 0` it does not vanish. Any optimiser
    will do; the paper gives :math:`A` a tenth of the learning rate of the rest, and no weight
    decay. For a layer of another cell, and with a moving base, see `steadygrad.nn.orthogonal_`.

    Shapes:
        As `steadygrad.cells.Elman`; ``weight_hh (H, H)`` holds :math:`L`, its other entries are
        not used; ``mod_bias (H,)`` is :math:`b`.

    References:
        Lezcano-Casado and Martínez-Rubio, *Cheap Orthogonal Constraints in Neural Networks: A
        Simple Parametrization of the Orthogonal and Unitary Group*, 2019, sections 3 and 4.
    """

    name: ClassVar[str] = "exprnn"
    gates: ClassVar[tuple[str, ...]] = ("candidate",)
    per_unit: ClassVar[Mapping[str, float]] = {"mod_bias": 0.0}

    def recurrent_matrix(self, stored: Tensor) -> Tensor:
        return torch.matrix_exp(skew(stored)).to(stored.dtype)

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        (h,) = state
        return (mod_relu(x.candidate + recur.candidate(h), unit.mod_bias),)
