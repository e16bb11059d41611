"""Long expressive memory: two time scales, each with a time step that is learnt."""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import sigmoid, tanh

from steadygrad.cells.antisymmetric import check_steps
from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State


@final
@dataclass(frozen=True)
class LEM(Cell):
    r"""Long expressive memory.

    .. math::
        \Delta^z_t &= \Delta t\, \sigma(V_1 x_t + R_1 y_{t-1} + b_1)
            &&\text{time step of the inner state}  \\
        \Delta^y_t &= \Delta t\, \sigma(V_2 x_t + R_2 y_{t-1} + b_2)
            &&\text{time step of the hidden state}  \\
        z_t &= (1 - \Delta^z_t) \odot z_{t-1} +
            \Delta^z_t \odot \tanh(V_z x_t + R_z y_{t-1} + b_z)  \\
        y_t &= (1 - \Delta^y_t) \odot y_{t-1} +
            \Delta^y_t \odot \tanh(V_y x_t + R_y z_t + b_y), \qquad h_t = y_t

    A multiscale differential equation in an implicit-explicit step. With :math:`\Delta t \le 1`
    both states are convex mixtures and stay within :math:`[-1, 1]`; the gradient passes with the
    factor :math:`1 - \Delta_t` along each, so small time steps keep it alive. A step needs two
    products in sequence, the second of the new :math:`z_t`.

    Args:
        dt: The longest time step :math:`\Delta t`, above 0 and at most 1.

    Shapes:
        ``h, inner (B, H)``; ``weight_ih (4H, I)``, ``weight_hh (4H, H)`` and biases ``(4H,)``
        stack their rows in the order of `gates`. All start from :math:`U(\pm 1/\sqrt H)`, both
        biases too, as in the released code.

    References:
        Rusch, Mishra, Erichson and Mahoney, *Long Expressive Memory for Sequence Modeling*, 2022,
        equation 3.
    """

    name: ClassVar[str] = "lem"
    choose_when: ClassVar[str] = (
        "Sequences that mix fast and slow, such as physical systems and noisy sensors; "
        "expressive, at the cost of two products in sequence per step."
    )
    gates: ClassVar[tuple[str, ...]] = ("inner_rate", "rate", "inner", "candidate")
    states: ClassVar[tuple[str, ...]] = ("h", "inner")

    dt: float = 1.0

    def __post_init__(self) -> None:
        check_steps(self, dt=self.dt)
        if self.dt > 1:
            raise ValueError(f"LEM: dt must be at most 1, got {self.dt}")

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        y, z = state
        dz = self.dt * sigmoid(x.inner_rate + recur.inner_rate(y))
        dy = self.dt * sigmoid(x.rate + recur.rate(y))
        z = (1 - dz) * z + dz * tanh(x.inner + recur.inner(y))
        y = (1 - dy) * y + dy * tanh(x.candidate + recur.candidate(z))
        return y, z
