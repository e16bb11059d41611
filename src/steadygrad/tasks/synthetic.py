"""Synthetic benchmarks: fresh random sequences for training, fixed ones for scoring."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from torch import Generator, Tensor

from steadygrad.tasks.base import Batch, Batches, Split
from steadygrad.tasks.benchmark import Benchmark
from steadygrad.tasks.scoring import NATS as NATS
from steadygrad.tasks.scoring import SQUARED_ERROR as SQUARED_ERROR
from steadygrad.tasks.scoring import WRONG as WRONG
from steadygrad.tasks.scoring import ClassScores, NumberScores
from steadygrad.tasks.scoring import chance as chance

EPOCH = 100  # batches; training data never repeat, so an epoch is only a counting unit
FIXED: Mapping[Split, tuple[int, int]] = {"val": (1_000, 0), "test": (2_000, 1)}
"""Number and seed of the scored parts' sequences: the same for every run."""


class Synthetic(Benchmark):
    """A rule that draws sequences: a benchmark that overrides `draw`."""

    @abstractmethod
    def draw(self, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw ``size`` sequences of one common length: inputs ``(T, B, I)`` and targets."""

    def draw_batch(
        self, split: Split, place: tuple[int, int], size: int, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw a batch; ``place`` is its number and how many there are in the split."""
        return self.draw(size, generator)

    def batches(self, split: Split, size: int, shuffle: tuple[int, int] | None = None) -> Batches:
        return _Drawn(self, batch_sizes(split, size), split, shuffle or (0, 0))


class Regression(NumberScores, Synthetic):
    """One number after the last step; the loss is the mean squared error."""


class Classification(ClassScores, Synthetic):
    """One class after the last step, or one per step; the loss is the cross-entropy."""

    solved_if: ClassVar[tuple[str, float] | None] = (WRONG, 1.0)


@final
@dataclass(frozen=True)
class _Drawn(Batches):
    task: Synthetic
    sizes: tuple[int, ...]
    split: Split
    shuffle: tuple[int, int]

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < len(self.sizes):
            raise IndexError(index)
        generator = batch_generator(self.split, self.shuffle, index)
        place = index, len(self)
        return Batch(*self.task.draw_batch(self.split, place, self.sizes[index], generator))


def batch_sizes(split: Split, size: int) -> tuple[int, ...]:
    """Sequences of each batch of a split; the last may be smaller."""
    if split == "train":
        return (size,) * EPOCH
    whole, rest = divmod(FIXED[split][0], size)
    return (size,) * whole + ((rest,) if rest else ())


def batch_generator(split: Split, shuffle: tuple[int, int], index: int) -> Generator:
    """The generator of one batch: each has its own seed, so a run can be resumed at any batch.

    The scored parts do not depend on ``shuffle``.
    """
    # 32 bits, of which torch's generator on the CPU uses no more; the highest is set for the scored
    # parts alone, so that training never draws them.
    if split != "train":
        seed = 2**31 + FIXED[split][1] * 2**20 + index
    else:
        seed = int(np.random.SeedSequence((*shuffle, index)).generate_state(1)[0]) >> 1
    return torch.Generator().manual_seed(seed)
