"""Recurrence ignored: the loss reads a layer where it has no past."""

from collections.abc import Iterable
from typing import ClassVar, final

from steadygrad.faults.base import Fault
from steadygrad.faults.call import CallFacts
from steadygrad.faults.finding import Finding
from steadygrad.faults.thresholds import Thresholds


@final
class RecurrenceIgnored(Fault):
    """A layer that runs forward, and is read at its first step only."""

    name: ClassVar[str] = "recurrence-ignored"
    severity: ClassVar[int] = 26
    meaning: ClassVar[str] = (
        "The head reads a recurrent layer at its first step only: what came later never reaches "
        "the loss, and there is no past to learn from."
    )
    symptom: ClassVar[str] = "the network learns no more than its first input tells"
    look_at: ClassVar[str] = "where the loss reads a call, in `sg.diagnose`"
    measured: ClassVar[str] = (
        "The time steps of a layer's output at which a gradient of the loss arrives. A layer of "
        "both directions is not accused: its first step has seen the whole sequence."
    )
    colour: ClassVar[str] = "#c7504a"
    advice: ClassVar[tuple[str, ...]] = (
        "read the last step: output[-1], or output[:, -1] with batch_first=True",
    )

    def in_call(self, facts: CallFacts, limits: Thresholds) -> Iterable[Finding]:
        axes = facts.axes
        if axes is None or not axes.reads_first or axes.steps < 2:
            return
        yield self.finding(
            facts.name,
            f"Not a gradient problem: of the {axes.steps} steps of {facts.name} the loss reads the "
            "first alone, which has no past.",
            evidence={"steps": axes.steps, "steps_read": 1},
            confidence=0.95,
        )
