"""Selective copying: repeat symbols that were scattered among blanks, and nothing else."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from steadygrad.tasks.recall import Copying


@final
@dataclass(frozen=True)
class SelectiveCopy(Copying):
    r"""Recall ``recall`` symbols that stand at random places among blanks, in order.

    As `CopyMemory`, but the symbols stand anywhere before the delimiter, anew in every sequence.
    What to keep must be told from what to pass over by the input: a recurrence whose decay does
    not depend on its input (S4, LRU) cannot.

    Args:
        length: ``T``, from 2: blanks before the delimiter, less one.
        symbols: Different symbols, ``K``.
        recall: Symbols to be recalled, ``S``. The first of the references has 4,096 steps and 16
            symbols to recall, of 14 kinds.

    Shapes:
        Inputs one-hot ``(T + 2S, B, K + 2)`` (symbols, blank, delimiter): ``T + S - 1`` steps with
        the symbols among them, the delimiter, ``S`` blanks. Targets ``(T + 2S, B)``, class ``K``
        for a blank up to the last ``S`` steps.

    Baseline:
        Blanks, and a guess where symbols are due: :math:`S \ln K / (T + 2S)` nats per step. Solved
        at 99 % of the symbols.

    References:
        Gu and Dao, *Mamba: Linear-Time Sequence Modeling with Selective State Spaces*, 2023,
        section 4.1.1. Jing et al., *Gated Orthogonal Recurrent Units*, 2019, section 4.2 (the
        denoise task).
    """

    length: int = 100
    symbols: int = 8
    recall: int = 10

    name: ClassVar[str] = "selective-copy"

    def __post_init__(self) -> None:
        self.expect("length", self.length >= 2, "at least 2 steps")
        self.expect("symbols", self.symbols >= 2, "at least 2")
        self.expect("recall", self.recall >= 1, "at least 1")

    @property
    def shown(self) -> int:
        return self.recall

    @property
    def kinds(self) -> int:
        return self.symbols

    @property
    def required_lag(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Steps between a symbol and its repetition: the mean over places and symbols."""
        return (self.length + 2 * self.recall) // 2

    def draw(self, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        inputs, targets = self.drawn(size, generator, to_end=False)
        places = self.recall + self.length - 1
        at = torch.rand(places, size, generator=generator).argsort(0)[: self.recall].sort(0).values
        codes = inputs.argmax(-1)
        codes[:places] = self.symbols
        codes.scatter_(0, at, targets[-self.recall :])
        return one_hot(codes, self.input_size).to(inputs.dtype), targets
