"""The scan on autograd's tape: slow, but differentiable any number of times.

Only for derivatives of the gradient (``create_graph=True``), where it replays `eager`.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch._functorch.eager_transforms import enable_inplace_requires_grad
from torch.nn import functional as F

from steadygrad.cells import Cell, Named
from steadygrad.scan.call import ScanCall
from steadygrad.scan.clips import LoopClip
from steadygrad.scan.ir.products import by_gate
from steadygrad.scan.ir.trace import trace


def _clipped(value: Tensor, clip: LoopClip | None) -> Tensor:
    """The same value, with its gradient clipped in the backward pass (differentiably)."""
    if clip is None or not value.requires_grad:
        return value
    # A hook, because an autograd function would act at all levels of functional transforms, and
    # this may run within a single one.
    result = value.view_as(value)
    result.register_hook(clip)
    return result


def replay(call: ScanCall) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run a call under autograd; taps are not called.

    Returns:
        h after every step, ``(N, P)``, and the last state of each row.
    """
    cell, layout, weights, clip = call.cell, call.layout, call.weights, call.clip
    size = call.size
    preactivation, recurrent, total = (
        clip.at(p) if clip else None for p in ("preactivation", "recurrent", "total")
    )
    projected = _clipped(call.projected(), preactivation)
    blocks = by_gate(cell, weights.weight_hh, size)
    biases = (
        dict.fromkeys(cell.recurrent)
        if weights.bias_hh is None
        else by_gate(cell, weights.bias_hh, size)
    )
    rows_read = dict(zip(cell.gates, projected.split(size, 1), strict=True))
    units_read: dict[str, Tensor] = {}
    for name, value in call.per_step().items():
        (rows_read if name.startswith("n.") else units_read)[name[2:]] = value
    hidden: list[Tensor] = []
    current = list(call.state)
    anew = () if call.resets is None else call.reset_state()
    for offset, rows in layout.steps():
        here = slice(offset, offset + rows)
        before = [c[:rows] for c in current]
        if call.resets is not None:
            begins = call.resets[here, None]
            before = [torch.where(begins, a, c) for a, c in zip(anew, before, strict=True)]
        before = [_clipped(c, recurrent) for c in before]
        x_t = {n: (v[here] if v.dim() == 2 else v.expand(rows, size)) for n, v in rows_read.items()}
        cell_state = cell.step(
            Named("gate", x_t),
            Named("recurrent product", products(cell, blocks, biases, preactivation)),
            tuple(before),
            Named("per-unit parameter", {n: u.expand(rows, size) for n, u in units_read.items()}),
        )
        new = list(cell_state)
        if weights.weight_hr is not None:
            new[0] = F.linear(new[0], weights.weight_hr)
        new = [_clipped(n, total) for n in new]
        hidden.append(new[0])
        current = [torch.cat([n, c[rows:]]) for n, c in zip(new, current, strict=True)]
    return layout.join(hidden), tuple(current)


def gradient(
    outputs: Callable[..., Sequence[Tensor]],
    tensors: Sequence[Tensor],
    needed: Sequence[bool],
    grads: Sequence[Tensor | None],
) -> tuple[Tensor | None, ...]:
    """Gradients, as a differentiable function of the tensors and the incoming gradients.

    Args:
        outputs: Computes the outputs from tensors, on the tape.
        tensors: The point at which to differentiate.
        needed: Which of them need a gradient.
        grads: Gradient at each output, or None.
    """
    with torch.enable_grad():
        # A tensor may depend on another (a state returned by an earlier call with the same
        # weights) or be the same one. Differentiate with respect to aliases, so that the
        # derivative ends here.
        inputs = [t.view_as(t) for t in tensors]
        wanted = [t for t, need in zip(inputs, needed, strict=True) if need]
        with enable_inplace_requires_grad(True):  # forbidden within a functional transform
            for value in wanted:
                if not value.requires_grad:
                    value.requires_grad_()
        pairs = zip(outputs(*inputs), grads, strict=True)
        reached = [(o, g) for o, g in pairs if g is not None and o.requires_grad]
        found = iter(
            torch.autograd.grad(
                [o for o, _ in reached],
                wanted,
                [g for _, g in reached],
                create_graph=True,
                allow_unused=True,
            )
            if reached
            else [None] * len(wanted)
        )
    return tuple(next(found) if need else None for need in needed)


def products(
    cell: Cell,
    blocks: dict[str, Tensor],
    biases: dict[str, Tensor] | dict[str, None],
    clip: LoopClip | None,
) -> dict[str, Callable[[Tensor], Tensor]]:
    """``recur.<gate>``; with a clip, all gates of one argument are one row, as in `eager`."""
    if clip is None:
        return {
            g: lambda v, g=g: F.linear(v, blocks[g], biases[g])  # type: ignore[misc]
            for g in cell.recurrent
        }
    joint: dict[int, dict[str, Tensor]] = {}
    kept: list[Tensor] = []  # ids stay unique while the tensors live

    from_trace = {g: group for group in _groups(cell) for g in group}

    def product(value: Tensor, gate: str) -> Tensor:
        group = from_trace[gate]
        if id(value) not in joint or gate not in joint[id(value)]:
            kept.append(value)
            bias = None if biases[gate] is None else torch.cat([biases[g] for g in group])  # type: ignore[misc]
            out = F.linear(value, torch.cat([blocks[g] for g in group]), bias)
            parts = _clipped(out, clip).chunk(len(group), 1)
            joint.setdefault(id(value), {}).update(zip(group, parts, strict=True))
        return joint[id(value)][gate]

    return {g: lambda v, g=g: product(v, g) for g in cell.recurrent}


def _groups(cell: Cell) -> list[tuple[str, ...]]:
    return [item.gates for level in trace(cell).products for item in level]
