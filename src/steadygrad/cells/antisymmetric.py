"""AntisymmetricRNN: a differential equation whose Jacobian has imaginary eigenvalues."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor, nn, sigmoid, tanh

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State


def check_steps(cell: Cell, **options: float) -> None:
    """Refuse an option that is not a finite number above 0 (``gamma`` may be 0)."""
    for name, value in options.items():
        if not (0 < value < float("inf") or (value == 0 and name == "gamma")):
            raise ValueError(
                f"{type(cell).__name__}: {name} must be a finite number above 0, got {value}"
            )


def reset_(weights: Mapping[str, Tensor]) -> None:
    """Start recurrent weights from N(0, 1/H), biases at zero."""
    nn.init.normal_(weights["weight_hh"], std=weights["weight_hh"].shape[1] ** -0.5)
    for name in ("bias_ih", "bias_hh"):
        if name in weights:
            nn.init.zeros_(weights[name])


@final
@dataclass(frozen=True)
class Antisymmetric(Cell):
    r"""AntisymmetricRNN: an Euler step of a stable differential equation.

    .. math::
        h_t = h_{t-1} + \epsilon \tanh\left(V x_t + (R - \gamma I) h_{t-1} + b\right),
        \qquad R = S - S^\top

    A skew :math:`R` has imaginary eigenvalues alone, so the continuous equation neither damps nor
    amplifies: the gradient neither vanishes nor explodes. The Euler step needs the diffusion
    :math:`\gamma > 0` for stability, :math:`|1 + \epsilon \lambda(J)| \le 1`. The factor per step
    is near one in any case, :math:`I + \epsilon J`, so a memory lasts about
    :math:`1/\epsilon` steps and longer.

    Args:
        epsilon: Step size :math:`\epsilon` of the Euler method.
        gamma: Strength :math:`\gamma` of the diffusion, 0 or above.

    Shapes:
        As `steadygrad.cells.Elman`; ``weight_hh (H, H)`` is :math:`S`.

    References:
        Chang, Chen, Haber and Chi, *AntisymmetricRNN: A Dynamical System View on Recurrent Neural
        Networks*, 2019, equation 10.
    """

    name: ClassVar[str] = "antisymmetric"
    choose_when: ClassVar[str] = (
        "Long signals that change slowly relative to the step size; a stable matrix "
        "without a matrix exponential."
    )
    gates: ClassVar[tuple[str, ...]] = ("candidate",)

    epsilon: float = 0.1
    gamma: float = 0.01

    def __post_init__(self) -> None:
        check_steps(self, epsilon=self.epsilon, gamma=self.gamma)

    def recurrent_matrix(self, stored: Tensor) -> Tensor:
        return stored - stored.t()

    def reset_(self, weights: Mapping[str, Tensor]) -> None:
        reset_(weights)

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        (h,) = state
        a = x.candidate + recur.candidate(h) - self.gamma * h
        return (h + self.epsilon * tanh(a),)


@final
@dataclass(frozen=True)
class GatedAntisymmetric(Cell):
    r"""AntisymmetricRNN with an input gate that shares its matrix.

    .. math::
        r_t &= (R - \gamma I) h_{t-1} + b_{hh}, \qquad R = S - S^\top  \\
        z_t &= \sigma(V_z x_t + r_t + b_z)  &&\text{update gate}  \\
        h_t &= h_{t-1} + \epsilon \, z_t \odot \tanh(V_h x_t + r_t + b_h)

    Where the gate is closed, the state does not change and the gradient passes unchanged; the
    matrix keeps its imaginary eigenvalues. (This gate *writes*; a positive bias opens
    it.)

    Args:
        epsilon: Step size :math:`\epsilon` of the Euler method.
        gamma: Strength :math:`\gamma` of the diffusion, 0 or above.

    Shapes:
        ``x (T, B, I)``; ``h (B, H)``; ``weight_ih (2H, I)``; ``weight_hh (H, H)`` is :math:`S`.

    References:
        Chang, Chen, Haber and Chi, *AntisymmetricRNN: A Dynamical System View on Recurrent Neural
        Networks*, 2019, equations 11 and 12.
    """

    name: ClassVar[str] = "antisymmetric-gated"
    choose_when: ClassVar[str] = (
        "As `antisymmetric`, where units should be able to ignore an input."
    )
    gates: ClassVar[tuple[str, ...]] = ("input", "candidate")

    epsilon: float = 0.1
    gamma: float = 0.01

    def __post_init__(self) -> None:
        check_steps(self, epsilon=self.epsilon, gamma=self.gamma)

    @property
    def recurrent(self) -> tuple[str, ...]:
        return ("candidate",)

    def recurrent_matrix(self, stored: Tensor) -> Tensor:
        return stored - stored.t()

    def reset_(self, weights: Mapping[str, Tensor]) -> None:
        reset_(weights)

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        (h,) = state
        r = recur.candidate(h) - self.gamma * h
        z = sigmoid(x.input + r)
        return (h + self.epsilon * z * tanh(x.candidate + r),)
