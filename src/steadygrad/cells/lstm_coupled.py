"""LSTM with a coupled input and forget gate (CIFG)."""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import sigmoid, tanh

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State


@final
@dataclass(frozen=True)
class LSTMCoupled(Cell):
    r"""LSTM with a coupled input and forget gate (CIFG), without peepholes.

    .. math::
        i_t &= \sigma(W_i x_t + R_i h_{t-1} + b_i)  &&\text{input gate}  \\
        g_t &= \tanh (W_g x_t + R_g h_{t-1} + b_g)  &&\text{candidate}   \\
        o_t &= \sigma(W_o x_t + R_o h_{t-1} + b_o)  &&\text{output gate} \\
        c_t &= (1 - i_t) \odot c_{t-1} + i_t \odot g_t    &&\text{cell state}  \\
        h_t &= o_t \odot \tanh c_t                  &&\text{hidden state}

    New content replaces old in proportion, so the memory is an average of candidates:
    :math:`|c_t| \le 1` if it starts there. With the gates held fixed
    :math:`\partial c_t / \partial c_s = \prod_{r=s+1}^{t} (1 - i_r)`: the gradient along the
    memory survives as long as the *input* gate stays near zero, so a negative bias on the input
    gate keeps it alive.

    Shapes:
        ``x (T, B, I)``; ``h, c (B, H)``; ``weight_ih (3H, I)``, ``weight_hh (3H, H)`` and biases
        ``(3H,)`` stack their rows in the order of `gates`.

    References:
        Greff et al., *LSTM: A Search Space Odyssey*, 2017, section 3 (CIFG; there with
        peepholes: that one is ``lstm-greff:variant=CIFG``).
    """

    name: ClassVar[str] = "lstm-coupled"
    choose_when: ClassVar[str] = (
        "In place of `lstm` to save a quarter of the weights at the same accuracy (Greff et al.), "
        "with a bounded memory."
    )
    gates: ClassVar[tuple[str, ...]] = ("input", "candidate", "output")
    keeping: ClassVar[tuple[str, Literal[1, -1]] | None] = ("input", -1)
    states: ClassVar[tuple[str, ...]] = ("h", "c")

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        h, c = state
        i = sigmoid(x.input + recur.input(h))
        g = tanh(x.candidate + recur.candidate(h))
        o = sigmoid(x.output + recur.output(h))
        c = (1 - i) * c + i * g
        return o * tanh(c), c
