"""A cell that is linear in its state, all time steps at once: no loop over time."""

from collections.abc import Sequence, Set
from typing import ClassVar, final

import torch
from torch import Tensor

from steadygrad.cells import Cell, Named, State
from steadygrad.scan.backends import weight_gradients
from steadygrad.scan.backends.base import (
    RESETS,
    Backend,
    ForwardPass,
    Gradients,
    OutputGradients,
    Saved,
)
from steadygrad.scan.backends.recurrence import linear_recurrence, total_gradient
from steadygrad.scan.call import ScanCall
from steadygrad.scan.layout import Layout
from steadygrad.scan.taps import tap


@final
class Parallel(Backend):
    r"""Runs cells with `Cell.linear` in about :math:`2 \log_2 T` steps.

    The taps show the gradient as it is: unlike in a loop, rows are not rescaled on the way, and
    what the dtype cannot hold is flushed to zero.
    """

    name: ClassVar[str] = "parallel"
    rank: ClassVar[int] = 20

    def suits(self, call: ScanCall) -> bool:
        # On a CPU the loop is faster: it does half of the arithmetic and stays in the cache.
        return call.device.type != "cpu" and self.refuses(call) is None

    def refuses(self, call: ScanCall) -> str | None:
        if type(call.cell).linear is Cell.linear:
            return "its step is not linear in its state (it states no Cell.linear)"
        if call.clip is not None:
            return "a clip inside the backward loop needs the loop"
        if call.weights.weight_hr is not None:
            return "it does not project h"
        return RESETS if call.resets is not None else None

    def forward(self, call: ScanCall, keep: bool) -> ForwardPass:
        projected = call.projected()
        decay, drive = _terms(call, projected, call.weights.per_unit)
        states = linear_recurrence(decay, drive, call.state[0])
        hidden = _rows(states, call.layout)
        final = (states[-1].clone(),)  # of its own: hidden may be a view of the states
        saved = {"projected": projected, "decay": decay, "states": states} if keep else {}
        return ForwardPass(hidden, final, Saved(saved))

    def backward(
        self, call: ScanCall, saved: Saved, grads: OutputGradients, wanted: Set[str]
    ) -> Gradients:
        layout, kept = call.layout, saved.tensors
        outside = _in_order(layout.pad(grads.hidden, 0.0), layout)
        if grads.final[0] is not None:
            outside = torch.cat([outside[:-1], (outside[-1] + grads.final[0]).unsqueeze(0)])
        before = torch.cat([call.state[0].unsqueeze(0), kept["states"][:-1]])
        at_states = total_gradient(kept["decay"], outside)
        at_decay = at_states * before.conj()
        pre, units = _through_terms(call, kept["projected"], at_decay, at_states)
        if call.on_tap:
            steps = reversed(list(enumerate(layout.steps())))
            seen = [at_states[t, :rows] for t, (_, rows) in steps]
            call.on_tap(tap(layout, call.cell.states, call.cell.gates, [seen], pre, None))
        start = kept["decay"][0].conj() * at_states[0]
        by_name = weight_gradients.of_input(call, pre, wanted)
        by_name |= weight_gradients.of_recurrence(call, {}, {}, wanted)  # it has no products
        return Gradients(by_name, units, (start,))

    def differentiable(self, call: ScanCall) -> tuple[Tensor, State]:
        states = linear_recurrence(
            *_terms(call, call.projected(), call.weights.per_unit), call.state[0]
        )
        return _rows(states, call.layout), (states[-1],)


def _terms(call: ScanCall, projected: Tensor, units: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The decay and the drive of every step, ``(T, B, H)`` in the order of the scan.

    A row that has ended goes on with a decay of one and a drive of zero, which keeps its state.
    """
    cell, layout = call.cell, call.layout
    beside = call.per_step()
    noise = {name[2:]: value for name, value in beside.items() if name.startswith("n.")}
    constants = {name[2:]: value for name, value in beside.items() if name.startswith("k.")}
    gates = dict(zip(cell.gates, projected.chunk(len(cell.gates), 1), strict=True))
    own = dict(zip(cell.per_unit, units, strict=True))
    terms = cell.linear(Named("gate", gates | noise), Named("per-unit parameter", own | constants))
    assert terms is not None
    decay, drive = (layout.pad(v, fill) for v, fill in zip(terms, (1.0, 0.0), strict=True))
    return _in_order(decay, layout), _in_order(drive, layout)


def _through_terms(
    call: ScanCall, projected: Tensor, at_decay: Tensor, at_drive: Tensor
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Gradients at the projected input and at the per-unit parameters.

    The terms are computed once more: pointwise work is cheaper than keeping what it consists of.
    """
    with torch.enable_grad():
        inputs = [t.detach().requires_grad_() for t in (projected, *call.weights.per_unit)]
        terms = _terms(call, inputs[0], inputs[1:])
        pairs = [
            (term, grad)
            for term, grad in zip(terms, (at_decay, at_drive), strict=True)
            if term.requires_grad
        ]
        found = torch.autograd.grad(
            [term for term, _ in pairs],
            inputs,
            [grad for _, grad in pairs],
            allow_unused=True,
            materialize_grads=True,
        )
    return found[0], tuple(found[1:])


def _in_order(padded: Tensor, layout: Layout) -> Tensor:
    """``(T, ...)`` from memory order to the order of the scan, or back."""
    return padded.flip(0) if layout.reverse else padded


def _rows(states: Tensor, layout: Layout) -> Tensor:
    """``(T, B, H)`` in the order of the scan to ``(N, H)`` in memory order."""
    padded = _in_order(states, layout)
    if layout.is_dense:
        return padded.flatten(0, 1)
    return padded[layout.present().to(padded.device)]
