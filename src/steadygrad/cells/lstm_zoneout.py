"""LSTM with zoneout: in training, units randomly keep their old value and gradient."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import sigmoid, tanh

from steadygrad.cells.base import Cell, Gates, Noise, PerUnit, Recur, State


@final
@dataclass(frozen=True)
class LSTMZoneout(Cell):
    r"""LSTM with zoneout.

    .. math::
        i_t, f_t, o_t &= \sigma(W x_t + R h_{t-1} + b), \qquad
        g_t = \tanh (W_g x_t + R_g h_{t-1} + b_g) \\
        \tilde c_t &= f_t \odot c_{t-1} + i_t \odot g_t, \qquad
        \tilde h_t = o_t \odot \tanh \tilde c_t  \\
        c_t &= d^c_t \odot c_{t-1} + (1 - d^c_t) \odot \tilde c_t, \qquad
            d^c_t \sim \text{Bernoulli}(z_c)  \\
        h_t &= d^h_t \odot h_{t-1} + (1 - d^h_t) \odot \tilde h_t, \qquad
            d^h_t \sim \text{Bernoulli}(z_h)

    In training every unit keeps its old value at a step with probability :math:`z`, drawn anew
    per row, unit and step; in evaluation mode :math:`d` is its mean :math:`z`. Unlike dropout it
    adds a path for the gradient: where a unit is kept, its gradient passes unchanged, on average a
    share :math:`z` of it.

    Args:
        keep_c: :math:`z_c`, 0 to 1. The paper: 0.5 on characters of the Penn Treebank, 0.15 on
            permuted MNIST.
        keep_h: :math:`z_h`, 0 to 1. The paper: 0.05 and 0.15.

    Shapes:
        As `steadygrad.cells.LSTM`.

    References:
        Krueger et al., *Zoneout: Regularizing RNNs by Randomly Preserving Hidden Activations*,
        2016, equations 3 and 4, with :math:`h_t` made from the memory before it is zoned out, as
        in the released code.
    """

    name: ClassVar[str] = "lstm-zoneout"
    choose_when: ClassVar[str] = (
        "Against overfitting in place of dropout, where the dependencies are long."
    )
    gates: ClassVar[tuple[str, ...]] = ("input", "forget", "candidate", "output")
    keeping: ClassVar[tuple[str, Literal[1, -1]] | None] = ("forget", 1)
    states: ClassVar[tuple[str, ...]] = ("h", "c")

    keep_c: float = 0.5
    keep_h: float = 0.05

    def __post_init__(self) -> None:
        for name in ("keep_c", "keep_h"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability, 0 to 1, got {getattr(self, name)}")

    @property
    def noise(self) -> Mapping[str, Noise]:
        return {"keep_c": Noise(self.keep_c), "keep_h": Noise(self.keep_h)}

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        h, c = state
        i = sigmoid(x.input + recur.input(h))
        f = sigmoid(x.forget + recur.forget(h))
        g = tanh(x.candidate + recur.candidate(h))
        o = sigmoid(x.output + recur.output(h))
        new_c = f * c + i * g
        new_h = o * tanh(new_c)
        h = x.keep_h * h + (1 - x.keep_h) * new_h
        return h, x.keep_c * c + (1 - x.keep_c) * new_c
