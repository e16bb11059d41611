"""Mask inverted: the loss reads the padding and leaves the sequences out."""

from collections.abc import Iterable, Mapping
from typing import ClassVar, final

from steadygrad.faults.base import Fault, Threshold
from steadygrad.faults.call import CallFacts
from steadygrad.faults.finding import Finding
from steadygrad.faults.padding import FEWEST
from steadygrad.faults.thresholds import Thresholds


@final
class MaskInverted(Fault):
    """As `Padding`, where the loss reads next to nothing else."""

    name: ClassVar[str] = "mask-inverted"
    severity: ClassVar[int] = 28
    meaning: ClassVar[str] = (
        "The mask is inverted: the loss covers the padded steps and no real one."
    )
    symptom: ClassVar[str] = "the loss falls to zero at once, and nothing was learned"
    look_at: ClassVar[str] = "`sg.diagnose`, share of the loss at padded steps"
    measured: ClassVar[str] = (
        "Sequences end in runs of one constant input, of different lengths, and the loss reads "
        "these ends and almost nothing else."
    )
    colour: ClassVar[str] = "#56893a"
    advice: ClassVar[tuple[str, ...]] = (
        "invert the mask: loss = (losses * mask).sum() / mask.sum(), mask 1 at real steps",
    )
    thresholds: ClassVar[Mapping[str, Threshold]] = {
        "mask_before": Threshold(
            0.01,
            "a share of the loss's gradient before the padded ends up to which the mask counts as "
            "inverted",
            at_most=1.0,
        ),
    }

    def in_call(self, facts: CallFacts, limits: Thresholds) -> Iterable[Finding]:
        padded = facts.padded
        if padded is None or padded.sequences < FEWEST or padded.share < limits.padding:
            return
        if padded.before > limits.mask_before:
            return
        yield self.finding(
            facts.name,
            f"Not a gradient problem: {1 - padded.before:.0%} of the loss's gradient "
            f"at {facts.name} lies at the padded ends of {padded.sequences} sequences, and almost "
            "none before them. The mask looks inverted.",
            evidence={
                "share_before": padded.before,
                "sequences": padded.sequences,
                "threshold": limits.mask_before,
            },
            confidence=0.9,
        )
