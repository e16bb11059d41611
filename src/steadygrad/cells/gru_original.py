"""Gated recurrent unit as the paper prints it: reset before the product."""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import sigmoid, tanh

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State


@final
@dataclass(frozen=True)
class GRUOriginal(Cell):
    r"""Gated recurrent unit, reset before the product.

    .. math::
        r_t &= \sigma(W_r x_t + R_r h_{t-1} + b_r)  &&\text{reset gate}  \\
        z_t &= \sigma(W_z x_t + R_z h_{t-1} + b_z)  &&\text{update gate} \\
        n_t &= \tanh (W_n x_t + R_n (r_t \odot h_{t-1}) + b_n) &&\text{candidate} \\
        h_t &= (1 - z_t) \odot n_t + z_t \odot h_{t-1}  &&\text{hidden state}

    A step needs two products in sequence: :math:`R_n` acts on a result of :math:`R_r`.
    The gradient passes unchanged where :math:`z` is near one, as in `steadygrad.cells.GRU`.

    Shapes:
        As `steadygrad.cells.GRU`; the weights are not interchangeable with it.

    References:
        Cho et al., *Learning Phrase Representations using RNN Encoder-Decoder for Statistical
        Machine Translation*, 2014, equations 5 to 8 (:math:`z` keeps the old state there too).
    """

    name: ClassVar[str] = "gru-original"
    choose_when: ClassVar[str] = (
        "To reproduce a result of the paper. It needs two products in sequence and is slower than "
        "`gru`, at much the same accuracy."
    )
    gates: ClassVar[tuple[str, ...]] = ("reset", "update", "candidate")
    keeping: ClassVar[tuple[str, Literal[1, -1]] | None] = ("update", 1)

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        (h,) = state
        r = sigmoid(x.reset + recur.reset(h))
        z = sigmoid(x.update + recur.update(h))
        n = tanh(x.candidate + recur.candidate(r * h))
        return ((1 - z) * n + z * h,)
