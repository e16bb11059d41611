"""The parallel back end: all time steps at once, for cells that are linear in their state."""

from collections.abc import Sequence, Set
from typing import ClassVar, final

import torch
from torch import Tensor

from steadygrad.cells import Cell, Gates, Named, PerUnit, State
from steadygrad.scan.backends import weight_gradients
from steadygrad.scan.backends.base import (
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

    Unlike in a loop, rows are not rescaled in the backward pass, so that taps show values below the
    dtype's range as zero.
    """

    name: ClassVar[str] = "parallel"
    rank: ClassVar[int] = 20

    def suits(self, call: ScanCall) -> bool:
        # On a CPU the loop is faster: it needs half of the arithmetic and stays in the cache.
        return call.device.type != "cpu" and self.refuses(call) is None

    def refuses(self, call: ScanCall) -> str | None:
        if type(call.cell).linear is Cell.linear:
            return "its step is not linear in its state (it states no Cell.linear)"
        if call.clip is not None:
            return "a clip inside the backward loop needs the loop"
        if call.weights.weight_hr is not None:
            return "it does not project h"
        if len(call.cell.states) > 1 and call.dtype not in (torch.float32, torch.float64):
            return "memories that may be complex need float32 or float64"
        return None

    def forward(self, call: ScanCall, keep: bool) -> ForwardPass:
        projected = call.projected()
        decay, drive = _terms(call, projected, call.weights.per_unit)
        memories = _solved(call, decay, drive)
        hidden, final = _results(call, projected, call.weights.per_unit, memories)
        # Copies, because each may be a view of all the memories.
        final = tuple(part.clone() for part in final)
        saved = {"projected": projected, "decay": decay, "states": memories} if keep else {}
        return ForwardPass(hidden.contiguous(), final, Saved(saved))

    def backward(
        self, call: ScanCall, saved: Saved, grads: OutputGradients, wanted: Set[str]
    ) -> Gradients:
        layout, kept = call.layout, saved.tensors
        decay, memories = kept["decay"], kept["states"]
        at_end = _at_end(call, grads.final, memories)
        at_hidden = grads.hidden
        if _reads(call.cell):
            if grads.final[0] is not None:
                at_hidden = at_hidden.index_add(0, _last_rows(call), grads.final[0])
            reading = _through_reading(call, kept, at_hidden)
            read_off, pre, units = _in_order(layout.pad(reading[0], 0.0), layout), *reading[1:]
        else:
            read_off = torch.zeros_like(memories)
            read_off[:, :, 0] = _in_order(layout.pad(at_hidden, 0.0), layout)
            pre, units = None, None
        # the gradient at the final memories enters at the last step
        outside = torch.cat([read_off[:-1], (read_off[-1] + at_end).unsqueeze(0)])
        begins = _begins(call)
        total = total_gradient(decay, outside, begins)
        before = torch.cat([_memories(call.state, call, decay).unsqueeze(0), memories[:-1]])
        if begins is not None:
            before = torch.where(begins, _memories(call.reset_state(), call, decay), before)
        # d m_t / d a_t = m_{t-1}; conjugated, by torch's convention for complex gradients
        through = _through_terms(call, kept["projected"], total * before.conj(), total)
        pre = through[0] if pre is None else pre + through[0]
        units = through[1] if units is None else _sums(units, through[1])
        if call.on_tap:
            # What reaches a memory through the h read off it counts at h.
            shown = total if not _reads(call.cell) else _handed_on(decay, total, at_end, begins)
            seen = [_steps(layout, part) for part in _parts(shown)]
            if _reads(call.cell):
                seen.insert(0, _steps(layout, _in_order(layout.pad(at_hidden, 0.0), layout)))
            call.on_tap(tap(layout, call.cell.states, call.cell.gates, seen, pre, None))
        back = decay.conj() * total
        if begins is None:
            at_state, at_start = back[0], None
        else:
            at_state = back[0].masked_fill(begins[0], 0)
            at_start = back.masked_fill(~begins, 0).sum((0, 1))
        by_name = weight_gradients.of_input(call, pre, wanted)
        by_name |= weight_gradients.of_recurrence(call, {}, {}, wanted)  # it has no products
        start = () if at_start is None else _of_states(call, _parts(at_start))
        return Gradients(by_name, units, _of_states(call, _parts(at_state)), start)

    def differentiable(self, call: ScanCall) -> tuple[Tensor, State]:
        projected, units = call.projected(), call.weights.per_unit
        decay, drive = _terms(call, projected, units)
        return _results(call, projected, units, _solved(call, decay, drive))


def _reads(cell: Cell) -> bool:
    """Whether h is computed from the memories by `Cell.read`, and is not the first of them."""
    return type(cell).read is not Cell.read


def _named(call: ScanCall, projected: Tensor, units: Sequence[Tensor]) -> tuple[Gates, PerUnit]:
    """The arguments of `Cell.linear` and `Cell.read`, for the rows of all steps."""
    cell = call.cell
    beside = call.per_step()
    noise = {name[2:]: value for name, value in beside.items() if name.startswith("n.")}
    constants = {name[2:]: value for name, value in beside.items() if name.startswith("k.")}
    gates = dict(zip(cell.gates, projected.chunk(len(cell.gates), 1), strict=True))
    own = dict(zip(cell.per_unit, units, strict=True))
    return Named("gate", gates | noise), Named("per-unit parameter", own | constants)


def _terms(call: ScanCall, projected: Tensor, units: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The decay and the drive of every step, ``(T, B, M, H)`` in the order of the scan.

    A row that has ended continues with a decay of one and a drive of zero, which keeps its
    memories.
    """
    layout = call.layout
    terms = call.cell.linear(*_named(call, projected, units))
    assert terms is not None
    decays, drives = (t if isinstance(t, tuple) else (t,) for t in terms)
    shape = (layout.rows, call.size)  # a decay may be the same in all rows
    decay, drive = (torch.stack([v.expand(shape) for v in t], 1) for t in (decays, drives))
    return _in_order(layout.pad(decay, 1.0), layout), _in_order(layout.pad(drive, 0.0), layout)


def _solved(call: ScanCall, decay: Tensor, drive: Tensor) -> Tensor:
    """The memories after every step."""
    begins = _begins(call)
    if begins is not None:
        anew = decay * _memories(call.reset_state(), call, decay)
        drive = torch.where(begins, drive + anew, drive)
    return linear_recurrence(decay, drive, _memories(call.state, call, decay), begins)


def _begins(call: ScanCall) -> Tensor | None:
    """``(T, B, 1, 1)``: where the memories begin anew, in the order of the scan."""
    if call.resets is None:
        return None
    return _in_order(call.layout.pad(call.resets, False), call.layout)[..., None, None]


def _memories(state: State, call: ScanCall, like: Tensor) -> Tensor:
    """The memories ``(..., M, H)`` of a state, each ``(..., H)``."""
    held = state[1:] if _reads(call.cell) else state
    if not like.is_complex():
        return torch.stack(held, -2)
    return torch.complex(torch.stack(held[::2], -2), torch.stack(held[1::2], -2))


def _of_states(call: ScanCall, memories: State) -> State:
    """Gradients at all states from those at the memories: at an h that is read off, none."""
    if not _reads(call.cell):
        return memories
    return (torch.zeros_like(memories[0]), *memories)


def _parts(memories: Tensor) -> State:
    """The states of memories ``(..., M, H)``: ``(..., H)`` each."""
    if not memories.is_complex():
        return memories.unbind(-2)
    return tuple(part for m in memories.unbind(-2) for part in (m.real, m.imag))


def _results(
    call: ScanCall, projected: Tensor, units: Sequence[Tensor], memories: Tensor
) -> tuple[Tensor, State]:
    """The hidden states of all steps in memory order, and the last state of each row."""
    layout = call.layout
    if not _reads(call.cell):
        return _rows(_parts(memories)[0], layout), _parts(memories[-1])
    x, unit = _named(call, projected, units)
    hidden = call.cell.read(x, _parts(_rows(memories, layout)), unit)
    return hidden, (hidden[_last_rows(call)], *_parts(memories[-1]))


def _at_end(call: ScanCall, final: tuple[Tensor | None, ...], like: Tensor) -> Tensor:
    """The gradient at the last memories, ``(B, M, H)``."""
    given = final[1:] if _reads(call.cell) else final
    parts = [
        torch.zeros_like(s) if g is None else g
        for g, s in zip(given, _parts(like[-1]), strict=True)
    ]
    if not like.is_complex():
        return torch.stack(parts, 1)
    return torch.complex(torch.stack(parts[::2], 1), torch.stack(parts[1::2], 1))


def _handed_on(decay: Tensor, total: Tensor, at_end: Tensor, begins: Tensor | None) -> Tensor:
    """The gradient at the memories that comes from the next step, or from behind the last."""
    back = decay[1:].conj() * total[1:]
    if begins is not None:
        back = back.masked_fill(begins[1:], 0)
    return torch.cat([back, at_end.unsqueeze(0)])


def _through_reading(
    call: ScanCall, kept: dict[str, Tensor], at_hidden: Tensor
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Gradients at the memories that h is computed from, the projected input and the parameters."""
    memories = _rows(kept["states"], call.layout)
    with torch.enable_grad():
        leaves = [memories, kept["projected"], *call.weights.per_unit]
        leaves = [t.detach().requires_grad_() for t in leaves]
        x, unit = _named(call, leaves[1], leaves[2:])
        hidden = call.cell.read(x, _parts(leaves[0]), unit)
        found = torch.autograd.grad(
            hidden, leaves, at_hidden, allow_unused=True, materialize_grads=True
        )
    return found[0], found[1], tuple(found[2:])


def _through_terms(
    call: ScanCall, projected: Tensor, at_decay: Tensor, at_drive: Tensor
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Gradients at the projected input and at the per-unit parameters.

    The terms are recomputed, which is cheaper than saving their intermediate values.
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


def _sums(some: tuple[Tensor, ...], others: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(a + b for a, b in zip(some, others, strict=True))


def _steps(layout: Layout, padded: Tensor) -> list[Tensor]:
    """``(T, B, H)`` in the order of the scan as the rows of each step, the last step first."""
    return [padded[t, :rows] for t, (_, rows) in reversed(list(enumerate(layout.steps())))]


def _last_rows(call: ScanCall) -> Tensor:
    """``(B,)``: where, in memory order, the last step of each row is."""
    layout = call.layout
    if layout.reverse:
        return torch.arange(layout.batch, device=call.device)
    ends = [0] * layout.batch
    for offset, rows in zip(layout.offsets, layout.batch_sizes, strict=True):
        ends[:rows] = range(offset, offset + rows)
    return torch.tensor(ends, device=call.device)


def _in_order(padded: Tensor, layout: Layout) -> Tensor:
    """``(T, ...)`` from memory order to the order of the scan, or back."""
    return padded.flip(0) if layout.reverse else padded


def _rows(states: Tensor, layout: Layout) -> Tensor:
    """``(T, B, ...)`` in the order of the scan to ``(N, ...)`` in memory order."""
    padded = _in_order(states, layout)
    if layout.is_dense:
        return padded.flatten(0, 1)
    return padded[layout.present().to(padded.device)]
