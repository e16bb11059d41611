"""Clip too tight: clipping cuts nearly every gradient to a small part of itself."""

import math
from collections.abc import Iterable, Mapping
from typing import ClassVar, final

import numpy as np

from steadygrad.faults.base import Fault, Threshold
from steadygrad.faults.finding import Finding, confidence
from steadygrad.faults.history import ENOUGH, History, falls_to, finite, rate
from steadygrad.faults.thresholds import Thresholds

SCALE_FREE = ("adam", "rmsprop", "adagrad", "adadelta", "adamax", "lion", "muon", "shampoo")
"""Optimisers, by the beginning of a part of their name, that divide by the gradient's size."""
CRAWLING = 3.0  # times less is enough where steps are small and the loss has long stood still
SMALL = 1e-3  # such a step, relative to the weights
HARSH = 100.0  # times the threshold, from which a loss that falls under such steps is no excuse


def _crawls(history: History) -> bool:
    return _is_small(history) and history.rests()


def _is_held_back(history: History) -> bool:
    """Whether the loss has come down by small steps and still does: its end is not in sight."""
    return _is_small(history) and history.creeps()


def _is_small(history: History) -> bool:
    update = finite(history.update)
    return len(update) > 1 and float(np.median(update)) < SMALL


@final
class ClipTight(Fault):
    """Norms before over norms after, for optimisers whose step they set."""

    name: ClassVar[str] = "clip-tight"
    severity: ClassVar[int] = 120
    meaning: ClassVar[str] = (
        "Clipping reduces nearly every gradient to a small fraction of its norm: training is very "
        "slow."
    )
    symptom: ClassVar[str] = "the loss falls very slowly, and gradients are clipped"
    look_at: ClassVar[str] = "norms before and after clipping, in `sg.watch`"
    measured: ClassVar[str] = (
        "Norms before and after clipping. Optimisers that divide by the size of the gradient "
        "(Adam, RMSprop) are not affected, and are not judged. Where the measured steps are small "
        "and the loss has been on a long plateau, a third of the threshold is enough. A loss that "
        "has come down to a half is an excuse, unless it still falls by small steps and the ratio "
        "of the norms is a hundred times the threshold."
    )
    colour: ClassVar[str] = "#5374d4"
    advice: ClassVar[tuple[str, ...]] = ("clip at one to ten times the median norm",)
    thresholds: ClassVar[Mapping[str, Threshold]] = {
        "clip_tight": Threshold(
            10.0,
            "a norm before over the norm after clipping, in the median, from which it is a fault",
            above=1.0,
        ),
    }

    def in_training(self, history: History, limits: Thresholds) -> Iterable[Finding]:
        name = (history.optimizer or "").lower()
        pairs = history.norm_pairs()
        if any(kind in name for kind in SCALE_FREE) or len(pairs) < ENOUGH:
            return
        ratio = pairs[:, 0] / pairs[:, 1]
        share, cut = float((ratio > 1 + 1e-4).mean()), float(np.median(ratio))
        bound = limits.clip_tight / (CRAWLING if _crawls(history) else 1)
        if share < 0.95 or cut < bound:
            return
        is_harsh = cut >= HARSH * limits.clip_tight and _is_held_back(history)
        if falls_to(history.loss, 0.5) and not is_harsh:
            return
        yield self.finding(
            "optimizer",
            f"{share:.0%} of the steps are clipped, in the median to 1/{cut:.0f} of their "
            "gradient.",
            evidence={
                "clipped_share": share,
                "before_over_after": cut,
                "median_norm_before": float(np.median(pairs[:, 0])),
                "median_norm_after": float(np.median(pairs[:, 1])),
                "threshold": bound,
                "steps": len(pairs),
            },
            # Without the optimiser's name it may be one that does not mind.
            confidence=confidence(math.log10(cut / bound), exact=bool(name)),
        )

    def tuned(self, finding: Finding) -> tuple[str, ...]:
        """A clip that always acts sets the length of a step; a higher rate makes up for it."""
        cut = float(finding.evidence["before_over_after"])
        return rate(cut), rate(math.sqrt(cut))
