"""Mackey-Glass: a chaotic series from one delay, to be foretold."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, final

import torch
from torch import Tensor

from steadygrad.tasks.base import Batches, Sizes, Split, epoch_generator
from steadygrad.tasks.benchmark import Benchmark
from steadygrad.tasks.scoring import NRMSE, SeriesScores
from steadygrad.tasks.synthetic import EPOCH
from steadygrad.tasks.windows import Windows

FINE = 10  # steps of the solver per unit of time
SERIES, TRANSIENT = 12_000, 1_000  # units of time; what comes before the second is dropped
PARTS = {"train": (0.0, 0.7), "val": (0.7, 0.8), "test": (0.8, 1.0)}


@final
@dataclass(frozen=True)
class MackeyGlass(SeriesScores, Benchmark):
    r"""Foretell :math:`x(t + h)` at every step of the series.

    .. math::
        \dot x(t) = \frac{0.2 \, x(t - \tau)}{1 + x(t - \tau)^{10}} - 0.1 \, x(t)

    Integrated by the fourth-order Runge-Kutta method in steps of 0.1 from :math:`x = 1.2` and
    sampled at every unit of time; the first 1,000 samples are dropped. Of the 11,000 others the
    first 70 % train, 10 % validate, the last 20 % test.

    Args:
        length: Steps of a window, from 20.
        horizon: ``h``, steps ahead, from 1.
        tau: The delay; chaotic from about 17.

    Shapes:
        Inputs ``(T, B, 1)``, the series less its mean; targets ``(T, B, 1)``.

    Baseline:
        The mean, an NRMSE of 1. Solved at 0.05.

    References:
        Mackey and Glass, *Oscillation and Chaos in Physiological Control Systems*, 1977.
        Jaeger and Haas, *Harnessing Nonlinearity*, 2004 (84 steps ahead, another score).
    """

    length: int = 200
    horizon: int = 6
    tau: int = 17

    name: ClassVar[str] = "mackey-glass"
    every_step: ClassVar[bool] = True
    solved_if: ClassVar[tuple[str, float] | None] = (NRMSE, 0.05)

    def __post_init__(self) -> None:
        self.expect("length", 20 <= self.length <= 2000, "from 20 to 2,000 steps")
        self.expect("horizon", 1 <= self.horizon <= 500, "from 1 to 500")
        self.expect("tau", 2 <= self.tau <= 100, "from 2 to 100")

    @property
    def sizes(self) -> Sizes:
        return Sizes(inputs=1, outputs=1, steps=self.length)

    @property
    def required_lag(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The delay: the state of the system is its last ``tau`` units of time."""
        return self.tau

    @property
    def no_memory(self) -> Mapping[str, float]:
        return {NRMSE: 1.0}

    def batches(self, split: Split, size: int, shuffle: tuple[int, int] | None = None) -> Batches:
        x = mackey_glass(self.tau)
        first, last = (round(share * len(x)) for share in PARTS[split])
        x = (x - x.mean())[first:last]
        ahead, now = x[self.horizon :], x[: -self.horizon, None]
        most = len(now) - self.length
        if split == "train":
            generator = epoch_generator(shuffle or (0, 0))
            starts = torch.randint(most + 1, (EPOCH * size,), generator=generator)
        else:
            starts = torch.arange(0, most + 1, max(1, self.length // 4))
        return Windows(now, ahead, starts.split(size), self.length)


@lru_cache(maxsize=8)
def mackey_glass(tau: int) -> Tensor:
    """The series ``(N,)``, sampled at every unit of time, in float32."""

    def slope(x: float, old: float) -> float:
        return 0.2 * old / (1 + old**10) - 0.1 * x

    delay, h = tau * FINE, 1 / FINE
    x = [1.2] * (delay + 1)
    for _ in range(SERIES * FINE):
        now, old, next_old = x[-1], x[-1 - delay], x[-delay]
        between = (old + next_old) / 2  # the delayed value half a step on
        k1 = slope(now, old)
        k2 = slope(now + h / 2 * k1, between)
        k3 = slope(now + h / 2 * k2, between)
        k4 = slope(now + h * k3, next_old)
        x.append(now + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
    return torch.tensor(x[delay + TRANSIENT * FINE :: FINE], dtype=torch.float32)
