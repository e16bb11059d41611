"""Curse of memory: small steps of the recurrent weights change the states of a long memory."""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar, final

from steadygrad.faults.base import Fault, Threshold
from steadygrad.faults.finding import Finding, confidence
from steadygrad.faults.history import History
from steadygrad.faults.thresholds import Thresholds

if TYPE_CHECKING:
    from steadygrad.flow.state_change import StateChange

ENOUGH_CHANGES = 2  # looks whose step was followed
LATEST = 3  # of them that count, the least of them: one large step may be an accident
LONG_MEMORY = 20.0  # sensitivity; that of a memory of some thirty steps, and of no layer without
GOOD_CHANGE = 0.01  # of the states in one step, which trainings at their end bear well


@final
class CurseOfMemory(Fault):
    """The change of the states by a step of the recurrent parameters, where the loss rests."""

    name: ClassVar[str] = "curse-of-memory"
    severity: ClassVar[int] = 55
    meaning: ClassVar[str] = (
        "The longer a memory, the more its states depend on the recurrent weights. The gradient "
        "survives and does not explode, but steps that are small for the weights change all that "
        "the layer remembers: the loss rests at the noise which they make."
    )
    symptom: ClassVar[str] = "the loss stops at a noisy level that a lower learning rate lowers"
    look_at: ClassVar[str] = (
        "state change and memory sensitivity, in `sg.watch` with `w.loss(loss)`"
    )
    measured: ClassVar[str] = (
        "After a step of the optimiser that was looked at, the layer is run again with its old "
        "weights and with the new recurrent ones alone; the relative change of h is compared with "
        "that of the weights. It is reported where the loss has come to rest above a tenth of its "
        "start, the steps are small for the weights, and large for the states."
    )
    colour: ClassVar[str] = "#96722f"
    advice: ClassVar[tuple[str, ...]] = (
        "give the recurrent weights a parameter group with a lower learning rate",
        "decay the learning rate towards the end of the training",
        "use a cell with a careful parametrisation: sg.cells.LRU, or a gated one",
    )
    thresholds: ClassVar[Mapping[str, Threshold]] = {
        "state_change": Threshold(
            0.1,
            "a relative change of the states by one step of the recurrent weights from which it is "
            "too large, where memory is long",
        ),
    }
    caused_by: ClassVar[tuple[str, ...]] = ("lr-high", "exploding")

    def in_training(self, history: History, limits: Thresholds) -> Iterable[Finding]:
        latest = list(history.changes)[-LATEST:]
        if len(latest) < ENOUGH_CHANGES or history.has_learned() or not history.is_at_rest():
            return
        if not all(_is_large(c, limits) for c in latest):
            return
        least = min(latest, key=lambda c: c.change)
        name, change, step = least.name, least.change, least.step
        sensitivity = least.sensitivity
        yield self.finding(
            name,
            f"A step changes the recurrent weights of {name} by {step:.2%}, and by that the states "
            f"by {change:.0%}: they are {sensitivity:.0f} times as sensitive. Its memory is long.",
            evidence={
                "state_change": change,
                "step": step,
                "memory_sensitivity": sensitivity,
                "threshold": limits.state_change,
                "measurements": len(latest),
            },
            confidence=confidence(math.log10(change / limits.state_change)),
        )

    def hangs(self, history: History, limits: Thresholds) -> bool:
        """Whether one more look would decide: the loss rests, and all that was seen is large."""
        seen = history.changes
        return (
            0 < len(seen) < ENOUGH_CHANGES
            and all(_is_large(c, limits) for c in seen)
            and history.is_at_rest()
            and not history.has_learned()
        )

    def tuned(self, finding: Finding) -> tuple[str, ...]:
        """Rates of the recurrent weights that bring the change of the states to a good size."""
        factor = min(0.5, GOOD_CHANGE / float(finding.evidence["state_change"]))
        return tuple(f"recurrent-rate:factor={factor * other:.2g}" for other in (1.0, 0.3))


def _is_large(seen: "StateChange", limits: Thresholds) -> bool:
    """Whether a step was small for the weights, and large for the states they make."""
    return (
        seen.step < limits.update_high
        and seen.change >= limits.state_change
        and seen.sensitivity >= LONG_MEMORY
    )
