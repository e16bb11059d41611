"""The scan as autograd sees it: one function, whatever the number of steps."""

from typing import Any

import torch
from torch import Tensor

from steadygrad.cells import Cell
from steadygrad.scan.backends import eager, tape
from steadygrad.scan.backends.c import kernel
from steadygrad.scan.backends.choose import exact
from steadygrad.scan.clips import LoopClip
from steadygrad.scan.ir.products import by_gate
from steadygrad.scan.layout import Layout
from steadygrad.scan.projection import project, weight_gradient
from steadygrad.scan.taps import OnTap
from steadygrad.scan.weights import Weights

FIXED = 6  # cell, layout, clip, on_tap, backend, names stand before the tensors


class Scan(torch.autograd.Function):
    """``(cell, layout, clip, on_tap, backend, names, *tensors) -> (hidden, *final)``.

    ``names`` says which weight each tensor is, with ``state`` for each initial state last.
    """

    @staticmethod
    def forward(
        ctx: Any,
        cell: Cell,
        layout: Layout,
        clip: LoopClip | None,
        on_tap: OnTap | None,
        backend: str,
        names: tuple[str, ...],
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        x, weights, state = _unpack(names, tensors)
        keep = any(ctx.needs_input_grad)
        if backend == "c":
            ctx.exact = exact()
            trip = kernel.forward(cell, layout, x, weights, state, keep, ctx.exact)
        else:
            projected = project(x, weights.weight_ih, weights.bias_ih)
            trip = eager.forward(cell, layout, projected, weights, state, keep)
        if keep:
            ctx.fixed = (cell, layout, clip, on_tap, names)
            ctx.backend = backend
            ctx.set_materialize_grads(False)
            ctx.saved_names = tuple(trip.saved)
            ctx.save_for_backward(*tensors, *trip.saved.values())
        # A final state may be the very tensor that came in; autograd wants outputs of its own.
        final = [f.clone() if any(f is t for t in tensors) else f for f in trip.final]
        return trip.hidden, *final

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        cell, layout, clip, on_tap, names = ctx.fixed
        count = len(names)
        kept = ctx.saved_tensors  # read once: a recomputing caller hands them out only once
        tensors = kept[:count]
        needed = ctx.needs_input_grad[FIXED:]
        if torch.is_grad_enabled():
            return (None,) * FIXED + _replayed(ctx.fixed, tensors, needed, grads)
        saved = dict(zip(ctx.saved_names, kept[count:], strict=True))
        x, weights, state = _unpack(names, tensors)
        hidden, *final = grads
        if hidden is None:
            hidden = state[0].new_zeros(layout.rows, state[0].shape[1])
        hidden = hidden.contiguous()
        wanted = dict.fromkeys(names, False)
        for name, need in zip(names, needed, strict=True):
            wanted[name] |= need  # of several states one may need it
        if ctx.backend == "c":
            given = (x, saved, weights, state, wanted, hidden, final)
            found = kernel.backward(cell, layout, *given, clip, on_tap, ctx.exact)
            by_name = found.by_name
        else:
            pairs = zip(final, state, strict=True)
            full = [torch.zeros_like(s) if g is None else g for g, s in pairs]
            found = eager.backward(cell, layout, saved, weights, hidden, full, clip, on_tap)
            by_name = _weight_gradients(cell, weights, x, saved, found, wanted)
        states = iter(found.state)
        units = iter(found.per_unit)
        out: list[Tensor | None] = []
        for name, need in zip(names, needed, strict=True):
            grad = {"state": states, "unit": units}[name] if name in ("state", "unit") else None
            value = next(grad, None) if grad is not None else by_name.get(name)
            out.append(value if need else None)
        return (None,) * FIXED + tuple(out)


def _unpack(
    names: tuple[str, ...], tensors: tuple[Tensor, ...]
) -> tuple[Tensor, Weights, list[Tensor]]:
    last = len(names) - names.count("state")  # x first, then the weights, the states last
    return tensors[0], Weights.from_flat(names[1:last], tensors[1:last]), list(tensors[last:])


def _weight_gradients(
    cell: Cell,
    weights: Weights,
    x: Tensor,
    saved: dict[str, Tensor],
    found: eager.Gradients,
    needed: dict[str, bool],
) -> dict[str, Tensor]:
    """One matrix product or sum for each weight, over all time steps at once."""
    grads: dict[str, Tensor] = {}
    if needed.get("x"):
        grads["x"] = found.pre @ weights.weight_ih
    if needed.get("weight_ih"):
        grads["weight_ih"] = weight_gradient(found.pre, x, weights.weight_ih)
    if needed.get("bias_ih"):
        grads["bias_ih"] = found.pre.sum(0)
    if needed.get("weight_hr") and found.squeezed is not None:
        grads["weight_hr"] = found.squeezed.t() @ saved["squeezed"]
    size = weights.weight_ih.shape[0] // len(cell.gates)
    for name in ("weight_hh", "bias_hh"):
        if not needed.get(name):
            continue
        rows: dict[str, Tensor] = {}
        for item, grad in found.products.items():
            whole = grad.t() @ found.arguments[item] if name == "weight_hh" else grad.sum(0)
            for gate, part in zip(item.gates, whole.split(size), strict=True):
                rows[gate] = rows[gate] + part if gate in rows else part
        stacked = getattr(weights, name)
        parts = by_gate(cell, stacked, size).items()
        found_rows = [rows.get(g, torch.zeros_like(b)) for g, b in parts]
        grads[name] = torch.cat(found_rows) if found_rows else torch.zeros_like(stacked)
    return grads


def _replayed(
    fixed: tuple[Cell, Layout, LoopClip | None, OnTap | None, tuple[str, ...]],
    tensors: tuple[Tensor, ...],
    needed: tuple[bool, ...],
    grads: tuple[Tensor | None, ...],
) -> tuple[Tensor | None, ...]:
    """The gradient as a differentiable function of the inputs and of the incoming gradient."""
    cell, layout, clip, _, names = fixed
    with torch.enable_grad():
        # One of them may be made from another (the state that an earlier call with the same weights
        # returned), or be another: the derivative has to end here, so it is taken to aliases.
        tensors = tuple(t.view_as(t) for t in tensors)
        x, weights, state = _unpack(names, tensors)
        hidden, final = tape.replay(cell, layout, x, weights, state, clip)
        wanted = [t for t, need in zip(tensors, needed, strict=True) if need]
        pairs = zip((hidden, *final), grads, strict=True)
        outputs = [(o, g) for o, g in pairs if g is not None and o.requires_grad]
        found = iter(
            torch.autograd.grad(
                [o for o, _ in outputs],
                wanted,
                [g for _, g in outputs],
                create_graph=True,
                allow_unused=True,
            )
        )
    return tuple(next(found) if need else None for need in needed)
