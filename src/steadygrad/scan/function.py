"""The scan as autograd sees it: one function, whatever the number of steps and the back end."""

from typing import Any

import torch
from torch import Tensor

from steadygrad.scan.backends.base import Backend, Gradients, OutputGradients, Saved
from steadygrad.scan.call import Frame, ScanCall

FIXED = 2  # backend and frame stand before the tensors


class Scan(torch.autograd.Function):
    """``(backend, frame, *tensors) -> (hidden, *final)``, tensors as in `ScanCall.split`."""

    @staticmethod
    def forward(ctx: Any, backend: Backend, frame: Frame, *tensors: Tensor) -> tuple[Tensor, ...]:
        keep = any(ctx.needs_input_grad)
        done = backend.forward(frame.call(tensors), keep)
        if keep:
            ctx.backend, ctx.frame = backend, frame
            ctx.set_materialize_grads(False)
            ctx.saved_names, ctx.note = tuple(done.saved.tensors), done.saved.note
            ctx.save_for_backward(*tensors, *done.saved.tensors.values())
        # A final state may be the very tensor that came in; autograd wants outputs of its own.
        final = [f.clone() if any(f is t for t in tensors) else f for f in done.final]
        return done.hidden, *final

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        backend, frame = ctx.backend, ctx.frame
        count = len(frame.names)
        kept = ctx.saved_tensors  # read once: a recomputing caller hands them out only once
        tensors = kept[:count]
        needed = ctx.needs_input_grad[FIXED:]
        if torch.is_grad_enabled():
            return (None,) * FIXED + _replayed(backend, frame, tensors, needed, grads)
        call = frame.call(tensors)
        hidden, *final = grads
        if hidden is None:
            hidden = call.state[0].new_zeros(call.layout.rows, call.width)
        # Of several states, or units, one may need a gradient and another not: they are one name.
        wanted = {name for name, need in zip(frame.names, needed, strict=True) if need}
        found = backend.backward(
            call,
            Saved(dict(zip(ctx.saved_names, kept[count:], strict=True)), ctx.note),
            OutputGradients(hidden.contiguous(), tuple(final)),
            wanted,
        )
        return (None,) * FIXED + _in_place(found, frame.names, needed)


def scan(call: ScanCall, backend: Backend) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run ``call`` on ``backend``, and let autograd know."""
    frame, tensors = call.split()
    hidden, *final = Scan.apply(backend, frame, *tensors)  # type: ignore[misc]
    return hidden, tuple(final)


def _in_place(
    found: Gradients, names: tuple[str, ...], needed: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    """One gradient for each tensor that needs one, in the order of the tensors."""
    several = {"state": iter(found.state), "unit": iter(found.per_unit)}
    placed: list[Tensor | None] = []
    for name, need in zip(names, needed, strict=True):
        own = several.get(name)
        value = found.by_name.get(name) if own is None else next(own, None)
        placed.append(value if need else None)
    return tuple(placed)


def _replayed(
    backend: Backend,
    frame: Frame,
    tensors: tuple[Tensor, ...],
    needed: tuple[bool, ...],
    grads: tuple[Tensor | None, ...],
) -> tuple[Tensor | None, ...]:
    """The gradient as a differentiable function of the inputs and of the incoming gradient."""
    with torch.enable_grad():
        # One of them may be made from another (the state that an earlier call with the same weights
        # returned), or be another: the derivative has to end here, so it is taken to aliases.
        tensors = tuple(t.view_as(t) for t in tensors)
        hidden, final = backend.differentiable(frame.call(tensors))
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
