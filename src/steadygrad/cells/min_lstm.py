"""minLSTM: an LSTM whose gates see the input alone, and sum to one."""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor, sigmoid

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State
from steadygrad.cells.min_gru import positive


@final
@dataclass(frozen=True)
class MinLSTM(Cell):
    r"""Minimal LSTM with normalised gates, linear in its state.

    .. math::
        f_t &= \sigma(W_f x_t + b_f), \qquad i_t = \sigma(W_i x_t + b_i)  \\
        h_t &= \frac{f_t}{f_t + i_t} \odot h_{t-1} + \frac{i_t}{f_t + i_t} \odot g(W_h x_t + b_h)

    with :math:`g` of `steadygrad.cells.MinGRU`. The step Jacobian is diagonal, its entries
    between 0 and 1: the gradient cannot explode, and survives as long as :math:`f` stays large
    against :math:`i`. All time steps can be computed in parallel (``backend="parallel"``).

    Shapes:
        ``h (B, H)``; ``weight_ih (3H, I)`` in the order of `gates`; no ``weight_hh``.

    References:
        Feng, Tung, Ahmed, Bengio and Hajimirsadeghi, *Were RNNs All We Needed?*, 2024, section
        3.2 (with the normalisation, for a scale that does not depend on time).
    """

    name: ClassVar[str] = "minlstm"
    choose_when: ClassVar[str] = "As mingru, with forgetting and writing learnt separately."
    gates: ClassVar[tuple[str, ...]] = ("input", "forget", "candidate")

    @property
    def recurrent(self) -> tuple[str, ...]:
        return ()

    def linear(self, x: Gates, unit: PerUnit) -> tuple[Tensor, Tensor]:
        i, f = sigmoid(x.input), sigmoid(x.forget)
        return f / (f + i), i / (f + i) * positive(x.candidate)

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        (h,) = state
        decay, drive = self.linear(x, unit)
        return (decay * h + drive,)
