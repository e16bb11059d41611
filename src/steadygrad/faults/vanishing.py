"""Vanishing: the gradient does not survive the backward pass to the lag that the task needs."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import ClassVar, final

from steadygrad.faults.base import Fault, Moment, Threshold
from steadygrad.faults.finding import Finding, confidence
from steadygrad.faults.layer import LayerCase, times
from steadygrad.faults.thresholds import Thresholds

UNTRAINED = 10  # steps up to which a network is taken for the one it started as


@final
class Vanishing(Fault):
    """A ratio over the required lag below its threshold."""

    name: ClassVar[str] = "vanishing"
    severity: ClassVar[int] = 30
    meaning: ClassVar[str] = (
        "The gradient shrinks so much in the backward pass through time that early steps cannot "
        "be learned."
    )
    symptom: ClassVar[str] = "the loss stops at the level of a prediction without memory"
    look_at: ClassVar[str] = "`sg.diagnose(model, loss_fn, lag=L)`, horizon and log10 ratio"
    measured: ClassVar[str] = (
        "|dL_t/dx_(t-k)| at the input of the lowest recurrent layer, through all states of all "
        "layers above it, over the largest up to there, by replay in float64, at the required lag, "
        "or at one estimated from the data. Where no input has any influence, the gradient at the "
        "states is used. Without a lag, vanishing is not checked, since a task may need no memory. "
        "A watch that gets the losses waits for them where the gradient is small but still usable, "
        "and where the lag is an estimate."
    )
    colour: ClassVar[str] = "#d74066"
    needs_lag: ClassVar[bool] = True
    thresholds: ClassVar[Mapping[str, Threshold]] = {
        "vanishing": Threshold(
            1e-4,
            "at the required lag, less than this of the largest |dL_t/dx_(t-k)| is a fault",
        ),
        "unlikely": Threshold(
            1e-12,
            "where `w.loss` is called, a ratio below this is reported once the first losses have "
            "failed to halve; one between this and vanishing only after a long plateau of the "
            "loss, as optimisers that rescale the gradient often recover from it",
        ),
    }
    caused_by: ClassVar[tuple[str, ...]] = ("lr-high", "input-scale")

    def in_layer(self, case: LayerCase) -> Iterable[Finding]:
        # Gates that are shut explain that nothing passes, and are reported in its place.
        if not case.has_vanished or any(True for _ in case.shut_gates()):
            return
        ratio, low = case.kept, math.log10(case.limits.vanishing)
        assert ratio is not None and case.lag is not None  # of what has vanished they are known
        name, way = case.flow.name, case.flow.left
        horizon, at = way.horizon(low), min(case.lag, way.max_lag)
        yield self.finding(
            name,
            f"The gradient in {name} vanishes in the backward pass: beyond {horizon} steps less "
            f"than {case.limits.vanishing:g} of it is left; after {at} steps it is "
            f"{times(ratio)}, and {case.need} {case.lag}.",
            gate=_stuck(case),
            lag=case.lag,
            evidence=case.travel
            | {
                "log10_ratio": ratio,
                "lag_measured": at,
                "log10_ratio_at_states": case.flow.by_lag.at(case.lag),
                "threshold": case.limits.vanishing,
            },
            confidence=confidence(low - ratio, case.is_exact),
        )

    def weighed(self, finding: Finding, moment: Moment) -> Finding:
        """Of a network that has not been trained yet, it is half as sure: some find their way."""
        if moment.steps is None or moment.steps > UNTRAINED:
            return finding
        sure = None if finding.confidence is None else finding.confidence / 2
        text = f"{finding.text} That is how the network starts; training may yet change it."
        return replace(finding, text=text, confidence=sure)

    def waits(self, finding: Finding, moment: Moment) -> bool:
        """A ratio that the optimiser's rescaling may still use is a fault once the loss stands."""
        history = moment.history
        if history.has_learned():
            return True
        if not history.loss:
            return False
        is_usable = finding.evidence["log10_ratio"] >= math.log10(moment.limits.unlikely)
        return not history.stands() if is_usable else not history.is_slow()

    def check(self, limits: Thresholds) -> None:
        if not limits.unlikely <= limits.vanishing:
            raise ValueError(
                "thresholds must satisfy 0 < unlikely <= vanishing, "
                f"got {limits.unlikely} and {limits.vanishing}"
            )


def _stuck(case: LayerCase) -> str | None:
    """The gate whose units are stuck, if it is one alone: it says where, though not why."""
    found = [g for g, h in case.flow.gates.items() if h.stuck_share >= case.limits.dead_share]
    return found[0] if len(found) == 1 else None
