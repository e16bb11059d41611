"""Parity: is the number of ones odd? The answer depends on every step."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator, Tensor

from steadygrad.tasks.base import Sizes
from steadygrad.tasks.synthetic import Classification, chance


@final
@dataclass(frozen=True)
class Parity(Classification):
    r"""Say whether a sequence of random bits holds an odd number of ones.

    Args:
        length: ``T``, from 1.
        every: Ask for the parity so far at every step, instead of after the last alone. The lag is
            then one step, and the difficulty is to keep the state.

    Shapes:
        Inputs ``(T, B, 1)``, 0 or 1; targets ``(B,)``, or ``(T, B)``.

    Baseline:
        50 % wrong, :math:`\ln 2` nats; all bits but one carry no information. Solved at 1 % wrong.

    References:
        Hochreiter and Schmidhuber, *Long Short-Term Memory*, 1997, section 5 (parity and its
        solution by guessing weights). Beck et al., *xLSTM*, 2024 (parity as state tracking).
    """

    length: int = 20
    every: bool = False

    name: ClassVar[str] = "parity"

    def __post_init__(self) -> None:
        self.expect("length", self.length >= 1, "at least 1 step")

    @property
    def every_step(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.every

    @property
    def sizes(self) -> Sizes:
        return Sizes(inputs=1, outputs=2, steps=self.length)

    @property
    def required_lag(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Steps from the answer back to the first bit; 1 if asked at every step."""
        return 1 if self.every else self.length - 1

    @property
    def no_memory(self) -> Mapping[str, float]:
        return chance(2)

    def draw(self, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        bits = torch.randint(2, (self.length, size), generator=generator)
        so_far = bits.cumsum(0) % 2
        return bits.unsqueeze(-1).float(), so_far if self.every else so_far[-1]
