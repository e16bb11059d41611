"""States and gradients at every time step of every layer of one call, one layer after another."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from steadygrad.cells import Cell
from steadygrad.flow.replay import Rows
from steadygrad.nn.layer_view import Key, LayerView
from steadygrad.scan import Layout, ScanCall, Weights
from steadygrad.scan.backends.base import ForwardPass, OutputGradients
from steadygrad.scan.backends.eager import LoopGradients, carry_back, run


@dataclass(frozen=True)
class Leg:
    r"""One direction of one layer in one call, step by step, in rows ``(N, ·)`` of `layout`.

    Attributes:
        key: The layer, and whether it is the reverse direction.
        cell: The recurrence.
        weights: The live weights, through which a penalty may be differentiated.
        layout: Which rows take part at which time step.
        x: The input, detached.
        projected: :math:`W x_t + b_{ih}` of every row, detached.
        before: Each state before the step, detached.
        grads: The total gradient :math:`\partial L / \partial s_t` of each state after the step,
            detached.
        back: What else the backward pass found.
    """

    key: Key
    cell: Cell
    weights: Weights
    layout: Layout
    x: Tensor
    projected: Tensor
    before: tuple[Tensor, ...]
    grads: tuple[Tensor, ...]
    back: LoopGradients


@dataclass(frozen=True)
class _Walked:
    """The forward pass of one direction of one layer."""

    call: ScanCall
    done: ForwardPass


def walk(view: LayerView, rows: Rows, dtype: torch.dtype | None = None) -> Iterator[Leg]:
    """Walk one call again, forward and back, and yield what each layer and direction saw.

    Args:
        view: Of the layer.
        rows: The call, from `steadygrad.flow.rows_of`.
        dtype: Of the walk; the layer's own if not given.
    """
    cell = view.cell

    def step(
        key: Key, x: Tensor, weights: Weights, state: tuple[Tensor, ...], layout: Layout
    ) -> tuple[Tensor, _Walked]:
        with torch.no_grad():
            call = ScanCall(cell, x.detach(), weights, tuple(state), layout, clip=view.clip)
            done = run(call, keep=True)
        return done.hidden, _Walked(call, done)

    _, walked = view.run(rows, step, dtype)
    above = rows.output.to(next(iter(walked.values())).call.x)
    for index in reversed(range(view.num_layers)):
        parts = above.chunk(view.num_directions, 1)
        below = torch.zeros_like(walked[index, False].call.x)
        for way, part in enumerate(parts):
            key = index, bool(way)
            place = view.keys.index(key)
            leg = _back(view, key, walked[key], part, [g[place].to(part) for g in rows.last])
            below = below + leg.back.pre @ leg.weights.weight_ih.detach()
            yield leg
        above = below


@torch.no_grad()
def _back(
    view: LayerView, key: Key, walked: _Walked, grad_hidden: Tensor, grad_final: list[Tensor]
) -> Leg:
    seen: list[tuple[Tensor, ...]] = []
    call, saved = walked.call, walked.done.saved.tensors
    outside = OutputGradients(grad_hidden.contiguous(), tuple(grad_final))
    found = carry_back(call, saved, outside, on_states=seen.append)
    return Leg(
        key,
        view.cell,
        call.weights,
        call.layout,
        call.x,
        call.projected(),
        # A state that the step does not read is not kept, and its value tells nothing.
        tuple(
            saved.get(f"s.{state}", torch.zeros_like(grad))
            for state, grad in zip(view.cell.states, seen[0], strict=True)
        ),
        seen[0],
        found,
    )
