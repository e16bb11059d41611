"""coRNN: a network of coupled, damped, driven oscillators."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor, nn, tanh

from steadygrad.cells.antisymmetric import check_steps
from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State


@final
@dataclass(frozen=True)
class CoRNN(Cell):
    r"""Coupled oscillatory RNN, in its explicit form.

    .. math::
        z_t &= z_{t-1} + \Delta t \left( \tanh(V x_t + R_y y_{t-1} + R_z z_{t-1} + b)
               - \gamma\, y_{t-1} - \epsilon\, z_{t-1} \right)  \\
        y_t &= y_{t-1} + \Delta t\, z_t, \qquad h_t = y_t

    The step Jacobian is the identity plus :math:`O(\Delta t)`: over :math:`T` steps the gradient
    stays bounded while :math:`\Delta t` is small against roughly :math:`1/T`, and it does
    not decay exponentially. The states are bounded too, since tanh drives damped oscillators.

    This is the released code, explicit in the damping term; the paper also analyses a form that
    takes :math:`\epsilon z_t` implicitly.

    Args:
        dt: Time step :math:`\Delta t`.
        gamma: :math:`\gamma`, the squared frequency of the oscillators.
        epsilon: :math:`\epsilon`, their damping. The defaults are those of sequential MNIST.

    Shapes:
        ``h, velocity (B, H)``; ``weight_ih (H, I)``; ``weight_hh (2H, H)``, :math:`R_y` above
        :math:`R_z`. All start from :math:`U(\pm 1/\sqrt{I + 2H})`, one linear map of
        :math:`[x, z, y]` as in the code.

    References:
        Rusch and Mishra, *Coupled Oscillatory Recurrent Neural Network (coRNN): An Accurate and
        (Gradient) Stable Architecture for Learning Long Time Dependencies*, 2021, equation 3.
    """

    name: ClassVar[str] = "cornn"
    choose_when: ClassVar[str] = (
        "Long sequences of regular signals (pixels, sensors); tune dt, gamma and epsilon to the "
        "task."
    )
    gates: ClassVar[tuple[str, ...]] = ("candidate",)
    states: ClassVar[tuple[str, ...]] = ("h", "velocity")

    dt: float = 0.042
    gamma: float = 2.7
    epsilon: float = 4.7

    def __post_init__(self) -> None:
        check_steps(self, dt=self.dt, gamma=self.gamma, epsilon=self.epsilon)

    @property
    def recurrent(self) -> tuple[str, ...]:
        return ("position", "velocity")

    def reset_(self, weights: Mapping[str, Tensor]) -> None:
        fan_in = weights["weight_ih"].shape[1] + weights["weight_hh"].shape[0]
        for name in ("weight_ih", "weight_hh", "bias_ih"):
            if name in weights:
                nn.init.uniform_(weights[name], -(fan_in**-0.5), fan_in**-0.5)
        if "bias_hh" in weights:
            nn.init.zeros_(weights["bias_hh"])

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        y, z = state
        drive = tanh(x.candidate + recur.position(y) + recur.velocity(z))
        z = z + self.dt * (drive - self.gamma * y - self.epsilon * z)
        return y + self.dt * z, z
