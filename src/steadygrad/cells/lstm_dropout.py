"""LSTM with dropout inside the recurrence, placed so that memory or gradient survive it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final, get_args

from torch import sigmoid, tanh

from steadygrad.cells.base import Cell, Gates, Noise, PerUnit, Recur, State

Place = Literal["candidate", "hidden"]


@final
@dataclass(frozen=True)
class LSTMDropout(Cell):
    r"""LSTM with recurrent dropout.

    .. math::
        i_t, f_t, o_t &= \sigma(W x_t + R \hat h_{t-1} + b), \qquad
        g_t = \tanh (W_g x_t + R_g \hat h_{t-1} + b_g) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot \hat g_t, \qquad h_t = o_t \odot \tanh c_t

    with a mask :math:`m \sim \text{Bernoulli}(1 - p) / (1 - p)` in training, one in evaluation:

    - ``place="candidate"``: :math:`\hat g_t = m \odot g_t, \; \hat h = h`. New content is dropped,
    never the memory: along the memory the gradient is multiplied by
      :math:`f_t` alone, and no information is lost over time (Semeniuta et al.).
    - ``place="hidden"``: :math:`\hat h_{t-1} = m \odot h_{t-1}, \; \hat g = g`. With one mask for
      the whole sequence it is the variational dropout of Gal and Ghahramani, the mask tied over
      the gates.

    The gradient through the dropped values is multiplied by the mask; with a mask per step on
    ``hidden``, a path of n products survives with probability :math:`(1-p)^n`, which is why one
    mask for the sequence is the better choice there.

    Args:
        drop: :math:`p`, 0 to below 1.
        place: What is dropped.
        shared: Whether one mask holds for the whole sequence, instead of one per time step.

    Shapes:
        As `steadygrad.cells.LSTM`.

    References:
        Semeniuta, Severyn and Barth, *Recurrent Dropout without Memory Loss*, 2016, section 3.
        Gal and Ghahramani, *A Theoretically Grounded Application of Dropout in Recurrent Neural
        Networks*, 2016, section 4.
    """

    name: ClassVar[str] = "lstm-dropout"
    choose_when: ClassVar[str] = (
        "Against overfitting of an LSTM when dropout between the layers is not enough."
    )
    gates: ClassVar[tuple[str, ...]] = ("input", "forget", "candidate", "output")
    keeping: ClassVar[tuple[str, Literal[1, -1]] | None] = ("forget", 1)
    states: ClassVar[tuple[str, ...]] = ("h", "c")

    drop: float = 0.25
    place: Place = "candidate"
    shared: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.drop < 1:
            raise ValueError(f"drop is a probability, 0 to below 1, got {self.drop}")
        if self.place not in get_args(Place):
            raise ValueError(
                f"Unknown place '{self.place}'. Select from {', '.join(get_args(Place))}."
            )

    @property
    def noise(self) -> Mapping[str, Noise]:
        return {"kept": Noise(1 - self.drop, self.shared)}

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        h, c = state
        mask = x.kept / (1 - self.drop)
        seen = h * mask if self.place == "hidden" else h
        i = sigmoid(x.input + recur.input(seen))
        f = sigmoid(x.forget + recur.forget(seen))
        g = tanh(x.candidate + recur.candidate(seen))
        o = sigmoid(x.output + recur.output(seen))
        c = f * c + i * (g * mask if self.place == "candidate" else g)
        return o * tanh(c), c
