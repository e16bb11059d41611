"""From quantities to findings: the rules, each with its number in the evidence."""

import math
from typing import Any

import numpy as np

from steadygrad.diagnosis.finding import Finding, Thresholds
from steadygrad.flow import TimeFlow

KEEPS_MEMORY = {"forget", "update"}
"""Gates that are open by design in a network that remembers: their being stuck is no fault."""


def judge(flow: TimeFlow, lag: int | None, thresholds: Thresholds) -> list[Finding]:
    """Name what is wrong with one direction of one layer.

    A vanished gradient is a fault only at a lag that the task needs: without one, nobody is
    accused of vanishing.
    """
    bad = np.flatnonzero(flow.nonfinite)
    if len(bad):
        return [_nonfinite(flow, bad)]
    travel = _travel(flow, lag, thresholds)
    return ([travel] if travel else []) + _gates(flow, thresholds, travel)


def _nonfinite(flow: TimeFlow, bad: np.ndarray) -> Finding:
    # The loss is at the end of the trip that a gradient makes, so the first bad step on its way
    # is the last in time; in the reverse direction the other way round.
    first = int(bad[0] if flow.reverse else bad[-1])
    return Finding(
        "nonfinite",
        flow.name,
        f"The gradient inside {flow.name} is not a number any more: on its way back it turns "
        f"non-finite at time step {first}.",
        evidence={
            "first_time_step_on_the_way_back": first,
            "time_steps_hit": len(bad),
            "elements": int(flow.nonfinite.sum()),
            **_how(flow),
        },
    )


def _travel(flow: TimeFlow, lag: int | None, thresholds: Thresholds) -> Finding | None:
    by_lag = flow.by_lag
    if by_lag.max_lag < 1 or np.isnan(by_lag.log10_ratio).any():
        return None
    low, high = math.log10(thresholds.vanishing), math.log10(thresholds.exploding)
    top = int(np.argmax(by_lag.log10_ratio))
    at = min(lag, by_lag.max_lag) if lag is not None else top
    ratio = by_lag.at(at)
    evidence: dict[str, Any] = {
        "log10_ratio": ratio,
        "lag_measured": at,
        "horizon": by_lag.horizon(low),
        "slope_decades_per_step": by_lag.slope,
        "loss_enters": "at one step" if by_lag.mode == "total" else "at many steps",
        "sources": by_lag.sources,
        **_how(flow),
    }
    if ratio > high:
        return Finding(
            "exploding",
            flow.name,
            f"The gradient in {flow.name} grows on its way back: {at} steps earlier it is "
            f"{_times(ratio)} times as large.",
            lag=at,
            evidence=evidence | {"threshold": thresholds.exploding},
        )
    if lag is not None and ratio < low:
        horizon = by_lag.horizon(low)
        return Finding(
            "vanishing",
            flow.name,
            f"The gradient in {flow.name} dies on its way back: beyond {horizon} steps less than "
            f"{thresholds.vanishing:g} of it is left; after {at} steps it is {_times(ratio)}, and "
            f"the task needs {lag}.",
            lag=lag,
            evidence=evidence | {"threshold": thresholds.vanishing},
        )
    return None


def _gates(flow: TimeFlow, thresholds: Thresholds, travel: Finding | None) -> list[Finding]:
    findings = []
    for gate, health in flow.gates.items():
        share = health.stuck_share
        dead = health.activation == "relu"
        open_by_design = gate in KEEPS_MEMORY and float(health.mean_value.mean()) > 0.5
        if share < thresholds.dead_share or (open_by_design and travel is None):
            continue
        what = "never open" if dead else "are stuck where their derivative is dead"
        findings.append(
            Finding(
                "dead" if dead else "saturated",
                flow.name,
                f"{share:.0%} of the units of the {gate} gate of {flow.name} {what}: they pass no "
                "gradient on and cannot be trained.",
                gate=gate,
                evidence={
                    "stuck_share": share,
                    "dead_share": health.dead_share,
                    "threshold": thresholds.dead_share,
                    "activation": health.activation,
                    "mean_value": float(health.mean_value.mean()),
                    "units": health.stuck_units[:32],
                    **_how(flow),
                },
            )
        )
    return findings


def _how(flow: TimeFlow) -> dict[str, str]:
    return {"how": flow.how, "exactness": flow.exactness}


def _times(log10: float) -> str:
    """Write a power of ten so that it survives any size."""
    if math.isinf(log10):
        return "nothing" if log10 < 0 else "infinitely many"
    if abs(log10) < 6:
        return f"{10**log10:.2g}"
    exponent = math.floor(log10)
    return f"{10 ** (log10 - exponent):.1f}e{exponent:+d}"
