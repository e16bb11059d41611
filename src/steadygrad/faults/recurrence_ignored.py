"""Recurrence ignored: the loss reads a layer where it has no past."""

from collections.abc import Iterable
from typing import ClassVar, final

from steadygrad.faults.base import Fault
from steadygrad.faults.call import CallFacts
from steadygrad.faults.finding import Finding
from steadygrad.faults.thresholds import Thresholds

LOOP = 4  # calls: twin networks call theirs two or three times


@final
class RecurrenceIgnored(Fault):
    """A layer that is read at its first step only, or called step by step and always anew."""

    name: ClassVar[str] = "recurrence-ignored"
    severity: ClassVar[int] = 26
    meaning: ClassVar[str] = (
        "The head reads a recurrent layer at its first step only, or the layer is called one step "
        "at a time and its state is never handed on: there is no past to learn from."
    )
    symptom: ClassVar[str] = "the network learns only what its first input predicts"
    look_at: ClassVar[str] = "where the loss reads a call, in `sg.diagnose`"
    measured: ClassVar[str] = (
        "The time steps of a layer's output at which a gradient of the loss arrives. A "
        "bidirectional layer is not reported: its first step has seen the whole sequence. And "
        "calls of one time step each, four or more, that all begin with zeros: their recurrent "
        "weights never get a gradient."
    )
    colour: ClassVar[str] = "#c7504a"
    advice: ClassVar[tuple[str, ...]] = (
        "read the last step: output[-1], or output[:, -1] with batch_first=True",
        "hand the state on: out, state = layer(x[t], state)",
    )

    def in_call(self, facts: CallFacts, limits: Thresholds) -> Iterable[Finding]:
        if facts.from_zero >= LOOP:
            yield self.finding(
                facts.name,
                f"Not a gradient problem: {facts.name} is called {facts.from_zero} times with one "
                "time step each, and each time from zeros: no state is handed on, and the "
                "recurrent weights are not used.",
                evidence={"calls": facts.from_zero, "steps": 1},
                confidence=0.95,
                advice=self.advice[1:],
            )
        axes = facts.axes
        if axes is None or not axes.reads_first or axes.steps < 2:
            return
        yield self.finding(
            facts.name,
            f"Not a gradient problem: of the {axes.steps} steps of {facts.name} the loss reads the "
            "first alone, which has no past.",
            evidence={"steps": axes.steps, "steps_read": 1},
            confidence=0.95,
            advice=self.advice[:1],
        )
