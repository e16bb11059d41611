"""What each run is, by its outcome and by the float64 oracle; never by the tool's rules."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.faults.settings import twin_of

Run = dict[str, Any]
MOST = 0.8  # share of the seeds that a healthy setting solves at least; a faulty one, the rest
PHYSICAL = {"vanishing": -4.0, "exploding": 2.0}
"""log10 of the gradient left at the lag from which the oracle calls it so."""
APART = 2.0  # decades between a fault of the gradient and its twin


@dataclass(frozen=True)
class Labels:
    """Runs that count, and the settings that were dropped, by why.

    Attributes:
        faulty: Their fault was injected, they failed, their twin succeeds, and the oracle agrees.
        healthy: They and their setting succeed.
        dropped: Settings by reason.
    """

    faulty: list[Run]
    healthy: list[Run]
    dropped: dict[str, int]


def label(runs: Iterable[Run]) -> Labels:
    """Label the runs of one half."""
    groups: dict[tuple[str, str, str, str], list[Run]] = defaultdict(list)
    for run in runs:
        groups[run["pair"], run["kind"], run["variant"], run["half"]].append(run)
    labels = Labels([], [], defaultdict(int))
    for (pair, kind, variant, half), group in groups.items():
        if kind == "healthy":
            if solved(group) >= MOST:
                labels.healthy.extend(r for r in group if r["reached"])
            else:
                labels.dropped["healthy settings that fail"] += 1
            continue
        twin = groups.get((pair, "healthy", twin_of(kind, variant), half), [])
        why = _why_not(kind, group, twin)
        if why:
            labels.dropped[why] += 1
        else:
            labels.faulty.extend(r for r in group if not r["reached"])
    return labels


def solved(group: list[Run]) -> float:
    """Share of the seeds that reached the task's target."""
    return sum(bool(r["reached"]) for r in group) / len(group) if group else 0.0


def _why_not(kind: str, group: list[Run], twin: list[Run]) -> str | None:
    if solved(twin) < MOST:
        return "faults whose twin fails"
    if solved(group) > 1 - MOST + 1e-9:
        return "faults that the training overcomes"
    bound = PHYSICAL.get(kind)
    if bound is None:
        return None
    ours, theirs = _left(group), _left(twin)
    sign = 1 if bound > 0 else -1
    if sign * ours < sign * bound or sign * (ours - theirs) < APART:
        return "faults that the float64 oracle does not see"
    return None


def _left(group: list[Run]) -> float:
    """Median over the seeds of log10 of the gradient left at the lag; nothing at all is -400."""
    values = [r["oracle"]["log10"] for r in group]
    return median(-400.0 if v is None else v for v in values)
