"""Display a running grid, and its table."""

import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from steadygrad.bench import Progress as GridProgress
from steadygrad.cli.display import clock
from steadygrad.report.grid_table import HEAD, Row, cells, label


def told(event: GridProgress) -> str:
    """One finished run as one line."""
    assert event.trial is not None and event.result is not None
    result = event.result
    unit = result.get("unit", "")
    figure = result.get("figures", {}).get(unit)
    what = f"{unit} {figure:.4g}" if figure is not None else str(result.get("text", ""))
    at = f" at update {result['solved_at']}" if result.get("solved_at") else ""
    name = label(vars(event.trial))
    return (
        f"{event.done}/{event.total}  {event.trial.task}  {name}  seed {event.trial.seed}:"
        f" {result['status']}{at}, {what} ({result.get('seconds') or 0:.0f} s)"
    )


@final
class GridLines:
    """One plain line for each finished run, and one for the runs finished before."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def tell(self, event: GridProgress) -> None:
        """Print an event."""
        if event.trial is not None:
            self.console.print(told(event), highlight=False, soft_wrap=True, markup=False)
        elif event.found:
            self.console.print(
                f"{event.found} of {event.total} runs were finished before", highlight=False
            )


@final
class GridLive:
    """A progress bar with the time left and the results so far, below the finished runs."""

    def __init__(self, console: Console, total: int) -> None:
        self.lines = GridLines(console)
        self.ended: Counter[str] = Counter()
        self.began = time.perf_counter()
        columns = (
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[ended]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self.bar = Progress(*columns, console=console, transient=True)
        self.task = self.bar.add_task("", total=total, ended="", left="")

    def __enter__(self) -> Self:
        self.bar.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.__exit__(kind, error, trace)

    def tell(self, event: GridProgress) -> None:
        """Update the bar; print a finished run above it."""
        self.lines.tell(event)
        if event.result is not None:
            self.ended[str(event.result["status"])] += 1
        new = event.done - event.found
        seconds = time.perf_counter() - self.began
        left = f"{clock(seconds / new * (event.total - event.done))} left" if new else ""
        ended = ", ".join(f"{n} {status}" for status, n in sorted(self.ended.items()))
        self.bar.update(self.task, completed=event.done, ended=ended, left=left)


def print_table(
    console: Console, found: Sequence[Row], differences: Sequence[dict[str, Any]]
) -> None:
    """Print the rows, task by task, and the comparisons."""
    for task in dict.fromkeys(row.task for row in found):
        mine = [row for row in found if row.task == task]
        table = Table(*COLUMNS, title=_title(mine[0]), title_justify="left", box=None)
        table.columns[0].overflow = "fold"
        for column in table.columns[1:]:
            column.justify = "right"
            column.no_wrap = True
        for row in mine:
            table.add_row(*_texts(row), style="bold" if 2 * row.solved > len(row.values) else "")
        console.print(table)
        console.print()
    for d in differences:
        verdict = "beyond chance" if d["beyond_chance"] else "may be chance"
        console.print(
            f"{d['task']}: {d['first']} minus {d['second']}, {d['unit']}: {d['value']:.4g}"
            f" (95 % {d['low']:.4g} to {d['high']:.4g}), {verdict}",
            highlight=False,
            soft_wrap=True,
        )


COLUMNS = ("cell", "median", "lowest to highest", "solved", "updates", "horizon", "time")


def _texts(row: Row) -> list[str]:
    texts = dict(zip(HEAD, cells(row), strict=True))
    failed = f", {row.failed} failed" if row.failed else ""
    return [
        row.label,
        texts["median"],
        f"{texts['lowest']} to {texts['highest']}",
        texts["solved"] + failed,
        texts["updates"],
        f"{texts['horizon before']} \u2192 {texts['horizon after']}",
        clock(row.seconds),
    ]


def _title(row: Row) -> str:
    bound = "" if row.without_memory is None else f", {row.without_memory:.4g} without memory"
    solved = "" if row.solved_if is None else f", solved at {row.solved_if:.4g}"
    return f"{row.task}: {row.unit}, {row.better} is better{bound}{solved}"
