"""minGRU: gates that see the input alone, so that all time steps can be computed at once."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, sigmoid

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State


def positive(u: Tensor) -> Tensor:
    r"""The candidate's activation :math:`g(u) = u + 1/2` where :math:`u \ge 0`, else sigmoid."""
    return torch.where(u >= 0, u + 0.5, sigmoid(u))


@final
@dataclass(frozen=True)
class MinGRU(Cell):
    r"""Minimal GRU, linear in its state.

    .. math::
        z_t &= \sigma(W_z x_t + b_z) &&\text{update gate}  \\
        h_t &= z_t \odot h_{t-1} + (1 - z_t) \odot g(W_h x_t + b_h),
        \qquad g(u) = \begin{cases} u + \tfrac12 & u \ge 0 \\ \sigma(u) & u < 0 \end{cases}

    The step Jacobian is diagonal with entries :math:`z_t` between 0 and 1: the gradient cannot
    explode, and survives as long as :math:`z` stays near one. :math:`h` stays in the convex hull
    of its start and of the candidates. Here :math:`z` *keeps*, as in `steadygrad.cells.GRU`; the
    paper's replaces: its :math:`W_z` and :math:`b_z` are these with the sign reversed. Being
    linear in h, all time steps can be computed in parallel (``backend="parallel"``).

    Shapes:
        ``h (B, H)``; ``weight_ih (2H, I)`` in the order of `gates`; no ``weight_hh``. A carried
        state may have either sign: no logarithm is taken.

    References:
        Feng, Tung, Ahmed, Bengio and Hajimirsadeghi, *Were RNNs All We Needed?*, 2024, section
        3.1; :math:`g` from appendix B.
    """

    name: ClassVar[str] = "mingru"
    choose_when: ClassVar[str] = (
        "Long sequences on a GPU, stacked: all time steps at once, and a cheap step for streaming."
    )
    gates: ClassVar[tuple[str, ...]] = ("update", "candidate")

    @property
    def recurrent(self) -> tuple[str, ...]:
        return ()

    def linear(self, x: Gates, unit: PerUnit) -> tuple[Tensor, Tensor]:
        z = sigmoid(x.update)
        return z, (1 - z) * positive(x.candidate)

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        (h,) = state
        decay, drive = self.linear(x, unit)
        return (decay * h + drive,)
