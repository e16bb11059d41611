"""Clockwork RNN: modules with periods of their own; the slow ones carry the gradient far."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, tanh
from torch.nn import init

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State


@final
@dataclass(frozen=True)
class Clockwork(Cell):
    r"""Clockwork RNN: units in modules, module k active every :math:`T_k = 2^{k-1}` steps.

    .. math::
        h_{t,i} &= \begin{cases}
            \tanh(W_i x_t + R_i h_{t-1} + b_i) & t \bmod T_i = 0 \\
            h_{t-1,i} & \text{otherwise}
        \end{cases}

    counted from t = 0, so that every module reads the first input. R is block upper triangular:
    a module sees itself and the slower ones, never a faster one. This holds in training: the
    entries of ``weight_hh`` below the blocks are masked.

    While a module is inactive, its value and its gradient are copied: over n steps the gradient of
    a unit of period T passes only :math:`n / T` products and derivatives of tanh.

    Args:
        modules: How many modules g; periods 1, 2, 4, ..., :math:`2^{g-1}`. The units are divided
            evenly, the fastest module first (and larger by one if they do not divide evenly).

    Shapes:
        As `steadygrad.cells.Elman`, with a second state ``k (B, H)``: for how many more steps each
        unit is inactive. ``weight_hh (H, H)`` and ``weight_ih`` start from N(0, 0.1²), biases too.

    References:
        Koutník, Greff, Gomez and Schmidhuber, *A Clockwork RNN*, 2014, section 3.
    """

    name: ClassVar[str] = "clockwork"
    choose_when: ClassVar[str] = (
        "Signals with slow and fast parts at known ratios, such as sound or a load curve. The "
        "periods are fixed: other time scales are missed."
    )
    gates: ClassVar[tuple[str, ...]] = ("candidate",)
    states: ClassVar[tuple[str, ...]] = ("h", "k")

    modules: int = 5

    def __post_init__(self) -> None:
        if not 1 <= self.modules <= 20:
            raise ValueError(f"modules must be 1 to 20 (the last period 2^19), got {self.modules}")

    def _module(self, hidden_size: int) -> Tensor:
        """Index of the module of each unit, ``(H,)``."""
        return torch.arange(hidden_size) * self.modules // hidden_size

    def constants(self, hidden_size: int) -> Mapping[str, Tensor]:
        return {"period": 2.0 ** self._module(hidden_size)}

    def recurrent_matrix(self, stored: Tensor) -> Tensor:
        module = self._module(len(stored)).to(stored.device)
        return stored * (module[:, None] <= module)

    def reset_(self, weights: Mapping[str, Tensor]) -> None:
        for value in weights.values():
            init.normal_(value, std=0.1)

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        h, k = state
        new = tanh(x.candidate + recur.candidate(h))
        rests = torch.sign(k)  # zero or one: k counts down and starts at zero
        left = torch.where(k > 0, k - 1, unit.period - 1)
        return rests * h + (1 - rests) * new, left
