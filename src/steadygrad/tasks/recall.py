"""Recall symbols after a long silence and a signal: the base of three tasks."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from steadygrad.tasks.base import Better, Sizes
from steadygrad.tasks.synthetic import Synthetic

NATS_A_STEP = "nats per step"
RECALLED = "% symbols right"


class Recall(Synthetic):
    """``S`` symbols of ``K`` kinds are shown, and due after ``length`` silent steps.

    Inputs are one-hot ``(T + 2S, B, K + 2)``: symbols, blank, signal. Targets ``(T + 2S, B)`` are
    class ``K``, a blank, up to the last ``S`` steps. The cross-entropy is the mean over all steps;
    a step whose target is -1, as of padding, does not count.
    """

    every_step: ClassVar[bool] = True
    length: int

    @property
    @abstractmethod
    def shown(self) -> int:
        """Symbols to be recalled, ``S``."""

    @property
    @abstractmethod
    def kinds(self) -> int:
        """Different symbols, ``K``."""

    @property
    def sizes(self) -> Sizes:
        return Sizes(
            inputs=self.kinds + 2, outputs=self.kinds + 1, steps=self.length + 2 * self.shown
        )

    @property
    def required_lag(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Steps between a symbol and its repetition, the same for each."""
        return self.length + self.shown

    def drawn(self, size: int, generator: Generator, to_end: bool) -> tuple[Tensor, Tensor]:
        """Draw sequences; the signal is in the last silent step, or from there on if ``to_end``."""
        symbols = torch.randint(self.kinds, (self.shown, size), generator=generator)
        codes = torch.full((self.time_steps, size), self.kinds)
        codes[: self.shown] = symbols
        at = self.shown + self.length - 1
        codes[at : None if to_end else at + 1] = self.kinds + 1
        targets = torch.full((self.time_steps, size), self.kinds)
        targets[-self.shown :] = symbols
        return F.one_hot(codes, self.input_size).float(), targets

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), ignore_index=-1)

    def nats(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy summed over all steps and sequences, in float64."""
        flat, wanted = outputs.flatten(0, 1), targets.flatten()
        return F.cross_entropy(flat, wanted, reduction="none").double().sum()


class Copying(Recall):
    """Recall that is scored symbol by symbol."""

    better: ClassVar[Mapping[str, Better]] = {NATS_A_STEP: "lower", RECALLED: "higher"}
    solved_if: ClassVar[tuple[str, float] | None] = (RECALLED, 99.0)

    @property
    def no_memory(self) -> Mapping[str, float]:
        nats = self.shown * math.log(self.kinds) / self.time_steps
        return {NATS_A_STEP: nats, RECALLED: 100 / self.kinds}

    def tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        # Only steps whose target is a symbol count; a blank there is wrong.
        right = ((outputs.argmax(-1) == targets) & (targets < self.kinds)).double().sum()
        nats = self.nats(outputs, targets)
        return torch.stack([right, nats, nats.new_tensor(targets.numel())])

    def figures(self, total: Tensor) -> dict[str, float]:
        right, nats, count = total.tolist()
        asked = count * self.shown / self.time_steps
        return {NATS_A_STEP: nats / count, RECALLED: 100 * right / asked}
