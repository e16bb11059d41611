"""No gradient: the optimiser steps, and there is nothing to step along."""

from collections.abc import Iterable
from typing import ClassVar, final

from steadygrad.faults.base import Fault
from steadygrad.faults.finding import Finding
from steadygrad.faults.history import ENOUGH, History, finite
from steadygrad.faults.loss_facts import LossFacts
from steadygrad.faults.thresholds import Thresholds

ROW = 3  # steps in a row


@final
class NoGradient(Fault):
    """Gradients that are gone before the step, or zero from the first step on."""

    name: ClassVar[str] = "no-gradient"
    severity: ClassVar[int] = 15
    meaning: ClassVar[str] = (
        "The optimiser steps without a gradient: it was cleared between the backward pass and the "
        "step, or the loss does not depend on any weight."
    )
    symptom: ClassVar[str] = "the loss only jitters with the batches, no weight ever changes"
    look_at: ClassVar[str] = "gradient norms of `sg.watch`"
    measured: ClassVar[str] = (
        "Whether what the backward pass gave to a parameter is still there at the step, three "
        "steps in a row; or that the norm of all gradients has been zero at every step so far."
    )
    colour: ClassVar[str] = "#a0688e"
    advice: ClassVar[tuple[str, ...]] = (
        "keep the order: optimizer.zero_grad(); loss.backward(); optimizer.step()",
        "look for a last function that is constant, such as a softmax over one output",
    )
    caused_by: ClassVar[tuple[str, ...]] = (
        "detached",
        "frozen-weights",
        "not-in-optimizer",
        "stale-optimizer",
    )

    def in_loss(self, facts: LossFacts, limits: Thresholds) -> Iterable[Finding]:
        if facts.cleared_gradients < ROW:
            return
        yield self.finding(
            "optimizer",
            f"Not a gradient problem: in {facts.cleared_gradients} steps in a row the gradients "
            "were cleared between the backward pass and the step of the optimiser.",
            evidence={"steps_in_a_row": facts.cleared_gradients},
            confidence=1.0,
            advice=self.advice[:1],
        )

    def in_training(self, history: History, limits: Thresholds) -> Iterable[Finding]:
        norms = finite(history.before)
        if len(norms) < ENOUGH or bool(norms.any()) or bool(finite(history.after).any()):
            return
        yield self.finding(
            "optimizer",
            f"The gradient of all weights has been zero in each of {len(norms)} steps: nothing "
            "is trained.",
            evidence={"steps": len(norms), "largest_norm": 0.0},
            confidence=0.95,
        )
