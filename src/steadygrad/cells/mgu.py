"""Minimal gated unit: a recurrence with a single gate."""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import sigmoid, tanh

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State


@final
@dataclass(frozen=True)
class MGU(Cell):
    r"""Minimal gated unit: a GRU whose reset and update gates are one.

    .. math::
        f_t &= \sigma(W_f x_t + R_f h_{t-1} + b_f)  &&\text{forget gate}  \\
        g_t &= \tanh (W_g x_t + R_g (f_t \odot h_{t-1}) + b_g) &&\text{candidate} \\
        h_t &= (1 - f_t) \odot h_{t-1} + f_t \odot g_t  &&\text{hidden state}

    Despite its name the gate *replaces*: near zero the state is kept and the gradient passes to
    :math:`h_{t-1}` unchanged, so a negative bias on it keeps the gradient alive through time. The
    same gate near zero hides the old state from the candidate: a unit that keeps its state cannot
    use it at the same step.

    Shapes:
        ``x (T, B, I)``; ``h (B, H)``; ``weight_ih (2H, I)``, ``weight_hh (2H, H)`` and biases
        ``(2H,)`` stack their rows in the order of `gates`.

    References:
        Zhou, Wu, Zhang and Zhou, *Minimal Gated Unit for Recurrent Neural Networks*, 2016.
    """

    name: ClassVar[str] = "mgu"
    choose_when: ClassVar[str] = (
        "The smallest gated cell with full matrices: half the weights of an LSTM. For small "
        "models and short dependencies."
    )
    gates: ClassVar[tuple[str, ...]] = ("forget", "candidate")
    keeping: ClassVar[tuple[str, Literal[1, -1]] | None] = ("forget", -1)

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        (h,) = state
        f = sigmoid(x.forget + recur.forget(h))
        g = tanh(x.candidate + recur.candidate(f * h))
        return ((1 - f) * h + f * g,)
