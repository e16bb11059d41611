"""MUT1, from an architecture search: the update gate sees only x."""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import sigmoid, tanh

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State


@final
@dataclass(frozen=True)
class MUT1(Cell):
    r"""MUT1, found by searching ten thousand cells.

    .. math::
        z_t &= \sigma(W_z x_t + b_z)  &&\text{update gate, of the input alone} \\
        r_t &= \sigma(W_r x_t + R_r h_{t-1} + b_r)  &&\text{reset gate}  \\
        n_t &= \tanh(R_n (r_t \odot h_{t-1}) + \tanh(W_n x_t) + b_n) &&\text{candidate} \\
        h_t &= z_t \odot n_t + (1 - z_t) \odot h_{t-1}  &&\text{hidden state}

    Here :math:`z` *replaces*: where it is near zero the gradient passes to :math:`h_{t-1}`
    unchanged. The gate does not see the state, so no gradient passes through it.

    The paper adds :math:`\tanh(x_t)` itself, its input being as wide as the state. Here the
    input is projected first, :math:`W_n x_t` (with ``bias_ih`` inside the tanh); with
    :math:`W_n = I` and that bias zero it is the paper's form.

    Shapes:
        ``x (T, B, I)``; ``h (B, H)``; ``weight_ih (3H, I)`` stacks its rows in the order of
        `gates`, ``weight_hh (2H, H)`` in the order reset, candidate.

    References:
        Jozefowicz, Zaremba and Sutskever, *An Empirical Exploration of Recurrent Network
        Architectures*, 2015, section 4.
    """

    name: ClassVar[str] = "mut1"
    choose_when: ClassVar[str] = (
        "The best of the searched cells on arithmetic and XML, ahead of the GRU there; try it "
        "where a GRU falls short."
    )
    gates: ClassVar[tuple[str, ...]] = ("reset", "update", "candidate")
    keeping: ClassVar[tuple[str, Literal[1, -1]] | None] = ("update", -1)

    @property
    def recurrent(self) -> tuple[str, ...]:
        return ("reset", "candidate")

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        (h,) = state
        z = sigmoid(x.update)
        r = sigmoid(x.reset + recur.reset(h))
        n = tanh(recur.candidate(r * h) + tanh(x.candidate))
        return (z * n + (1 - z) * h,)
