"""Target broadcast: every output is held to the targets of all sequences."""

from collections.abc import Iterable
from typing import ClassVar, final

from steadygrad.faults.base import Fault
from steadygrad.faults.finding import Finding
from steadygrad.faults.loss_facts import LossFacts
from steadygrad.faults.thresholds import Thresholds


@final
class TargetBroadcast(Fault):
    """Outputs ``(n, 1)`` against targets ``(n,)``, which broadcast to ``(n, n)``."""

    name: ClassVar[str] = "target-broadcast"
    severity: ClassVar[int] = 29
    meaning: ClassVar[str] = (
        "Outputs and targets differ by an axis of size 1, so that every output is compared with "
        "the targets of all sequences. The best answer is then their mean, the same for each."
    )
    symptom: ClassVar[str] = "a regression that only ever answers the mean of its targets"
    look_at: ClassVar[str] = "shapes of outputs and targets, in `sg.diagnose` and `w.loss(loss)`"
    measured: ClassVar[str] = (
        "The shapes next to the loss in the autograd graph; or, where the loss is told by value, "
        "that the gradient at the output is that of a squared error of every output against every "
        "target."
    )
    colour: ClassVar[str] = "#7a5ea8"
    advice: ClassVar[tuple[str, ...]] = (
        "give both one shape: loss = F.mse_loss(outputs.squeeze(-1), targets)",
    )

    def in_loss(self, facts: LossFacts, limits: Thresholds) -> Iterable[Finding]:
        answers, pairs, seen = facts.answers, 0, ""
        if facts.slips is not None:
            pairs, seen = facts.slips.pairs, "in the graph"
        elif answers is not None and answers.loss == "all-pairs":
            pairs, seen = answers.rows, "by value"
        if not pairs:
            return
        yield self.finding(
            "loss",
            f"Not a gradient problem: {pairs} outputs are compared with {pairs} targets, all with "
            f"all, {pairs * pairs} differences in place of {pairs}: their shapes broadcast.",
            evidence={"outputs": pairs, "seen": seen},
            confidence=1.0 if facts.slips is not None else 0.9,
        )
