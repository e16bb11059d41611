"""Padding: padded steps take part in the loss."""

from collections.abc import Iterable, Mapping
from typing import ClassVar, final

from steadygrad.faults.base import Fault, Moment, Threshold
from steadygrad.faults.call import CallFacts
from steadygrad.faults.finding import Finding, confidence
from steadygrad.faults.thresholds import Thresholds

FEWEST = 2  # sequences that are padded: one alone may end so by chance


AFTER, LATE = "steps_after_the_end", 8


@final
class Padding(Fault):
    """Inferred from sequences that end in runs of one input, while the loss reads there."""

    name: ClassVar[str] = "padding"
    severity: ClassVar[int] = 90
    meaning: ClassVar[str] = (
        "Padded steps count in the loss: the network is trained to predict padding."
    )
    symptom: ClassVar[str] = "the loss is good, and the outputs at the end of sequences are not"
    look_at: ClassVar[str] = "`sg.diagnose`, share of the loss at padded steps"
    measured: ClassVar[str] = (
        "Sequences end in runs of one constant input, of different lengths, and the loss reads the "
        "outputs there at many steps."
    )
    colour: ClassVar[str] = "#1f80b1"
    advice: ClassVar[tuple[str, ...]] = (
        "mask the loss, or pack the batch with pack_padded_sequence",
        "read the last real step, not the last step",
    )
    thresholds: ClassVar[Mapping[str, Threshold]] = {
        "padding": Threshold(
            0.05,
            "a share of the loss's gradient at padded steps from which it is a fault",
            at_most=1.0,
        ),
    }

    def in_call(self, facts: CallFacts, limits: Thresholds) -> Iterable[Finding]:
        padded = facts.padded
        is_after = padded is not None and padded.after >= FEWEST and padded.late >= LATE
        if padded is not None and is_after and facts.in_training:
            yield self.finding(
                facts.name,
                f"{padded.after} sequences end in steps where the input no longer changes, and "
                f"the loss reads {facts.name} at the last of these alone, {padded.late} steps "
                "after their own end in the median: this looks like padding.",
                evidence={"sequences": padded.after, AFTER: padded.late},
                # That the ends are padding is inferred, and one may learn to wait.
                confidence=0.6,
                advice=(
                    "read each sequence at its own last step: out[lengths - 1, rows], or give "
                    "the layer a packed sequence",
                ),
            )
        if padded is None or padded.sequences < FEWEST or padded.share < limits.padding:
            return
        if padded.before <= limits.mask_before:
            return  # the mask is there, the wrong way round
        yield self.finding(
            facts.name,
            f"{padded.share:.0%} of the loss's gradient at {facts.name} lies at the ends of "
            f"{padded.sequences} sequences where the input no longer changes: this looks like "
            "padding.",
            evidence={
                "share_of_squared_gradient": padded.share,
                "sequences": padded.sequences,
                "longest_run": padded.longest_run,
                "threshold": limits.padding,
            },
            # That the ends are padding is inferred, not known.
            confidence=min(0.9, confidence(padded.share / limits.padding - 1)),
        )

    def waits(self, finding: Finding, moment: Moment) -> bool:
        """A network may learn to carry what it read to the end: told once the loss stands."""
        return AFTER in finding.evidence and not moment.history.stands()
