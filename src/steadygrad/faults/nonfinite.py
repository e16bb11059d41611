"""Non-finite: a value or a gradient is NaN or infinite."""

from collections.abc import Iterable
from typing import ClassVar, final

import numpy as np

from steadygrad.faults.base import Fault
from steadygrad.faults.finding import Finding
from steadygrad.faults.layer import LayerCase


@final
class Nonfinite(Fault):
    """Beside this rule `steadygrad.diagnosis.nonfinite` searches a whole step for the place."""

    name: ClassVar[str] = "nonfinite"
    severity: ClassVar[int] = 10
    meaning: ClassVar[str] = (
        "A value or a gradient is NaN or infinite; everything computed from it is invalid."
    )
    symptom: ClassVar[str] = "the loss or a gradient is NaN, now and then or permanently"
    look_at: ClassVar[str] = "the first bad tensor in `sg.watch`"
    measured: ClassVar[str] = (
        "The gradient norm is checked before every step of the optimiser. When it is not finite, "
        "weights, inputs, states, gates, outputs and the backward pass are searched in the order "
        "in which they were computed, and the first bad place is named."
    )
    colour: ClassVar[str] = "#e23535"
    advice: ClassVar[tuple[str, ...]] = (
        "give the watch a record (`record=`): it saves the step, and `steadygrad replay` runs it "
        "again and shows the same place",
    )
    mended_by: ClassVar[tuple[str, ...]] = ("lr-high",)
    stands_alone: ClassVar[bool] = True

    def in_layer(self, case: LayerCase) -> Iterable[Finding]:
        flow = case.flow
        bad = np.flatnonzero(flow.nonfinite)
        if not len(bad):
            return
        # The backward pass begins at the last step, so the first bad step in it is the last in
        # time; in the reverse direction the other way round.
        first = int(bad[0] if flow.reverse else bad[-1])
        yield self.finding(
            flow.name,
            f"The gradient inside {flow.name} is NaN or infinite: in the backward pass it becomes "
            f"non-finite at time step {first}.",
            evidence={
                "first_time_step_on_the_way_back": first,
                "time_steps_hit": len(bad),
                "elements": int(flow.nonfinite.sum()),
                **case.how,
            },
            confidence=0.95 if case.is_exact else 0.5,
        )

    def tuned(self, finding: Finding) -> tuple[str, ...]:
        """Weights that are lost already are not kept from a broken gradient, but brought back."""
        is_weight = finding.evidence.get("tensor") == finding.layer
        return ("rollback",) if is_weight else ()
