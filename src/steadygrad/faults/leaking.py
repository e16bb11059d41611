"""Leaking: the state of one batch is handed to sequences that do not go on."""

from collections.abc import Iterable
from typing import ClassVar, final

from steadygrad.faults.base import Fault
from steadygrad.faults.call import CallFacts
from steadygrad.faults.finding import Finding
from steadygrad.faults.thresholds import Thresholds

LEAKS = 5  # batches in a row after which a state that jumps is no accident


@final
class Leaking(Fault):
    """States that are handed on, while the inputs jump as between different sequences."""

    name: ClassVar[str] = "leaking"
    severity: ClassVar[int] = 80
    meaning: ClassVar[str] = (
        "The state of one batch is passed to the next although the sequences do not continue: the "
        "network sees the past of another sequence."
    )
    symptom: ClassVar[str] = "the training loss is good, and validation from a zero state is not"
    look_at: ClassVar[str] = "`sg.watch`, states and inputs at the boundary of two batches"
    measured: ClassVar[str] = (
        "Initial states are compared with the final states of the batch before, and first inputs "
        "with last inputs: where inputs change smoothly inside a sequence and jump between "
        "batches, in the mean over five borders or more, the batches do not belong together. "
        "Inputs that jump everywhere (symbols, noise) are not judged."
    )
    colour: ClassVar[str] = "#188686"
    advice: ClassVar[tuple[str, ...]] = (
        "start every batch from zeros, or do not shuffle batches that continue one another",
    )

    def in_call(self, facts: CallFacts, limits: Thresholds) -> Iterable[Finding]:
        border = facts.handover
        if border is None or border.jumps < LEAKS:
            return
        yield self.finding(
            facts.name,
            f"{facts.name} starts each batch from the state of the one before, but the inputs do "
            f"not continue: over {border.jumps} batches they jump, in the mean, as far as from "
            "one sequence to another.",
            evidence={
                "batches": border.jumps,
                "step_inside_a_sequence": border.inside,
                "jump_between_batches": border.between,
                "distance_of_sequences": border.apart,
            },
            confidence=min(0.95, 1 - 0.5**border.jumps),
        )
