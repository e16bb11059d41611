"""Noiseless memorisation: repeat a pattern after a long silence and a go signal."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator, Tensor

from steadygrad.tasks.base import Better
from steadygrad.tasks.recall import NATS_A_STEP, Recall

SEQUENCES_WRONG = "% sequences wrong"


@final
@dataclass(frozen=True)
class Memorisation(Recall):
    r"""Repeat a pattern of ``pattern`` values after ``length`` silent steps and a go signal.

    Args:
        length: Silent steps, from 1.
        pattern: Values to keep.
        values: Different values; 2 values in a pattern of 5, or 5 in one of 10, in the papers.

    Shapes:
        ``S = pattern``: inputs one-hot ``(2S + T, B, values + 2)`` (values, blank, go); targets
        ``(2S + T, B)``, class ``values`` (blank) elsewhere.

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
    better: ClassVar[Mapping[str, Better]] = {SEQUENCES_WRONG: "lower", NATS_A_STEP: "lower"}
    solved_if: ClassVar[tuple[str, float] | None] = (SEQUENCES_WRONG, 1.0)

    def __post_init__(self) -> None:
        self.expect("length", self.length >= 1, "at least 1 step")
        self.expect("pattern", self.pattern >= 1, "at least 1 value")
        self.expect("values", self.values >= 2, "at least 2")

    @property
    def shown(self) -> int:
        return self.pattern

    @property
    def kinds(self) -> int:
        return self.values

    @property
    def no_memory(self) -> Mapping[str, float]:
        return {
            SEQUENCES_WRONG: 100 * (1 - self.values**-self.pattern),
            NATS_A_STEP: self.pattern * math.log(self.values) / self.time_steps,
        }

    def draw(self, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        return self.drawn(size, generator, to_end=False)

    def tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        wrong = (outputs.argmax(-1) != targets).any(0).double().sum()
        nats = self.nats(outputs, targets)
        return torch.stack([wrong, nats, nats.new_tensor(targets.shape[1])])

    def figures(self, total: Tensor) -> dict[str, float]:
        wrong, nats, count = total.tolist()
        return {SEQUENCES_WRONG: 100 * wrong / count, NATS_A_STEP: nats / count / self.time_steps}
