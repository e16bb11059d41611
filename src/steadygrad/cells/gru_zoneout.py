"""GRU with zoneout: in training, units randomly keep their old value."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import sigmoid, tanh

from steadygrad.cells.base import Cell, Gates, Noise, PerUnit, Recur, State


@final
@dataclass(frozen=True)
class GRUZoneout(Cell):
    r"""GRU with zoneout, reset after the product.

    .. math::
        r_t, z_t &= \sigma(W x_t + R h_{t-1} + b), \qquad
        n_t = \tanh (W_n x_t + b_{in} + r_t \odot (R_n h_{t-1} + b_{hn})) \\
        \tilde h_t &= (1 - z_t) \odot n_t + z_t \odot h_{t-1} \\
        h_t &= d_t \odot h_{t-1} + (1 - d_t) \odot \tilde h_t, \qquad
            d_t \sim \text{Bernoulli}(\text{keep})

    In training every unit keeps its old value at a step with this probability, drawn anew per
    row, unit and step; in evaluation mode :math:`d` is its mean. Where a unit is kept, its
    gradient passes unchanged.

    Args:
        keep: Probability of keeping, 0 to 1.

    Shapes:
        As `steadygrad.cells.GRU`.

    References:
        Krueger et al., *Zoneout: Regularizing RNNs by Randomly Preserving Hidden Activations*,
        2016, section 3.
    """

    name: ClassVar[str] = "gru-zoneout"
    choose_when: ClassVar[str] = "Against overfitting of a GRU, where the dependencies are long."
    gates: ClassVar[tuple[str, ...]] = ("reset", "update", "candidate")
    keeping: ClassVar[tuple[str, Literal[1, -1]] | None] = ("update", 1)

    keep: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.keep <= 1:
            raise ValueError(f"keep is a probability, 0 to 1, got {self.keep}")

    @property
    def noise(self) -> Mapping[str, Noise]:
        return {"keep": Noise(self.keep)}

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        (h,) = state
        r = sigmoid(x.reset + recur.reset(h))
        z = sigmoid(x.update + recur.update(h))
        n = tanh(x.candidate + r * recur.candidate(h))
        return (x.keep * h + (1 - x.keep) * ((1 - z) * n + z * h),)
