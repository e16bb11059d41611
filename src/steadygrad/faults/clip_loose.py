"""Clip too loose: gradients far beyond the usual reach the optimiser."""

from collections.abc import Iterable, Mapping
from typing import ClassVar, final

from steadygrad.faults.base import Fault, Threshold
from steadygrad.faults.finding import Finding
from steadygrad.faults.history import History
from steadygrad.faults.spikes import SPIKE, spikes
from steadygrad.faults.thresholds import Thresholds


@final
class ClipLoose(Fault):
    """Spikes after clipping; where the gradient does not grow with the lag, see `Likelihood`."""

    name: ClassVar[str] = "clip-loose"
    severity: ClassVar[int] = 130
    meaning: ClassVar[str] = (
        "Gradients far above the usual norm pass unclipped: a single one can undo what was learned."
    )
    symptom: ClassVar[str] = "the loss jumps up now and then, and recovers slowly"
    look_at: ClassVar[str] = "norms after clipping, in `sg.watch`; `sg.clip_advice`"
    measured: ClassVar[str] = "Several norms after clipping lie far above their median."
    colour: ClassVar[str] = "#8168cd"
    advice: ClassVar[tuple[str, ...]] = ("clip at one to ten times the median norm",)
    thresholds: ClassVar[Mapping[str, Threshold]] = {"spike": SPIKE}
    caused_by: ClassVar[tuple[str, ...]] = ("lr-high",)

    def in_training(self, history: History, limits: Thresholds) -> Iterable[Finding]:
        found = None if history.grows is False else spikes(history.norm_pairs()[:, 1], limits)
        if found is None:
            return
        yield self.finding(
            "optimizer",
            f"In {found.count} of {found.steps} steps a gradient of up to {found.largest:.0f} "
            "times the median reaches the optimiser.",
            evidence=found.evidence,
            confidence=found.confidence,
        )
