"""The rows of each time step, and the order of the steps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Rows of all time steps, concatenated as in `torch.nn.utils.rnn.PackedSequence`.

    In a dense batch every step has ``B`` rows. Rows are sorted so that those still running at a
    step come first; nothing is computed for the others.

    Args:
        batch_sizes: Rows at each time step, not increasing.
        reverse: Whether the steps are taken from the last to the first.
    """

    batch_sizes: tuple[int, ...]
    reverse: bool = False

    @classmethod
    def dense(cls, steps: int, batch: int, reverse: bool = False) -> "Layout":
        """``steps`` steps of ``batch`` rows each."""
        return cls((batch,) * steps, reverse)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """First row of each time step."""
        offsets = [0]
        for rows in self.batch_sizes[:-1]:
            offsets.append(offsets[-1] + rows)
        return tuple(offsets)

    @cached_property
    def rows(self) -> int:
        """Rows of all time steps, ``N``."""
        return len(self.batch_sizes) * self.batch if self.is_dense else sum(self.batch_sizes)

    @property
    def batch(self) -> int:
        """Largest number of rows in a time step, ``B``."""
        return self.batch_sizes[0]

    @property
    def is_dense(self) -> bool:
        """Whether every step has all rows."""
        return self.batch_sizes[-1] == self.batch_sizes[0]

    def steps(self) -> Iterator[tuple[int, int]]:
        """Offset and rows of each time step, in the order of the scan."""
        pairs = zip(self.offsets, self.batch_sizes, strict=True)
        return reversed(list(pairs)) if self.reverse else iter(pairs)

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Concatenate the values of all steps, given in the order of the scan, in memory order."""
        return torch.cat(list(reversed(parts)) if self.reverse else list(parts))

    def pad(self, rows: Tensor, fill: float) -> Tensor:
        """Spread ``(N, ...)`` over ``(T, B, ...)``, with ``fill`` where a row has ended."""
        if self.is_dense:
            return rows.view(len(self.batch_sizes), self.batch, *rows.shape[1:])
        padded = rows.new_full((len(self.batch_sizes), self.batch, *rows.shape[1:]), fill)
        for t, (offset, count) in enumerate(zip(self.offsets, self.batch_sizes, strict=True)):
            padded[t, :count] = rows[offset : offset + count]
        return padded

    def present(self) -> Tensor:
        """``(T, B)``: whether a row takes part at a time step."""
        sizes = torch.tensor(self.batch_sizes)
        return torch.arange(self.batch) < sizes[:, None]
