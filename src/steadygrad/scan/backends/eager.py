"""Backpropagation through time, written out in plain torch operations: the oracle.

Two loops over a traced `Program`. Forward keeps what the stages read. Backward carries the
gradient of the states, and writes down the gradients that enter the weight products; the
gradients of the weights, the biases and the input are one matrix product or sum each, after the
loop. Nothing is recorded by autograd on the way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import torch
from torch import Tensor
from torch.nn import functional as F

from steadygrad.cells import Cell
from steadygrad.scan.clips import LoopClip
from steadygrad.scan.ir.products import blocks, shares
from steadygrad.scan.ir.program import Product, Program
from steadygrad.scan.ir.trace import trace
from steadygrad.scan.layout import Layout
from steadygrad.scan.rescale import Rescaler
from steadygrad.scan.taps import OnTap, tap
from steadygrad.scan.weights import Weights

OnStates = Callable[[tuple[Tensor, ...]], None]


@dataclass(frozen=True)
class Trip:
    """A forward pass, and what the way back needs of it.

    Attributes:
        hidden: ``(N, P)``, h after every step, in memory order.
        final: The last state of each row, ``(B, ·)``.
        saved: Values the stages and products read, ``(N, ·)``, by name; empty if not kept.
    """

    hidden: Tensor
    final: tuple[Tensor, ...]
    saved: dict[str, Tensor]


def forward(
    cell: Cell,
    layout: Layout,
    projected: Tensor,
    weights: Weights,
    state: Sequence[Tensor],
    keep: bool,
) -> Trip:
    """Run the steps of ``cell``.

    Args:
        cell: The recurrence.
        layout: Rows of each time step and direction.
        projected: ``W x + b_ih`` of all rows, ``(N, G*H)``.
        weights: Weights of this direction.
        state: State before the first step, each ``(B, ·)``.
        keep: Whether to keep what `backward` needs.
    """
    program = trace(cell)
    size = projected.shape[1] // len(cell.gates)
    x_gates = dict(zip((f"x.{g}" for g in cell.gates), projected.split(size, 1), strict=True))
    # Transposed once a sequence: a contiguous right factor is up to twice as fast per step.
    matrices = {
        p: (matrix.t().contiguous(), bias)
        for level in program.products
        for p in level
        for matrix, bias in [blocks(cell, weights, p, size)]
    }
    beside = weights.per_step(cell, layout)
    log: dict[str, list[Tensor]] = {name: [] for name in _kept_names(program)} if keep else {}
    squeezed: list[Tensor] = []
    hidden: list[Tensor] = []
    current = list(state)
    for offset, rows in layout.steps():
        whole = rows == layout.batch
        env = {name: value[offset : offset + rows] for name, value in x_gates.items()}
        for name, value in beside.items():
            env[name] = (value[offset : offset + rows] if value.dim() == 2 else value).expand(
                rows, size
            )
        for name, value in zip(cell.states, current, strict=True):
            env[f"s.{name}"] = value if whole else value[:rows]
        for stage, products in zip_longest(program.stages, program.products, fillvalue=()):
            if stage:
                made = stage.forward(*[env[name] for name in stage.inputs])
                env.update(zip(stage.outputs, made, strict=True))
            for item in products:
                matrix, bias = matrices[item]
                argument = env[item.argument]
                out = argument @ matrix if bias is None else torch.addmm(bias, argument, matrix)
                env.update(zip(item.outputs, out.split(size, 1), strict=True))
        new = [env[name] for name in program.results]
        if weights.weight_hr is not None:
            if keep:
                squeezed.append(new[0])
            new[0] = F.linear(new[0], weights.weight_hr)
        for name, values in log.items():
            values.append(env[name])
        hidden.append(new[0])
        current = [
            n if whole else torch.cat([n, c[rows:]]) for n, c in zip(new, current, strict=True)
        ]
    saved = {name: layout.join(values) for name, values in log.items()}
    if keep:
        saved |= x_gates
        if squeezed:
            saved["squeezed"] = layout.join(squeezed)
    return Trip(layout.join(hidden), tuple(current), saved)


def _kept_names(program: Program) -> list[str]:
    read = [name for stage in program.stages if stage for name in stage.inputs]
    read += [item.argument for level in program.products for item in level]
    return [n for n in dict.fromkeys(read) if not n.startswith(("x.", "u.", "k.", "n."))]


@dataclass
class Gradients:
    """What a backward loop yields; ``pre`` and ``products`` become weight gradients after it.

    Attributes:
        pre: ``(N, G*H)``, gradient at the projected input.
        products: Per product the gradient at its result, ``(N, g*H)``; may be ``pre`` itself.
        squeezed: ``(N, P)``, gradient at the projected h, or None.
        arguments: Per product what was multiplied, ``(N, ·)``.
        per_unit: Per per-unit parameter its gradient, ``(H,)``.
        state: Gradient of the initial state, each ``(B, ·)``.
    """

    pre: Tensor
    products: dict[Product, Tensor]
    squeezed: Tensor | None
    arguments: dict[Product, Tensor]
    per_unit: tuple[Tensor, ...]
    state: tuple[Tensor, ...]


def backward(
    cell: Cell,
    layout: Layout,
    saved: dict[str, Tensor],
    weights: Weights,
    grad_hidden: Tensor,
    grad_final: Sequence[Tensor],
    clip: LoopClip | None = None,
    on_tap: OnTap | None = None,
    on_states: OnStates | None = None,
) -> Gradients:
    """Carry the gradient back through the steps of `forward`.

    Args:
        cell: The recurrence.
        layout: As in `forward`.
        saved: `Trip.saved`.
        weights: As in `forward`.
        grad_hidden: Gradient at every h from outside the recurrence, ``(N, P)``.
        grad_final: Gradient at the final state, each ``(B, ·)``.
        clip: A bound inside the loop.
        on_tap: Called once with the norms that were seen.
        on_states: Called once with the gradients themselves, one ``(N, ·)`` per state.
    """
    program = trace(cell)
    size = saved[f"x.{cell.gates[0]}"].shape[1]
    way = _Way(cell, program, layout, saved, weights, size)
    pre = grad_hidden.new_empty(grad_hidden.shape[0], size * len(cell.gates))
    own = {
        p: pre if shares(cell, program, p) else pre.new_empty(pre.shape[0], size * len(p.gates))
        for level in program.products
        for p in level
    }
    squeezed = None if weights.weight_hr is None else torch.empty_like(grad_hidden)
    unit_parts: dict[str, list[Tensor]] = {name: [] for name in cell.per_unit}
    seen: list[list[Tensor]] = [[] for _ in cell.states]
    seen_true: list[list[Tensor]] = [[] for _ in cell.states]
    seen_gates: list[Tensor] = []
    # A clip compares true values, so rows cannot be scaled under it.
    rescaler = Rescaler(layout, grad_hidden) if on_tap and clip is None else None
    true = rescaler.true if rescaler else _as_it_is
    recurrent, total, preactivation = (
        clip.at(place) if clip else None for place in ("recurrent", "total", "preactivation")
    )
    grad = list(grad_final)
    for offset, rows in reversed(list(layout.steps())):
        at = slice(offset, offset + rows)
        here = [g[:rows] for g in grad]
        outside = grad_hidden[at]
        if rescaler:
            here, outside = rescaler.step(here, outside, offset, rows)
        here[0] = here[0] + outside
        if total:
            here = [total(g) for g in here]
        if on_tap:
            for values, g in zip(seen, here, strict=True):
                values.append(g)
        if on_states:
            for values, g in zip(seen_true, here, strict=True):
                values.append(true(g))
        if squeezed is not None and weights.weight_hr is not None:
            squeezed[at] = true(here[0])
            here[0] = here[0] @ weights.weight_hr
        cot = way.step(at, here, preactivation)
        pieces = [way.value(cot, f"x.{g}", here[0]) for g in cell.gates]
        torch.cat([true(p) for p in pieces], 1, out=pre[at])
        if on_tap:
            seen_gates.append(torch.cat(pieces, 1))
        for item, buffer in own.items():
            if buffer is not pre:
                parts = [true(way.value(cot, o, here[0])) for o in item.outputs]
                torch.cat(parts, 1, out=buffer[at])
        for name, parts in unit_parts.items():
            parts.append(true(way.value(cot, f"u.{name}", here[0])).sum(0))
        grad = [
            _put(cot.get(f"s.{name}"), old, rows, recurrent)
            for name, old in zip(cell.states, grad, strict=True)
        ]
    if on_tap:
        scales = rescaler.history if rescaler and rescaler.used else None
        gates = layout.join(list(reversed(seen_gates)))
        on_tap(tap(layout, cell.states, cell.gates, seen, gates, scales))
    if on_states:
        on_states(tuple(layout.join(list(reversed(part))) for part in seen_true))
    grad = [true(g) for g in grad]
    units = tuple(torch.stack(parts).sum(0) for parts in unit_parts.values())
    arguments = {item: saved[item.argument] for item in own}
    return Gradients(pre, own, squeezed, arguments, units, tuple(grad))


def _as_it_is(grad: Tensor) -> Tensor:
    return grad


def _put(new: Tensor | None, old: Tensor, rows: int, clip: LoopClip | None) -> Tensor:
    """Replace the first ``rows`` of the carried gradient; rows not in this step wait."""
    new = torch.zeros_like(old[:rows]) if new is None else new
    new = clip(new) if clip else new
    return new if rows == old.shape[0] else torch.cat([new, old[rows:]])


class _Way:
    """One step of the way back through a traced program."""

    def __init__(
        self,
        cell: Cell,
        program: Program,
        layout: Layout,
        saved: dict[str, Tensor],
        weights: Weights,
        size: int,
    ) -> None:
        self.cell, self.program, self.size = cell, program, size
        total = layout.rows
        beside = weights.per_step(cell, layout)
        values = saved | {name: value.expand(total, size) for name, value in beside.items()}
        # The part of every vjp that needs no incoming gradient: all time steps at once.
        self.prepared = [
            stage and stage.prepare(*[values[name] for name in stage.inputs])
            for stage in program.stages
        ]
        self.matrices = {
            p: blocks(cell, weights, p, size)[0] for level in program.products for p in level
        }

    def step(self, at: slice, grad_state: list[Tensor], clip: LoopClip | None) -> dict[str, Tensor]:
        """Gradients of every value of one step, given those of its new states."""
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
            # A constant of the step, such as torch.where takes, has no rows.
            sliced = [p[at] if isinstance(p, Tensor) and p.dim() else p for p in prepared]
            incoming = [self.value(cot, o, grad_state[0]) for o in stage.outputs]
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
        """What enters one weight product, all its gates as one row; bounded if so wished."""
        joined = torch.cat([self.value(cot, name, like) for name in names], 1)
        if clip:
            joined = clip(joined)
            cot.update(zip(names, joined.split(self.size, 1), strict=True))
        return joined

    def value(self, cot: dict[str, Tensor], name: str, like: Tensor) -> Tensor:
        """The gradient of a value; zeros if nothing depends on it."""
        grad = cot.get(name)
        return like.new_zeros(like.shape[0], self.size) if grad is None else grad


def _add(cot: dict[str, Tensor], name: str, grad: Tensor) -> None:
    cot[name] = cot[name] + grad if name in cot else grad
