"""From quantities to findings: ask every fault for what it recognises."""

import re
from collections.abc import Iterable
from dataclasses import replace

from steadygrad.cells import CELLS
from steadygrad.faults import (
    CallFacts,
    DepthCase,
    Finding,
    History,
    Key,
    LayerCase,
    LossFacts,
    Thresholds,
    known,
)
from steadygrad.flow import TimeFlow
from steadygrad.flow.through_depth import DepthCurve
from steadygrad.flow.wiring import Wiring

MOST_CALLS = 2  # of one layer, each with the same finding, that are told one by one


def judge(
    flow: TimeFlow, lag: int | None, thresholds: Thresholds, need: str = "the lag given is"
) -> list[Finding]:
    """Name what is wrong with one direction of one layer.

    Args:
        flow: What was measured of it.
        lag: Steps back that the task needs. A vanished gradient is a fault only there: without a
            lag vanishing is not checked.
        thresholds: What decides.
        need: The words before the lag.
    """
    cell = CELLS.get(flow.cell)
    keeping = None if cell is None else cell.keeping
    case = LayerCase(flow, lag, thresholds, need, keeping)
    findings: list[Finding] = []
    for fault in known().values():
        found = list(fault.in_layer(case))
        if found and fault.stands_alone:
            return found
        findings += found
    return findings


def judge_depth(
    depth: DepthCurve,
    thresholds: Thresholds,
    optimizer: str | None = None,
    found: frozenset[str] = frozenset(),
) -> list[Finding]:
    """Name what is wrong with the gradient's way down the layers of a deep network.

    Args:
        depth: What reaches each layer.
        thresholds: What decides.
        optimizer: Name of its class, if known.
        found: Faults that were found in the layers themselves.
    """
    case = DepthCase(depth, thresholds, optimizer, found)
    return [f for fault in known().values() for f in fault.in_depth(case)]


def judge_history(history: History, thresholds: Thresholds) -> list[Finding]:
    """Name what is wrong with the steps that a training takes."""
    return [f for fault in known().values() for f in fault.in_training(history, thresholds)]


def judge_loss(facts: LossFacts, thresholds: Thresholds) -> list[Finding]:
    """Name what is wrong with what a loss is computed from."""
    return [f for fault in known().values() for f in fault.in_loss(facts, thresholds)]


def judge_wiring(wiring: Wiring, thresholds: Thresholds) -> list[Finding]:
    """Name what is wrong with how a layer hangs together with loss and optimiser."""
    return [f for fault in known().values() for f in fault.in_wiring(wiring, thresholds)]


def judge_call(facts: CallFacts, thresholds: Thresholds) -> list[Finding]:
    """Name what is wrong with how the data meets a layer."""
    return [f for fault in known().values() for f in fault.in_call(facts, thresholds)]


def base(name: str) -> str:
    """The name of a layer without the number of its call."""
    return re.sub(r"#\d+", "", name)


def once(findings: Iterable[Finding]) -> list[Finding]:
    """Tell what many calls of a layer have in common as one finding: the surest of them."""
    groups: dict[Key, list[Finding]] = {}
    for found in findings:
        layer = base(found.layer)
        groups.setdefault((found.fault, layer, found.gate), []).append(found)
    told: list[Finding] = []
    for (_, layer, _), group in groups.items():
        if len(group) <= MOST_CALLS:
            told += group
            continue
        surest = max(group, key=lambda f: f.confidence or 0.0)
        text = f"{surest.text} So it is in {len(group)} calls of {layer}."
        evidence = {**surest.evidence, "calls": len(group)}
        told.append(replace(surest, layer=layer, text=text, evidence=evidence))
    return told
