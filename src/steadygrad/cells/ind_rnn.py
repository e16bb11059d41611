"""IndRNN: independent units, each with one recurrent weight instead of a matrix."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import Tensor, relu, tanh

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State


@final
@dataclass(frozen=True)
class IndRNN(Cell):
    r"""Independently recurrent network.

    .. math::
        h_t &= \phi(W x_t + u \odot h_{t-1} + b)

    Units interact only from layer to layer: stack two or more. Per unit the gradient is multiplied
    by :math:`u\,\phi'` at each step,

    .. math::
        \frac{\partial h_{T,n}}{\partial h_{t,n}} = u_n^{T-t} \prod_{k=t+1}^{T} \phi'_{k,n},

    so the conditions are explicit: it does not explode over T steps if
    :math:`|u| \le \gamma^{1/T}` for an acceptable gain :math:`\gamma` (2, or 10), and does not
    vanish on an active ReLU unit if :math:`|u|` is near one.

    Args:
        nonlinearity: :math:`\phi`: ``"relu"`` or ``"tanh"``.
        bound: If positive, :math:`u` is replaced by :math:`\text{bound} \cdot
            \tanh(u / \text{bound})`, which stays within the bound and always has a gradient. (The
            authors clip :math:`u` after each update; a clipped value would need a hook there.)

    Shapes:
        ``x (T, B, I)``; ``h (B, H)``; ``weight_ih (H, I)``; no ``weight_hh``; ``u (H,)``, drawn
        from U(0, 1), or from U(0, bound) if the bound is below 1.

    References:
        Li, Li, Cook, Zhu and Gao, *Independently Recurrent Neural Network (IndRNN): Building A
        Longer and Deeper RNN*, 2018, section 3.
    """

    name: ClassVar[str] = "ind-rnn"
    choose_when: ClassVar[str] = (
        "Very long sequences and deep stacks: cheap per step, and the decay of the gradient can "
        "be read off one number per unit. Use two layers or more."
    )
    gates: ClassVar[tuple[str, ...]] = ("candidate",)
    per_unit: ClassVar[Mapping[str, float]] = {"u": 1.0}

    nonlinearity: Literal["relu", "tanh"] = "relu"
    bound: float = 0.0

    def __post_init__(self) -> None:
        if self.nonlinearity not in ("relu", "tanh"):
            raise ValueError(f"Unknown nonlinearity '{self.nonlinearity}'. Select from relu, tanh.")
        if not 0 <= self.bound < float("inf"):
            raise ValueError(f"bound must be zero (none) or positive, got {self.bound}")

    def reset_(self, weights: Mapping[str, Tensor]) -> None:
        top = min(1.0, self.bound or 1.0)
        u = weights["u"].uniform_(0, top)
        if self.bound:  # inverted, so that bound * tanh(u / bound) is the drawn value
            u.div_(self.bound).clamp_(max=0.999).atanh_().mul_(self.bound)

    @property
    def recurrent(self) -> tuple[str, ...]:
        return ()

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        (h,) = state
        u = self.bound * tanh(unit.u / self.bound) if self.bound else unit.u
        net = x.candidate + u * h
        return (relu(net) if self.nonlinearity == "relu" else tanh(net),)
