"""Batches of windows of one long series."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from steadygrad.tasks.base import Batch, Batches


@final
@dataclass(frozen=True)
class Windows(Batches):
    """Batches of windows.

    Args:
        u: Inputs, ``(N, I)``.
        y: Targets, ``(N,)``.
        starts: First rows of the windows of each batch.
        length: Rows of a window.
        washout: First rows of each window that are not scored.
    """

    u: Tensor
    y: Tensor
    starts: tuple[Tensor, ...]
    length: int
    washout: int = 0

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> Batch:
        rows = torch.arange(self.length)[:, None] + self.starts[index][None]
        targets = self.y[rows].unsqueeze(-1)
        targets[: self.washout] = torch.nan
        return Batch(self.u[rows], targets)
