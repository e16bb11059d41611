"""Bucket sort, a task of counters: give the symbols back in order."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, final

import torch
from torch import Generator, Tensor

from steadygrad.tasks.base import Sizes
from steadygrad.tasks.formal_language import FormalLanguage, after_input
from steadygrad.tasks.scoring import NATS, WRONG

KINDS = 5


@final
@dataclass(frozen=True)
class BucketSort(FormalLanguage):
    r"""Give a string of five kinds of symbols back, sorted, after its end.

    It is enough to count each kind, and to count down while answering. A sequence has as many
    silent steps as symbols; at each the next symbol is due.

    Args:
        length: Most symbols of training and validation.
        longest: Most symbols of the test part, whose strings are all longer than ``length``.

    Shapes:
        Inputs one-hot ``(2N, B, 6)``, the last a blank; targets ``(2N, B)``, -1 while the symbols
        are shown.

    Baseline:
        The most frequent symbol at each place of the sorted string, of length ``length``: 22 %
        wrong at 40 symbols. Place k holds at most symbol j if at least k of N symbols are at most
        j, a binomial probability. Solved at 1 % wrong.

    References:
        Delétang et al., *Neural Networks and the Chomsky Hierarchy*, 2023 (trained to
        length 40, scored to 500).
    """

    length: int = 40
    longest: int = 500

    name: ClassVar[str] = "bucket-sort"
    every_step: ClassVar[bool] = True

    @property
    def sizes(self) -> Sizes:
        return Sizes(inputs=KINDS + 1, outputs=KINDS, steps=2 * self.length)

    @property
    def required_lag(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Steps from the last answer back to the last symbol of the longest string of training."""
        return self.length

    @property
    def no_memory(self) -> Mapping[str, float]:
        share = [self._share(place) for place in range(1, self.length + 1)]
        wrong = sum(1 - max(p) for p in share) / self.length
        nats = -sum(x * math.log(x) for p in share for x in p if x > 0) / self.length
        return {WRONG: 100 * wrong, NATS: nats}

    def _share(self, place: int) -> list[float]:
        """Probability of each symbol at a place of the sorted string, the first being 1."""
        n = self.length
        at_most = [0.0]
        for j in range(1, KINDS + 1):
            p = j / KINDS
            few = sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(place))
            at_most.append(1 - few)
        return [max(0.0, high - low) for low, high in pairwise(at_most)]

    def strings(self, symbols: int, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        codes = torch.randint(KINDS, (symbols, size), generator=generator)
        return after_input(KINDS, codes, codes.sort(0).values)
