"""Associative recall: values are shown beside their keys, and asked for by their keys."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from steadygrad.tasks.base import Sizes
from steadygrad.tasks.synthetic import NATS, WRONG, Classification


@final
@dataclass(frozen=True)
class AssociativeRecall(Classification):
    r"""Tell the value of each key, in any order, after pairs of keys and values were shown.

    Keys of a sequence are different; which value belongs to which is drawn anew in every sequence.
    Between the pairs stand blanks, at random places: with ``length`` twice ``pairs`` there are
    none; the more, the longer the memory, and the more noise to pass over. A state of H numbers
    has to hold all pairs apart, which is what a matrix as state is made for.

    Args:
        length: Steps in which the pairs are shown, from ``2 pairs``.
        pairs: ``P``, at most ``symbols``.
        symbols: Different keys, and different values, ``K``.

    Shapes:
        Inputs one-hot ``(length + P, B, 2K + 1)``: keys, values, blank; a value stands behind its
        key, and the last ``P`` steps are the keys in another order. Targets ``(length + P, B)``:
        the value at the steps of the questions, -1 (not asked) before.

    Baseline:
        A guess: :math:`\ln K` nats and :math:`1 - 1/K` wrong. Solved at 1 % wrong.

    References:
        Arora et al., *Zoology: Measuring and Improving Recall in Efficient Language Models*, 2023,
        section 4 (several questions). Poli et al., *Mechanistic Design and Scaling of Hybrid
        Architectures*, 2024, section 3 (in-context recall, and with noise).
    """

    length: int = 40
    pairs: int = 4
    symbols: int = 8

    name: ClassVar[str] = "associative-recall"
    every_step: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.expect("symbols", self.symbols >= 2, "at least 2")
        self.expect("pairs", 1 <= self.pairs <= self.symbols, f"from 1 to {self.symbols} symbols")
        self.expect("length", self.length >= 2 * self.pairs, f"at least {2 * self.pairs} steps")

    @property
    def sizes(self) -> Sizes:
        return Sizes(
            inputs=2 * self.symbols + 1, outputs=self.symbols, steps=self.length + self.pairs
        )

    @property
    def required_lag(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Steps between a value and the question for it: the mean over places and questions."""
        return self.time_steps // 2

    @property
    def no_memory(self) -> Mapping[str, float]:
        return {WRONG: 100 * (1 - 1 / self.symbols), NATS: math.log(self.symbols)}

    def draw(self, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        def order(count: int) -> Tensor:
            return torch.rand(count, size, generator=generator).argsort(0)

        keys = order(self.symbols)[: self.pairs]
        values = torch.randint(self.symbols, (self.pairs, size), generator=generator)
        # Pairs among blanks, each pair as one: the n-th stands n steps later than its place says.
        places = order(self.length - self.pairs)[: self.pairs].sort(0).values
        at = places + torch.arange(self.pairs)[:, None]
        codes = torch.full((self.time_steps, size), 2 * self.symbols)
        codes.scatter_(0, at, keys)
        codes.scatter_(0, at + 1, self.symbols + values)
        asked = order(self.pairs)
        codes[-self.pairs :] = keys.gather(0, asked)
        targets = torch.full((self.time_steps, size), -1)
        targets[-self.pairs :] = values.gather(0, asked)
        return one_hot(codes, self.input_size).float(), targets
