"""Cycle navigation, a regular language: where does a walk on a ring end?"""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from steadygrad.tasks.base import Sizes
from steadygrad.tasks.formal_language import FormalLanguage

PLACES = 5


@final
@dataclass(frozen=True)
class CycleNavigation(FormalLanguage):
    r"""Say where a walk on a ring of five places ends; each step stays, goes on, or goes back.

    Every step moves the answer: a state must be updated at each, as in `Parity`.

    Args:
        length: Longest walk of training and validation.
        longest: Longest walk of the test part, whose walks are all longer than ``length``.

    Shapes:
        Inputs one-hot ``(T, B, 3)``: stay, on, back; targets ``(B,)``, the place from 0.

    Baseline:
        80 % wrong, :math:`\ln 5` nats, for long walks. Solved at 1 % wrong.

    References:
        Delétang et al., *Neural Networks and the Chomsky Hierarchy*, 2023 (trained to
        length 40, scored to 500).
    """

    length: int = 40
    longest: int = 500

    name: ClassVar[str] = "cycle-navigation"

    @property
    def sizes(self) -> Sizes:
        return Sizes(inputs=3, outputs=PLACES, steps=self.length)

    @property
    def required_lag(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Steps from the answer back to the first move of the longest walk of training."""
        return self.length - 1

    def strings(self, symbols: int, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        moves = torch.randint(3, (symbols, size), generator=generator)
        on, back = (moves == 1).sum(0), (moves == 2).sum(0)
        return F.one_hot(moves, 3).float(), (on - back) % PLACES
