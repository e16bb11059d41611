"""Real-time recurrent learning: derivatives of the state by the weights, forward in time."""

from typing import Any, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from steadygrad.cells import Cell, State
from steadygrad.scan.layout import Layout
from steadygrad.scan.linear import Linearised
from steadygrad.scan.weights import Weights


@final
class Sensitivities:
    r"""The exact derivative of an element-wise cell's state by its weights, step by step.

    .. math::
        \frac{d s_t}{d \theta} = \frac{\partial s_t}{\partial s_{t-1}} \frac{d s_{t-1}}{d \theta}
        + \frac{\partial s_t}{\partial \theta}

    The state of a unit depends on the weights of that unit alone, so that the derivative has one
    number per state and weight, instead of H for a cell whose units interact. Its cost does not
    grow with time.

    Args:
        cell: A cell for which `steadygrad.scan.is_elementwise` holds.

    Attributes:
        by_weight: Per state ``(B, G, H, I + 1)``: derivative by the rows of ``weight_ih``, and
            last by ``bias_ih``. None before the first step, and for a constant state.
        by_unit: Per state ``(B, P, H)``: derivative by the per-unit parameters.

    References:
        Williams and Zipser, *A Learning Algorithm for Continually Running Fully Recurrent Neural
        Networks*, 1989, equation 4. Zucchet, Meier, Schug, Mujika and Sacramento, *Online
        learning of long-range dependencies*, 2023, section 3, for independent units.
    """

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self.by_weight: list[Tensor] | None = None
        self.by_unit: list[Tensor] | None = None

    def reset(self) -> None:
        """Treat the current state as a constant."""
        self.by_weight = self.by_unit = None

    def step(self, x: Tensor, weights: Weights, state: State) -> tuple[Tensor, State]:
        """Advance by one time step.

        Args:
            x: ``(B, I)``.
            weights: The current weights; tensors with a graph pass the gradient on.
            state: ``(B, H)`` per state.

        Returns:
            h, whose backward pass gives the weights the derivative through all steps so far; and
            the new state, detached.
        """
        with torch.no_grad():
            held = [(name, value.detach()) for name, value in weights.flat()]
            fixed = Weights.from_flat(*zip(*held, strict=True))
            linear = Linearised(self._cell, Layout.dense(1, len(x)), x, fixed, state)
            self._advance(x, linear.diagonals())
        assert self.by_weight is not None and self.by_unit is not None
        learnt = [weights.weight_ih, *([] if weights.bias_ih is None else [weights.bias_ih])]
        learnt += weights.per_unit
        hidden: Any = _Hidden.apply(
            linear.final[0], self.by_weight[0], self.by_unit[0], weights.bias_ih is None, *learnt
        )
        return hidden, tuple(linear.final)

    def _advance(self, x: Tensor, by: dict[tuple[str, str], Tensor]) -> None:
        cell, rows = self._cell, len(x)
        zero = x.new_zeros(rows, next(iter(by.values())).shape[1])
        given = torch.cat([x, x.new_ones(rows, 1)], 1)[:, None, None]  # input 1 for the bias
        old = self.by_weight, self.by_unit
        weight: list[Tensor] = []
        unit: list[Tensor] = []
        for state in cell.states:
            gates = torch.stack([by.get((state, f"x.{g}"), zero) for g in cell.gates], 1)
            now = [gates[..., None] * given]  # the direct derivative, then through each old state
            now.append(
                torch.stack([by.get((state, f"u.{u}"), zero) for u in cell.per_unit], 1)
                if cell.per_unit
                else x.new_zeros(rows, 0, zero.shape[1])
            )
            for index, source in enumerate(cell.states):
                through = by.get((state, f"s.{source}"))
                if through is None or old[0] is None or old[1] is None:
                    continue
                now[0] = now[0] + through[:, None, :, None] * old[0][index]
                now[1] = now[1] + through[:, None] * old[1][index]
            weight.append(now[0])
            unit.append(now[1])
        # New tensors at every step, because a pending backward pass may still use the old ones.
        self.by_weight, self.by_unit = weight, unit


class _Hidden(torch.autograd.Function):
    """``(h, dh/dW, dh/du, ...) -> h``, which passes its gradient to the weights."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, by_weight: Tensor, by_unit: Tensor, bare: bool, *learnt: Tensor
    ) -> Tensor:
        ctx.save_for_backward(by_weight, by_unit)
        ctx.bare = bare
        return hidden.clone()

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        by_weight, by_unit = ctx.saved_tensors
        # dL/dW = sum over rows of dL/dh dh/dW
        rows = torch.einsum("bh,bghi->ghi", grads[0], by_weight).flatten(0, 1)
        units = torch.einsum("bh,bph->ph", grads[0], by_unit)
        bias = [] if ctx.bare else [rows[:, -1]]
        return None, None, None, None, rows[:, :-1], *bias, *units.unbind(0)
