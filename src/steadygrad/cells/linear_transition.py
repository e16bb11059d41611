"""A recurrence with a linear transition: the nonlinearity is applied to the input alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State


@final
@dataclass(frozen=True)
class LinearTransition(Cell):
    r"""Linear transition RNN: LT-ORNN, or LT-IRNN.

    .. math::
        h_t = \phi(W x_t + b_{ih}) + R h_{t-1} + b_{hh}

    The step Jacobian is :math:`R` itself, whatever the input: the gradient over :math:`k` steps
    is :math:`(R^\top)^k \delta`, and with an orthogonal :math:`R` it keeps its length.
    :math:`R` *starts* orthogonal, or as the identity, and then learns freely; to keep it
    orthogonal use `steadygrad.nn.orthogonal_` (the paper has a soft penalty). The paper's finding:
    orthogonal solves copying but not adding, the identity adding but not copying.

    Args:
        start: ``"orthogonal"`` (LT-ORNN) or ``"identity"`` (LT-IRNN).
        nonlinearity: :math:`\phi`: ``"relu"`` (adding) or ``"tanh"``. The paper's identity for
            one-hot inputs is ReLU with another sign of W.

    Shapes:
        As `steadygrad.cells.Elman`.

    References:
        Henaff, Szlam and LeCun, *Recurrent Orthogonal Networks and Long-Memory Tasks*, 2016,
        sections 2 and 5.
    """

    name: ClassVar[str] = "linear-transition"
    choose_when: ClassVar[str] = (
        "To study an exact memory, and tasks that are solved by storing and rotating; start "
        "it orthogonal for copying, at the identity for adding."
    )
    gates: ClassVar[tuple[str, ...]] = ("candidate",)

    start: Literal["orthogonal", "identity"] = "orthogonal"
    nonlinearity: Literal["relu", "tanh"] = "relu"

    def __post_init__(self) -> None:
        if self.start not in ("orthogonal", "identity"):
            raise ValueError(f"Unknown start '{self.start}'. Select from orthogonal, identity.")
        if self.nonlinearity not in ("relu", "tanh"):
            raise ValueError(f"Unknown nonlinearity '{self.nonlinearity}'. Select from relu, tanh.")

    def reset_(self, weights: Mapping[str, Tensor]) -> None:
        fill = nn.init.orthogonal_ if self.start == "orthogonal" else nn.init.eye_
        fill(weights["weight_hh"])
        if "bias_hh" in weights:
            # A constant bias would be summed over time without bound.
            nn.init.zeros_(weights["bias_hh"])

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        (h,) = state
        phi = torch.relu if self.nonlinearity == "relu" else torch.tanh
        return (phi(x.candidate) + recur.candidate(h),)
