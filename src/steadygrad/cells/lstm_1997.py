"""The LSTM of 1997: a memory without a forget gate and with constant error flow."""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import sigmoid

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State


@final
@dataclass(frozen=True)
class LSTM1997(Cell):
    r"""Long short-term memory as first published: no forget gate, a constant error carousel.

    .. math::
        i_t &= \sigma(W_i x_t + R_i h_{t-1} + b_i)       &&\text{input gate}   \\
        g_t &= 4\,\sigma(W_g x_t + R_g h_{t-1} + b_g) - 2 &&\text{block input}  \\
        o_t &= \sigma(W_o x_t + R_o h_{t-1} + b_o)       &&\text{output gate}  \\
        c_t &= c_{t-1} + i_t \odot g_t                   &&\text{memory: the carousel} \\
        h_t &= o_t \odot (2\,\sigma(c_t) - 1)            &&\text{hidden state}

    Along the memory the gradient is multiplied by exactly one per step. With ``truncated`` (the
    paper's learning rule) that is the only path back in time: what reaches a gate or a block input
    is not passed on to :math:`h_{t-1}`, so that :math:`\partial c_t / \partial c_s = I` for any
    weights and any distance, and the gradient can neither vanish nor explode. Without it the
    gradient is the exact one of these equations; it then has a second path, through the gates, and
    can explode. Nothing is ever forgotten: over a long stream the memory drifts away, the reason
    for the later forget gate.

    Of the paper's network these parts are in: the functions g and h, the gates, the carousel,
    the truncation. Left out: gates that see gates (its fully connected hidden layer feeds
    :math:`i_{t-1}` and :math:`o_{t-1}` back, too), hidden units beside the memory, and blocks
    of several memory cells that share their gates; tie the rows of the gates of a block
    (see ``blocks`` in the tests) to have those.

    Args:
        truncated: Whether the gradient stops at the products with :math:`h_{t-1}`.

    Shapes:
        ``x (T, B, I)``; ``h, c (B, H)``; ``weight_ih (3H, I)``, ``weight_hh (3H, H)`` and biases
        ``(3H,)`` stack their rows in the order of `gates`.

    References:
        Hochreiter and Schmidhuber, *Long Short-Term Memory*, 1997, section 4 and appendix A.1
        (g in [-2, 2] and h in [-1, 1] as in section 5.1; the caption of table 10 swaps them).
    """

    name: ClassVar[str] = "lstm-1997"
    choose_when: ClassVar[str] = (
        "To study the constant error carousel, or to count events in sequences of bounded length. "
        "For long streams choose `lstm`: this one cannot forget."
    )
    gates: ClassVar[tuple[str, ...]] = ("input", "candidate", "output")
    states: ClassVar[tuple[str, ...]] = ("h", "c")

    truncated: bool = False

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        h, c = state
        seen = h.detach() if self.truncated else h
        i = sigmoid(x.input + recur.input(seen))
        g = 4 * sigmoid(x.candidate + recur.candidate(seen)) - 2
        o = sigmoid(x.output + recur.output(seen))
        c = c + i * g
        return o * (2 * sigmoid(c) - 1), c
