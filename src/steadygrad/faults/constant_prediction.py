"""Constant prediction: the model answers the same to everything."""

import math
from collections.abc import Iterable, Mapping
from typing import ClassVar, final

from steadygrad.faults.base import Fault, Threshold
from steadygrad.faults.finding import Finding, confidence
from steadygrad.faults.loss_facts import LossFacts
from steadygrad.faults.thresholds import Thresholds

FEWEST = 4  # answers in a batch


@final
class ConstantPrediction(Fault):
    """The spread of the outputs over a batch against that of the targets, once the loss stands."""

    name: ClassVar[str] = "constant-prediction"
    severity: ClassVar[int] = 150
    meaning: ClassVar[str] = (
        "The model gives the same answer to every sequence, usually the mean of the targets: it "
        "does not use its input."
    )
    symptom: ClassVar[str] = "constant forecasts; the loss stays at the variance of the targets"
    look_at: ClassVar[str] = "spread of the outputs, in `sg.watch` with `w.loss(loss)`"
    measured: ClassVar[str] = (
        "Standard deviation of the outputs over the batch against that of the targets, where these "
        "can be inferred from the loss, after a long plateau: early in a training it is no fault. "
        "It is reported where nothing else explains it."
    )
    colour: ClassVar[str] = "#6f7f90"
    advice: ClassVar[tuple[str, ...]] = (
        "train the model on a few sequences alone: if it cannot overfit these, check what the head "
        "reads and the scale of the inputs",
        "compare with a linear model: the inputs may not determine the targets",
    )
    thresholds: ClassVar[Mapping[str, Threshold]] = {
        "constant": Threshold(
            0.02,
            "a spread of the outputs over that of the targets below which they are constant",
            at_most=1.0,
        ),
    }
    caused_by: ClassVar[tuple[str, ...]] = (
        "vanishing",
        "truncated",
        "lr-high",
        "lr-low",
        "saturated",
        "dead",
        "clip-tight",
        "applied-twice",
        "target-broadcast",
        "no-gradient",
        "padding",
        "target-scale",
        "input-scale",
        "axes-swapped",
        "mask-inverted",
        "recurrence-ignored",
        "detached",
        "frozen-weights",
        "not-in-optimizer",
        "stale-optimizer",
    )

    def in_loss(self, facts: LossFacts, limits: Thresholds) -> Iterable[Finding]:
        answers = facts.answers
        if answers is None or answers.rows < FEWEST or not facts.history.stands():
            return
        if not answers.target_spread > 0:
            return
        share = answers.output_spread / answers.target_spread
        if share >= limits.constant or facts.history.creeps():
            return
        yield self.finding(
            "loss",
            f"The outputs vary over the batch by {share:.1%} of the spread of the targets: every "
            "sequence gets the same prediction.",
            evidence={
                "output_spread": answers.output_spread,
                "target_spread": answers.target_spread,
                "threshold": limits.constant,
            },
            confidence=confidence(math.log10(limits.constant / max(share, 1e-12))),
        )
