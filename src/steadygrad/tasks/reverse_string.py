"""Reverse a string, a task for a stack: the last symbol is due first."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator, Tensor

from steadygrad.tasks.base import Sizes
from steadygrad.tasks.formal_language import FormalLanguage, after_input

KINDS = 2


@final
@dataclass(frozen=True)
class ReverseString(FormalLanguage):
    r"""Give a string of a and b back from its end to its beginning.

    No finite state holds strings of any length: it takes a stack. A sequence has as many silent
    steps as symbols; at each the next symbol is due.

    Args:
        length: Most symbols of training and validation.
        longest: Most symbols of the test part, whose strings are all longer than ``length``.

    Shapes:
        Inputs one-hot ``(2N, B, 3)``, the last a blank; targets ``(2N, B)``, -1 while the symbols
        are shown.

    Baseline:
        50 % wrong, :math:`\ln 2` nats. Solved at 1 % wrong.

    References:
        Delétang et al., *Neural Networks and the Chomsky Hierarchy*, 2023 (trained to
        length 40, scored to 500).
    """

    length: int = 40
    longest: int = 500

    name: ClassVar[str] = "reverse-string"
    every_step: ClassVar[bool] = True

    @property
    def sizes(self) -> Sizes:
        return Sizes(inputs=KINDS + 1, outputs=KINDS, steps=2 * self.length)

    @property
    def required_lag(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Steps from the last answer back to the first symbol of the longest string of training."""
        return 2 * self.length - 1

    def strings(self, symbols: int, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        codes = torch.randint(KINDS, (symbols, size), generator=generator)
        return after_input(KINDS, codes, codes.flip(0))
