"""LSTM with peepholes: each gate also sees its own memory cell."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import sigmoid, tanh

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State


@final
@dataclass(frozen=True)
class LSTMPeephole(Cell):
    r"""LSTM with peepholes, in the form of Graves.

    .. math::
        i_t &= \sigma(W_i x_t + R_i h_{t-1} + p_i \odot c_{t-1} + b_i)  &&\text{input gate}  \\
        f_t &= \sigma(W_f x_t + R_f h_{t-1} + p_f \odot c_{t-1} + b_f)  &&\text{forget gate} \\
        g_t &= \tanh (W_g x_t + R_g h_{t-1} + b_g)  &&\text{candidate}   \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t    &&\text{cell state}  \\
        o_t &= \sigma(W_o x_t + R_o h_{t-1} + p_o \odot c_t + b_o)  &&\text{output gate} \\
        h_t &= o_t \odot \tanh c_t                  &&\text{hidden state}

    Input and forget gate see the old memory, the output gate the new one. The gradient
    along the memory gains a term through each peephole:
    :math:`\partial c_t / \partial c_{t-1} = \operatorname{diag}(f_t + c_{t-1} \odot f_t' \odot
    p_f + g_t \odot i_t' \odot p_i)` with the gates' derivatives marked by a prime. Gers et al.
    pass no gradient through the peepholes; it is then :math:`\operatorname{diag}(f_t)`, as in the
    LSTM without peepholes.

    Args:
        peephole_gradient: Whether the gradient passes through the peepholes to the memory. The
            peephole weights are learned either way.

    Shapes:
        As `steadygrad.cells.LSTM`; peephole weights ``(H,)``, one per unit and gate: each gate
        sees its own memory cell only. They start at zero, as an LSTM without peepholes.

    References:
        Graves, *Generating Sequences with Recurrent Neural Networks*, 2013, equations 7 to 11.
        Gers, Schraudolph and Schmidhuber, *Learning Precise Timing with LSTM Recurrent Networks*,
        2002 (``peephole_gradient=False``).
    """

    name: ClassVar[str] = "lstm-peephole"
    choose_when: ClassVar[str] = (
        "For exact time intervals or counts. Elsewhere peepholes cost weights and change little."
    )
    gates: ClassVar[tuple[str, ...]] = ("input", "forget", "candidate", "output")
    keeping: ClassVar[tuple[str, Literal[1, -1]] | None] = ("forget", 1)
    states: ClassVar[tuple[str, ...]] = ("h", "c")
    per_unit: ClassVar[Mapping[str, float]] = {
        "peephole_input": 0.0,
        "peephole_forget": 0.0,
        "peephole_output": 0.0,
    }

    peephole_gradient: bool = True

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        h, c = state
        seen = c if self.peephole_gradient else c.detach()
        i = sigmoid(x.input + recur.input(h) + unit.peephole_input * seen)
        f = sigmoid(x.forget + recur.forget(h) + unit.peephole_forget * seen)
        g = tanh(x.candidate + recur.candidate(h))
        c = f * c + i * g
        seen = c if self.peephole_gradient else c.detach()
        o = sigmoid(x.output + recur.output(h) + unit.peephole_output * seen)
        return o * tanh(c), c
