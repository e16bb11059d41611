"""What went into a call of a layer with a loop of its own, as rows of one sequence each."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from steadygrad.flow.capture import Call
from steadygrad.flow.replay import OutputGradient
from steadygrad.nn import Looped
from steadygrad.nn.padded_rows import PaddedRows


@dataclass(frozen=True)
class Segments:
    """Stretches of rows that are sequences by themselves, each a row of its own from here on.

    Attributes:
        call: How the call lays out its rows.
        row: Row of each segment, ``(S,)``.
        start: Its first step.
        size: Its steps.
    """

    call: PaddedRows
    row: Tensor
    start: Tensor
    size: Tensor

    @classmethod
    def of(cls, call: PaddedRows) -> "Segments":
        """Cut every row where a segment begins."""
        batch, steps = call.x.shape[:2]
        runs = torch.ones(batch, steps, dtype=torch.bool) if call.runs is None else call.runs.cpu()
        begins = torch.zeros_like(runs) if call.begins is None else call.begins.cpu() & runs
        begins[:, 0] = True
        row, start = begins.nonzero().unbind(1)
        stop = torch.cat([start[1:], start.new_zeros(1)])
        stop = torch.where(_is_last_of(row), runs.sum(1)[row], stop)
        return cls(call, row, start, stop - start)

    @cached_property
    def is_there(self) -> Tensor:
        """``(S, T)``: which steps a segment has, up to those of the longest."""
        return torch.arange(int(self.size.max())) < self.size[:, None]

    @cached_property
    def is_last(self) -> Tensor:
        """``(S,)``: whether a segment is the last of its row."""
        return _is_last_of(self.row)

    @cached_property
    def step_of(self) -> Tensor:
        """``(B, T)``: the place of each step in its segment; -1 beyond the end of a row."""
        found = torch.full(self.call.x.shape[:2], -1)
        segment, step = self.is_there.nonzero().unbind(1)
        found[self.row[segment], self.start[segment] + step] = step
        return found

    def cut(self, value: Tensor) -> Tensor:
        """``(S, T, ·)`` of what is laid out as input or output are; zero beyond the end."""
        grid = self.call.grid(value)
        at = (self.start[:, None] + torch.arange(self.is_there.shape[1])).clamp(
            max=grid.shape[1] - 1
        )
        cut = grid[self.row[:, None].to(grid.device), at.to(grid.device)]
        is_there = self.is_there.to(grid.device)
        return torch.where(is_there.view(*is_there.shape, *[1] * (cut.dim() - 2)), cut, 0)

    def only(self, value: Tensor, step: int) -> Tensor:
        """The same, in the layout of the call, with zeros at all other steps of the segments."""
        grid = self.call.grid(value)
        kept = torch.where((self.step_of == step)[..., None].to(grid.device), grid, 0)
        laid = self.call.laid(kept)
        return laid.data if self.call.packed is not None else laid


class LoopedInput:
    """Input, states and gradients of a call, its segments as rows.

    Args:
        call: Of a layer with a loop of its own.

    Attributes:
        layer: The layer.
        input: As the layer takes it.
        lengths: Steps of each row; None where all are of one length.
        axis: The batch among the axes of a state.
    """

    def __init__(self, call: Call) -> None:
        assert isinstance(call.layer, Looped)
        self.layer: Looped = call.layer
        self.axis = self.layer.batch_axis
        self.lengths: Tensor | None = None
        self._segments = _segments(call)
        if self._segments is None:
            assert isinstance(call.input, Tensor)
            self.input, self.state, self.output = call.input, call.state, call.output
        else:
            self.input = self._cut(call.input)
            self.output = self._cut(call.output)
            self.state = tuple(self._begun(s) for s in call.state)
            self.lengths = self._segments.size
        self.batch: int = self._own_entries(torch.zeros_like(self.output)).shape[1]

    @property
    def is_reset(self) -> bool:
        """Whether rows of the call are reset within it."""
        return self._segments is not None and self._segments.call.begins is not None

    def of(self, grad: OutputGradient) -> OutputGradient:
        """Gradients at the results of the call, its segments as rows."""
        if self._segments is None:
            return grad
        output, last = grad
        return (
            None if output is None else self._cut(output),
            tuple(None if g is None else self._ended(g) for g in last),
        )

    def entered(self, grad: OutputGradient) -> Tensor:
        """``(T, B)``: where gradients, as `of` gives them, enter the recurrence."""
        output, last = grad
        found = self._own_entries(torch.zeros_like(self.output) if output is None else output)
        at = torch.arange(self.batch)
        for g in last:
            if g is not None:
                is_read = (g != 0).movedim(self.axis, 0).flatten(1).any(1).cpu()
                found[self.ends, at] |= is_read
        return found

    @cached_property
    def ends(self) -> Tensor:
        """``(B,)``: last step of each row."""
        if self.lengths is not None:
            return self.lengths - 1
        steps = len(self._own_entries(torch.zeros_like(self.output)))
        return torch.full((self.batch,), steps - 1)

    def only(self, grad: OutputGradient, step: int) -> OutputGradient:
        """The part that enters at one step, shaped as the results of the call."""
        output, last = grad
        segments = self._segments
        if segments is None:
            kept = last if step == int(self.ends[0]) else tuple(None for _ in last)
            return None if output is None else self.layer.only(self.input, output, step), kept
        rows = (segments.size == step + 1)[segments.is_last]
        kept = tuple(None if g is None else self._of_rows(g, rows) for g in last)
        return None if output is None else segments.only(output, step), kept

    def _own_entries(self, output: Tensor) -> Tensor:
        found = self.layer.entered(self.input, output).cpu()
        return found if self._segments is None else found & self._segments.is_there.T

    def _cut(self, value: Any) -> Tensor:
        assert self._segments is not None
        cut = self._segments.cut(value)
        return cut if self.layer.batch_axis_of_output == 0 else cut.transpose(0, 1)

    def _begun(self, state: Tensor) -> Tensor:
        """The state before each segment: what was handed in where a row goes on, else zeros."""
        assert self._segments is not None
        segments = self._segments
        rows = self._batched(state).movedim(self.axis, 0)
        goes_on = segments.start == 0
        if segments.call.begins is not None:
            goes_on = goes_on & ~segments.call.begins[:, 0].cpu()[segments.row]
        begun = rows[segments.row.to(rows.device)]
        kept = torch.where(_over(goes_on, begun), begun, 0)
        return kept.movedim(0, self.axis)

    def _ended(self, grad: Tensor) -> Tensor:
        """A gradient at the final state, at the last segment of each row."""
        assert self._segments is not None
        segments = self._segments
        rows = self._batched(grad).movedim(self.axis, 0)[segments.row.to(grad.device)]
        return torch.where(_over(segments.is_last, rows), rows, 0).movedim(0, self.axis)

    def _of_rows(self, grad: Tensor, rows: Tensor) -> Tensor:
        assert self._segments is not None
        wide = self._batched(grad).movedim(self.axis, 0)
        kept = torch.where(_over(rows, wide), wide, 0).movedim(0, self.axis)
        return kept if self._segments.call.is_batched else kept.squeeze(self.axis)

    def _batched(self, state: Tensor) -> Tensor:
        assert self._segments is not None
        return state if self._segments.call.is_batched else state.unsqueeze(self.axis)


def _segments(call: Call) -> Segments | None:
    """Its rows, where they are not one dense sequence each; else None."""
    if not isinstance(call.layer, Looped) or not call.layer.is_ragged:
        return None
    layer: Any = call.layer
    rows = PaddedRows.of(layer, call.input, call.lengths, call.resets)
    if rows.is_batched and rows.runs is None and rows.begins is None:
        return None
    return Segments.of(rows)


def _is_last_of(row: Tensor) -> Tensor:
    """Which of segments, given the row of each in order, are the last of their rows."""
    return torch.cat([row[1:] != row[:-1], row.new_ones(1, dtype=torch.bool)])


def _over(rows: Tensor, value: Tensor) -> Tensor:
    """``(B,)`` as it spreads over ``(B, ...)``."""
    return rows.to(value.device).view(-1, *[1] * (value.dim() - 1))
