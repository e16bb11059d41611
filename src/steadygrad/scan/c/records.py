"""What a backward loop writes down of the gradient, and how it is read."""

from functools import partial
from itertools import pairwise
from typing import final
from weakref import ReferenceType, ref

import torch
from torch import Tensor

from steadygrad.cells import Cell
from steadygrad.scan.c import pool
from steadygrad.scan.c.call import Call
from steadygrad.scan.c.threads import Split
from steadygrad.scan.layout import Layout
from steadygrad.scan.taps import LOG10_2, Tap

DOUBLE = torch.empty(0, dtype=torch.float64)
KEPT = pool.LARGE // 8
"""Numbers of a buffer that may wait here, at most; the pool sees to larger ones."""
Read = partial[dict[str, object]]


def _order(layout: Layout, split: Split) -> Tensor:
    """Where the record of each row is: by thread, then by step of the way back."""
    places = torch.arange(layout.rows)
    if split.together:
        return places
    back = list(zip(layout.offsets, layout.batch_sizes, strict=True))
    back = back if layout.reverse else back[::-1]
    made = [
        places[offset + start : offset + min(stop, count)]
        for start, stop in pairwise(split.bounds)
        for offset, count in back
        if start < count
    ]
    return torch.cat(made).argsort()


@final
class Records:
    """Where the backward loops of one kernel write down what they see: a record a row, of doubles.

    Sums of squares of the states, then of the gates. Where rows are split, those of one thread
    stand together, in the order in which they are made: of threads that write side by side, each
    fetches ahead what another is writing.

    Of a step that takes a fifth of a millisecond each microsecond counts, and memory that a thread
    has not just written to is not in its cache. So a buffer is used again, once nobody can read it
    any more: its tap was read, which copies, or dropped.
    """

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._width = len(cell.states) + len(cell.gates) + 1
        self._idle: list[tuple[int, int, Tensor, ReferenceType[Read]]] = []

    def tap(self, call: Call, layout: Layout, scaled: bool) -> Tap:
        """Give the call a place to write to; the tap reads it if somebody looks."""
        # Behind the records, as 32-bit numbers, the exponents of all rows and of the last step:
        # at most twice as many as there are rows.
        count = call.rows * self._width
        try:
            size, address, seen, reader = self._idle.pop()  # from now on no other thread's
            if size < count or reader() is not None:  # too small, or a tap may yet read it
                raise IndexError
        except IndexError:
            seen = pool.empty((count,), DOUBLE)
            size, address = count, seen.data_ptr()
        call.words[call.index["seen"]] = address
        read = partial(_read, seen, self._cell, layout, scaled, call.split)
        if size < KEPT:
            self._idle.append((size, address, seen, ref(read)))
        tap = object.__new__(Tap)
        tap.__dict__["_read"] = read
        return tap


def _read(
    seen: Tensor, cell: Cell, layout: Layout, scaled: bool, split: Split
) -> dict[str, object]:
    states, gates, rows = len(cell.states), len(cell.gates), layout.rows
    records, rest = seen.tensor_split([rows * (states + gates)])
    order = _order(layout, split)
    sums = records.view(rows, states + gates)[order]
    # Below zero: how many values are not finite, twice, and one more if the sum is NaN.
    broken = -sums.clamp(max=0)
    sums = torch.where(broken > 0, torch.where(broken % 2 == 1, torch.nan, torch.inf), sums)
    logs = 0.5 * sums.log10()
    if scaled:
        logs -= rest.view(torch.int32)[order, None].double() * LOG10_2
    logs = layout.pad(logs, -torch.inf).movedim(-1, 0).contiguous()
    bad = layout.pad((broken[:, :states] / 2).floor(), 0).movedim(-1, 0)
    return {
        "states": cell.states,
        "gates": cell.gates,
        "log10_norm": logs[:states],
        "log10_gate": logs[states:],
        "nonfinite": bad.to(torch.int64).contiguous(),
        "present": layout.present(),
        "reverse": layout.reverse,
    }
