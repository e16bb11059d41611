"""From verdicts to figures: found or not, named right, in the right place, how soon."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from benchmarks.faults.verdicts import OURS, Verdict


@dataclass(frozen=True)
class Scores:
    """What one monitor did on labelled runs.

    Attributes:
        recall: Share of the faulty runs with an alarm.
        precision: Share of the alarms that were raised on faulty runs.
        false_alarms: Share of the healthy runs with an alarm.
        macro_f1: Mean over the fault classes of F1 of the named fault.
        by_class: F1 and number of runs of each class.
        delay: Median share of the budget between the fault's onset and the alarm.
    """

    recall: float
    precision: float
    false_alarms: float
    macro_f1: float
    by_class: dict[str, tuple[float, int]]
    delay: float


def score(rows: Sequence[Verdict], monitor: str = OURS) -> Scores:
    """Score one monitor."""
    faulty = [row for row in rows if row.is_faulty]
    healthy = [row for row in rows if not row.is_faulty]
    hits = [(row, alarm) for row in faulty if (alarm := row.alarms[monitor]) is not None]
    false = sum(row.alarms[monitor] is not None for row in healthy)
    by_class = {
        kind: (_f1(rows, monitor, kind), sum(row.kind == kind for row in faulty))
        for kind in sorted({row.kind for row in faulty})
    }
    delays = [max(0, alarm[0] - row.onset) / row.budget for row, alarm in hits]
    return Scores(
        len(hits) / max(len(faulty), 1),
        len(hits) / max(len(hits) + false, 1),
        false / max(len(healthy), 1),
        fmean(f1 for f1, _ in by_class.values()) if by_class else math.nan,
        by_class,
        median(delays) if delays else math.nan,
    )


def _f1(rows: Sequence[Verdict], monitor: str, kind: str) -> float:
    named = [row for row in rows if (a := row.alarms[monitor]) is not None and a[1] == kind]
    there = sum(row.is_faulty and row.kind == kind for row in rows)
    right = sum(row.is_faulty and row.kind == kind for row in named)
    return 2 * right / max(len(named) + there, 1)


def placed(rows: Sequence[Verdict]) -> tuple[float, int]:
    """Share of ours, named right, that are in the right place; and how many there are."""
    right = [row.is_placed for row in rows if row.is_placed is not None]
    return (fmean(right) if right else math.nan), len(right)


def upper_bound(hits: int, of: int) -> float:
    """The largest share that seeing no more than so many hits leaves credible, at 95 %.

    Clopper and Pearson's one-sided bound, by bisection.
    """
    low, high = hits / max(of, 1), 1.0
    for _ in range(60):
        middle = (low + high) / 2
        below = sum(
            math.comb(of, k) * middle**k * (1 - middle) ** (of - k) for k in range(hits + 1)
        )
        low, high = (middle, high) if below > 0.05 else (low, middle)
    return high


def interval(values: Sequence[float], draws: int = 2000) -> tuple[float, float]:
    """Bootstrap interval of a mean, 95 %."""
    dice = random.Random(0)
    means = sorted(fmean(dice.choices(values, k=len(values))) for _ in range(draws))
    return means[int(0.025 * draws)], means[int(0.975 * draws) - 1]
