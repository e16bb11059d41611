"""ParaLSTM: an LSTM with coupled gates and peepholes whose recurrent weights are diagonal."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import Tensor, sigmoid, tanh

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State
from steadygrad.cells.para_gru import start_diagonal_


@final
@dataclass(frozen=True)
class ParaLSTM(Cell):
    r"""LSTM with diagonal recurrent weights, of ParaRNN: coupled gates, peepholes.

    .. math::
        f_t &= \sigma(a_f \odot h_{t-1} + p_f \odot c_{t-1} + W_f x_t + b_f) &&\text{forget gate} \\
        g_t &= \tanh(a_g \odot h_{t-1} + W_g x_t + b_g)          &&\text{candidate}    \\
        c_t &= f_t \odot c_{t-1} + (1 - f_t) \odot g_t           &&\text{cell state}   \\
        o_t &= \sigma(a_o \odot h_{t-1} + p_o \odot c_t + W_o x_t + b_o) &&\text{output gate} \\
        h_t &= o_t \odot \tanh c_t                               &&\text{hidden state}

    Units do not interact in time: the step Jacobian is, per unit, a 2x2 matrix over (c, h). Along
    the memory the gradient is multiplied by :math:`f_t + (c_{t-1} - g_t)\, f_t (1 - f_t)\, p_f`,
    of absolute value at most :math:`1 + |p_f|/2` from a start within :math:`[-1, 1]`, where c then
    stays (a mean of its past and of candidates); at :math:`a = p = 0` by :math:`f_t` alone. Units
    interact only through the layers above: stack several. The paper trains it in parallel over
    time by Newton's method, here it is a loop.

    Shapes:
        ``h, c (B, H)``; ``weight_ih (3H, I)`` in the order of `gates`, Kaiming uniform
        (a = :math:`\sqrt 5`), biases at zero; no ``weight_hh``; ``recurrent_forget``,
        ``recurrent_candidate`` and ``recurrent_output (H,)`` are :math:`a_f, a_g, a_o`,
        ``peephole_forget`` and ``peephole_output (H,)`` are :math:`p_f, p_o`, all from a Gaussian
        of variance 1/H (Xavier's, of an H by H matrix).

    References:
        Danieli, Rodríguez, Sarabia, Suau and Zappella, *ParaRNN: Unlocking Parallel Training of
        Nonlinear RNNs for Large Language Models*, 2025, equations 3.1b, 3.2b and 3.3 (there z is
        the candidate and C the peepholes); appendix C.1 for the start.
    """

    name: ClassVar[str] = "para-lstm"
    choose_when: ClassVar[str] = (
        "As para-gru, where a memory separate from the output helps: counting, or long lags."
    )
    gates: ClassVar[tuple[str, ...]] = ("forget", "candidate", "output")
    keeping: ClassVar[tuple[str, Literal[1, -1]] | None] = ("forget", 1)
    states: ClassVar[tuple[str, ...]] = ("h", "c")
    per_unit: ClassVar[Mapping[str, float]] = {
        "recurrent_forget": 0.0,
        "recurrent_candidate": 0.0,
        "recurrent_output": 0.0,
        "peephole_forget": 0.0,
        "peephole_output": 0.0,
    }

    @property
    def recurrent(self) -> tuple[str, ...]:
        return ()

    def reset_(self, weights: Mapping[str, Tensor]) -> None:
        start_diagonal_(weights, tuple(self.per_unit))

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        h, c = state
        f = sigmoid(x.forget + unit.recurrent_forget * h + unit.peephole_forget * c)
        g = tanh(x.candidate + unit.recurrent_candidate * h)
        c = g + f * (c - g)
        o = sigmoid(x.output + unit.recurrent_output * h + unit.peephole_output * c)
        return o * tanh(c), c
