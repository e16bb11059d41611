"""A cell that is linear in its state, all time steps at once: no loop over time."""

import torch
from torch import Tensor

from steadygrad.cells import Cell, Named, State
from steadygrad.scan.backends.recurrence import linear_recurrence
from steadygrad.scan.layout import Layout
from steadygrad.scan.projection import project
from steadygrad.scan.taps import OnTap, tap
from steadygrad.scan.weights import Weights


def is_linear(cell: Cell) -> bool:
    """Whether the cell states its step as a linear recurrence."""
    return type(cell).linear is not Cell.linear


def scan_parallel(
    cell: Cell, x: Tensor, weights: Weights, state: State, layout: Layout, on_tap: OnTap | None
) -> tuple[Tensor, State]:
    """Do what `steadygrad.scan.scan` does, for a cell with `Cell.linear`; arguments as there.

    The taps show the gradient as it is: unlike in a loop, rows are not rescaled on the way, and
    what float32 cannot hold is flushed to zero.
    """
    projected = project(x, weights.weight_ih, weights.bias_ih)
    read = weights.per_step(cell, layout)
    gates = dict(zip(cell.gates, projected.chunk(len(cell.gates), 1), strict=True))
    noise = {name[2:]: value for name, value in read.items() if name.startswith("n.")}
    units = {name[2:]: value for name, value in read.items() if not name.startswith("n.")}
    terms = cell.linear(Named("gate", gates | noise), Named("per-unit parameter", units))
    assert terms is not None
    decay, drive = (layout.pad(v, fill) for v, fill in zip(terms, (1.0, 0.0), strict=True))
    if layout.reverse:
        decay, drive = decay.flip(0), drive.flip(0)
    watch = _Watch(cell, layout, projected, on_tap).see if on_tap else None
    states = linear_recurrence(decay, drive, state[0], watch)
    last = states[-1]  # a row that ended kept its state: its decay was one, its drive zero
    states = states.flip(0) if layout.reverse else states
    return _rows(states, layout), (last,)


def _rows(padded: Tensor, layout: Layout) -> Tensor:
    """``(T, B, H) -> (N, H)``, in memory order."""
    if layout.is_dense:
        return padded.flatten(0, 1)
    return padded[layout.present().to(padded.device)]


class _Watch:
    """Collects the gradients at the states and at the gates of one backward pass."""

    def __init__(self, cell: Cell, layout: Layout, projected: Tensor, on_tap: OnTap) -> None:
        self.cell, self.layout, self.on_tap = cell, layout, on_tap
        self.states: Tensor | None = None
        if projected.requires_grad:
            projected.register_hook(self.close)

    def see(self, total: Tensor) -> None:
        """Take the gradient at every state, ``(T, B, H)``, in the order of the scan."""
        self.states = total

    def close(self, gates: Tensor) -> None:
        """Take the gradient at the projected input, ``(N, G*H)``, and report."""
        if self.states is None or torch.is_grad_enabled():
            return
        backward = reversed(list(enumerate(self.layout.steps())))
        seen = [self.states[t, :rows] for t, (_, rows) in backward]
        self.on_tap(tap(self.layout, self.cell.states, self.cell.gates, [seen], gates, None))
