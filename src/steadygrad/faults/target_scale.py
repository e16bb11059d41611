"""Target scale: targets far larger than what the outputs can reach."""

import math
from collections.abc import Iterable, Mapping
from typing import ClassVar, final

from steadygrad.faults.base import Fault, Threshold
from steadygrad.faults.finding import Finding, confidence
from steadygrad.faults.history import ENOUGH, falls_to
from steadygrad.faults.loss_facts import LossFacts
from steadygrad.faults.thresholds import Thresholds

FAR = 10.0  # times the threshold, from which it is told before the losses say so


@final
class TargetScale(Fault):
    """The size of the targets, told from the gradient of an error at the output."""

    name: ClassVar[str] = "target-scale"
    severity: ClassVar[int] = 22
    meaning: ClassVar[str] = (
        "The targets are far larger than the outputs: the head must first grow its outputs to that "
        "size, and until then the loss measures only this distance."
    )
    symptom: ClassVar[str] = "a huge loss from the first step on"
    look_at: ClassVar[str] = "size of outputs and targets, in `sg.diagnose` and `w.loss(loss)`"
    measured: ClassVar[str] = (
        "The targets of a squared error follow from its value and its gradient at the output. "
        "Their size is compared with that of the outputs, and their distance with how far the loss "
        "has fallen. Of absolute errors, and of Huber's, the least size that they leave is taken. "
        "Other losses are not judged."
    )
    colour: ClassVar[str] = "#3f8f8f"
    advice: ClassVar[tuple[str, ...]] = (
        "scale the targets: targets = (targets - mean) / std, with mean and std of the training "
        "data, and undo it on the outputs",
    )
    thresholds: ClassVar[Mapping[str, Threshold]] = {
        "target_scale": Threshold(
            1e3,
            "a size of the targets, over one and over that of the outputs, above which it is a "
            "fault while the loss does not fall",
            above=1.0,
        ),
    }

    def in_loss(self, facts: LossFacts, limits: Thresholds) -> Iterable[Finding]:
        answers, loss = facts.answers, facts.history.loss
        if answers is None or answers.loss not in ("squared", "distance"):
            return
        over = answers.target_size / max(answers.output_size, 1.0)
        is_known = len(loss) >= ENOUGH
        bound = limits.target_scale * (1 if is_known else FAR)
        if over < bound or answers.gap < 0.5 * answers.target_size:
            return
        if is_known and falls_to(loss, 0.5):
            return
        yield self.finding(
            "loss",
            f"Not a gradient problem: the targets are of size {answers.target_size:.2g}, the "
            f"outputs of size {answers.output_size:.2g}. Until the outputs have grown by "
            f"{answers.gap:.2g}, the loss measures only this distance.",
            evidence={
                "target_size": answers.target_size,
                "target_spread": answers.target_spread,
                "output_size": answers.output_size,
                "gap": answers.gap,
                "threshold": limits.target_scale,
            },
            confidence=confidence(math.log10(over / limits.target_scale)),
        )
