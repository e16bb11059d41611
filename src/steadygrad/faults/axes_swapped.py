"""Axes swapped: batch and time in each other's place."""

from collections.abc import Iterable, Mapping
from typing import ClassVar, final

from steadygrad.faults.base import Fault, Threshold
from steadygrad.faults.call import CallFacts
from steadygrad.faults.finding import Finding
from steadygrad.faults.thresholds import Thresholds

ALIKE = 0.75
"""Distance of neighbours over that of far ones along an axis that has no order: one, from which
the means over ten to sixty sequences stray by up to a quarter."""


@final
class AxesSwapped(Fault):
    """Told from where the loss reads, or from the axis along which neighbours are alike."""

    name: ClassVar[str] = "axes-swapped"
    severity: ClassVar[int] = 24
    meaning: ClassVar[str] = (
        "Batch and time are swapped: the layer runs over the sequences of the batch, one after the "
        "other, as if they were steps."
    )
    symptom: ClassVar[str] = "the loss stays at the level of a prediction without the input"
    look_at: ClassVar[str] = "shapes of a call and where the loss reads it, in `sg.diagnose`"
    measured: ClassVar[str] = (
        "A loss that reads one sequence of the batch alone, at every step; or inputs of which "
        "neighbours in the batch are alike while neighbours in time are not more alike than any "
        "two. Inputs without an order are not judged, and a batch in temporal order is not "
        "reported."
    )
    colour: ClassVar[str] = "#b8632a"
    advice: ClassVar[tuple[str, ...]] = (
        "give the layer batch_first=True for inputs of (batch, time, features), or transpose them: "
        "x.transpose(0, 1)",
    )
    thresholds: ClassVar[Mapping[str, Threshold]] = {
        "axes_order": Threshold(
            0.5,
            "distance of neighbours in the batch over that of far ones, below which the batch is "
            "taken for time, where that along time is near one",
            at_most=0.9,
        ),
    }

    def in_call(self, facts: CallFacts, limits: Thresholds) -> Iterable[Finding]:
        axes = facts.axes
        if axes is None:
            return
        is_one = axes.rows_read == 1 < axes.rows and axes.steps_read == axes.steps > 1
        is_ordered = axes.along_batch < limits.axes_order and axes.along_time > ALIKE
        if not is_one and not is_ordered:
            return
        shape = f"{axes.steps} steps of {axes.rows} sequences"
        if is_one:
            why = f"the loss reads one of the {axes.rows} sequences, at all {axes.steps} steps"
        else:
            why = "neighbours in the batch are alike, and neighbours in time are not"
        yield self.finding(
            facts.name,
            f"Not a gradient problem: {facts.name} was given {shape}, and {why}. Batch and time "
            "look swapped.",
            evidence={
                "steps": axes.steps,
                "sequences": axes.rows,
                "sequences_read": axes.rows_read,
                "along_time": axes.along_time,
                "along_batch": axes.along_batch,
                "threshold": limits.axes_order,
            },
            confidence=0.95 if is_one else 0.9,
        )
