"""The scan as autograd sees it: one function, whatever the number of steps and the back end."""

from collections.abc import Sequence
from dataclasses import dataclass
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
            saved = done.saved
            ctx.backend, ctx.frame = backend, frame
            ctx.set_materialize_grads(False)
            ctx.saved_names, ctx.note = tuple(saved.tensors), saved.note
            ctx.save_for_backward(*tensors, *saved.tensors.values())
        # A final state may be the very tensor that came in; autograd wants outputs of its own.
        final = [f.clone() if any(f is t for t in tensors) else f for f in done.final]
        return done.hidden, *final

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        count = len(ctx.frame.names)
        kept = ctx.saved_tensors  # read once: a recomputing caller hands them out only once
        saved = Saved(dict(zip(ctx.saved_names, kept[count:], strict=True)), ctx.note)
        needed = ctx.needs_input_grad[FIXED:]
        found = _gradients(ctx.backend, ctx.frame, kept[:count], saved, grads, needed)
        return (None,) * FIXED + found


def _gradients(
    backend: Backend,
    frame: Frame,
    tensors: tuple[Tensor, ...],
    saved: Saved,
    grads: tuple[Tensor | None, ...],
    needed: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """The backward pass of a scan, in whatever mode it is asked for."""
    if torch.is_grad_enabled():
        return tape.gradient(partial(_replayed, backend, frame), tensors, needed, grads)
    if not operators.is_plain_gradient(grads):
        of_saved = tuple(saved.tensors.values())
        kept = of_saved if backend.saved_shapes(frame.call(tensors)) else ()
        return operators.back(frame, tensors, kept, grads, needed)
    call = frame.call(tensors)
    hidden, *final = grads
    if hidden is None:
        hidden = call.state[0].new_zeros(call.layout.rows, call.width)
    # Of several states, or units, one may need a gradient and another not: they are one name.
    wanted = {name for name, need in zip(frame.names, needed, strict=True) if need}
    outside = OutputGradients(hidden.contiguous(), tuple(final))
    return backend.backward(call, saved, outside, wanted).in_order(frame.names, needed)


@dataclass(frozen=True, eq=False)
class PreparedRun:
    """What `Backend.prepared` made, and what its result is to look like.

    Attributes:
        prepared: What runs it.
        backend: What prepared it, for whatever is not prepared.
        frame: All of the call but its tensors.
        shape: Of h after every step; as many values as ``(N, P)``.
        ends: Of the last states, ``(B, ·)`` or any other shape of as many values.
        own: Whether the h that is handed out is other memory than that which the backward pass
            reads, so that the caller may change it in place.
    """

    prepared: Prepared
    backend: Backend
    frame: Frame
    shape: tuple[int, ...]
    ends: tuple[tuple[int, ...], ...]
    own: bool


class PreparedScan(torch.autograd.Function):
    """As `Scan`, of tensors of the shapes that were prepared: ``(run, *tensors)``."""

    @staticmethod
    def forward(ctx: Any, run: PreparedRun, *tensors: Tensor) -> tuple[Tensor, ...]:
        results, saved = run.prepared.forward(tensors, run.shape, run.ends)
        ctx.run = run
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *saved)
        return (results[0].clone(), *results[1:]) if run.own else results

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        run: PreparedRun = ctx.run
        kept, needed, frame = ctx.saved_tensors, ctx.needs_input_grad[1:], run.frame
        if (
            frame.clip is None
            and frame.on_tap is None
            and not torch.is_grad_enabled()
            and operators.is_plain_gradient(grads)
        ):
            found = run.prepared.backward(kept, grads, needed)
            if found is not None:
                return None, *found
        return None, *_long_way(run, kept, grads, needed)


def _long_way(
    run: PreparedRun,
    kept: tuple[Tensor, ...],
    grads: tuple[Tensor | None, ...],
    needed: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """The backward pass of a prepared call, its tensors brought to the shapes of `ScanCall`."""
    frame = run.frame
    count = len(frame.names)
    tensors = kept[:count]
    named = zip(frame.names, tensors, strict=True)
    flat = tuple(_as_rows(t) if name in ("x", "state") else t for name, t in named)
    saved = dict(zip(run.prepared.saved_names, kept[count:], strict=True))
    saved["hidden"] = _as_rows(saved["hidden"])
    arriving = tuple(None if g is None else _as_rows(g) for g in grads)
    found = _gradients(run.backend, frame, flat, Saved(saved, run.prepared.note), arriving, needed)
    pairs = zip(found, tensors, strict=True)
    return tuple(None if g is None else g.reshape(t.shape) for g, t in pairs)


def _as_rows(value: Tensor) -> Tensor:
    return value.reshape(-1, value.shape[-1])


def scan_prepared(run: PreparedRun, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """As `scan`, of a call of the shapes that were prepared: contiguous tensors."""
    results: tuple[Tensor, ...] = PreparedScan.apply(run, *tensors)  # type: ignore[assignment]
    # As views: autograd calls a hook at a result of a function of ours with None where nothing came
    # back to that result, and a hook at a view of it not at all, as it is with torch's layers.
    return tuple(t.view_as(t) if t.requires_grad else t for t in results)


def scan(
    frame: Frame, tensors: tuple[Tensor, ...], backend: Backend
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run a call, as `ScanCall.split` has it, on ``backend``, and let autograd know."""
    hidden, *final = Scan.apply(backend, frame, *tensors)  # type: ignore[misc]
    return hidden, tuple(final)


def _replayed(backend: Backend, frame: Frame, *tensors: Tensor) -> tuple[Tensor, ...]:
    hidden, final = backend.differentiable(frame.call(tensors))
    return hidden, *final
