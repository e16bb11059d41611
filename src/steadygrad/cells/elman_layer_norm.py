"""The plain recurrence with layer normalisation of its pre-activation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from steadygrad.cells._normalise import normalise
from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State
from steadygrad.cells.elman import NONLINEARITIES


@final
@dataclass(frozen=True)
class ElmanLayerNorm(Cell):
    r"""Elman recurrence with layer normalisation of its pre-activation.

    .. math::
        h_t = \phi(\gamma \odot N(W x_t + R h_{t-1} + b) + \beta), \qquad
        N(v) = (v - \bar v) / \sqrt{\operatorname{var} v + 10^{-5}}

    A common scaling of :math:`W` and :math:`R` changes nothing, and the pre-activation neither
    saturates nor fades as the weights grow or shrink. In the step Jacobian :math:`R` stands
    divided by the standard deviation of the sum, so a matrix that is too large does not explode
    the gradient.

    Args:
        nonlinearity: :math:`\phi`: ``"tanh"``, ``"relu"``, ``"sigmoid"`` or ``"identity"``.

    Shapes:
        As `steadygrad.cells.Elman`; gain and shift ``(H,)``. The gain starts at one.

    References:
        Ba, Kiros and Hinton, *Layer Normalization*, 2016, equation 4.
    """

    name: ClassVar[str] = "elman-layer-norm"
    choose_when: ClassVar[str] = (
        "A plain recurrence with scale problems: inputs of changing size, or a gradient that "
        "explodes. For long memory take a gated cell."
    )
    gates: ClassVar[tuple[str, ...]] = ("candidate",)
    per_unit: ClassVar[Mapping[str, float]] = {"gain": 1.0, "shift": 0.0}

    nonlinearity: Literal["tanh", "relu", "sigmoid", "identity"] = "tanh"

    def __post_init__(self) -> None:
        if self.nonlinearity not in NONLINEARITIES:
            raise ValueError(
                f"Unknown nonlinearity '{self.nonlinearity}'. "
                f"Select from {', '.join(NONLINEARITIES)}."
            )

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        (h,) = state
        (normed,) = normalise(x.candidate + recur.candidate(h))
        return (NONLINEARITIES[self.nonlinearity](unit.gain * normed + unit.shift),)
