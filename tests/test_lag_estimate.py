"""The lag of a task estimated from its data, against tasks whose lag is known."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from steadygrad.tasks import NARMA, Adding, MackeyGlass, Sizes, Task, TemporalOrder, estimate_lag
from steadygrad.tasks.lag_estimate import _blocks
from steadygrad.tasks.synthetic import Regression


@dataclass(frozen=True)
class Numbers(Regression):
    """Random numbers, and an answer that has nothing to do with them."""

    length: int = 60

    name: ClassVar[str] = "numbers"

    @property
    def sizes(self) -> Sizes:
        return Sizes(inputs=2, outputs=1, steps=self.length)

    @property
    def no_memory(self) -> dict[str, float]:
        return {}

    def draw(self, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        inputs = torch.randn(self.length, size, 2, generator=generator)
        return inputs, torch.randn(size, 1, generator=generator)


class Echo(Numbers):
    """The number of 23 steps before the end."""

    def draw(self, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        inputs, _ = super().draw(size, generator)
        return inputs, inputs[-24, :, :1]


@pytest.mark.parametrize(
    ("task", "least", "most"),
    [
        (Adding(60), 50, 59),  # marks anywhere, the first in the first half
        (TemporalOrder(50), 40, 45),  # the first symbol from 40 to 44 steps back
        (NARMA(), 9, 31),  # of tenth order; what u did is left in y for some time
        (MackeyGlass(), 5, 40),  # the delay is 17, the answer 6 ahead
        (Echo(), 23, 26),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_known_lags(task: Task, least: int, most: int) -> None:
    found = estimate_lag(task)
    assert found.lag is not None and least <= found.lag <= most, found
    assert found.confidence == pytest.approx(0.95) and "as estimated" in found.text
    assert 0 < found.explained <= 1


@pytest.mark.parametrize("seed", range(5))
def test_noise_has_none(seed: int) -> None:
    found = estimate_lag(Numbers(), seed)
    assert found.lag is None and "give one" in found.text


def test_blocks_cover_every_lag_once() -> None:
    for lags in (1, 2, 3, 10, 63, 64, 65, 100):
        covered = [lag for first, last in _blocks(lags) for lag in range(first, last + 1)]
        np.testing.assert_array_equal(covered, np.arange(lags))
