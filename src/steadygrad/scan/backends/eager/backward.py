"""The backward pass through the steps of a cell, in plain torch operations.

The loop stores the gradients at the results of the weight products. The gradients of the weights,
the biases and the input are one matrix product or sum each, after the loop (`weight_gradients`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from steadygrad.scan.backends.base import OutputGradients
from steadygrad.scan.call import ScanCall
from steadygrad.scan.clips import LoopClip
from steadygrad.scan.ir.products import blocks, shares
from steadygrad.scan.ir.program import Product
from steadygrad.scan.ir.trace import trace
from steadygrad.scan.rescale import Rescaler
from steadygrad.scan.taps import tap

OnStates = Callable[[tuple[Tensor, ...]], None]


@dataclass
class LoopGradients:
    """Results of a backward loop; ``pre`` and ``products`` give the weight gradients afterwards.

    Attributes:
        pre: ``(N, G*H)``, gradient at the projected input.
        products: Per product the gradient at its result, ``(N, g*H)``; may be ``pre`` itself.
        arguments: Per product what was multiplied, ``(N, ·)``.
        projected_h: ``(N, P)``, gradient at h after the projection, or None without one.
        per_unit: Per per-unit parameter its gradient, ``(H,)``.
        state: Gradient of the initial state, each ``(B, ·)``.
        start: Gradient of the state that resets set, each ``(·,)``; empty without resets.
    """

    pre: Tensor
    products: dict[Product, Tensor]
    arguments: dict[Product, Tensor]
    projected_h: Tensor | None
    per_unit: tuple[Tensor, ...]
    state: tuple[Tensor, ...]
    start: tuple[Tensor, ...]


def carry_back(
    call: ScanCall,
    saved: dict[str, Tensor],
    grads: OutputGradients,
    on_states: OnStates | None = None,
) -> LoopGradients:
    """Run the backward pass of `steadygrad.scan.backends.eager.forward.run`.

    Args:
        call: The call; its clip acts here, and its tap is called once.
        saved: The saved tensors.
        grads: Gradients from outside the recurrence.
        on_states: Called once with the gradients at the states, one ``(N, ·)`` per state.
    """
    cell, layout, weights, clip, on_tap = (
        call.cell, call.layout, call.weights, call.clip, call.on_tap
    )  # fmt: skip
    program, size = trace(cell), call.size
    step_vjp = _StepVjp(call, saved)
    pre = grads.hidden.new_empty(grads.hidden.shape[0], size * len(cell.gates))
    own = {
        p: pre if shares(cell, program, p) else pre.new_empty(pre.shape[0], size * len(p.gates))
        for level in program.products
        for p in level
    }
    projected_h = None if weights.weight_hr is None else torch.empty_like(grads.hidden)
    unit_parts: dict[str, list[Tensor]] = {name: [] for name in cell.per_unit}
    at_states: list[list[Tensor]] = [[] for _ in cell.states]
    at_states_true: list[list[Tensor]] = [[] for _ in cell.states]
    at_gates: list[Tensor] = []
    # A clip compares unscaled values, so rows are not rescaled with it.
    rescaler = Rescaler(layout, grads.hidden) if on_tap and clip is None else None
    true = rescaler.true if rescaler else _as_it_is
    recurrent, total, preactivation = (
        clip.at(place) if clip else None for place in ("recurrent", "total", "preactivation")
    )
    grad = [
        torch.zeros_like(s) if g is None else g
        for g, s in zip(grads.final, call.state, strict=True)
    ]
    at_start = () if call.resets is None else tuple(map(torch.zeros_like, call.reset_state()))
    for offset, rows in reversed(list(layout.steps())):
        at = slice(offset, offset + rows)
        here = [g[:rows] for g in grad]
        outside = grads.hidden[at]
        if rescaler:
            here, outside = rescaler.step(here, outside, offset, rows)
        here[0] = here[0] + outside
        if total:
            here = [total(g) for g in here]
        if on_tap:
            for values, g in zip(at_states, here, strict=True):
                values.append(g)
        if on_states:
            for values, g in zip(at_states_true, here, strict=True):
                values.append(true(g))
        if projected_h is not None and weights.weight_hr is not None:
            projected_h[at] = true(here[0])
            here[0] = here[0] @ weights.weight_hr
        cot = step_vjp(at, here, preactivation)
        pieces = [_value(cot, f"x.{g}", here[0], size) for g in cell.gates]
        torch.cat([true(p) for p in pieces], 1, out=pre[at])
        if on_tap:
            at_gates.append(torch.cat(pieces, 1))
        for item, buffer in own.items():
            if buffer is not pre:
                parts = [true(_value(cot, o, here[0], size)) for o in item.outputs]
                torch.cat(parts, 1, out=buffer[at])
        for name, parts in unit_parts.items():
            parts.append(true(_value(cot, f"u.{name}", here[0], size)).sum(0))
        grad = [
            _put(cot.get(f"s.{name}"), old, rows, recurrent)
            for name, old in zip(cell.states, grad, strict=True)
        ]
        if call.resets is not None:
            begins = call.resets[at]
            for sums, g in zip(at_start, grad, strict=True):
                sums += true(g[:rows])[begins].sum(0)
            grad = [_ended(g, begins) for g in grad]
            if rescaler:
                rescaler.forget(begins)
    if on_tap:
        scales = rescaler.history if rescaler and rescaler.used else None
        gates = layout.join(list(reversed(at_gates)))
        on_tap(tap(layout, cell.states, cell.gates, at_states, gates, scales))
    if on_states:
        on_states(tuple(layout.join(list(reversed(part))) for part in at_states_true))
    grad = [true(g) for g in grad]
    units = tuple(torch.stack(parts).sum(0) for parts in unit_parts.values())
    arguments = {item: saved[item.argument] for item in own}
    return LoopGradients(pre, own, arguments, projected_h, units, tuple(grad), at_start)


def _as_it_is(grad: Tensor) -> Tensor:
    return grad


def _put(new: Tensor | None, old: Tensor, rows: int, clip: LoopClip | None) -> Tensor:
    """Replace the first ``rows`` of the carried gradient; rows not in this step keep theirs."""
    new = torch.zeros_like(old[:rows]) if new is None else new
    new = clip(new) if clip else new
    return new if rows == old.shape[0] else torch.cat([new, old[rows:]])


def _ended(grad: Tensor, begins: Tensor) -> Tensor:
    """The carried gradient, zero in those of the first rows that begin anew here."""
    rows = len(begins)
    here = grad[:rows].masked_fill(begins[:, None], 0)
    return here if rows == len(grad) else torch.cat([here, grad[rows:]])


class _StepVjp:
    """The vector-Jacobian product of one step of a traced program."""

    def __init__(self, call: ScanCall, saved: dict[str, Tensor]) -> None:
        cell, size = call.cell, call.size
        self.cell, self.program, self.size = cell, trace(cell), size
        total = call.layout.rows
        beside = {name: value.expand(total, size) for name, value in call.per_step().items()}
        values = saved | beside
        # The part of each vjp that needs no incoming gradient, for all time steps at once.
        self.prepared = [
            stage and stage.prepare(*[values[name] for name in stage.inputs])
            for stage in self.program.stages
        ]
        self.matrices = {
            p: blocks(cell, call.weights, p, size)[0]
            for level in self.program.products
            for p in level
        }

    def __call__(
        self, at: slice, grad_state: list[Tensor], clip: LoopClip | None
    ) -> dict[str, Tensor]:
        """Gradients of every value of the step in rows ``at``, given those of its new states."""
        cot: dict[str, Tensor] = {}
        for name, grad in zip(self.program.results, grad_state, strict=True):
            _add(cot, name, grad)
        for level in reversed(range(len(self.program.stages))):
            for item in self.program.products[level] if level < len(self.program.products) else ():
                joined = self._join(cot, item.outputs, grad_state[0], clip)
                _add(cot, item.argument, joined @ self.matrices[item])
            stage, prepared = self.program.stages[level], self.prepared[level]
            if stage is None or prepared is None:
                continue
            # A constant of the step, as in torch.where, has no rows.
            sliced = [p[at] if isinstance(p, Tensor) and p.dim() else p for p in prepared]
            incoming = [_value(cot, o, grad_state[0], self.size) for o in stage.outputs]
            for name, grad in zip(stage.inputs, stage.backward(*sliced, *incoming), strict=True):
                _add(cot, name, grad)
        if clip:
            self._join(cot, tuple(f"x.{g}" for g in self.cell.gates), grad_state[0], clip)
        return cot

    def _join(
        self,
        cot: dict[str, Tensor],
        names: tuple[str, ...],
        like: Tensor,
        clip: LoopClip | None,
    ) -> Tensor:
        """The gradient at the result of one weight product, gates side by side, after any clip."""
        joined = torch.cat([_value(cot, name, like, self.size) for name in names], 1)
        if clip:
            joined = clip(joined)
            cot.update(zip(names, joined.split(self.size, 1), strict=True))
        return joined


def _value(cot: dict[str, Tensor], name: str, like: Tensor, size: int) -> Tensor:
    """The gradient of a value; zeros if nothing depends on it."""
    grad = cot.get(name)
    return like.new_zeros(like.shape[0], size) if grad is None else grad


def _add(cot: dict[str, Tensor], name: str, grad: Tensor) -> None:
    cot[name] = cot[name] + grad if name in cot else grad
