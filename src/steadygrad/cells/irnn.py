"""IRNN: the plain ReLU recurrence, its matrix initialised to the identity."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor, relu
from torch.nn import init

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State


@final
@dataclass(frozen=True)
class IRNN(Cell):
    r"""Plain recurrence of rectified units whose recurrent matrix starts at the identity.

    .. math::
        h_t &= \max(0, W x_t + b_{ih} + R h_{t-1} + b_{hh}), \qquad
            R = \alpha I, \; W_{jk} \sim N(0, 0.001^2), \; b = 0 \text{ at the start}

    At the start an active unit keeps its value and adds its input; the step Jacobian is
    :math:`\alpha I` on active units, so the gradient passes unchanged (:math:`\alpha = 1`) or
    decays slowly. Nothing keeps :math:`R` there: training may drive its largest singular value
    above one, and then states and gradient explode. Use a small learning rate and clip.

    Args:
        scale: :math:`\alpha`; below one for tasks without long lags (the paper took 0.01 for
            speech).

    Shapes:
        As `steadygrad.cells.Elman`.

    References:
        Le, Jaitly and Hinton, *A Simple Way to Initialize Recurrent Networks of Rectified Linear
        Units*, 2015, section 2.
    """

    name: ClassVar[str] = "irnn"
    choose_when: ClassVar[str] = (
        "As the simplest network that can add over hundreds of steps. It needs a small learning "
        "rate and clipping; an LSTM with an open forget gate is less delicate."
    )
    gates: ClassVar[tuple[str, ...]] = ("candidate",)

    scale: float = 1.0

    def reset_(self, weights: Mapping[str, Tensor]) -> None:
        init.normal_(weights["weight_ih"], std=0.001)
        init.eye_(weights["weight_hh"]).mul_(self.scale)
        for name in ("bias_ih", "bias_hh"):
            if name in weights:
                init.zeros_(weights[name])

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        (h,) = state
        return (relu(x.candidate + recur.candidate(h)),)
