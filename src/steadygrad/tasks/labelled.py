"""Classification of whole sequences: the common base of digits, strokes and series."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from steadygrad.tasks.base import Batch, Batches, Score, Split, epoch_generator
from steadygrad.tasks.benchmark import Benchmark, Measured
from steadygrad.tasks.scoring import NATS, WRONG, ClassScores


class Labelled(ClassScores, Benchmark):
    """Name the class of a sequence after its last step: a benchmark that overrides `part`."""

    @abstractmethod
    def part(self, split: Split) -> tuple[Tensor, Tensor]:
        """Sequences ``(N, T, I)`` and their classes ``(N,)``."""

    def shown(self, x: Tensor) -> Tensor:
        """Transform sequences ``(N, T, I)`` for the model; the identity unless overridden."""
        return x

    @property
    def no_memory(self) -> Mapping[str, float]:
        """Always the commonest class of the training part; for the nats, its class frequencies."""
        trained, asked = self.part("train")[1], self.part("test")[1]
        share = trained.bincount(minlength=self.output_size).double() / len(trained)
        wrong = (asked != share.argmax()).double().mean().item()
        return {WRONG: 100 * wrong, NATS: -share[asked].log().mean().item()}

    def batches(self, split: Split, size: int, shuffle: tuple[int, int] | None = None) -> Batches:
        x, y = self.part(split)
        order = torch.arange(len(y))
        if shuffle is not None:
            order = torch.randperm(len(y), generator=epoch_generator(shuffle))
        return _Rows(self, x, y, order.split(size))


class JudgedByNeighbour(Measured, Labelled):  # pyright: ignore[reportIncompatibleVariableOverride]
    """Recorded sequences of one length; solved by beating the nearest neighbour."""

    @property
    def required_lag(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Back to the first step: the class is that of the whole sequence."""
        return self.time_steps - 1

    def naive(self, split: Split) -> list[Score]:
        wrong = nearest_neighbour(self.part("train"), self.part(split))
        return [*super().naive(split), Score("nearest neighbour", wrong, WRONG, "lower")]


@final
@dataclass(frozen=True)
class _Rows(Batches):
    task: Labelled
    x: Tensor
    y: Tensor
    cut: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.cut)

    def __getitem__(self, index: int) -> Batch:
        rows = self.cut[index]
        return Batch(self.task.shown(self.x[rows]).transpose(0, 1), self.y[rows])


def nearest_neighbour(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> float:
    """Per cent wrong when each sequence gets the class of the nearest training sequence.

    The distance is Euclidean over all steps and features; of equally near ones the first counts.
    """
    near = torch.cdist(test[0].flatten(1).double(), train[0].flatten(1).double()).argmin(1)
    return 100 * (train[1][near] != test[1]).double().mean().item()
