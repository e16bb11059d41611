"""MUT2, from an architecture search: the reset gate sees x itself."""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import sigmoid, tanh

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State


@final
@dataclass(frozen=True)
class MUT2(Cell):
    r"""MUT2, found by searching ten thousand cells.

    .. math::
        z_t &= \sigma(W_z x_t + R_z h_{t-1} + b_z)  &&\text{update gate} \\
        r_t &= \sigma(W_r x_t + R_r h_{t-1} + b_r)  &&\text{reset gate}  \\
        n_t &= \tanh(R_n (r_t \odot h_{t-1}) + W_n x_t + b_n) &&\text{candidate} \\
        h_t &= z_t \odot n_t + (1 - z_t) \odot h_{t-1}  &&\text{hidden state}

    Here :math:`z` *replaces*: where it is near zero the gradient passes to :math:`h_{t-1}`
    unchanged.

    The paper's reset gate adds :math:`x_t` itself, its input being as wide as the state. Here
    the input is projected, :math:`W_r x_t`; with :math:`W_r = I` it is the paper's form. In this
    general form, MUT2 is the original GRU with the sign of the update gate reversed:
    :math:`z_\text{here} = 1 - z_\text{GRU}`.

    Shapes:
        As `steadygrad.cells.GRUOriginal`.

    References:
        Jozefowicz, Zaremba and Sutskever, *An Empirical Exploration of Recurrent Network
        Architectures*, 2015, section 4.
    """

    name: ClassVar[str] = "mut2"
    choose_when: ClassVar[str] = (
        "To reproduce a result of the paper; with a projected input it is equivalent to "
        "`gru-original`."
    )
    gates: ClassVar[tuple[str, ...]] = ("reset", "update", "candidate")
    keeping: ClassVar[tuple[str, Literal[1, -1]] | None] = ("update", -1)

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        (h,) = state
        z = sigmoid(x.update + recur.update(h))
        r = sigmoid(x.reset + recur.reset(h))
        n = tanh(recur.candidate(r * h) + x.candidate)
        return (z * n + (1 - z) * h,)
