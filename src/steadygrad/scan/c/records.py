"""What a backward loop writes down of the gradient, and how it is read."""

from itertools import pairwise

import torch
from torch import Tensor

from steadygrad.cells import Cell
from steadygrad.scan.c import pool
from steadygrad.scan.c.call import Call
from steadygrad.scan.c.threads import Split
from steadygrad.scan.layout import Layout
from steadygrad.scan.taps import LOG10_2, Tap


def _order(layout: Layout, split: Split) -> Tensor:
    """Where the record of each row is: by thread, then by step of the way back."""
    places = torch.arange(sum(layout.batch_sizes))
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


DOUBLE = torch.empty(0, dtype=torch.float64)


class Records:
    """What a backward loop writes down of every row: a record of doubles.

    Sums of squares of the states, then of the gates, then counts of what is not finite: one record
    a row. Where rows are split, those of one thread stand together, in the order in which they are
    made: of threads that write side by side, each fetches ahead what another is writing.
    """

    def __init__(self, call: Call, cell: Cell, layout: Layout, rows: int, scaled: bool) -> None:
        self._of, self._split = (cell, layout, rows, scaled), call.split
        count = rows * (2 * len(cell.states) + len(cell.gates))
        # Records, then as whole numbers the exponents of all rows, and those of the last step.
        self._seen = pool.empty((count + rows + layout.batch,), DOUBLE)
        address, words, index = self._seen.data_ptr(), call.words, call.index
        words[index["seen"]], words[index["N"]] = address, rows
        words[index["exponents"]] = address + 8 * count if scaled else 0

    def tap(self) -> Tap:
        """The tap, its logarithms taken only if somebody looks."""
        cell, layout, *_ = self._of
        return Tap.later(cell.states, cell.gates, layout.reverse, self._read)

    def _read(self) -> dict[str, Tensor]:
        cell, layout, rows, scaled = self._of
        states, gates = len(cell.states), len(cell.gates)
        width = 2 * states + gates
        order = _order(layout, self._split)
        records, rest = self._seen.split([rows * width, rows + layout.batch])
        squares, bad = records.view(rows, width)[order].split([states + gates, states], 1)
        logs = 0.5 * squares.log10()
        if scaled:
            logs -= rest.view(torch.int32)[order, None].double() * LOG10_2
        logs = layout.pad(logs, -torch.inf).movedim(-1, 0).contiguous()
        return {
            "log10_norm": logs[:states],
            "log10_gate": logs[states:],
            "nonfinite": layout.pad(bad, 0).movedim(-1, 0).to(torch.int64).contiguous(),
            "present": layout.present(),
        }
