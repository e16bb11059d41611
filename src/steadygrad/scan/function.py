"""The scan as autograd sees it: one function, whatever the number of steps and the back end."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from steadygrad.scan import operators
from steadygrad.scan.backends import tape
from steadygrad.scan.backends.base import Backend, OutputGradients, Prepared, Saved
from steadygrad.scan.call import Frame

FIXED = 2  # backend and frame stand before the tensors


class Scan(torch.autograd.Function):
    """``(backend, frame, *tensors) -> (hidden, *final)``, tensors as in `ScanCall.split`."""

    @staticmethod
    def forward(ctx: Any, backend: Backend, frame: Frame, *tensors: Tensor) -> tuple[Tensor, ...]:
        keep = any(ctx.needs_input_grad)
        done = backend.forward(frame.call(tensors), keep)
        if keep:
            _keep(ctx, backend, frame, tensors, done.saved)
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
            found = tape.gradient(partial(_replayed, backend, frame), tensors, needed, grads)
            return (None,) * FIXED + found
        if not operators.is_plain_gradient(grads):
            saved = kept[count:] if backend.saved_shapes(frame.call(tensors)) else ()
            found = operators.back(frame, tensors, saved, grads, needed)
            return (None,) * FIXED + found
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
        return (None,) * FIXED + found.in_order(frame.names, needed)


class PreparedScan(Scan):
    """The same for what `Backend.prepared` made, which stands with the back end."""

    @staticmethod
    def forward(ctx: Any, backend: Any, frame: Frame, *tensors: Tensor) -> tuple[Tensor, ...]:
        own: Prepared
        own, backend = backend
        done = own.forward(tensors)
        _keep(ctx, backend, frame, tensors, done.saved)
        return done.hidden, *done.final


def _keep(
    ctx: Any, backend: Backend, frame: Frame, tensors: tuple[Tensor, ...], saved: Saved
) -> None:
    ctx.backend, ctx.frame = backend, frame
    ctx.set_materialize_grads(False)
    ctx.saved_names, ctx.note = tuple(saved.tensors), saved.note
    ctx.save_for_backward(*tensors, *saved.tensors.values())


def scan_prepared(
    prepared: Prepared, backend: Backend, frame: Frame, tensors: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """As `scan`, of a call of the shapes that ``backend`` has prepared: contiguous tensors."""
    return PreparedScan.apply((prepared, backend), frame, *tensors)  # type: ignore[no-any-return]


def scan(
    frame: Frame, tensors: tuple[Tensor, ...], backend: Backend
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run a call, as `ScanCall.split` has it, on ``backend``, and let autograd know."""
    hidden, *final = Scan.apply(backend, frame, *tensors)  # type: ignore[misc]
    return hidden, tuple(final)


def _replayed(backend: Backend, frame: Frame, *tensors: Tensor) -> tuple[Tensor, ...]:
    hidden, final = backend.differentiable(frame.call(tensors))
    return hidden, *final
