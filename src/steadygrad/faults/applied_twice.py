"""Applied twice: a loss that takes raw scores is given probabilities."""

from collections.abc import Iterable
from typing import ClassVar, final

from steadygrad.faults.base import Fault
from steadygrad.faults.finding import Finding
from steadygrad.faults.loss_facts import LossFacts
from steadygrad.faults.thresholds import Thresholds

LOSSES = {
    "softmax": (
        "cross-entropy",
        "remove the softmax: loss = F.cross_entropy(scores, targets) on the raw scores",
    ),
    "sigmoid": (
        "binary cross-entropy with logits",
        "remove the sigmoid, or use F.binary_cross_entropy on what it gives",
    ),
}

RAW = {"cross-entropy": "softmax", "binary-logits": "sigmoid"}
"""Losses that take raw scores, and what they apply themselves."""


@final
class AppliedTwice(Fault):
    """Softmax before a cross-entropy, sigmoid before one with logits, read from the graph."""

    name: ClassVar[str] = "applied-twice"
    severity: ClassVar[int] = 21
    meaning: ClassVar[str] = (
        "Softmax or sigmoid is applied twice: by the model, and by a loss that takes raw scores. "
        "The loss can then fall only a little, and its gradient is small."
    )
    symptom: ClassVar[str] = "a classifier's loss stays near the logarithm of the number of classes"
    look_at: ClassVar[str] = "the graph of the loss, in `sg.diagnose`, and `w.loss(loss)`"
    measured: ClassVar[str] = (
        "The names of the functions next to the loss in the autograd graph; or, where the loss is "
        "told by value, that the gradient at the model's output is that of a loss which is "
        "given what one of these has made, in the model or behind it."
    )
    colour: ClassVar[str] = "#b0477a"
    advice: ClassVar[tuple[str, ...]] = tuple(how for _, how in LOSSES.values())

    def in_loss(self, facts: LossFacts, limits: Thresholds) -> Iterable[Finding]:
        answers = facts.answers
        found = in_graph = facts.slips.twice if facts.slips else ""
        if not found and answers and RAW.get(answers.loss) == answers.head:
            found = answers.head
        if not found:
            return
        loss, how = LOSSES[found]
        yield self.finding(
            "loss",
            f"Not a gradient problem: the {loss} applies {found} itself, and is given what "
            f"{found} has made.",
            evidence={"function": found, "seen": "in the graph" if in_graph else "by value"},
            confidence=1.0,
            advice=(how,),
        )
