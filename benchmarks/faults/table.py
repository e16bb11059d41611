"""The committed table, from verdicts and repairs."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

from benchmarks.faults.score import interval, placed, score, upper_bound
from benchmarks.faults.verdicts import MONITORS, OURS, Verdict

Line = dict[str, Any]
TITLES = {
    "calibration": "thresholds were set here",
    "held-out": "other tasks, other cells",
    "fresh": "cells and pairs that were met once",
    "blind": "pairs that no rule has met",
}


def table(
    rows: Sequence[Verdict], repairs: Sequence[Line], dropped: dict[str, dict[str, int]]
) -> str:
    """All figures, as text."""
    parts = []
    for half, title in TITLES.items():
        here = [row for row in rows if row.half == half]
        if not here:
            continue
        faulty = sum(row.is_faulty for row in here)
        settings = len({(row.pair, row.kind, row.variant) for row in here if row.is_faulty})
        head = f"{half} ({title}): {faulty} faulty runs in {settings} settings"
        parts.append(f"{head}, {len(here) - faulty} healthy runs\n" + _monitors(here))
        parts.append(_ours(here))
        gone = ", ".join(f"{count} {why}" for why, count in sorted(dropped.get(half, {}).items()))
        parts.append(f"settings left out: {gone or 'none'}")
        mended = [line for line in repairs if line["half"] == half]
        if mended:
            parts.append(_repairs([line for line in mended if line["kind"] != "healthy"]))
            parts.append(_harm([r for r in mended if r["kind"] == "healthy"], len(here) - faulty))
    return "\n\n".join(parts)


def _monitors(rows: Sequence[Verdict]) -> str:
    lines = [f"{'monitor':<20} recall  precision  false alarms  macro-F1  delay"]
    for name in MONITORS:
        s = score(rows, name)
        lines.append(
            f"{name:<20} {s.recall:6.3f} {s.precision:10.3f} {s.false_alarms:12.1%} "
            f"{s.macro_f1:10.3f} {s.delay:6.1%}"
        )
    return "\n".join(lines)


def _ours(rows: Sequence[Verdict]) -> str:
    s = score(rows, OURS)
    healthy = [row for row in rows if not row.is_faulty]
    false = sum(row.alarms[OURS] is not None for row in healthy)
    share, count = placed(rows)
    classes = ", ".join(f"{kind} {f1:.2f} ({n})" for kind, (f1, n) in s.by_class.items())
    hard = sum(row.variant != "plain" for row in healthy) / max(len(healthy), 1)
    return (
        f"ours, F1 by class (runs): {classes}\n"
        f"false alarms: {false} of {len(healthy)}, at most {upper_bound(false, len(healthy)):.1%} "
        f"(95 %); {hard:.0%} of the healthy runs look ill\n"
        f"right place first: {share:.2f} of {count}"
    )


def _repairs(lines: Sequence[Line]) -> str:
    """Weighted by runs: a setting counts as often as it has faulty runs."""
    good = [float(line["good"]) for line in lines for _ in range(line["runs"])]
    first = [float(line["first"]) for line in lines for _ in range(line["runs"])]
    chance = [fmean(line["random"].values()) for line in lines for _ in range(line["runs"])]
    clip = [float(line["clip"]) for line in lines for _ in range(line["runs"])]
    gain = [float(line["good"]) - fmean(line["random"].values()) for line in lines]
    low, high = interval(gain)
    by_kind: dict[str, list[float]] = {}
    for line in lines:
        by_kind.setdefault(line["kind"], []).append(float(line["good"]))
    kinds = ", ".join(f"{k} {sum(v):.0f}/{len(v)}" for k, v in sorted(by_kind.items()))
    cost = median(line["cost"] for line in lines)
    return (
        f"repair of {len(lines)} faulty settings ({len(good)} runs), target reached under 4 of 5 "
        "fresh seeds:\n"
        f"ours {fmean(good):.0%}, first remedy {fmean(first):.0%}, random remedy "
        f"{fmean(chance):.0%}, clip at norm 1 {fmean(clip):.0%}, another seed 0 % (by label)\n"
        f"gain over a random remedy, by setting: {fmean(gain):+.0%} ({low:+.0%} to {high:+.0%}, "
        f"95 % by bootstrap)\n"
        f"cost, in trainings of the healthy twin: median {cost:.2f}\n"
        f"settings repaired by fault: {kinds}"
    )


def _harm(lines: Sequence[Line], healthy: int) -> str:
    """Of all healthy runs: those without a false alarm stay as they are."""
    lost = sum(line["runs"] * (line["before"] - line["after"]) / 5 for line in lines)
    runs = sum(line["runs"] for line in lines)
    changed = sum(line["runs"] for line in lines if line["kept"] is not None)
    return (
        f"automatic repair of the {healthy} healthy runs: {runs} accused, {changed} changed; "
        f"targets lost {100 * lost / max(healthy, 1):.2f} points (below 0: gained)"
    )


def read_lines(path: Path) -> list[Line]:
    """Lines of JSON; none if the file is not there."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
