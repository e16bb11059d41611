"""Formal languages: trained on short sequences, scored on longer ones; the base of four tasks."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from steadygrad.tasks.base import Batch, Batches, Split
from steadygrad.tasks.synthetic import Classification, batch_generator, batch_sizes, chance


class FormalLanguage(Classification):
    """Training and validation strings have 1 to ``length`` symbols, those of the test part more.

    All strings of a batch are of one length. The validation part is as long as training, so that
    nothing is chosen by the test part.
    """

    length: int
    longest: int

    def __post_init__(self) -> None:
        self.expect("length", self.length >= 2, "at least 2 symbols")
        self.expect("longest", self.longest > self.length, f"above the length, {self.length}")

    @property
    def no_memory(self) -> Mapping[str, float]:
        return chance(self.output_size)

    @abstractmethod
    def strings(self, symbols: int, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw ``size`` strings of so many symbols: inputs ``(T, B, I)`` and targets."""

    def draw(self, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        return self.strings(self.length, size, generator)

    def batches(self, split: Split, size: int, shuffle: tuple[int, int] | None = None) -> Batches:
        return _Lengths(self, batch_sizes(split, size), split, shuffle or (0, 0))


@final
@dataclass(frozen=True)
class _Lengths(Batches):
    """Batches of different lengths: random in training, else evenly spread, the longest first."""

    task: FormalLanguage
    sizes: tuple[int, ...]
    split: Split
    shuffle: tuple[int, int]

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < len(self.sizes):
            raise IndexError(index)
        task = self.task
        generator = batch_generator(self.split, self.shuffle, index)
        low, high = (task.length + 1, task.longest) if self.split == "test" else (1, task.length)
        if self.split == "train":
            symbols = int(torch.randint(low, high + 1, (), generator=generator))
        else:
            symbols = high - round((high - low) * index / max(1, len(self) - 1))
        return Batch(*task.strings(symbols, self.sizes[index], generator))


def after_input(kinds: int, symbols: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
    """Symbols ``(N, B)``, then as many blank steps, at which the answers ``(N, B)`` are due.

    Returns:
        Inputs one-hot ``(2N, B, kinds + 1)``, the last of them the blank, and targets ``(2N, B)``,
        -1 while the symbols are shown.
    """
    codes = torch.cat([symbols, torch.full_like(symbols, kinds)])
    inputs = F.one_hot(codes, kinds + 1).float()
    return inputs, torch.cat([torch.full_like(answers, -1), answers])
