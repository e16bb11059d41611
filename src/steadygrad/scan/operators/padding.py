"""Rows of several lengths as a padded batch, whose sizes a graph knows without their values."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steadygrad.scan.layout import Layout

OF_ROWS = ("x", "resets")
"""Tensors that have one row for each row of each time step."""


@dataclass(frozen=True)
class Padding:
    """Which rows of a padded batch ``(T*B, ·)`` take part.

    At each time step these are the first of the ``B`` rows. A row that takes part at no step keeps
    its state.

    Attributes:
        layout: The rows that take part.
        places: Their places among the ``T*B``, ``(N,)``.
        total: ``T*B``.
    """

    layout: Layout
    places: Tensor
    total: int

    @classmethod
    def of(cls, sizes: Tensor, batch: int, reverse: bool) -> "Padding":
        """The padding of ``batch`` rows, of which ``sizes`` take part at each time step."""
        is_there = torch.arange(batch) < sizes[:, None]
        layout = Layout(tuple(n for n in sizes.tolist() if n), reverse)
        return cls(layout, is_there.flatten().nonzero()[:, 0], is_there.numel())

    @property
    def batch(self) -> int:
        """Rows that take part at any step."""
        return self.layout.batch if self.layout.batch_sizes else 0

    def without(self, names: Sequence[str], tensors: Sequence[Tensor]) -> list[Tensor]:
        """Tensors of a call, as `steadygrad.scan.call.Frame` names them, without the padding."""
        states = tensors[-1].shape[0]
        return [self._cut(n, t, states) for n, t in zip(names, tensors, strict=True)]

    def _cut(self, name: str, value: Tensor, states: int) -> Tensor:
        is_noise = name.startswith("noise") and value.dim() == 2
        if name in OF_ROWS or (is_noise and len(value) == self.total):
            return value.index_select(0, self.places.to(value.device))
        if name == "state" or (is_noise and len(value) == states):
            return value[: self.batch]
        return value

    def spread(self, rows: Tensor) -> Tensor:
        """Rows ``(N, ·)`` in their places; zeros elsewhere."""
        wide = rows.new_zeros(self.total, *rows.shape[1:])
        return wide.index_copy(0, self.places.to(rows.device), rows)

    def after(self, last: Tensor, first: Tensor) -> Tensor:
        """The last state of all rows; of those that took no part that of before."""
        return torch.cat([last, first[self.batch :]])

    def placed(self, name: str, grad: Tensor, like: Tensor, last: Tensor | None) -> Tensor:
        """The gradient of a tensor that `without` cut: ``like`` is the whole one.

        Args:
            name: What the tensor is.
            grad: The gradient of what was left of it.
            like: The tensor.
            last: The gradient of the last state, for a state; None for zeros.
        """
        if grad.shape == like.shape:
            return grad
        if len(like) == self.total and name != "state":
            return self.spread(grad)
        rest = torch.zeros_like(like[self.batch :]) if last is None else last[self.batch :]
        return torch.cat([grad, rest])
