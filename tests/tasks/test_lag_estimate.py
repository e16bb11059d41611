"""The lag of a task estimated from its data, against tasks whose lag is known."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from steadygrad.tasks import (
    NARMA,
    Adding,
    DelayedXOR,
    MackeyGlass,
    Multiplication,
    Sizes,
    Task,
    TemporalOrder,
    estimate_lag,
)
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
        pytest.param(
            MackeyGlass(), 5, 40, marks=pytest.mark.slow
        ),  # the delay is 17, the answer 6 ahead
        (Echo(), 23, 26),
        (Multiplication(50), 40, 50),  # of two marked numbers: no sum tells the product
        (DelayedXOR(10, 100), 20, 20),  # of the bits 10 and 20 steps ago
        pytest.param(DelayedXOR(20, 150), 40, 40, marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_known_lags(task: Task, least: int, most: int) -> None:
    found = estimate_lag(task)
    assert found.lag is not None and least <= found.lag <= most, found
    assert found.confidence == pytest.approx(0.95) and "as estimated" in found.text
    assert 0 < found.explained <= 1


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in range(1, 5))]
)
def test_noise_has_none(seed: int) -> None:
    found = estimate_lag(Numbers(), seed)
    assert found.lag is None and found.needed is None and "give one" in found.text
    draw = torch.Generator().manual_seed(seed)
    bits = torch.randint(2, (60, 2000, 1), generator=draw).float()
    found = estimate_lag((bits, torch.randint(2, (2000,), generator=draw)), seed)
    assert found.lag is None and found.needed is None


def test_tensors_are_taken_as_a_task_is() -> None:
    task, draw = Echo(), torch.Generator().manual_seed(0)
    inputs, targets = task.draw(2000, draw)
    at_end = estimate_lag((inputs, targets))
    assert at_end.lag is not None and 23 <= at_end.lag <= 26 and at_end.needed == at_end.lag
    bits = torch.randint(3, (80, 400), generator=draw)
    answers = torch.full_like(bits, -1)  # where there is none
    answers[7:] = bits[:-7]
    found = estimate_lag((bits, answers))
    assert found.lag == 7 and found.explained > 0.9
    for wrong in ((inputs, targets[:9]), (inputs[0], targets), (bits.float(), answers)):
        with pytest.raises(ValueError, match=r"expected inputs \(T, B, I\)"):
            estimate_lag(wrong)


def test_an_answer_to_the_present_step_needs_no_past() -> None:
    inputs = torch.randn(40, 2000, 1, generator=torch.Generator().manual_seed(0))
    found = estimate_lag((inputs, inputs[-1] + 0.1 * torch.randn(2000, 1)))
    assert found.lag == 0 and found.needed is None and "need no past step" in found.text


def test_many_features_are_made_fewer() -> None:
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 1500, 3, generator=draw) @ torch.randn(3, 100, generator=draw)
    found = estimate_lag((inputs, inputs[-12, :, :2]))
    assert found.lag is not None and 11 <= found.lag <= 15 and found.explained > 0.9


def test_blocks_cover_every_lag_once() -> None:
    for lags in (1, 2, 3, 10, 63, 64, 65, 100):
        covered = [lag for first, last in _blocks(lags) for lag in range(first, last + 1)]
        np.testing.assert_array_equal(covered, np.arange(lags))
