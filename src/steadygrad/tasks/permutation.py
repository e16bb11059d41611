"""Random permutation: of many symbols only the last, a repetition of the first, is predictable."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from steadygrad.tasks.base import Sizes
from steadygrad.tasks.synthetic import NATS, WRONG, Classification


@final
@dataclass(frozen=True)
class RandomPermutation(Classification):
    r"""Predict the last symbol, which repeats the first; all between are noise.

    Args:
        length: Symbols of a sequence, from 3; the last is not shown.
        symbols: Size of the alphabet. The first symbol is one of two, the others any but these.

    Shapes:
        Inputs one-hot ``(T - 1, B, symbols)``; targets ``(B,)``, 0 or 1 of as many classes.

    Baseline:
        50 % wrong, :math:`\ln 2` nats, for a model that knows that only two symbols come last.
        Solved at 1 % wrong.

    References:
        Hochreiter and Schmidhuber, *Long Short-Term Memory*, 1997, experiment 2b, in the form
        of Pascanu, Mikolov and Bengio, 2013, supplement (loss at the last step alone).
    """

    length: int = 100
    symbols: int = 100

    name: ClassVar[str] = "permutation"

    def __post_init__(self) -> None:
        self.expect("length", self.length >= 3, "at least 3 symbols")
        self.expect("symbols", self.symbols >= 3, "at least 3")

    @property
    def sizes(self) -> Sizes:
        return Sizes(inputs=self.symbols, outputs=self.symbols, steps=self.length - 1)

    @property
    def required_lag(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Steps from the answer back to the first symbol."""
        return self.time_steps - 1

    @property
    def no_memory(self) -> Mapping[str, float]:
        return {WRONG: 50.0, NATS: math.log(2)}

    def draw(self, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        first = torch.randint(2, (size,), generator=generator)
        noise = torch.randint(2, self.symbols, (self.time_steps - 1, size), generator=generator)
        codes = torch.cat([first[None], noise])
        return F.one_hot(codes, self.symbols).float(), first
