"""UnICORNN: independent undamped oscillators with an invertible step."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor, nn, sigmoid, tanh

from steadygrad.cells.antisymmetric import check_steps
from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State


@final
@dataclass(frozen=True)
class UnICORNN(Cell):
    r"""Undamped independent controlled oscillatory RNN.

    .. math::
        z_t &= z_{t-1} - \tau \left( \tanh(w \odot y_{t-1} + V x_t + b) + \alpha\, y_{t-1} \right),
               \qquad \tau = \sigma(c)\, \Delta t  \\
        y_t &= y_{t-1} + \tau \odot z_t, \qquad h_t = y_t

    A symplectic Euler step of a Hamiltonian system: it keeps volume in the state space (its
    Jacobian, of each unit two by two, has determinant one), so the gradient can neither explode
    nor vanish exponentially in all directions, and it has an exact `inverse`. Units interact only
    through the layers above: stack several.

    Args:
        dt: The longest time step :math:`\Delta t`; each unit learns its own below it.
        alpha: :math:`\alpha`, strength of the spring. The defaults are those of permuted
            sequential MNIST.

    Shapes:
        ``h, velocity (B, H)``; ``weight_ih (H, I)``; no ``weight_hh``; ``self_weight (H,)`` is
        :math:`w`, from :math:`U(0, 1)`; ``time_scale (H,)`` is :math:`c`, from :math:`U(\pm 0.1)`.
        Input weights start Kaiming uniform (a = 8), biases zero, as in the released code.

    References:
        Rusch and Mishra, *UnICORNN: A Recurrent Model for Learning Very Long Time Dependencies*,
        2021, equations 3 and 5.
    """

    name: ClassVar[str] = "unicornn"
    choose_when: ClassVar[str] = (
        "Very long sequences, in stacks of several layers; no recurrent product, so a step is "
        "cheap."
    )
    gates: ClassVar[tuple[str, ...]] = ("candidate",)
    states: ClassVar[tuple[str, ...]] = ("h", "velocity")
    per_unit: ClassVar[Mapping[str, float]] = {"self_weight": 0.5, "time_scale": 0.0}

    dt: float = 0.19
    alpha: float = 30.65

    def __post_init__(self) -> None:
        check_steps(self, dt=self.dt, alpha=self.alpha)

    @property
    def recurrent(self) -> tuple[str, ...]:
        return ()

    def reset_(self, weights: Mapping[str, Tensor]) -> None:
        nn.init.uniform_(weights["self_weight"], 0, 1)
        nn.init.uniform_(weights["time_scale"], -0.1, 0.1)
        nn.init.kaiming_uniform_(weights["weight_ih"], a=8)
        if "bias_ih" in weights:
            nn.init.zeros_(weights["bias_ih"])

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        y, z = state
        tau = sigmoid(unit.time_scale) * self.dt
        z = z - tau * (tanh(unit.self_weight * y + x.candidate) + self.alpha * y)
        return y + tau * z, z

    def inverse(self, x: Gates, state: State, unit: PerUnit) -> State:
        """The state before a step, from the state after it and the step's input."""
        y, z = state
        tau = sigmoid(unit.time_scale) * self.dt
        y = y - tau * z
        return y, z + tau * (tanh(unit.self_weight * y + x.candidate) + self.alpha * y)
