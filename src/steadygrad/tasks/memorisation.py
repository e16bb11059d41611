"""Noiseless memorisation: a pattern, a long silence, a signal, and the pattern again."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from steadygrad.tasks.base import Better
from steadygrad.tasks.synthetic import Synthetic

SEQUENCES_WRONG = "% sequences wrong"
NATS_A_STEP = "nats per step"


@final
@dataclass(frozen=True)
class Memorisation(Synthetic):
    r"""Repeat a pattern of ``pattern`` values after ``length`` silent steps and a go signal.

    Args:
        length: Silent steps, from 1.
        pattern: Values to keep.
        values: Different values; 2 values in a pattern of 5, or 5 in one of 10, in the papers.

    Shapes:
        ``S = pattern``: inputs one-hot ``(2S + T, B, values + 2)`` (values, blank, go); targets
        ``(2S + T, B)``, class ``values`` where nothing is to be said.

    Baseline:
        Silence, then a guess: :math:`S \ln K / (2S + T)` nats per step, and all but
        :math:`K^{-S}` of the sequences wrong: one wrong step makes a sequence wrong. Solved at
        1 % of the sequences.

    References:
        Martens and Sutskever, *Learning Recurrent Neural Networks with Hessian-Free
        Optimization*, 2011; Pascanu, Mikolov and Bengio, 2013, supplement.
    """

    length: int = 50
    pattern: int = 5
    values: int = 2

    name: ClassVar[str] = "memorisation"
    every_step: ClassVar[bool] = True
    better: ClassVar[Mapping[str, Better]] = {SEQUENCES_WRONG: "lower", NATS_A_STEP: "lower"}
    solved_if: ClassVar[tuple[str, float] | None] = (SEQUENCES_WRONG, 1.0)

    def __post_init__(self) -> None:
        self.expect("length", self.length >= 1, "at least 1 step")
        self.expect("pattern", self.pattern >= 1, "at least 1 value")
        self.expect("values", self.values >= 2, "at least 2")

    @property
    def input_size(self) -> int:
        return self.values + 2

    @property
    def output_size(self) -> int:
        return self.values + 1

    @property
    def time_steps(self) -> int:
        return self.length + 2 * self.pattern

    @property
    def required_lag(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Steps between a value and its repetition, the same for each."""
        return self.length + self.pattern

    @property
    def no_memory(self) -> Mapping[str, float]:
        return {
            SEQUENCES_WRONG: 100 * (1 - self.values**-self.pattern),
            NATS_A_STEP: self.pattern * math.log(self.values) / self.time_steps,
        }

    def draw(self, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        shown = torch.randint(self.values, (self.pattern, size), generator=generator)
        codes = torch.full((self.time_steps, size), self.values)
        codes[: self.pattern] = shown
        codes[self.pattern + self.length - 1] = self.values + 1  # the last silent step says go
        targets = torch.full((self.time_steps, size), self.values)
        targets[-self.pattern :] = shown
        return F.one_hot(codes, self.input_size).float(), targets

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())

    def tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        flat, wanted = outputs.flatten(0, 1), targets.flatten()
        nats = F.cross_entropy(flat, wanted, reduction="none").double().sum()
        wrong = (outputs.argmax(-1) != targets).any(0).double().sum()
        return torch.stack([wrong, nats, nats.new_tensor(targets.shape[1])])

    def figures(self, total: Tensor) -> dict[str, float]:
        wrong, nats, count = total.tolist()
        return {SEQUENCES_WRONG: 100 * wrong / count, NATS_A_STEP: nats / count / self.time_steps}
