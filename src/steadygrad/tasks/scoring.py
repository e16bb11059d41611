"""Losses and scores of answers, as sums that add up over batches."""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from steadygrad.tasks.base import Better

WRONG = "% wrong"
SQUARED_ERROR = "squared error"
NATS = "nats"
RMSE, NRMSE = "RMSE", "NRMSE"
BITS, ACCURACY = "bits per symbol", "next-symbol accuracy"


class NumberScores:
    """One number after the last step; the mean squared error is the loss and decides."""

    better: ClassVar[Mapping[str, Better]] = {SQUARED_ERROR: "lower", WRONG: "lower"}
    wrong_above: ClassVar[float] = 0.04
    """A squared error above this counts as a wrong answer."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(outputs, targets)

    def tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        errors = (outputs - targets).double().square()
        # negated, so that a NaN counts as wrong
        wrong = ~(errors <= self.wrong_above)
        return torch.stack([errors.sum(), wrong.double().sum(), errors.new_tensor(errors.numel())])

    def figures(self, total: Tensor) -> dict[str, float]:
        errors, wrong, count = total.tolist()
        return {SQUARED_ERROR: errors / count, WRONG: 100 * wrong / count}


class ClassScores:
    """One class after the last step, or one per step; the loss is the cross-entropy.

    Targets are class numbers, ``(B,)`` or ``(T, B)``; -1 marks steps that are not scored.
    """

    better: ClassVar[Mapping[str, Better]] = {WRONG: "lower", NATS: "lower"}

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


class SeriesScores:
    """A number at every step, NaN where not scored; the loss is the mean squared error.

    RMSE is in the unit of the series; NRMSE divides it by the standard deviation of the targets of
    the split, so that the mean scores 1.
    """

    better: ClassVar[Mapping[str, Better]] = {NRMSE: "lower", RMSE: "lower"}

    @property
    def unit(self) -> float:
        """The value of a target of 1 in the unit of the series."""
        return 1.0

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        asked = ~targets.isnan()
        return (outputs - targets)[asked].square().mean()

    def tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        asked = ~targets.isnan()
        y, errors = targets[asked].double(), (outputs - targets)[asked].double()
        return torch.stack([errors.square().sum(), y.sum(), y.square().sum(), y.new_tensor(len(y))])

    def figures(self, total: Tensor) -> dict[str, float]:
        squares, first, second, count = total.tolist()
        rmse = (squares / count) ** 0.5
        spread = (second / count - (first / count) ** 2) ** 0.5
        return {NRMSE: rmse / spread, RMSE: rmse * self.unit}


class SymbolScores:
    """The next symbol at every step; the loss is the cross-entropy, reported in bits."""

    better: ClassVar[Mapping[str, Better]] = {BITS: "lower", ACCURACY: "higher"}

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats."""
        return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())

    def tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return cross-entropy in nats, right answers and count."""
        flat, wanted = outputs.flatten(0, 1), targets.flatten()
        nats = F.cross_entropy(flat, wanted, reduction="none").double().sum()
        right = (flat.argmax(-1) == wanted).double().sum()
        return torch.stack([nats, right, nats.new_tensor(len(wanted))])

    def figures(self, total: Tensor) -> dict[str, float]:
        nats, right, count = total.tolist()
        return {BITS: nats / count / math.log(2), ACCURACY: right / count}


def chance(classes: int) -> dict[str, float]:
    """The score of guessing among equally likely classes."""
    return {WRONG: 100 * (1 - 1 / classes), NATS: math.log(classes)}
