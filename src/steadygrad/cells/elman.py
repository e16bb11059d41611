"""The plain (Elman) recurrence: the baseline, whose gradient vanishes or explodes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State

NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "identity": lambda a: a,
}


@final
@dataclass(frozen=True)
class Elman(Cell):
    r"""Elman recurrence, `torch.nn.RNN`'s cell.

    .. math::
        h_t = \phi(W x_t + b_{ih} + R h_{t-1} + b_{hh})

    Its step Jacobian is :math:`\operatorname{diag}(\phi'(a_t)) R`. With
    :math:`|\phi'| \le \gamma` (tanh, ReLU and identity 1, sigmoid 1/4) the gradient vanishes
    where the largest singular value of :math:`R` is below :math:`1/\gamma`, and can explode only
    above.
    With the identity the gradient is multiplied by the same matrix at every step, as in the
    linear analysis.

    Args:
        nonlinearity: :math:`\phi`: ``"tanh"``, ``"relu"``, ``"sigmoid"`` or ``"identity"``.

    Shapes:
        ``x (T, B, I)``; ``h (B, H)``; ``weight_ih (H, I)``; ``weight_hh (H, H)``; biases ``(H,)``.

    References:
        Elman, *Finding Structure in Time*, 1990.
        Pascanu, Mikolov and Bengio, *On the Difficulty of Training Recurrent Neural Networks*,
        2013, section 2.1 (the bound).
    """

    name: ClassVar[str] = "elman"
    choose_when: ClassVar[str] = (
        "As the baseline, and for dependencies of a few steps. Anything longer needs a gate, an "
        "orthogonal matrix or a skip through time."
    )
    gates: ClassVar[tuple[str, ...]] = ("candidate",)

    nonlinearity: Literal["tanh", "relu", "sigmoid", "identity"] = "tanh"

    def __post_init__(self) -> None:
        if self.nonlinearity not in NONLINEARITIES:
            raise ValueError(
                f"Unknown nonlinearity '{self.nonlinearity}'. "
                f"Select from {', '.join(NONLINEARITIES)}."
            )

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        (h,) = state
        phi = NONLINEARITIES[self.nonlinearity]
        return (phi(x.candidate + recur.candidate(h)),)
