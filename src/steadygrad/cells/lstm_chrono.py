"""The LSTM with gates that start with memories of every length up to a lag."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import Tensor, nn

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State
from steadygrad.cells.lstm import LSTM


@final
@dataclass(frozen=True)
class ChronoLSTM(Cell):
    r"""The LSTM of `steadygrad.cells.LSTM`, started by the chrono rule.

    .. math::
        b_f = \log u, \qquad b_i = -b_f, \qquad u \sim U(1, \text{lag} - 1)

    and all other biases zero. At zero input and state :math:`f = u/(1+u)` and :math:`i = 1 - f`:
    a unit is a leaky integrator with a time constant of :math:`1 + u` steps, and the units cover
    the lags up to ``lag``, so that some gradient arrives from each. Only the start differs from an
    LSTM; ``lag`` need not be exact. Of torch's two biases, ``bias_hh`` starts at zero.

    Args:
        lag: The longest memory that is needed, in steps; above 2. The paper takes the length of
            the sequence for adding, and 3/2 of the lag for copying.

    Shapes:
        As `steadygrad.cells.LSTM`; the weights are interchangeable with it.

    References:
        Tallec and Ollivier, *Can Recurrent Neural Networks Warp Time?*, 2018, section 2.
    """

    name: ClassVar[str] = "lstm-chrono"
    choose_when: ClassVar[str] = "An LSTM whose task needs a lag that is roughly known beforehand."
    gates: ClassVar[tuple[str, ...]] = LSTM.gates
    keeping: ClassVar[tuple[str, Literal[1, -1]] | None] = ("forget", 1)
    states: ClassVar[tuple[str, ...]] = LSTM.states
    can_project: ClassVar[bool] = True

    lag: float = 100.0

    def __post_init__(self) -> None:
        if not 2 < self.lag < float("inf"):
            raise ValueError(f"ChronoLSTM: lag must be a number of steps above 2, got {self.lag}")

    def reset_(self, weights: Mapping[str, Tensor]) -> None:
        if "bias_ih" not in weights:
            raise ValueError("ChronoLSTM starts at its biases: build the layer with bias=True")
        nn.init.zeros_(weights["bias_ih"])
        nn.init.zeros_(weights["bias_hh"])
        i, f, _, _ = weights["bias_ih"].chunk(4)
        f.uniform_(1, self.lag - 1).log_()
        i.copy_(-f)

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        return LSTM().step(x, recur, state, unit)
