"""The plain recurrence with modReLU, which keeps the sign and shifts the absolute value."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor, relu, sign

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State


def mod_relu(z: Tensor, bias: Tensor) -> Tensor:
    r"""The real modReLU, :math:`\operatorname{sgn}(z) \max(0, |z| + b)`."""
    return sign(z) * relu(abs(z) + bias)


@final
@dataclass(frozen=True)
class ModReLU(Cell):
    r"""Elman recurrence with modReLU and an unconstrained matrix.

    .. math::
        z_t &= W x_t + b_{ih} + R h_{t-1} + b_{hh}  \\
        h_t &= \operatorname{sgn}(z_t) \max(0, |z_t| + b)

    The slope of an active unit is one, on both sides of zero, so its gradient is that of
    :math:`R` alone; a unit with :math:`|z| \le -b` passes none. With :math:`b = 0`, where it
    starts, the recurrence is linear.

    Shapes:
        As `steadygrad.cells.Elman`; ``mod_bias (H,)`` is :math:`b`.

    References:
        Arjovsky, Shah and Bengio, *Unitary Evolution Recurrent Neural Networks*, 2016, equation
        8 (complex). The real form is that of Helfrich, Willmott and Ye, *Orthogonal Recurrent
        Neural Networks with Scaled Cayley Transform*, 2018, section 3.2.
    """

    name: ClassVar[str] = "modrelu"
    choose_when: ClassVar[str] = (
        "With a matrix of your own that is kept orthogonal (see `steadygrad.nn.orthogonal_`); "
        "`exprnn` and `scornn` have one built in."
    )
    gates: ClassVar[tuple[str, ...]] = ("candidate",)
    per_unit: ClassVar[Mapping[str, float]] = {"mod_bias": 0.0}

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        (h,) = state
        return (mod_relu(x.candidate + recur.candidate(h), unit.mod_bias),)
