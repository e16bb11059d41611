"""One line per run: what it is, and what each monitor said of it. This is what is committed."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.faults.baselines import BASELINES
from benchmarks.faults.labels import Labels, Run

OURS = "steadygrad"
MONITORS = (OURS, *(rules.name for rules in BASELINES))
KNOWN = ("half", "pair", "kind", "variant", "seed", "faulty", "onset", "budget", "placed")
Alarm = tuple[int, str]
"""At which update, and the fault that is named."""


@dataclass(frozen=True)
class Verdict:
    """A labelled run.

    Attributes:
        half, pair, kind, variant, seed: Which run.
        is_faulty: By outcome and oracle; else it is healthy.
        onset: Update at which the fault begins.
        budget: Updates that the training may take.
        alarms: Of every monitor, None if it stayed silent.
        is_placed: Whether ours, where it named the fault, put it into the right place; None where
            the fault has none.
    """

    half: str
    pair: str
    kind: str
    variant: str
    seed: int
    is_faulty: bool
    onset: int
    budget: int
    alarms: dict[str, Alarm | None]
    is_placed: bool | None


def verdicts(labels: Labels) -> list[Verdict]:
    """The labelled runs, flat."""
    return [_verdict(run, True) for run in labels.faulty] + [
        _verdict(run, False) for run in labels.healthy
    ]


def _verdict(run: Run, is_faulty: bool) -> Verdict:
    first = next((look for look in run["looks"] if look[1]), None)
    alarms: dict[str, Alarm | None] = {OURS: None if first is None else (first[0], first[1][0][0])}
    alarms |= {name: None if said is None else tuple(said) for name, said in run["others"].items()}
    return Verdict(
        run["half"],
        run["pair"],
        run["kind"],
        run["variant"],
        run["seed"],
        is_faulty,
        max(run["onset"], 1),
        run["budget"],
        alarms,
        _placed(run, first[1][0]) if is_faulty and first is not None else None,
    )


def _placed(run: Run, found: Sequence[Any]) -> bool | None:
    """Whether the finding names the place of the fault.

    The layer must be the right one of two; the gate the one that was shut; the gradient at the
    lag within a decade and a half, or a seventh, of what the float64 oracle measured; of what is
    not finite, the first bad tensor the one that was made so.
    """
    fault, layer, gate, _, numbers, *_ = found
    if fault != run["kind"]:
        return None
    gold = run["place"]
    if fault in ("saturated", "dead"):
        return gate == gold["gate"] and (gold["layer"] is None or layer.endswith(gold["layer"]))
    if fault in ("vanishing", "exploding"):
        left, seen = run["oracle"]["log10"], numbers.get("log10_ratio")
        if left is None or seen is None:
            return left is None and seen is None
        return abs(left - seen) <= max(1.5, abs(left) / 7)
    if fault == "nonfinite":
        return gold["tensor"] in str(numbers.get("tensor"))
    return None


def write(rows: Iterable[Verdict], path: Path) -> None:
    """Write verdicts as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        heads = [f"{name} {what}" for name in MONITORS for what in ("at", "says")]
        out.writerow([*KNOWN, *heads])
        for row in rows:
            said = [part for name in MONITORS for part in row.alarms[name] or ("", "")]
            placed = "" if row.is_placed is None else int(row.is_placed)
            known = [row.half, row.pair, row.kind, row.variant, row.seed, int(row.is_faulty)]
            out.writerow([*known, row.onset, row.budget, placed, *said])


def read(path: Path) -> list[Verdict]:
    """Read what `write` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        return [_row(line) for line in csv.DictReader(file)]


def _row(line: dict[str, str]) -> Verdict:
    alarms: dict[str, Alarm | None] = {
        name: (int(line[f"{name} at"]), line[f"{name} says"]) if line[f"{name} at"] else None
        for name in MONITORS
    }
    return Verdict(
        line["half"],
        line["pair"],
        line["kind"],
        line["variant"],
        int(line["seed"]),
        line["faulty"] == "1",
        int(line["onset"]),
        int(line["budget"]),
        alarms,
        None if line["placed"] == "" else line["placed"] == "1",
    )
