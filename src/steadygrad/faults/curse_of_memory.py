"""Curse of memory: small steps of the recurrent weights change the states of a long memory."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, ClassVar, final

from steadygrad.faults.base import Fault, Threshold
from steadygrad.faults.finding import Finding, confidence
from steadygrad.faults.history import History, end_of, finite
from steadygrad.faults.thresholds import Thresholds
from steadygrad.faults.unjudged import Unjudged

if TYPE_CHECKING:
    from steadygrad.flow.state_change import StateChange

FOLLOWED = 3  # steps in a row that are followed after a look
LATEST = 6  # of them that count: single steps differ by a factor of ten
LONG_MEMORY = 20  # steps after which the gradient is still there, where this can happen
SENSITIVE = 50.0  # that of a memory of some seventy steps; a gated layer stays below
SHORT_MEMORY = 15.0  # sensitivity below which a layer is not one of these
LEFT = -0.03
"""log10 of the gradient left per step back, below which no sensitivity is so large: a unit that has
it keeps ten times as much over the same steps."""
LEARNED = 0.1  # of what a constant scores
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
        "Where memory is long, after a few steps of the optimiser in a row, the layer is "
        "run again with its old weights and with the new recurrent ones alone; the relative change "
        "of h is compared with that of the weights. It is reported where the loss rests above a "
        "tenth of its start or of what a constant scores, and most of the steps are small for the "
        "weights and large for the states."
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
        if len(latest) < LATEST or not _is_large(latest, limits):
            return
        if _has_learned(history) or not history.is_at_rest():
            return
        middle = sorted(latest, key=lambda c: c.change)[len(latest) // 2]
        name, change, step = middle.name, middle.change, middle.step
        sensitivity = middle.sensitivity
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
        """Whether a look would decide: the loss rests, and the states were seen to be sensitive.

        Steps of two looks are wanted; a layer that is not sensitive is ruled out at the first.
        """
        seen = history.changes
        is_open = not seen or (
            len(seen) < LATEST and median(c.sensitivity for c in seen) >= SHORT_MEMORY
        )
        return is_open and is_possible(history) and history.is_at_rest()

    def undecided(self, history: History, limits: Thresholds) -> Iterable[Unjudged]:
        if self.hangs(history, limits):
            yield Unjudged(
                f"{self.name}: what a step does to the states",
                "the loss has come to rest above a tenth of its start, the memory is long, and too "
                "few steps were followed",
                "let the training run on to the next look, or give a larger budget= or every=N",
            )

    def tuned(self, finding: Finding) -> tuple[str, ...]:
        """Rates of the recurrent weights that bring the change of the states to a good size."""
        factor = min(0.5, GOOD_CHANGE / float(finding.evidence["state_change"]))
        return tuple(f"recurrent-rate:factor={factor * other:.2g}" for other in (1.0, 0.3))


def is_possible(history: History) -> bool:
    """Whether memory is as long as this fault needs, in a training that may still come to it."""
    return (
        history.memory is not None
        and history.memory >= LEFT
        and len(history.loss) > 0
        and not _has_learned(history)
    )


def _has_learned(history: History) -> bool:
    """Whether the loss is down to a tenth of what a constant scores, or else of its start.

    Memories as long as these begin with losses far above that.
    """
    values = finite(history.loss)
    if history.constant is None or len(values) == 0:
        return history.has_learned()
    return end_of(values) <= LEARNED * history.constant


def _is_large(seen: "Sequence[StateChange]", limits: Thresholds) -> bool:
    """Whether most steps were small for the weights, and large for the states they make."""
    return (
        median(c.step for c in seen) < limits.update_high
        and median(c.change for c in seen) >= limits.state_change
        and median(c.sensitivity for c in seen) >= SENSITIVE
    )
