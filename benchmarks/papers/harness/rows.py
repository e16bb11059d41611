"""Finished runs and what was published, as rows of the table."""

import math
import statistics
from typing import Any, get_args

from benchmarks.papers.harness.config import Config, Run, Settings
from benchmarks.papers.harness.ledger import Figures, Ledger
from steadygrad.bench.paper_table import Layout, Paper, PaperRow
from steadygrad.errors import InputError

STATISTICS = ("median", "mean", "count")


def result(config: Config, ledger: Ledger) -> Paper:
    """Every row of every run that has been done.

    Raises:
        InputError: The configuration asks for what is not there.
    """
    paper = config.paper
    found = [
        _row(config, run, paper | row, ledger.of(run))
        for run in config.runs
        for row in run.rows
        if ledger.of(run)
    ]
    layout = paper.get("layout", "long")
    if layout not in get_args(Layout):
        raise InputError(f"config.toml: layout {layout!r}: expected one of {get_args(Layout)}")
    if layout == "wide" and any(row.published is not None for row in found):
        raise InputError("config.toml: the wide layout has no room for published numbers")
    return Paper(config.folder.name, paper["title"], paper.get("note", ""), tuple(found), layout)


def _row(config: Config, run: Run, row: Settings, done: list[Figures]) -> PaperRow:
    _check(row, done[0])
    among = [f for f in done if f.get(row.get("among", ""), True)]
    values = [float(f[row["quantity"]]) for f in among]
    better = row.get("better", "lower")
    ours, low, high = _summary(values, row.get("statistic", "median"), better)
    known = _flat(run.settings)
    unit = row.get("unit", row["quantity"])
    return PaperRow(
        number=row["number"],
        setting=str(row["setting"]).format_map(known),
        method=str(row["method"]).format_map(known),
        unit=unit.format(seeds=len(done)),
        better=better,
        ours=ours,
        low=low,
        high=high,
        published=row.get("published"),
        source=row.get("source", ""),
        seeds=len(done),
        budget=str(row["budget"]).format_map(known),
        seconds=round(statistics.median(f["seconds"] for f in done), 1),
        scaled=bool(row["scaled"]),
        command=command(config),
        why=row.get("why", ""),
    )


def _check(row: Settings, figures: Figures) -> None:
    wanted = [row.get("quantity"), *([row["among"]] if "among" in row else [])]
    for name in wanted:
        if name not in figures:
            raise InputError(
                f"config.toml: a row asks for {name!r}; attempt returned: {', '.join(figures)}"
            )
    if row.get("statistic", "median") not in STATISTICS:
        raise InputError(
            f"config.toml: statistic {row['statistic']!r}: expected one of {', '.join(STATISTICS)}"
        )


def command(config: Config) -> str:
    """Give the one command that reproduces the paper's rows."""
    return f"python -m benchmarks.papers.{config.folder.name}" + " --full" * config.full


def _summary(
    values: list[float], statistic: str, better: str
) -> tuple[float | None, float | None, float | None]:
    """Middle, lowest and highest over seeds; what is no number counts as the worst."""
    if statistic == "count":
        return sum(values), None, None
    if not values:
        return None, None, None
    worst = math.inf if better == "lower" else -math.inf
    ranked = [worst if math.isnan(v) else v for v in values]
    middle = {"median": statistics.median, "mean": statistics.mean}[statistic](ranked)
    return middle, min(ranked), max(ranked)


def _flat(settings: Settings) -> Settings:
    """Settings of all tables by their own names, whole numbers with commas."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            found |= {k: v for k, v in _flat(value).items() if k not in found}
        else:
            found[key] = f"{value:,}" if type(value) is int else value
    return found
