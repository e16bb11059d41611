"""What the benchmarks drawn at random share: fresh sequences to learn, fixed ones to score."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from steadygrad.tasks.base import Batch, Batches, Better, InputError, Score, Split, Task

EPOCH = 100  # batches; training data never repeat, so an epoch is only a unit of counting
FIXED: Mapping[Split, tuple[int, int]] = {"val": (1_000, 1), "test": (2_000, 2)}
"""Sequences and seed of the parts that are scored: the same for every run and every seed."""
WRONG = "% wrong"
SQUARED_ERROR = "squared error"
NATS = "nats"


class Synthetic(Task):
    """A rule that draws sequences. A benchmark is a frozen dataclass whose fields are its options.

    It states its `name`, what a model without memory scores (`no_memory`, by closed form), and
    when it counts as solved; it overrides `draw`.
    """

    name: ClassVar[str]
    input_kind: ClassVar[Literal["values", "symbols"]] = "values"
    every_step: ClassVar[bool] = False
    notes: tuple[str, ...] = ()
    solved_if: ClassVar[tuple[str, float]]
    """The figure that decides whether the task is solved, and the value that it has to reach."""

    @abstractmethod
    def draw(self, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw ``size`` sequences of one common length: inputs ``(T, B, I)`` and targets."""

    @property
    @abstractmethod
    def no_memory(self) -> Mapping[str, float]:
        """What the best answer that remembers nothing scores on average, by figure."""

    def solved(self, figures: Mapping[str, float]) -> bool:
        """Whether figures of a scored part mean that the task is solved."""
        unit, bound = self.solved_if
        value = figures[unit]
        return value <= bound if self.better[unit] == "lower" else value >= bound

    def facts(self) -> dict[str, object]:
        return {
            "task": self.name,
            "time_steps": self.time_steps,
            "required lag": self.required_lag,
            "without memory": dict(self.no_memory),
        }

    def batches(self, split: Split, size: int, shuffle: tuple[int, int] | None = None) -> Batches:
        if split == "train":
            seed, epoch = shuffle or (0, 0)
            return _Drawn(self, (size,) * EPOCH, seed * 1_000_003 + epoch)
        count, seed = FIXED[split]
        whole, rest = divmod(count, size)
        return _Drawn(self, (size,) * whole + ((rest,) if rest else ()), seed)

    def naive(self, split: Split) -> list[Score]:
        return [
            Score("without memory", value, unit, self.better[unit])
            for unit, value in self.no_memory.items()
        ]

    def expect(self, option: str, holds: bool, expected: str) -> None:
        """Refuse a bad option as soon as the task is made.

        Raises:
            InputError: ``holds`` is False.
        """
        if not holds:
            value = getattr(self, option)
            raise InputError(f"task {self.name}: {option} {value}: expected {expected}")


class Regression(Synthetic):
    """One number after the last step; the mean squared error is descended and decides."""

    better: ClassVar[Mapping[str, Better]] = {SQUARED_ERROR: "lower", WRONG: "lower"}
    wrong_above: ClassVar[float] = 0.04
    """A squared error above this counts as a wrong answer."""

    @property
    def output_size(self) -> int:
        return 1

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(outputs, targets)

    def tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        errors = (outputs - targets).double().square()
        # A NaN is above no bound, and wrong all the same.
        wrong = ~(errors <= self.wrong_above)
        return torch.stack([errors.sum(), wrong.double().sum(), errors.new_tensor(errors.numel())])

    def figures(self, total: Tensor) -> dict[str, float]:
        errors, wrong, count = total.tolist()
        return {SQUARED_ERROR: errors / count, WRONG: 100 * wrong / count}


class Classification(Synthetic):
    """One class after the last step, or one a step; the cross-entropy is descended.

    Targets are class numbers, ``(B,)`` or ``(T, B)``; -1 marks steps where nothing is asked.
    """

    better: ClassVar[Mapping[str, Better]] = {WRONG: "lower", NATS: "lower"}
    solved_if: ClassVar[tuple[str, float]] = (WRONG, 1.0)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs.flatten(0, -2), targets.flatten(), ignore_index=-1)

    def tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        flat, wanted = outputs.flatten(0, -2), targets.flatten()
        asked = wanted >= 0
        nats = F.cross_entropy(flat, wanted, ignore_index=-1, reduction="none").double().sum()
        wrong = ((flat.argmax(-1) != wanted) & asked).double().sum()
        return torch.stack([nats, wrong, asked.double().sum()])

    def figures(self, total: Tensor) -> dict[str, float]:
        nats, wrong, count = total.tolist()
        return {WRONG: 100 * wrong / count, NATS: nats / count}


def chance(classes: int) -> dict[str, float]:
    """What guessing among equally likely classes scores."""
    return {WRONG: 100 * (1 - 1 / classes), NATS: math.log(classes)}


@final
@dataclass(frozen=True)
class _Drawn(Batches):
    task: Synthetic
    sizes: tuple[int, ...]
    seed: int

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < len(self.sizes):
            raise IndexError(index)
        # Any batch can be drawn by itself, so that a run can be resumed at any of them.
        seed = (self.seed * 1_000_003 + index) % 2**63
        inputs, targets = self.task.draw(self.sizes[index], torch.Generator().manual_seed(seed))
        return Batch(inputs, targets)
