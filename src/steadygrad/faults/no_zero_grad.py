"""No zero_grad: gradients of all steps so far add up."""

from collections.abc import Iterable
from typing import ClassVar, final

from steadygrad.faults.base import Fault, SpokenNames
from steadygrad.faults.finding import Finding
from steadygrad.faults.loss_facts import LossFacts
from steadygrad.faults.thresholds import Thresholds

ROW = 3  # steps in a row: what is accumulated on purpose ends before


@final
class NoZeroGrad(Fault):
    """Steps whose backward pass finds the gradients of the step before."""

    name: ClassVar[str] = "no-zero-grad"
    severity: ClassVar[int] = 27
    meaning: ClassVar[str] = (
        "Gradients are never cleared: every step is taken along the sum of all gradients so far."
    )
    symptom: ClassVar[str] = "the gradient norm grows from step to step, and the loss rises"
    look_at: ClassVar[str] = "gradients at the start of a backward pass, in `sg.watch`"
    measured: ClassVar[str] = (
        "Whether a parameter's gradient is zero or absent at the start of any backward pass "
        "between two steps of the optimiser, three steps in a row. Gradients accumulated over "
        "micro-batches within a step are not reported."
    )
    colour: ClassVar[str] = "#4a7ddb"
    advice: ClassVar[tuple[str, ...]] = ("call optimizer.zero_grad() before loss.backward()",)

    def in_loss(self, facts: LossFacts, limits: Thresholds) -> Iterable[Finding]:
        if facts.kept_gradients < ROW:
            return
        yield self.finding(
            "optimizer",
            f"Not a gradient problem: in {facts.kept_gradients} steps in a row the backward pass "
            "added to the gradients of the step before. They are never cleared.",
            evidence={"steps_in_a_row": facts.kept_gradients},
            confidence=1.0,
        )

    def lines(self, finding: Finding, names: SpokenNames) -> str:
        """The call that is missing, where it belongs."""
        return "\n".join(
            (
                f"{names.optimizer}.zero_grad()",
                f"{names.loss}.backward()",
                f"{names.optimizer}.step()",
            )
        )
