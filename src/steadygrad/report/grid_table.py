"""The table of a grid: one row per combination, with median and spread over seeds."""

import csv
import io
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steadygrad.record.kinds import check_result
from steadygrad.report.figures import plain
from steadygrad.report.markup import Html, table

Run = tuple[Mapping[str, Any], Mapping[str, Any]]
"""A trial and its result, as `steadygrad.record.Results` returns them."""


@dataclass(frozen=True)
class Row:
    """All seeds of one combination.

    Attributes:
        task, label: The task; the cell and its remedies.
        unit, better: The deciding figure, and its better direction.
        values: That figure on the test part, one per seed, best weights; NaN for a failed run.
        solved: How many seeds solved the task.
        failed: How many failed or diverged.
        updates: Median of the updates after which it was solved; None if fewer than half did.
        seconds: Median of the time.
        horizons: Median memory horizon before and after training, in steps; None if unknown.
        without_memory: Score of the best answer without memory, if known.
        solved_if: Value of the figure from which the task counts as solved.
        curves: Per seed, pairs of update and deciding figure on the validation part.
    """

    task: str
    label: str
    unit: str
    better: str
    values: tuple[float, ...]
    solved: int
    failed: int
    updates: float | None
    seconds: float
    horizons: tuple[float | None, float | None]
    without_memory: float | None
    solved_if: float | None
    curves: tuple[tuple[tuple[int, float], ...], ...]

    @property
    def median(self) -> float:
        """Median over seeds; a failed run counts as the worst."""
        worst = math.inf if self.better == "lower" else -math.inf
        return statistics.median(worst if math.isnan(v) else v for v in self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """Smallest and largest value, ignoring NaN; NaN if there is none."""
        there = [v for v in self.values if not math.isnan(v)]
        return (min(there), max(there)) if there else (math.nan, math.nan)


def rows(runs: Iterable[Run]) -> list[Row]:
    """Group runs by everything but the seed, keeping their order.

    Raises:
        RecordError: A row is none of a grid: its file is damaged.
    """
    groups: dict[tuple[str, str], list[Run]] = {}
    for trial, result in runs:
        check_result(trial, result)
        groups.setdefault((str(trial["task"]), label(trial)), []).append((trial, result))
    return [_row(task, name, group) for (task, name), group in groups.items()]


def label(trial: Mapping[str, Any]) -> str:
    """The cell and its remedies: ``lstm``, or ``lstm + forget-bias``."""
    return " + ".join([str(trial["cell"]), *map(str, trial["remedies"])])


def _row(task: str, name: str, group: Sequence[Run]) -> Row:
    results = [result for _, result in group]
    told = next((r for r in results if "unit" in r), {})
    unit = str(told.get("unit", ""))
    at = [r["solved_at"] for r in results if r.get("solved_at")]
    return Row(
        task=task,
        label=name,
        unit=unit,
        better=str(told.get("better", "lower")),
        values=tuple(float(r.get("figures", {}).get(unit, math.nan)) for r in results),
        solved=sum(r["status"] == "solved" for r in results),
        failed=sum(r["status"] in ("failed", "diverged") for r in results),
        updates=statistics.median(at) if 2 * len(at) >= len(results) else None,
        seconds=statistics.median([r.get("seconds") or 0.0 for r in results]),
        horizons=(_horizon(results, "start"), _horizon(results, "end")),
        without_memory=told.get("without_memory"),
        solved_if=told.get("solved_if"),
        curves=tuple(tuple((int(a), float(b)) for a, b in r.get("curve", ())) for r in results),
    )


def _horizon(results: Sequence[Mapping[str, Any]], when: str) -> float | None:
    horizons = [((r.get("gradient") or {}).get(when) or {}).get("horizon") for r in results]
    known = [h for h in horizons if h is not None]
    return statistics.median(known) if known else None


HEAD = (
    "task", "cell and remedies", "figure", "median", "lowest", "highest", "solved", "failed",
    "updates", "horizon before", "horizon after", "seconds",
)  # fmt: skip


def cells(row: Row) -> list[str]:
    """A row as texts, one per entry of `HEAD`."""
    low, high = row.spread
    before, after = row.horizons
    numbers = [row.median, low, high]
    return [
        row.task,
        row.label,
        row.unit,
        *map(_number, numbers),
        f"{row.solved}/{len(row.values)}",
        str(row.failed),
        _or_dash(row.updates),
        _or_dash(before),
        _or_dash(after),
        f"{row.seconds:.1f}",
    ]


def _number(value: float) -> str:
    return plain(float(value)).replace("\u2212", "-").replace(",", "")


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def as_csv(rows: Sequence[Row]) -> str:
    """Comma-separated values, numbers in full precision."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEAD)
    for row in rows:
        texts = cells(row)
        texts[3:6] = [repr(v) for v in (row.median, *row.spread)]
        writer.writerow(texts)
    return out.getvalue()


_LATEX = str.maketrans({c: "\\" + c for c in "&%$#_{}"})


def as_latex(rows: Sequence[Row]) -> str:
    """A ``tabular`` for a paper, with booktabs."""
    head = " & ".join(h.translate(_LATEX) for h in HEAD)
    body = [" & ".join(c.translate(_LATEX) for c in cells(row)) for row in rows]
    columns = "lll" + "r" * (len(HEAD) - 3)
    inside = " \\\\\n".join([rf"\toprule {head}", *body])
    inside = inside.replace("\\\\\n", "\\\\ \\midrule\n", 1)
    return f"\\begin{{tabular}}{{{columns}}}\n{inside} \\\\ \\bottomrule\n\\end{{tabular}}\n"


def as_html(rows: Sequence[Row]) -> Html:
    """The table of one task on a page."""
    return table(PAGE_HEAD, map(page_cells, rows), class_="stack")


PAGE_HEAD = (
    "Cell and remedies", "Median", "Lowest to highest", "Solved", "Updates",
    "Horizon, before \u2192 after", "Seconds",
)  # fmt: skip


def page_cells(row: Row) -> list[str]:
    """A row as texts, one per entry of `PAGE_HEAD`; related columns are merged."""
    return [
        row.label,
        plain(float(row.median)),
        " to ".join(plain(float(v)) for v in row.spread),
        f"{row.solved} of {len(row.values)}" + (f", {row.failed} failed" if row.failed else ""),
        _or_dash(row.updates),
        " \u2192 ".join(map(_or_dash, row.horizons)),
        f"{row.seconds:.1f}",
    ]
