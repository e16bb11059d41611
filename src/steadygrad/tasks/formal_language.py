"""Formal languages: trained on short sequences, scored on longer ones; the base of four tasks."""

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from steadygrad.tasks.base import Split
from steadygrad.tasks.synthetic import Classification, chance


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

    def draw_batch(
        self, split: Split, place: tuple[int, int], size: int, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """Random lengths in training; else they are evenly spread, the longest first."""
        low, high = (self.length + 1, self.longest) if split == "test" else (1, self.length)
        if split == "train":
            symbols = int(torch.randint(low, high + 1, (), generator=generator))
        else:
            index, count = place
            symbols = high - round((high - low) * index / max(1, count - 1))
        return self.strings(symbols, size, generator)


def after_input(kinds: int, symbols: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
    """Symbols ``(N, B)``, then as many blank steps, at which the answers ``(N, B)`` are due.

    Returns:
        Inputs one-hot ``(2N, B, kinds + 1)``, the last of them the blank, and targets ``(2N, B)``,
        -1 while the symbols are shown.
    """
    codes = torch.cat([symbols, torch.full_like(symbols, kinds)])
    inputs = F.one_hot(codes, kinds + 1).float()
    return inputs, torch.cat([torch.full_like(answers, -1), answers])
