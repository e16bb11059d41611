"""Delayed exclusive or: at every step, compare the bits of one and two delays ago."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator, Tensor

from steadygrad.tasks.base import Sizes
from steadygrad.tasks.synthetic import NATS, WRONG, Classification


@final
@dataclass(frozen=True)
class DelayedXOR(Classification):
    r"""At every step :math:`t \ge 2d` answer :math:`y_t = |s_{t-d} - s_{t-2d}|`.

    Args:
        delay: ``d``, from 1.
        length: ``T``, above ``2 d``.

    Shapes:
        Inputs ``(T, B, 1)``, bits 0 or 1; targets ``(T, B)``, -1 for the first ``2d`` steps, which
        are not scored.

    Baseline:
        50 % wrong, :math:`\ln 2` nats. Solved at 5 % wrong.

    References:
        Engelken, *Gradient Flossing: Improving Gradient Descent through Dynamic Control of
        Jacobians*, 2023, section 5 (delayed temporal XOR).
    """

    delay: int = 10
    length: int = 300

    name: ClassVar[str] = "delayed-xor"
    every_step: ClassVar[bool] = True
    solved_if: ClassVar[tuple[str, float] | None] = (WRONG, 5.0)

    def __post_init__(self) -> None:
        self.expect("delay", self.delay >= 1, "at least 1 step")
        self.expect("length", self.length > 2 * self.delay, f"above 2 delays, {2 * self.delay}")

    @property
    def sizes(self) -> Sizes:
        return Sizes(inputs=1, outputs=2, steps=self.length)

    @property
    def required_lag(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Two delays, from the answer back to the older bit."""
        return 2 * self.delay

    @property
    def no_memory(self) -> Mapping[str, float]:
        return {WRONG: 50.0, NATS: math.log(2)}

    def draw(self, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        bits = torch.randint(2, (self.length, size), generator=generator)
        targets = torch.full_like(bits, -1)
        d = self.delay
        targets[2 * d :] = (bits[d:-d] - bits[: -2 * d]).abs()
        return bits.unsqueeze(-1).float(), targets
