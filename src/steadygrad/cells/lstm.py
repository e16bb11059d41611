"""Long short-term memory: a memory updated by addition and controlled by gates."""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import sigmoid, tanh

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State


@final
@dataclass(frozen=True)
class LSTM(Cell):
    r"""Long short-term memory with a forget gate, `torch.nn.LSTM`'s cell.

    .. math::
        i_t &= \sigma(W_i x_t + R_i h_{t-1} + b_i)  &&\text{input gate}  \\
        f_t &= \sigma(W_f x_t + R_f h_{t-1} + b_f)  &&\text{forget gate} \\
        g_t &= \tanh (W_g x_t + R_g h_{t-1} + b_g)  &&\text{candidate}   \\
        o_t &= \sigma(W_o x_t + R_o h_{t-1} + b_o)  &&\text{output gate} \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t    &&\text{cell state}  \\
        h_t &= o_t \odot \tanh c_t                  &&\text{hidden state}

    With the gates held fixed :math:`\partial c_t / \partial c_s = \prod_{r=s+1}^{t} f_r`: along
    the cell state the gradient survives as long as the forget gate stays near one. At torch's
    default initialisation :math:`f \approx 1/2`: the path along c alone loses :math:`\log_{10} 2 =
    0.30` decades per step. Measured over all paths, including those through h, the gradient of 64
    units loses 0.20: 1e-40 remains after 199 steps.

    Shapes:
        ``x (T, B, I)``; ``h, c (B, H)``; ``weight_ih (4H, I)``, ``weight_hh (4H, H)`` and biases
        ``(4H,)`` stack their rows in the order of `gates`. With a projection of size ``P``:
        ``h (B, P)``, ``weight_hh (4H, P)``, ``weight_hr (P, H)``.

    References:
        Hochreiter and Schmidhuber, *Long Short-Term Memory*, 1997.
        Gers, Schmidhuber and Cummins, *Learning to Forget*, 2000 (forget gate).
        Sak, Senior and Beaufays, *Long Short-Term Memory Based Recurrent Neural Network
        Architectures for Large Vocabulary Speech Recognition*, 2014 (projection).
    """

    name: ClassVar[str] = "lstm"
    choose_when: ClassVar[str] = (
        "The first choice for dependencies of tens to a few hundred steps. Start its forget gate "
        "open (the remedies `forget-bias` or `chrono-init`), or its gradient halves at every step."
    )
    gates: ClassVar[tuple[str, ...]] = ("input", "forget", "candidate", "output")
    keeping: ClassVar[tuple[str, Literal[1, -1]] | None] = ("forget", 1)
    states: ClassVar[tuple[str, ...]] = ("h", "c")
    can_project: ClassVar[bool] = True

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        h, c = state
        i = sigmoid(x.input + recur.input(h))
        f = sigmoid(x.forget + recur.forget(h))
        g = tanh(x.candidate + recur.candidate(h))
        o = sigmoid(x.output + recur.output(h))
        c = f * c + i * g
        return o * tanh(c), c
