"""States and gradients at every time step of every layer of one call, for penalties."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from steadygrad.cells import Cell
from steadygrad.flow.capture import Call
from steadygrad.flow.replay import OutputGradient, Rows, rows_of
from steadygrad.nn import Recurrent
from steadygrad.nn.torch_twins import cell_of
from steadygrad.scan import Layout, LoopClip, Weights
from steadygrad.scan.backends.eager import Trip, backward, forward


@dataclass(frozen=True)
class Leg:
    r"""One direction of one layer in one call, step by step, in rows ``(N, ·)`` of `layout`.

    Attributes:
        label: The module's path and the layer in it.
        cell: The recurrence.
        weights: The live weights, through which a penalty may be differentiated.
        layout: Which rows take part at which time step.
        projected: :math:`W x_t + b_{ih}` of every row, detached.
        before: Each state before the step, detached.
        grads: The total gradient :math:`\partial L / \partial s_t` of each state after the step,
            detached.
    """

    label: str
    cell: Cell
    weights: Weights
    layout: Layout
    projected: Tensor
    before: tuple[Tensor, ...]
    grads: tuple[Tensor, ...]


@dataclass(frozen=True)
class _Walked:
    """One direction of one layer, on the way forward."""

    suffix: str
    weights: Weights
    layout: Layout
    projected: Tensor
    trip: Trip


@torch.no_grad()
def legs(call: Call, grad: OutputGradient) -> Iterator[Leg]:
    """Walk one call again, forward and back, and yield what each layer and direction saw.

    Args:
        call: What was caught.
        grad: Gradient of the loss with respect to ``call.output`` and ``call.last``.
    """
    rows, layer, cell = rows_of(call, grad), call.layer, cell_of(call.layer)
    clip = layer.loop_clip if isinstance(layer, Recurrent) else None
    walked = _forward(layer, cell, rows)
    last = [g.unbind(0) for g in rows.last]
    grad_output = rows.output
    directions = len(walked) // int(getattr(layer, "num_layers", 1))
    for number in reversed(range(len(walked) // directions)):
        parts = grad_output.chunk(directions, 1)
        grad_output = torch.zeros_like(grad_output[:, :0])
        for way in range(directions):
            index = number * directions + way
            final = [g[index] for g in last]
            leg, at_input = _backward(call.name, cell, walked[index], parts[way], final, clip)
            grad_output = at_input if way == 0 else grad_output + at_input
            yield leg


def _forward(layer: nn.Module, cell: Cell, rows: Rows) -> list[_Walked]:
    """Run every layer and direction again, without a graph."""
    walked: list[_Walked] = []
    x = rows.x
    for number in range(int(getattr(layer, "num_layers", 1))):
        outputs = []
        for reverse in (False, True)[: 1 + bool(getattr(layer, "bidirectional", False))]:
            suffix = f"_l{number}" + "_reverse" * reverse
            weights = weights_of(layer, cell, suffix)
            layout = Layout(rows.batch_sizes, reverse)
            projected = nn.functional.linear(x, weights.weight_ih, weights.bias_ih)
            state = _start(rows, cell, weights, len(walked))
            trip = forward(cell, layout, projected, weights, state, keep=True)
            walked.append(_Walked(suffix, weights, layout, projected, trip))
            outputs.append(trip.hidden)
        x = torch.cat(outputs, 1)
    return walked


def _start(rows: Rows, cell: Cell, weights: Weights, index: int) -> list[Tensor]:
    """The state before the first step, zeros if none was given."""
    if rows.state:
        return [s[index] for s in rows.state]
    hidden = weights.weight_ih.shape[0] // len(cell.gates)
    widths = [weights.weight_hh.shape[1]] + [hidden] * (len(cell.states) - 1)
    return [rows.x.new_zeros(rows.batch_sizes[0], width) for width in widths]


def _backward(
    name: str,
    cell: Cell,
    walked: _Walked,
    grad_hidden: Tensor,
    grad_final: list[Tensor],
    clip: LoopClip | None,
) -> tuple[Leg, Tensor]:
    """Return what the direction saw, and the gradient at its input."""
    seen: list[tuple[Tensor, ...]] = []
    found = backward(
        cell,
        walked.layout,
        walked.trip.saved,
        walked.weights,
        grad_hidden.contiguous(),
        grad_final,
        clip,
        on_states=seen.append,
    )
    leg = Leg(
        f"{name}{walked.suffix.replace('_', '.', 1)}",
        cell,
        walked.weights,
        walked.layout,
        walked.projected,
        tuple(walked.trip.saved[f"s.{state}"] for state in cell.states),
        seen[0],
    )
    return leg, found.pre @ walked.weights.weight_ih


def weights_of(layer: nn.Module, cell: Cell, suffix: str) -> Weights:
    """The weights of one direction as they are used: attributes, so parametrised ones too."""
    stems = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
    found = {stem: getattr(layer, stem + suffix, None) for stem in stems}
    units = tuple(getattr(layer, name + suffix) for name in cell.per_unit)
    return Weights(**found, per_unit=units)  # pyright: ignore[reportArgumentType]
