"""NARMA-10: a nonlinear system of tenth order, driven by noise."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator, Tensor

from steadygrad.tasks.base import Sizes
from steadygrad.tasks.scoring import NRMSE, SeriesScores
from steadygrad.tasks.synthetic import Synthetic

ORDER = 10


@final
@dataclass(frozen=True)
class NARMA(SeriesScores, Synthetic):
    r"""Follow the output of a system from its inputs, at every step.

    .. math::
        y_{t+1} = 0.3 y_t + 0.05 y_t \sum_{i=0}^{9} y_{t-i} + 1.5 u_{t-9} u_t + 0.1,
        \qquad u_t \sim U(0, 0.5)

    The system starts at zero and occasionally diverges; such a sequence is drawn again. The first
    ``washout`` steps are not scored.

    Args:
        length: Steps of a sequence, above ``washout``.
        washout: Steps that are not scored, from 10.

    Shapes:
        Inputs ``(T, B, 1)``; targets ``(T, B, 1)``, NaN where not scored.

    Baseline:
        The mean: an NRMSE of 1. A linear model with enough memory reaches about 0.4 (Jaeger's
        echo state networks of 400 units about 0.1). Solved at 0.2.

    References:
        Atiya and Parlos, *New Results on Recurrent Network Training*, 2000, in the form of Jaeger,
        *Adaptive Nonlinear System Identification with Echo State Networks*, 2002.
    """

    length: int = 200
    washout: int = 30

    name: ClassVar[str] = "narma"
    every_step: ClassVar[bool] = True
    solved_if: ClassVar[tuple[str, float] | None] = (NRMSE, 0.2)

    def __post_init__(self) -> None:
        self.expect("washout", self.washout >= ORDER, "at least 10 steps")
        self.expect("length", self.length > self.washout, f"above the washout, {self.washout}")

    @property
    def sizes(self) -> Sizes:
        return Sizes(inputs=1, outputs=1, steps=self.length)

    @property
    def required_lag(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The oldest input that enters the next output directly."""
        return ORDER - 1

    @property
    def no_memory(self) -> Mapping[str, float]:
        return {NRMSE: 1.0}

    def draw(self, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        inputs = 0.5 * torch.rand(self.length, size, generator=generator)
        outputs = narma(inputs)
        while (bad := ~(outputs.abs().amax(0) < 1.0)).any():
            again = 0.5 * torch.rand(self.length, int(bad.sum()), generator=generator)
            inputs[:, bad], outputs[:, bad] = again, narma(again)
        targets = outputs.unsqueeze(-1).clone()
        targets[: self.washout] = torch.nan
        return inputs.unsqueeze(-1), targets


def narma(u: Tensor) -> Tensor:
    """Outputs ``(T, B)`` of the system for inputs ``(T, B)``: entry ``t`` follows from ``u_t``."""
    steps, size = u.shape
    y = torch.zeros(steps + 1, size)
    for t in range(steps):
        past = y[max(0, t - ORDER + 1) : t + 1].sum(0)
        old = u[t - ORDER + 1] if t >= ORDER - 1 else torch.zeros(size)
        y[t + 1] = 0.3 * y[t] + 0.05 * y[t] * past + 1.5 * old * u[t] + 0.1
    return y[1:]
