"""Gated recurrent unit as torch and cuDNN compute it: reset after the product."""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import sigmoid, tanh

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State


@final
@dataclass(frozen=True)
class GRU(Cell):
    r"""Gated recurrent unit, reset after the product, `torch.nn.GRU`'s cell.

    .. math::
        r_t &= \sigma(W_r x_t + R_r h_{t-1} + b_r)  &&\text{reset gate}  \\
        z_t &= \sigma(W_z x_t + R_z h_{t-1} + b_z)  &&\text{update gate} \\
        n_t &= \tanh (W_n x_t + b_{in} + r_t \odot (R_n h_{t-1} + b_{hn})) &&\text{candidate} \\
        h_t &= (1 - z_t) \odot n_t + z_t \odot h_{t-1}  &&\text{hidden state}

    Here :math:`z` *keeps*: where the update gate is near one the gradient passes to
    :math:`h_{t-1}` unchanged, so a positive bias on it keeps the gradient alive through time. (In
    some papers :math:`z` replaces; there the sign of that bias is reversed.)

    Shapes:
        ``x (T, B, I)``; ``h (B, H)``; ``weight_ih (3H, I)``, ``weight_hh (3H, H)`` and biases
        ``(3H,)`` stack their rows in the order of `gates`.

    References:
        Cho et al., *Learning Phrase Representations using RNN Encoder-Decoder for Statistical
        Machine Translation*, 2014. The form with the reset gate after the product, and a bias of
        its own inside it, is the one of cuDNN and torch, not the paper's; that one is
        `steadygrad.cells.GRUOriginal`.
    """

    name: ClassVar[str] = "gru"
    choose_when: ClassVar[str] = (
        "Short to medium dependencies with fewer weights than an LSTM; the form to take when "
        "weights are exchanged with torch or cuDNN."
    )
    gates: ClassVar[tuple[str, ...]] = ("reset", "update", "candidate")
    keeping: ClassVar[tuple[str, Literal[1, -1]] | None] = ("update", 1)

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        (h,) = state
        r = sigmoid(x.reset + recur.reset(h))
        z = sigmoid(x.update + recur.update(h))
        n = tanh(x.candidate + r * recur.candidate(h))
        return ((1 - z) * n + z * h,)
