"""The rules of other tools, on the same trainings: re-implemented from their published thresholds.

All see the same things at the same updates (the parameters' gradients after clipping, the weights
before and after the step, the loss, the accuracy on validation data) and speak the first time that
a rule fires. They know nothing of time steps and gates. A complaint that names no fault of ours,
such as "does not converge", counts as an alarm and is given the name under which it would be right
most often; `NAMES` says which.
"""

import math
from abc import abstractmethod
from collections import deque
from typing import Any, final

import torch
from torch import Tensor

from benchmarks.faults.network import Network
from benchmarks.faults.recipe import Recipe
from benchmarks.faults.training import LOOK_EVERY

OTHER = "lr-low"  # "does not converge", "loss does not fall": answered there by other rates


class Rules:
    """What the re-implementations share: numbers of each look, and the first alarm."""

    name: str

    def begin(self, model: Network, optimizer: torch.optim.Optimizer, recipe: Recipe) -> None:
        self.parameters = [p for p in model.parameters() if p.dim() > 1]
        self.budget = recipe.updates
        self.alarm: list[Any] | None = None
        self.losses: list[float] = []
        self.accuracy: list[float] = []
        self._before: list[Tensor] | None = None

    def loss(self, value: Tensor) -> None:
        self.losses.append(float(value))

    def validated(self, update: int, accuracy: float) -> None:
        self.accuracy.append(accuracy)

    def before_step(self, update: int) -> None:
        if self.alarm is None and update % LOOK_EVERY == 1:
            self._gradients = [p.grad.clone() for p in self.parameters if p.grad is not None]
            self._before = [p.detach().clone() for p in self.parameters]

    def after_step(self, update: int) -> None:
        if self.alarm is not None or self._before is None:
            return
        fault = self.judge(update, self._gradients, self._before)
        self._before = None
        if fault:
            self.alarm = [update, fault]

    def end(self) -> list[Any] | None:
        return self.alarm

    @abstractmethod
    def judge(self, update: int, gradients: list[Tensor], before: list[Tensor]) -> str | None:
        """The fault that a rule names, or None."""

    def steps(self, before: list[Tensor]) -> list[Tensor]:
        """What the optimiser added to each weight."""
        return [p.detach() - b for p, b in zip(self.parameters, before, strict=True)]


def _is_bad(tensors: list[Tensor]) -> bool:
    return not all(bool(t.isfinite().all()) for t in tensors)


@final
class AutoTrainer(Rules):
    """AUTOTRAINER (ICSE 2021): first kernel against last, gated by the accuracy.

    Vanishing: ratio below 1e-3 and norm below 1e-4; exploding: ratio above 70, or not finite;
    dying ReLU: 70 % of the gradient exactly zero; unstable: swings of 0.03 in 20 % of the
    validations; slow: no rise of 0.01; not converged: below 0.7 after 30 % of the budget.
    """

    name = "AUTOTRAINER"

    def judge(self, update: int, gradients: list[Tensor], before: list[Tensor]) -> str | None:
        if self.losses and not self.losses[-1] < 1e3:
            return "nonfinite"
        late = update >= 0.3 * self.budget
        best = max(self.accuracy, default=0.0)
        rises = [b - a for a, b in zip(self.accuracy, self.accuracy[1:], strict=False)]
        is_slow = len(rises) >= 3 and max(rises[-3:]) < 0.01 and best < 0.99
        if not (late and best < 0.7) and not is_slow:
            return "lr-high" if self._swings() and late else None
        first, last = float(gradients[0].norm()), float(gradients[-1].norm())
        ratio = first / max(last, 1e-300)
        if _is_bad(gradients) or ratio > 70:
            return "exploding"
        zeros = sum(int((g == 0).sum()) for g in gradients) / sum(g.numel() for g in gradients)
        if zeros >= 0.7:
            return "dead"
        if ratio < 1e-3 and first < 1e-4:
            return "vanishing"
        return OTHER

    def _swings(self) -> bool:
        turns = 0
        for a, b, c in zip(self.accuracy, self.accuracy[1:], self.accuracy[2:], strict=False):
            turns += (b - a) * (c - b) < 0 and min(abs(b - a), abs(c - b)) >= 0.03
        return len(self.accuracy) >= 5 and turns >= 0.2 * len(self.accuracy)


@final
class SageMaker(Rules):
    """SageMaker Debugger: mean |g| below 1e-7, not finite, update ratios, a loss that stays.

    WeightUpdateRatio above 10 or below 1e-8; LossNotDecreasing by 0.1 % over 10 looks;
    UnchangedTensor over 3. Its rules on activations see modules, and so no gates.
    """

    name = "SageMaker Debugger"

    def begin(self, model: Network, optimizer: torch.optim.Optimizer, recipe: Recipe) -> None:
        super().begin(model, optimizer, recipe)
        self._still = 0

    def judge(self, update: int, gradients: list[Tensor], before: list[Tensor]) -> str | None:
        if _is_bad(gradients) or not math.isfinite(self.losses[-1]):
            return "nonfinite"
        if any(float(g.abs().mean()) < 1e-7 for g in gradients):
            return "vanishing"
        ratios = [
            float(s.norm() / (b.norm() + 1e-9))
            for s, b in zip(self.steps(before), before, strict=True)
        ]
        if max(ratios) > 10:
            return "lr-high"
        same = all(
            torch.allclose(b, b + s) for s, b in zip(self.steps(before), before, strict=True)
        )
        self._still = self._still + 1 if same else 0
        if min(ratios) < 1e-8 or self._still >= 3:
            return "lr-low"
        window = LOOK_EVERY * 10
        if len(self.losses) > 2 * window:
            old, new = self._mean(-2 * window, -window), self._mean(-window, None)
            if new > 0 and new > old * (1 - 1e-3):
                return OTHER
        return None

    def _mean(self, start: int, end: int | None) -> float:
        part = self.losses[start:end]
        return sum(part) / len(part)


