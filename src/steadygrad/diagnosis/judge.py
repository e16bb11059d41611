"""From quantities to findings: the rules, each with its number in the evidence."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from steadygrad.cells import CELLS
from steadygrad.diagnosis.finding import Finding, Thresholds, confidence
from steadygrad.flow import TimeFlow
from steadygrad.flow.state_growth import StateGrowth


def judge(
    flow: TimeFlow, lag: int | None, thresholds: Thresholds, need: str = "the task needs"
) -> list[Finding]:
    """Name what is wrong with one direction of one layer.

    A vanished gradient is a fault only at a lag that the task needs: without one, nobody is
    accused of vanishing. ``need`` are the words before the lag.
    """
    bad = np.flatnonzero(flow.nonfinite)
    if len(bad):
        return [_nonfinite(flow, bad)]
    cut = _truncated(flow, lag, need)
    # Where the layer itself cuts the gradient, that nothing arrives beyond is no other fault.
    travel = None if cut and flow.truncate else _travel(flow, lag, thresholds, need)
    gates = _gates(flow, thresholds, travel)
    if travel and travel.fault == "vanishing":
        # What is shut explains that nothing passes; what is stuck at least says where.
        travel = None if gates else replace(travel, gate=_pinned(flow, thresholds))
    found = [f for f in (cut, travel) if f]
    return found + _growing(flow, thresholds) + gates


def _truncated(flow: TimeFlow, lag: int | None, need: str) -> Finding | None:
    """The gradient's way is cut before the lag, by the layer or by the end of the sequence."""
    reach = min(flow.truncate or flow.time_steps, flow.time_steps) - 1
    # One call per step, by hand, says nothing of how far the loop around it goes.
    if lag is None or reach >= lag or flow.time_steps < 2 or flow.goes_on:
        return None
    by_layer = bool(flow.truncate) and reach < flow.time_steps - 1
    why = (
        f"it is truncated every {flow.truncate} steps"
        if by_layer
        else (f"one call of the layer has {flow.time_steps} steps")
    )
    return Finding(
        "truncated",
        flow.name,
        f"The gradient in {flow.name} gets {reach} steps back at most, for {why}; {need} {lag}.",
        lag=lag,
        evidence={"reach": reach, "truncate": flow.truncate, "time_steps": flow.time_steps},
        confidence=1.0,
    )


def _growing(flow: TimeFlow, thresholds: Thresholds) -> list[Finding]:
    """States that are large at the last step that the loss reads, and on their way up."""
    findings = []
    for state, whole in flow.growth.items():
        growth = StateGrowth(whole.log10_rms[: _read(flow)])
        steps = len(growth.log10_rms)
        beyond = growth.last - math.log10(thresholds.growing)
        # Over the later half at least by half as much again: a large state may be a steady one.
        if growth.slope is None or beyond < 0 or growth.slope * steps / 2 < math.log10(1.5):
            continue
        findings.append(
            Finding(
                "growing",
                flow.name,
                f"The state {state} of {flow.name} grows over the sequence, to "
                f"{_times(growth.last)} in the root mean square after {steps} steps.",
                evidence={
                    "state": state,
                    "log10_rms_last": growth.last,
                    "slope_decades_per_step": growth.slope,
                    "threshold": thresholds.growing,
                    **_how(flow),
                },
                confidence=confidence(beyond),
            )
        )
    return findings


def _read(flow: TimeFlow) -> int:
    """Steps whose states may matter: what follows the last one with a gradient is padding."""
    if flow.reverse:  # it begins with the padding, and carries on from there
        return flow.time_steps
    reached = np.flatnonzero(np.ma.filled(flow.log10_grad, -np.inf) > -np.inf)
    return int(reached[-1]) + 2 if len(reached) else flow.time_steps


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
        confidence=0.5 if flow.exactness.startswith("statistical") else 0.95,
    )


def _travel(flow: TimeFlow, lag: int | None, thresholds: Thresholds, need: str) -> Finding | None:
    by_lag = flow.by_lag
    if by_lag.max_lag < 1 or np.isnan(by_lag.log10_ratio).any():
        return None
    low, high = math.log10(thresholds.vanishing), math.log10(thresholds.exploding)
    top = int(np.argmax(by_lag.log10_ratio))
    at = min(lag, by_lag.max_lag) if lag is not None else top
    ratio = by_lag.at(at)
    exact = not flow.exactness.startswith("statistical")
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
            confidence=confidence(ratio - high, exact),
        )
    if lag is not None and ratio < low:
        horizon = by_lag.horizon(low)
        return Finding(
            "vanishing",
            flow.name,
            f"The gradient in {flow.name} dies on its way back: beyond {horizon} steps less than "
            f"{thresholds.vanishing:g} of it is left; after {at} steps it is {_times(ratio)}, and "
            f"{need} {lag}.",
            lag=lag,
            evidence=evidence | {"threshold": thresholds.vanishing},
            confidence=confidence(low - ratio, exact),
        )
    return None


def _pinned(flow: TimeFlow, thresholds: Thresholds) -> str | None:
    """The gate whose units are stuck, if it is one alone."""
    stuck = [g for g, h in flow.gates.items() if h.stuck_share >= thresholds.dead_share]
    return stuck[0] if len(stuck) == 1 else None


def _gates(flow: TimeFlow, thresholds: Thresholds, travel: Finding | None) -> list[Finding]:
    findings = []
    vanishes = travel is not None and travel.fault == "vanishing"
    for gate, health in flow.gates.items():
        share, value = health.shut_share, float(health.mean_value.mean())
        if share < thresholds.dead_share or _is_by_design(flow, gate, value, vanishes):
            continue
        dead = health.activation == "relu"
        what = "never open" if dead else "are stuck where their derivative is next to nothing"
        findings.append(
            Finding(
                "dead" if dead else "saturated",
                flow.name,
                f"{share:.0%} of the units of the {gate} gate of {flow.name} {what}: they pass no "
                "gradient on and cannot be trained.",
                gate=gate,
                evidence={
                    "shut_share": share,
                    "dead_share": health.dead_share,
                    "threshold": thresholds.dead_share,
                    "activation": health.activation,
                    "mean_value": value,
                    "units": health.shut_units[:32],
                    **_how(flow),
                },
                confidence=confidence(share / thresholds.dead_share - 1),
            )
        )
    return findings


def _is_by_design(flow: TimeFlow, gate: str, value: float, vanishes: bool) -> bool:
    """Whether a gate that is stuck at a value is no fault, or is the vanishing itself."""
    cell = CELLS.get(flow.cell)
    if cell is None or cell.keeping is None or cell.keeping[0] != gate:
        return False
    keeps = value > 0.5 if cell.keeping[1] > 0 else value < 0.5
    # An LSTM writes through another gate; where one gate does both, nothing is written any more.
    return (keeps and gate == "forget" and "input" in flow.gates) or (vanishes and not keeps)


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
