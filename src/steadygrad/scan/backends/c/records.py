"""What a backward loop writes down of the gradient, and how it is read."""

from functools import partial
from itertools import pairwise
from typing import final
from weakref import ReferenceType, ref

import torch
from torch import Tensor

from steadygrad.cells import Cell
from steadygrad.scan.backends.c import pool
from steadygrad.scan.backends.c.call import KernelCall
from steadygrad.scan.backends.c.threads import Split
from steadygrad.scan.layout import Layout
from steadygrad.scan.taps import LOG10_2, Tap

DOUBLE = torch.empty(0, dtype=torch.float64)
KEPT = pool.LARGE // 8
"""Numbers of a buffer that may wait here, at most; the pool sees to larger ones."""
Read = partial[dict[str, object]]


def _places(layout: Layout, split: Split, width: int) -> tuple[Tensor, Tensor]:
    """Which record is that of each row, ``(N,)``, and where its numbers are, ``(N, width)``.

    Where all threads share every step, records stand in the order of the rows. Else they stand by
    thread, then by step of the backward loop; and of the rows of one thread at one step four at a
    time have the first number of each together, then the second of each, while each row that is
    left has its own numbers together.
    """
    records, numbers = torch.arange(layout.rows), torch.arange(width)
    if split.together:
        return records, records[:, None] * width + numbers
    steps = list(zip(layout.offsets, layout.batch_sizes, strict=True))
    pieces = [
        (offset + start, min(stop, count) - start)
        for start, stop in pairwise(split.bounds)
        for offset, count in (steps if layout.reverse else steps[::-1])
        if start < count
    ]
    first, sizes = torch.tensor(pieces).unbind(1)
    inside = records - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    in_four = inside < (sizes // 4 * 4).repeat_interleave(sizes)
    lane = torch.where(in_four, inside % 4, 0)
    begin = (records - lane) * width + lane
    places = begin[:, None] + torch.where(in_four, 4, 1)[:, None] * numbers
    order = (first.repeat_interleave(sizes) + inside).argsort()
    return order, places[order]


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

    def tap(self, call: KernelCall, layout: Layout, scaled: bool) -> Tap:
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
        call.words[call.index["records"]] = address
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
    order, places = _places(layout, split, states + gates)
    sums = records[places]
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
