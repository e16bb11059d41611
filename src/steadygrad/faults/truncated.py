"""Truncated: the backward pass ends before the lag that the task needs."""

from collections.abc import Iterable
from typing import ClassVar, final

from steadygrad.faults.base import Fault, Moment
from steadygrad.faults.finding import Finding
from steadygrad.faults.history import ENOUGH
from steadygrad.faults.layer import LayerCase


@final
class Truncated(Fault):
    """Counted, not measured: the steps of one call against the lag."""

    name: ClassVar[str] = "truncated"
    severity: ClassVar[int] = 40
    meaning: ClassVar[str] = (
        "One backward pass spans fewer steps than the task needs: earlier inputs get no gradient, "
        "whatever the network."
    )
    symptom: ClassVar[str] = "what lies further back than one window is never learned"
    look_at: ClassVar[str] = "`sg.diagnose(model, loss_fn, lag=L)`, the steps of one call"
    measured: ClassVar[str] = (
        "The steps of one call of the layer, and its truncation, are compared with the required "
        "lag. Where `w.loss` is called, it is reported only while the loss does not fall."
    )
    colour: ClassVar[str] = "#a05cc1"
    advice: ClassVar[tuple[str, ...]] = (
        "make the sequences, or `truncate`, longer than the lag",
        "keep memory in check with `checkpoint=True`",
    )
    needs_lag: ClassVar[bool] = True

    def in_layer(self, case: LayerCase) -> Iterable[Finding]:
        if not case.is_cut:
            return
        flow = case.flow
        by_layer = bool(flow.truncate) and case.reach < flow.time_steps - 1
        if by_layer:
            why = f"it is truncated every {flow.truncate} steps"
        elif flow.severed:
            why = f"its state is detached (by hand, or by burn_in) after {flow.severed} steps"
        elif flow.is_reset:
            why = f"the longest stretch between two resets has {flow.time_steps} steps"
        elif flow.how == "marks":
            why = (
                f"what is marked spans {flow.time_steps} steps (where a mark stands for several, "
                f'say so: sg.mark(h, "{flow.name}", steps=k))'
            )
        else:
            why = f"one call of the layer has {flow.time_steps} steps"
        yield self.finding(
            flow.name,
            f"The gradient in {flow.name} reaches at most {case.reach} steps back because {why}; "
            f"{case.need} {case.lag}.",
            lag=case.lag,
            evidence={
                "reach": case.reach,
                "truncate": flow.truncate,
                "time_steps": flow.time_steps,
            },
            confidence=1.0,
        )

    def waits(self, finding: Finding, moment: Moment) -> bool:
        """A training that learns, or still comes down, is not harmed by where its calls end."""
        history = moment.history
        if not history.loss:
            return False
        return history.has_learned() or history.creeps() or len(history.loss) < ENOUGH

    def tuned(self, finding: Finding) -> tuple[str, ...]:
        """Where the layer itself cuts the gradient: let it pass over the whole sequence."""
        steps, cut = finding.evidence.get("time_steps"), finding.evidence.get("truncate")
        return (f"truncate:steps={steps}",) if cut and steps and steps > cut else ()
