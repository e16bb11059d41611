"""Growing: a state grows over the sequence without bound."""

import math
from collections.abc import Iterable, Mapping
from typing import ClassVar, final

import numpy as np

from steadygrad.faults.base import Fault, Moment, Threshold
from steadygrad.faults.finding import Finding, confidence
from steadygrad.faults.layer import LayerCase, times


@final
class Growing(Fault):
    """A state that is large at the last step that the loss reads, and still on its way up."""

    name: ClassVar[str] = "growing"
    severity: ClassVar[int] = 70
    meaning: ClassVar[str] = (
        "A state grows over the sequence without bound: its activations saturate, or it overflows."
    )
    symptom: ClassVar[str] = "long sequences fail where short ones work"
    look_at: ClassVar[str] = "size of the states over time in the diagnosis"
    measured: ClassVar[str] = (
        "Root mean square of every state over time, at the end of the sequence and halfway."
    )
    colour: ClassVar[str] = "#5b8521"
    advice: ClassVar[tuple[str, ...]] = (
        "add a forget gate, or lower its bias",
        "normalise inside the cell",
        "use use shorter sequences between resets of the state",
    )
    thresholds: ClassVar[Mapping[str, Threshold]] = {
        "growing": Threshold(
            1e4,
            "a root mean square of a state above this, at the end of a sequence over which it "
            "still grows, is a fault",
            above=1.0,
        ),
    }
    caused_by: ClassVar[tuple[str, ...]] = ("lr-high",)

    def in_layer(self, case: LayerCase) -> Iterable[Finding]:
        flow = case.flow
        for state, whole in flow.growth.items():
            growth = whole.until(_steps_read(case))
            steps = len(growth.log10_rms)
            beyond = growth.last - math.log10(case.limits.growing)
            # Over the later half at least by half as much again: a large state may be steady.
            if growth.slope is None or beyond < 0 or growth.slope * steps / 2 < math.log10(1.5):
                continue
            yield self.finding(
                flow.name,
                f"The state {state} of {flow.name} grows over the sequence, to "
                f"{times(growth.last)} in the root mean square after {steps} steps.",
                evidence={
                    "state": state,
                    "log10_rms_last": growth.last,
                    "slope_decades_per_step": growth.slope,
                    "threshold": case.limits.growing,
                    **case.how,
                },
                confidence=confidence(beyond),
            )

    def waits(self, finding: Finding, moment: Moment) -> bool:
        """While the loss falls a state that grows does no harm, unless the loss is absurd."""
        return moment.history.falls() and not moment.history.is_absurd()


def _steps_read(case: LayerCase) -> int:
    """Steps whose states may matter: what follows the last one with a gradient is padding."""
    flow = case.flow
    if flow.reverse:  # it begins with the padding, and carries on from there
        return flow.time_steps
    reached = np.flatnonzero(np.ma.filled(flow.log10_grad, -np.inf) > -np.inf)
    return int(reached[-1]) + 2 if len(reached) else flow.time_steps
