"""MUT3, from an architecture search: the update gate sees tanh(h)."""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import sigmoid, tanh

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State


@final
@dataclass(frozen=True)
class MUT3(Cell):
    r"""MUT3, found by searching ten thousand cells.

    .. math::
        z_t &= \sigma(W_z x_t + R_z \tanh(h_{t-1}) + b_z)  &&\text{update gate} \\
        r_t &= \sigma(W_r x_t + R_r h_{t-1} + b_r)  &&\text{reset gate}  \\
        n_t &= \tanh(R_n (r_t \odot h_{t-1}) + W_n x_t + b_n) &&\text{candidate} \\
        h_t &= z_t \odot n_t + (1 - z_t) \odot h_{t-1}  &&\text{hidden state}

    Here :math:`z` *replaces*: where it is near zero the gradient passes to :math:`h_{t-1}`
    unchanged. Through the update gate it is attenuated further, by
    :math:`1 - \tanh^2 h_{t-1}`.

    Shapes:
        As `steadygrad.cells.GRUOriginal`.

    References:
        Jozefowicz, Zaremba and Sutskever, *An Empirical Exploration of Recurrent Network
        Architectures*, 2015, section 4.
    """

    name: ClassVar[str] = "mut3"
    choose_when: ClassVar[str] = (
        "Close to the GRU in all of the paper's tasks and a little ahead on XML; its three "
        "products with different arguments make it slower."
    )
    gates: ClassVar[tuple[str, ...]] = ("reset", "update", "candidate")
    keeping: ClassVar[tuple[str, Literal[1, -1]] | None] = ("update", -1)

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        (h,) = state
        z = sigmoid(x.update + recur.update(tanh(h)))
        r = sigmoid(x.reset + recur.reset(h))
        n = tanh(recur.candidate(r * h) + x.candidate)
        return (z * n + (1 - z) * h,)
