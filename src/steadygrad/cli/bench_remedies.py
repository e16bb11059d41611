"""``steadygrad bench remedies``: every remedy with its measured claim and effects."""

import json as json_format
import textwrap
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from steadygrad.bench.demo_fit import one_thread
from steadygrad.bench.remedy_table import (
    BATCH,
    HIDDEN,
    MOMENTUM,
    PROBLEMS,
    RATE,
    STEPS,
    UPDATES,
    TableRow,
    remedy_table,
)
from steadygrad.cli.plain_json import plain

SEEDS = 5


def bench_remedies(seeds: int, json: bool) -> int:
    """Train every remedy on one vanishing and one exploding problem, and print the table."""
    console = Console(stderr=True)
    rows: list[TableRow] = []
    with (
        one_thread(),
        Progress(
            TextColumn("{task.description:<40}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        ) as progress,
    ):
        bar = progress.add_task("remedies", total=None)

        def tell(name: str, done: int, total: int) -> None:
            progress.update(bar, description=name, completed=done, total=total)
            if not console.is_terminal:
                console.print(f"{done}/{total} {name}", highlight=False)

        rows.extend(remedy_table(seeds, tell))
    if json:
        document: dict[str, Any] = {"seeds": seeds, "rows": [asdict(row) for row in rows]}
        print(json_format.dumps(plain(document), indent=2, allow_nan=False))
    else:
        print(as_text(rows, seeds))
    return 0


def as_text(rows: list[TableRow], seeds: int) -> str:
    """Format the rows: claims and measurements, then the results on the two problems."""
    about = (
        f"Predict the sign of step 1 after the last of {STEPS} steps, with noise in between;"
        f" {HIDDEN} units, batch {BATCH}, {UPDATES} updates of SGD (rate {RATE}, momentum"
        f" {MOMENTUM}), {seeds} seeds, medians. grad: log10 of |dL/dh| at step 1 over step"
        f" {STEPS}, after the treatment and before training, then after training. loss: mean of"
        " the last 20 (0.693 knows nothing), then the worst seed's. time: processor time of an"
        " update over that of the same layer untreated."
    )
    wide = 1 + max(len(row.remedy) for row in rows)
    plain_time = {row.cell: row.outcomes for row in rows if row.remedy == "nothing"}
    head = "".join(f"  {p + ': grad':>15}{'trained':>9}{'loss':>7}{'worst':>7}" for p in PROBLEMS)
    lines = [*textwrap.wrap(about, 100), "", f"{'remedy':<{wide}}{'cell':<5}{head}{'time':>8}"]
    for row in rows:
        cells = "".join(
            f"  {o.log10_ratio:>15.1f}{o.log10_ratio_trained:>9.1f}{o.loss:>7.3f}{o.worst:>7.3f}"
            for o in (row.outcomes[p] for p in PROBLEMS)
        )
        control = sum(o.milliseconds for o in plain_time[row.cell].values())
        spent = sum(o.milliseconds for o in row.outcomes.values()) / control
        lines.append(f"{row.remedy:<{wide}}{row.cell:<5}{cells}{spent:>8.2f}")
    lines += ["", "What each claims, and what was measured of it on a small example:", ""]
    for row in rows[2:]:
        lines.append(f"{row.remedy}: {row.measured}")
        lines += textwrap.wrap(row.claim, 96, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(line.rstrip() for line in lines)
