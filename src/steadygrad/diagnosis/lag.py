"""The lag that a network is held to: given, or estimated from its data."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from steadygrad.diagnosis.judge import judge, judge_depth
from steadygrad.faults import Finding, Thresholds, known
from steadygrad.faults.exploding import Exploding
from steadygrad.flow import TimeFlow
from steadygrad.tasks.lag_estimate import LagEstimate

Lag = int | LagEstimate | None
"""Steps back that the task needs, an estimate of them, or None: vanishing is not checked."""

ESTIMATED = "estimated"  # the evidence of a finding says so


def steps_of(lag: Lag) -> int | None:
    """The lag as a number, where there is one to hold a network to.

    Raises:
        ValueError: It is below 1.
    """
    if isinstance(lag, LagEstimate):
        return lag.needed
    if lag is not None and (not isinstance(lag, int) or isinstance(lag, bool) or lag < 1):
        raise ValueError(
            f"lag counts steps back and must be at least 1, got {lag!r}: give a whole number, what "
            "steadygrad.tasks.estimate_lag found, or None"
        )
    return lag


def judge_at(flow: TimeFlow, lag: Lag, thresholds: Thresholds) -> list[Finding]:
    """As `judge`; at a lag that is estimated the findings say so.

    Whether a gradient grows is then judged as without a lag, where it grows most: what is only
    estimated must not turn the eye away from that.
    """
    if not isinstance(lag, LagEstimate):
        return judge(flow, lag, thresholds)
    without = judge(flow, None, thresholds)
    if lag.needed is None or any(f.fault == Exploding.name for f in without):
        return without
    found = judge(flow, lag.needed, thresholds, "the estimated lag is")
    faults = known()
    return [_marked(f, lag) if faults[f.fault].needs_lag else f for f in found]


def judge_flows(
    flows: Mapping[str, TimeFlow], lag: Lag, thresholds: Thresholds, optimizer: str | None = None
) -> list[Finding]:
    """Name what is wrong with all layers of a model, in time and in depth."""
    found = [f for flow in flows.values() for f in judge_at(flow, lag, thresholds)]
    names = frozenset(f.fault for f in found)
    depths = [flow.depth for flow in flows.values() if flow.depth is not None]
    return found + [f for d in depths for f in judge_depth(d, thresholds, optimizer, names)]


def _marked(finding: Finding, lag: LagEstimate) -> Finding:
    evidence = {"lag": ESTIMATED, "lag_explains": lag.explained, "lag_confidence": lag.confidence}
    sure = None if finding.confidence is None else min(finding.confidence, lag.confidence)
    return replace(finding, evidence={**finding.evidence, **evidence}, confidence=sure)


def is_estimated(finding: Finding) -> bool:
    """Whether a finding rests on an estimated lag."""
    return finding.evidence.get("lag") == ESTIMATED


def to_record(lag: Lag) -> dict[str, Any]:
    """The notes of a record: the number, and where it comes from."""
    if not isinstance(lag, LagEstimate):
        return {"lag": lag}
    return {"lag": lag.needed, "lag_estimate": asdict(lag) | {"text": lag.text}}