@final
class DeepDiagnosis(Rules):
    """DeepDiagnosis (ICSE 2022): the dense layers' gradients, the update ratio, a constant loss.

    Mean |g| of a dense layer below 1e-7; lr |dW| / |W| outside of 1e-5 to 0.1; weights' variance
    outside of 1e-5 to 10; loss the same to four digits over 5 validations' time.
    """

    name = "DeepDiagnosis"

    def judge(self, update: int, gradients: list[Tensor], before: list[Tensor]) -> str | None:
        if _is_bad(gradients) or not math.isfinite(self.losses[-1]):
            return "nonfinite"
        if float(gradients[-1].abs().mean()) < 1e-7:
            return "vanishing"
        for step, weight in zip(self.steps(before), before, strict=True):
            ratio = float(step.norm() / weight.norm().clamp_min(1e-12))
            if ratio > 0.1:
                return "lr-high"
            if ratio < 1e-5:
                return "lr-low"
            if not 1e-5 <= float(weight.var()) <= 10:
                return "exploding"
        last = {f"{x:.4g}" for x in self.losses[-250::50]}
        return OTHER if len(self.losses) >= 250 and len(last) == 1 else None


@final
class DeepChecker(Rules):
    """TheDeepChecker (TOSEM 2022): looks of ten updates, from the tenth, with patience 5.

    Mean |g| below 1e-6 or halving over 5 looks; above 1e6 or doubling over 5; log10 of the update
    ratio outside of -4 to -1 in 5 looks in a row; loss twice its minimum; loss falling less than
    5 % over 5 looks. Its checks of activations need layers' outputs and see no gates.
    """

    name = "TheDeepChecker"

    def begin(self, model: Network, optimizer: torch.optim.Optimizer, recipe: Recipe) -> None:
        super().begin(model, optimizer, recipe)
        self._means: list[deque[float]] = [deque(maxlen=6) for _ in self.parameters]
        self._outside: deque[int] = deque(maxlen=5)
        self._smooth: list[float] = []

    def judge(self, update: int, gradients: list[Tensor], before: list[Tensor]) -> str | None:
        if _is_bad(gradients) or not math.isfinite(self.losses[-1]):
            return "nonfinite"
        part = self.losses[-LOOK_EVERY:]
        self._smooth.append(sum(part) / len(part))
        side = 0
        for history, gradient, step, weight in zip(
            self._means, gradients, self.steps(before), before, strict=True
        ):
            history.append(float(gradient.abs().mean()))
            ratio = math.log10(max(float(step.norm() / weight.norm().clamp_min(1e-12)), 1e-30))
            side = 1 if ratio > -1 else -1 if ratio < -4 else side
        self._outside.append(side)
        if update <= LOOK_EVERY:
            return None
        fault = self._by_gradient()
        if fault:
            return fault
        if len(self._outside) == 5 and abs(sum(self._outside)) == 5:
            return "lr-high" if self._outside[-1] > 0 else "lr-low"
        if self._smooth[-1] > 2 * max(min(self._smooth), 1e-3):
            return "lr-high"
        if len(self._smooth) > 10 and 0 < 0.95 * self._smooth[-6] < min(self._smooth[-5:]):
            return OTHER
        return None

    def _by_gradient(self) -> str | None:
        for history in self._means:
            full = len(history) == 6
            ratios = [b / a for a, b in zip(history, list(history)[1:], strict=False) if a > 0]
            if history[-1] < 1e-6 or (full and len(ratios) == 5 and max(ratios) < 0.5):
                return "vanishing"
            if history[-1] > 1e6 or (full and len(ratios) == 5 and min(ratios) > 2):
                return "exploding"
        return None


@final
class LossOnly(Rules):
    """What a careful reader of the loss would say: not finite, or no fall by 30 % of the budget."""

    name = "loss alone"

    def judge(self, update: int, gradients: list[Tensor], before: list[Tensor]) -> str | None:
        if not math.isfinite(self.losses[-1]):
            return "nonfinite"
        if update < 0.3 * self.budget:
            return None
        first, last = self.losses[:20], self.losses[-20:]
        return OTHER if sum(last) > 0.9 * sum(first) else None


BASELINES: tuple[type[Rules], ...] = (
    AutoTrainer,
    SageMaker,
    DeepDiagnosis,
    DeepChecker,
    LossOnly,
)
