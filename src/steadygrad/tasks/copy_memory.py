"""Copy memory: repeat what was shown, a long time later, symbol by symbol."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Generator, Tensor

from steadygrad.tasks.base import Better
from steadygrad.tasks.recall import NATS_A_STEP, Recall

RECALLED = "% symbols right"
Form = Literal["arjovsky", "tcn"]


@final
@dataclass(frozen=True)
class CopyMemory(Recall):
    r"""Recall ``recall`` symbols after ``length`` blanks, in order.

    ``"arjovsky"``: the symbols, ``T - 1`` blanks, one delimiter, then blanks while the symbols
    are to be named; ``T + 2S`` steps with ``S`` symbols. Wanted are ``T + S`` blanks, then the
    symbols. ``"tcn"`` shows the delimiter from the end of the blanks to the end of the sequence,
    which spares the network the counting. The cross-entropy is the mean over all steps.

    Args:
        length: ``T``, from 2.
        symbols: Different symbols, ``K``.
        recall: Symbols to be recalled, ``S``.
        form: Which of the two.

    Shapes:
        Inputs one-hot ``(T + 2S, B, K + 2)`` (symbols, blank, delimiter); targets
        ``(T + 2S, B)``, class ``K`` for a blank.

    Baseline:
        Blanks, then a guess: :math:`S \ln K / (T + 2S)` nats per step. Solved at 99 % of the
        symbols.

    References:
        Arjovsky, Shah and Bengio, *Unitary Evolution Recurrent Neural Networks*, 2016,
        section 5.1. Bai, Kolter and Koltun, *An Empirical Evaluation of Generic Convolutional
        and Recurrent Networks for Sequence Modeling*, 2018 (``"tcn"``, as in its code).
    """

    length: int = 100
    symbols: int = 8
    recall: int = 10
    form: Form = "arjovsky"

    name: ClassVar[str] = "copy"
    better: ClassVar[Mapping[str, Better]] = {NATS_A_STEP: "lower", RECALLED: "higher"}
    solved_if: ClassVar[tuple[str, float] | None] = (RECALLED, 99.0)

    def __post_init__(self) -> None:
        self.expect("length", self.length >= 2, "at least 2 steps")
        self.expect("symbols", self.symbols >= 2, "at least 2")
        self.expect("recall", self.recall >= 1, "at least 1")
        self.expect("form", self.form in ("arjovsky", "tcn"), "arjovsky or tcn")

    @property
    def shown(self) -> int:
        return self.recall

    @property
    def kinds(self) -> int:
        return self.symbols

    @property
    def no_memory(self) -> Mapping[str, float]:
        nats = self.recall * math.log(self.symbols) / self.time_steps
        return {NATS_A_STEP: nats, RECALLED: 100 / self.symbols}

    def draw(self, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        return self.drawn(size, generator, to_end=self.form == "tcn")

    def tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        # Only symbols may be named where they are asked for, so a blank there is a wrong one.
        right = (outputs[-self.recall :].argmax(-1) == targets[-self.recall :]).double().sum()
        nats = self.nats(outputs, targets)
        return torch.stack([right, nats, nats.new_tensor(targets.numel())])

    def figures(self, total: Tensor) -> dict[str, float]:
        right, nats, count = total.tolist()
        asked = count * self.recall / self.time_steps
        return {NATS_A_STEP: nats / count, RECALLED: 100 * right / asked}
