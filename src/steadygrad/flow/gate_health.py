"""Gate health: where does each gate sit, and does it still let a gradient through?"""

from dataclasses import dataclass

from torch import Tensor

from steadygrad.flow.quantity import Quantity, declare
from steadygrad.scan import Observed

QUANTITIES: tuple[Quantity, ...] = (
    declare(
        Quantity(
            "gate:*",
            "1",
            "Share of the units of a gate whose derivative is dead.",
            title="Dead units",
        )
    ),
)

DEAD_BELOW = {"sigmoid": 0.05, "tanh": 0.2, "relu": 0.0}
"""Mean derivative at or below which a unit counts as dead. Largest possible: 0.25, 1 and 1.

The first two are those of Kaldi's LSTM self-repair; a ReLU is dead if it never opens.
"""

STUCK_BELOW = {"sigmoid": 0.05, "tanh": 0.1, "relu": 0.0}
"""Standard deviation of the gate at or below which a dead unit is stuck, not merely decided.

A trained gate may jump between 0 and 1 and have no slope at either end: that is a decision, and
no fault. A stuck one has no slope and never moves.
"""


SHUT_BELOW = {"sigmoid": 0.0025, "tanh": 0.01, "relu": 0.0}
"""Mean derivative at or below which a unit that does not move is shut: a hundredth of the largest.

A dead unit may still be fetched back by training, and a gate that keeps its memory sits there by
design; a shut one is out of reach.
"""

FLIPS_BELOW = {"sigmoid": 2.5e-7, "tanh": 1e-6, "relu": -1.0}
"""Mean derivative at or below which a unit is shut though it moves: a millionth of the largest.

A trained gate that jumps between its ends passes through its slope now and then, and has some at
both. One that has none anywhere, over all steps and sequences, only flips with the sign of an
argument that is far too large: no training reaches it.
"""


@dataclass(frozen=True)
class GateHealth:
    r"""Derivative of one gate's activation, averaged over time steps and sequences.

    Attributes:
        activation: ``"sigmoid"``, ``"tanh"`` or ``"relu"``.
        mean_derivative: ``(H,)``, :math:`\overline{\phi'(a)}` of each unit.
        mean_value: ``(H,)``, mean of the gate itself.
        std_value: ``(H,)``, its standard deviation.
    """

    activation: str
    mean_derivative: Tensor
    mean_value: Tensor
    std_value: Tensor

    def _still_below(self, bound: float) -> Tensor:
        still = self.std_value <= STUCK_BELOW[self.activation]
        return (self.mean_derivative <= bound) & still

    @property
    def _stuck(self) -> Tensor:
        return self._still_below(DEAD_BELOW[self.activation])

    @property
    def _shut(self) -> Tensor:
        flips = self.mean_derivative <= FLIPS_BELOW[self.activation]
        return self._still_below(SHUT_BELOW[self.activation]) | flips

    @property
    def is_moving(self) -> bool:
        """Whether most units that are shut move: they flip between the ends of the gate."""
        moves = self.std_value > STUCK_BELOW[self.activation]
        return float((self._shut & moves).sum()) > float(self._shut.sum()) / 2

    @property
    def shut_share(self) -> float:
        """Share of units that pass next to nothing, for good.

        They do not move and pass less than a hundredth of what they could, or they flip between
        their ends and pass less than a millionth.
        """
        return float(self._shut.double().mean())

    @property
    def shut_units(self) -> list[int]:
        """Indices of those units."""
        return self._shut.nonzero().flatten().tolist()

    @property
    def stuck_share(self) -> float:
        """Share of units that are dead and do not move either, 0 to 1."""
        return float(self._stuck.double().mean())

    @property
    def dead_share(self) -> float:
        """Share of units whose gate sits where its derivative is dead, 0 to 1."""
        return float((self.mean_derivative <= DEAD_BELOW[self.activation]).double().mean())

    @property
    def dead_units(self) -> list[int]:
        """Indices of those units."""
        dead = self.mean_derivative <= DEAD_BELOW[self.activation]
        return dead.nonzero().flatten().tolist()


def gate_health(observed: Observed) -> dict[str, GateHealth]:
    """Judge every gate of an observed forward pass.

    References:
        Kaldi nnet3, LSTM self-repair (thresholds 0.05 for sigmoid and 0.2 for tanh units).
    """
    return {
        gate: _health(activation, argument)
        for gate, (activation, argument) in observed.preactivations.items()
    }


def _health(activation: str, argument: Tensor) -> GateHealth:
    if activation == "sigmoid":
        value = argument.sigmoid()
        derivative = value * (1 - value)
    elif activation == "tanh":
        value = argument.tanh()
        derivative = 1 - value**2
    else:
        value = argument.relu()
        derivative = (argument > 0).to(argument.dtype)
    mean, value = derivative.double().mean(0), value.double()
    return GateHealth(activation, mean, value.mean(0), value.std(0, correction=0))
