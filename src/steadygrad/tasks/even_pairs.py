"""Even pairs, a regular language: are there as many changes of the symbol as an even number?"""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from steadygrad.tasks.base import Sizes
from steadygrad.tasks.formal_language import FormalLanguage


@final
@dataclass(frozen=True)
class EvenPairs(FormalLanguage):
    r"""Say whether a string of a and b holds an even number of the pairs ab and ba together.

    It does if its first and its last symbol are the same, so one bit must be kept from the first
    step to the last, or the parity of the changes be updated at each.

    Args:
        length: Longest string of training and validation.
        longest: Longest string of the test part, whose strings are all longer than ``length``.

    Shapes:
        Inputs one-hot ``(T, B, 2)``; targets ``(B,)``, 1 for an even number.

    Baseline:
        50 % wrong, :math:`\ln 2` nats. Solved at 1 % wrong.

    References:
        Delétang et al., *Neural Networks and the Chomsky Hierarchy*, 2023 (trained to
        length 40, scored to 500).
    """

    length: int = 40
    longest: int = 500

    name: ClassVar[str] = "even-pairs"

    @property
    def sizes(self) -> Sizes:
        return Sizes(inputs=2, outputs=2, steps=self.length)

    @property
    def required_lag(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Steps from the answer back to the first symbol of the longest string of training."""
        return self.length - 1

    def strings(self, symbols: int, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        codes = torch.randint(2, (symbols, size), generator=generator)
        return F.one_hot(codes, 2).float(), (codes[0] == codes[-1]).long()
