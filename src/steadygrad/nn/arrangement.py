"""How a call lays out its rows: which axis is time, packed, padded, or one sequence alone.

This is the one place that reads ``batch_first`` and `PackedSequence` of a recurrent layer's call.
Everything else works on rows: time first, batched, padding gone, as `steadygrad.scan.Layout` has
them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from steadygrad.scan import is_codes


@dataclass(slots=True)  # made in every call of a layer: not frozen, which takes twice as long
class Arrangement:
    """The layout of one call, and the way there and back.

    Attributes:
        steps: Time steps, padding included.
        batch: Rows at the fullest time step, ``B``.
        ragged: Rows at each time step, not increasing, where they are of several lengths and known.
        batch_first: Whether tensors of the call are ``(B, T, ·)``.
        is_batched: Whether the call has a batch axis; without one it is ``(T, ·)``.
        is_step: Whether the call is one of a cell: one time step, and no axis of time.
        packed_sizes: ``batch_sizes`` as a packed input has them; None if it is not packed.
        lengths: Steps of each row of a padded batch, in the caller's order; None if not padded.
        places: Place of each row of all time steps in the flattened input, of a padded batch.
        open_sizes: Rows at each time step of a padded batch as a tensor, while torch traces: its
            `rows` are sorted by length, with the padding in between.
        is_traced: Whether a graph is being made: sizes may be symbols, and stay free.
        resets: Where a new segment of a row begins, bool, laid out as the input without its
            features; None if each row is one segment.
        order: Row of the caller's batch that comes first, second, ... here; None if as given.
        back: The inverse of ``order``.
    """

    steps: int
    batch: int
    ragged: tuple[int, ...] | None = None
    batch_first: bool = False
    is_batched: bool = True
    is_step: bool = False
    packed_sizes: Tensor | None = None
    lengths: Tensor | None = None
    order: Tensor | None = None
    back: Tensor | None = None
    places: Tensor | None = None
    open_sizes: Tensor | None = None
    is_traced: bool = False
    resets: Any = None

    @classmethod
    def of(
        cls, input: Tensor | PackedSequence, batch_first: bool = False, lengths: Any = None
    ) -> "Arrangement":
        """Read the layout off an input.

        Args:
            input: Features ``(T, B, I)``, ``(B, T, I)`` or ``(T, I)``; codes without the last axis;
                or packed.
            batch_first: As of the layer. An unbatched input and a packed one take no notice of it.
            lengths: Steps of each row ``(B,)`` of a padded batch.
        """
        if isinstance(input, PackedSequence):
            # Not the input itself: whoever hooks its data must not hold it.
            return cls.of_sizes(
                tuple(input.batch_sizes.tolist()),
                packed_sizes=input.batch_sizes,
                order=input.sorted_indices,
                back=input.unsorted_indices,
            )
        axes = input.dim() if is_codes(input) and input.dim() < 3 else input.dim() - 1
        shape = input.shape
        if axes < 2:
            traced = torch.compiler.is_compiling() or type(shape[0]) is not int
            return cls(shape[0], 1, is_batched=False, is_traced=traced)
        steps, batch = (shape[1], shape[0]) if batch_first else (shape[0], shape[1])
        # A size that is no int is a symbol, or, to torch.jit.trace, a tensor.
        traced = torch.compiler.is_compiling() or type(steps) is not int or type(batch) is not int
        if lengths is None:
            return cls(steps, batch, batch_first=batch_first, is_traced=traced)
        lengths = torch.as_tensor(lengths).detach().cpu().long()
        order = lengths.sort(descending=True, stable=True).indices  # ONNX knows no argsort
        is_there = lengths[order] > torch.arange(steps)[:, None]  # (T, B)
        sizes, at = is_there.sum(1), order.to(input.device)
        made = cls(
            steps, batch, None, batch_first, lengths=lengths, order=at, back=at.sort().indices
        )
        if traced:  # how many rows there are in all only values tell: the padding stays
            made.is_traced, made.open_sizes = True, sizes
            return made
        step_of, row_of = torch.arange(steps)[:, None], order[None, :]
        places = (row_of * steps + step_of if batch_first else step_of * batch + row_of)[is_there]
        made.ragged, made.places = tuple(n for n in sizes.tolist() if n), places.to(input.device)
        return made

    @classmethod
    def of_sizes(
        cls,
        sizes: tuple[int, ...],
        batch_first: bool = False,
        packed_sizes: Tensor | None = None,
        order: Tensor | None = None,
        back: Tensor | None = None,
    ) -> "Arrangement":
        """The layout of rows at each time step; packed if ``packed_sizes`` says the same."""
        batch = sizes[0] if sizes else 0
        return cls(
            len(sizes), batch, sizes, batch_first, packed_sizes=packed_sizes, order=order, back=back
        )

    @classmethod
    def step(cls, input: Tensor) -> "Arrangement":
        """The layout of one call of a cell: ``(B, I)``, or ``(I,)`` of one sequence."""
        batched = input.dim() == 2
        return cls(1, len(input) if batched else 1, is_batched=batched, is_step=True)

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Rows at each time step, not increasing."""
        return (self.batch,) * self.steps if self.ragged is None else self.ragged

    @property
    def is_dense(self) -> bool:
        """Whether all rows are of one length, and are known to be."""
        return self.packed_sizes is None and self.lengths is None

    def rows(self, value: Any) -> Tensor:
        """Values of all time steps, ``(N, ·)``, of something laid out as input or output are.

        Args:
            value: As the call has it. What is packed may come as its ``data``.
        """
        if self.packed_sizes is not None:
            return value.data if isinstance(value, PackedSequence) else value
        if self.is_step:
            return value if self.is_batched else value.unsqueeze(0)
        if not self.is_batched:
            return value
        if self.places is not None:
            return value.flatten(0, 1).index_select(0, self.places)
        value = value.transpose(0, 1) if self.batch_first else value
        if self.open_sizes is not None and self.order is not None:
            value = value.index_select(1, self.order)
        return value.reshape(value.shape[0] * value.shape[1], *value.shape[2:])

    def begins(self, reverse: bool) -> Tensor | None:
        """``(N,)``: before which rows a scan in one direction sets the state to its start.

        A flag of `resets` at step t says that a segment of the row begins there. The forward scan
        begins anew before step t; the reverse scan before step t - 1, the last of the segment
        before, which it comes to first. A flag at the first step cuts off what came before the
        call, which the reverse scan does not read.
        """
        if self.resets is None:
            return None
        if self.packed_sizes is not None:
            flags, sizes = self.resets.data, self.packed_sizes
            if not reverse:
                return flags
            moved = torch.zeros_like(flags)
            later = torch.arange(self.batch, len(flags))  # rows that have a step before them
            moved[later - sizes[:-1].repeat_interleave(sizes[1:])] = flags[self.batch :]
            return moved
        flags = self.resets
        if reverse:
            axis = 1 if self.batch_first and self.is_batched else 0
            after = flags.narrow(axis, 1, flags.shape[axis] - 1)
            flags = torch.cat([after, torch.zeros_like(flags.narrow(axis, 0, 1))], axis)
            if self.lengths is not None:  # what lies beyond the end of a row is no segment
                inside = torch.arange(1, self.steps + 1)[:, None] < self.lengths
                flags = flags & (inside.t() if axis else inside).to(flags.device)
        return self.rows(flags)

    def laid(self, rows: Tensor) -> Any:
        """The inverse of `rows`: ``(N, ·)`` laid out as the call has it; beyond lengths zeros."""
        if self.packed_sizes is not None:
            return PackedSequence(rows, self.packed_sizes, self.order, self.back)
        if self.is_step:
            return rows if self.is_batched else rows.squeeze(0)
        if not self.is_batched:
            return rows
        features = rows.shape[1:]
        if self.places is not None:
            flat = rows.new_zeros(self.steps * self.batch, *features)
            flat = flat.index_copy(0, self.places, rows)
            return flat.view(*(self.batch, self.steps)[:: 1 if self.batch_first else -1], *features)
        wide = rows.view(self.steps, self.batch, *features)
        if self.open_sizes is not None and self.back is not None:
            wide = wide.index_select(1, self.back)
        return wide.transpose(0, 1) if self.batch_first else wide

    def states(self, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """States as the call has them, each ``(L*D, B, ·)``, in the order of the rows."""
        state = tuple(given)
        if self.is_step:
            state = tuple(s.unsqueeze(0) for s in state)
        if not self.is_batched:
            state = tuple(s.unsqueeze(1) for s in state)
        if self.order is not None:
            state = tuple(s.index_select(1, self.order) for s in state)
        return state

    def handed(self, state: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The inverse of `states`."""
        given = tuple(state)
        if self.back is not None:
            given = tuple(s.index_select(1, self.back) for s in given)
        if not self.is_batched:
            given = tuple(s.squeeze(1) for s in given)
        return tuple(s.squeeze(0) for s in given) if self.is_step else given

    def ends(self) -> Tensor:
        """``(B,)``: the last time step of each row, in the order of the rows."""
        return (torch.tensor(self.batch_sizes)[:, None] > torch.arange(self.batch)).sum(0) - 1

    def row(self, index: int) -> int:
        """The caller's number of a row."""
        return index if self.order is None else int(self.order[index])

    def only(self, value: Tensor, step: int) -> Tensor:
        """The same, in the same layout, with zeros at all time steps but one."""
        rows = self.rows(value)
        at = sum(self.batch_sizes[:step])
        masked = torch.zeros_like(rows)
        masked[at : at + self.batch_sizes[step]] = rows[at : at + self.batch_sizes[step]]
        return masked if self.packed_sizes is not None else self.laid(masked)

    def first_rows(self, value: Any, count: int) -> Any:
        """The first rows of the batch of a dense input, as the call has it."""
        if not self.is_batched or not self.is_dense:
            return value
        return value[:count] if self.batch_first or self.is_step else value[:, :count]


def time_axis(layer: object, input: Tensor) -> int:
    """The axis of time of a padded input ``(T, B, ·)``, ``(B, T, ·)`` or ``(T, ·)`` of a layer.

    Codes ``(T, B)`` or ``(B, T)`` of a layer that takes integers count as batched.
    """
    axes = input.dim() + 1 if is_codes(input) else input.dim()
    return 1 if getattr(layer, "batch_first", False) and axes >= 3 else 0
