"""Backpropagation through time without a tape: states are computed back from the last one."""

from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steadygrad.cells import Named, UnICORNN
from steadygrad.nn.recurrent import Recurrent


@final
class Reversible(nn.Module):
    r"""A UnICORNN layer that keeps one state instead of T for the backward pass.

    The step of `steadygrad.cells.UnICORNN` has an exact inverse. In the backward pass each state is
    computed from the one after it, one step is run again and differentiated, and its gradient
    handed on: memory for states does not grow with T (the projected input still does). Values are
    those of the layer, gradients too, up to rounding, which the inverse multiplies: use it for
    lengths where that is measured, in float32 thousands of steps.

    There is no second derivative, no tap and no clip; the loop is plain torch operations. It does
    not compile, since the compiled loop is given the states that it reads.

    Args:
        layer: A `Recurrent` of a `UnICORNN` cell, one direction, without dropout. Its parameters
            are used and trained as they are.

    Shapes:
        As the layer, dense ``(T, B, I)`` only (``(B, T, I)`` if it is batch_first).

    Raises:
        TypeError: The layer runs another cell, or two directions.

    References:
        Rusch and Mishra, *UnICORNN: A Recurrent Model for Learning Very Long Time Dependencies*,
        2021, section 2 (the inverse, and why memory stays constant).
    """

    def __init__(self, layer: Recurrent) -> None:
        super().__init__()
        if not isinstance(layer.cell, UnICORNN) or layer.bidirectional:
            raise TypeError(
                "Reversible: expected a Recurrent of cell unicornn in one direction, got "
                f"{type(layer.cell).__name__}{', bidirectional' * layer.bidirectional}"
            )
        self.layer = layer

    def forward(
        self, input: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run the layer; see the class for shapes."""
        layer = self.layer
        x = input.transpose(0, 1) if layer.batch_first else input
        size = (layer.num_layers, x.shape[1], layer.hidden_size)
        h, z = state if state is not None else (x.new_zeros(size), x.new_zeros(size))
        last: list[tuple[Tensor, Tensor]] = []
        for index in range(layer.num_layers):
            weights = layer.weights(index)
            drive = F.linear(x, weights.weight_ih, weights.bias_ih)
            x, *final = _Reversed.apply(layer.cell, drive, h[index], z[index], *weights.per_unit)  # pyright: ignore[reportGeneralTypeIssues]
            last.append(tuple(final))
        h, z = (torch.stack(parts) for parts in zip(*last, strict=True))
        return (x.transpose(0, 1) if layer.batch_first else x), (h, z)


class _Reversed(torch.autograd.Function):
    """``(cell, drive (T, B, H), h, z, w, c) -> (hidden (T, B, H), h, z)``."""

    @staticmethod
    def forward(ctx: Any, cell: UnICORNN, drive: Tensor, *state_and_units: Tensor) -> Any:
        h, z, *units = state_and_units
        hidden = torch.empty_like(drive)
        for t, d in enumerate(drive):
            h, z = _step(cell, d, h, z, units)
            hidden[t] = h
        ctx.cell = cell
        ctx.save_for_backward(drive, h, z, *units)
        return hidden, h.clone(), z.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        drive, h, z, *units = ctx.saved_tensors
        at_hidden, grad_h, grad_z = grads
        at_drive = torch.empty_like(drive)
        at_units = [torch.zeros_like(u) for u in units]
        for t in reversed(range(len(drive))):
            named = Named("per-unit parameter", dict(zip(ctx.cell.per_unit, units, strict=True)))
            h, z = ctx.cell.inverse(Named("gate", {"candidate": drive[t]}), (h, z), named)
            leaves = [v.detach().requires_grad_() for v in (drive[t], h, z, *units)]
            with torch.enable_grad():
                after = _step(ctx.cell, leaves[0], leaves[1], leaves[2], leaves[3:])
            found = torch.autograd.grad(after, leaves, (grad_h + at_hidden[t], grad_z))
            at_drive[t], grad_h, grad_z = found[:3]
            for total, part in zip(at_units, found[3:], strict=True):
                total += part
        return None, at_drive, grad_h, grad_z, *at_units


def _step(
    cell: UnICORNN, drive: Tensor, h: Tensor, z: Tensor, units: list[Tensor]
) -> tuple[Tensor, Tensor]:
    named = Named("per-unit parameter", dict(zip(cell.per_unit, units, strict=True)))
    after = cell.step(Named("gate", {"candidate": drive}), Named("none", {}), (h, z), named)
    return after[0], after[1]
