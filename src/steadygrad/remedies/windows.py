"""Cut long streams into windows with carried state: truncated backpropagation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar, final

import torch
from torch import Tensor

S = TypeVar("S", Tensor, tuple[Tensor, ...], None)


@final
@dataclass(frozen=True)
class Window:
    """A window: some time steps of every row of the batch.

    Attributes:
        inputs: ``(T, B, ...)``; padded where a row's sequence has ended.
        targets: ``(T, B, ...)``, or None if there are none.
        lengths: ``(B,)``, valid steps of each row; 0 for a row without data.
        fresh: ``(B,)``, whether a row begins a new sequence here.
    """

    inputs: Tensor
    targets: Tensor | None
    lengths: Tensor
    fresh: Tensor

    @property
    def mask(self) -> Tensor:
        """``(T, B)``: whether a step of a row is valid, to index outputs and targets."""
        steps = torch.arange(len(self.inputs), device=self.inputs.device)
        return steps[:, None] < self.lengths

    def carry(self, state: S) -> S:
        """Return the state for this window: the values of the last one, without its gradient.

        Rows that begin a new sequence get zeros.

        Args:
            state: What the layer returned for the window before, each ``(·, B, ·)``, or None.
        """
        if state is None:
            return None  # pyright: ignore[reportReturnType]
        if isinstance(state, tuple):
            return tuple(self._carried(part) for part in state)  # pyright: ignore[reportReturnType]
        return self._carried(state)  # pyright: ignore[reportReturnType]

    def _carried(self, part: Tensor) -> Tensor:
        # Filled, not multiplied, because 0 · NaN is NaN.
        return part.detach().masked_fill(self.fresh.to(part.device)[None, :, None], 0.0)


@final
class Windows:
    r"""Windows of long sequences, row by row, so that the state can be carried over.

    The gradient stops at the border of a window, the state does not: memory beyond a window is
    possible, but not trained. The cost of a step grows with the window, not with the sequence.

    A single tensor is cut into ``batch`` streams of equal length, read in parallel. With a list,
    each row of the batch reads one sequence after the other, completely, and the first free row
    takes the next: no row of a window spans two sequences, so a state is never carried from one
    into another.

    Args:
        inputs: ``(N, ...)``, or sequences ``(T_i, ...)``.
        targets: The same in number and length, or None.
        batch: Rows, ``B``.
        steps: Time steps of a window; the last of a sequence may be shorter.

    Attributes:
        dropped: Steps at the end of a single tensor that do not fill the rows and are left out.

    Raises:
        ValueError: Nothing to read, or inputs and targets do not match.

    References:
        Williams and Peng, *An Efficient Gradient-Based Algorithm for On-Line Training of Recurrent
        Network Trajectories*, 1990 (truncation).
        Mikolov et al., *Recurrent Neural Network Based Language Model*, 2010.

    Example:
        >>> series = torch.randn(1000, 3)
        >>> layer, state = torch.nn.LSTM(3, 8), None
        >>> for window in Windows(series, series, batch=4, steps=35):
        ...     output, state = layer(window.inputs, window.carry(state))
        ...     loss = output[window.mask].sum()
    """

    def __init__(
        self,
        inputs: Tensor | Sequence[Tensor],
        targets: Tensor | Sequence[Tensor] | None = None,
        *,
        batch: int,
        steps: int,
    ) -> None:
        if batch < 1 or steps < 1:
            raise ValueError(f"Windows: batch and steps must be at least 1, got {batch}, {steps}")
        self.batch, self.steps, self.dropped = batch, steps, 0
        if isinstance(inputs, Tensor):
            self.dropped = len(inputs) % batch
            inputs = _streams(inputs, batch)
            targets = _streams(targets, batch) if isinstance(targets, Tensor) else targets
        self.inputs = list(inputs)
        self.targets = None if targets is None else list(targets)
        self._check()
        self._plan = self._planned()

    def __len__(self) -> int:
        """Number of windows in one pass."""
        return len(self._plan)

    def __iter__(self) -> Iterator[Window]:
        return map(self._window, self._plan)

    def _check(self) -> None:
        if not self.inputs or any(len(x) == 0 for x in self.inputs):
            raise ValueError(
                f"Windows: expected sequences of at least one step (and a tensor of at least "
                f"batch={self.batch} steps), got lengths {[len(x) for x in self.inputs]}"
            )
        if self.targets is not None:
            given, wanted = [len(t) for t in self.targets], [len(x) for x in self.inputs]
            if given != wanted:
                raise ValueError(
                    f"Windows: targets must be as long as inputs, {wanted}, got {given}"
                )

    def _planned(self) -> list[list[tuple[int, int]]]:
        """For each window and row, its sequence and first step; (-1, 0) for none."""
        waiting = iter(range(len(self.inputs)))
        rows = [(next(waiting, -1), 0) for _ in range(self.batch)]
        plan = []
        while any(number >= 0 for number, _ in rows):
            plan.append(rows)
            rows = [
                (number, start + self.steps)
                if number >= 0 and start + self.steps < len(self.inputs[number])
                else (next(waiting, -1), 0)
                for number, start in rows
            ]
        return plan

    def _window(self, rows: list[tuple[int, int]]) -> Window:
        device = self.inputs[0].device
        cuts = [slice(start, start + self.steps) for _, start in rows]
        numbers = [number for number, _ in rows]
        lengths = [
            len(self.inputs[n][cut]) if n >= 0 else 0 for n, cut in zip(numbers, cuts, strict=True)
        ]

        def padded(sequences: list[Tensor]) -> Tensor:
            parts = [sequences[max(n, 0)][cut] for n, cut in zip(numbers, cuts, strict=True)]
            whole = parts[0].new_zeros(max(lengths), self.batch, *sequences[0].shape[1:])
            for row, (part, length) in enumerate(zip(parts, lengths, strict=True)):
                whole[:length, row] = part[:length]
            return whole

        return Window(
            padded(self.inputs),
            None if self.targets is None else padded(self.targets),
            torch.tensor(lengths, device=device),
            torch.tensor([start == 0 for _, start in rows], device=device),
        )


def _streams(whole: Tensor, batch: int) -> list[Tensor]:
    length = len(whole) // batch
    return [whole[row * length : (row + 1) * length] for row in range(batch)]
