"""``steadygrad demo``: a network that fails to learn, its diagnosis and its repair."""

import json as json_format
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from steadygrad.cli.plain_json import plain
from steadygrad.errors import InputError

if TYPE_CHECKING:
    from steadygrad.bench.demo_run import Story, Tell

OPENING = """\
A plain RNN reads handwritten digits one pixel at a time, 64 steps, and then classifies the digit.
It is trained and watched, its verdict prescribes remedies, each is tried briefly, and the best
must beat the untreated network again under fresh seeds, beyond noise, before it is trained in
full. Nothing is downloaded."""

HEAD = ("short training", "seed", "validation", "gradient left at the lag", "time", "")


def demo(out: Path = Path("runs/demo"), seed: int = 0, json: bool = False) -> int:
    """See a recurrent network fail, learn why, and see it repaired: about a minute, offline.

    Writes before.db, after.db and report.html into a folder, replacing those of an earlier demo.

    Args:
        out: Folder for the two records and the report.
        seed: Fixes weights and order of the images.
        json: Print one JSON document at the end, and nothing else.
    """
    if not 0 <= seed < 2**31:
        raise InputError(f"--seed {seed}: expected from 0 to below 2^31")
    from steadygrad.bench.demo_fit import Recipe, one_thread
    from steadygrad.bench.demo_run import Demo
    from steadygrad.tasks import Pixels

    console = Console(quiet=json)
    console.print(OPENING, highlight=False, soft_wrap=True)
    task = Pixels()
    task.facts()  # fails early if a package is missing
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=json or not console.is_terminal,
    ) as progress:
        with one_thread():
            story = Demo(task, Recipe(seed=seed), out, _teller(progress, console)).run()
    if json:
        print(json_format.dumps(document(story), indent=2, allow_nan=False))
    else:
        tell_story(console, story)
    return 0 if story.after is not None else 1


def _teller(progress: Progress, console: Console) -> "Tell":
    """One bar for each training, or one line without a terminal."""
    bars: dict[str, Any] = {}

    def tell(what: str, done: int, total: int) -> None:
        if done == 0:
            bars[what] = progress.add_task(what, total=total)
        progress.update(bars[what], completed=done)
        if done == total and progress.disable:
            console.print(f"{what}: {total} epochs", highlight=False)

    return tell


def tell_story(console: Console, story: "Story") -> None:
    """Print findings, trials and scores."""
    before, after = story.before, story.after
    console.print(f"\nverdict: [bold]{before.verdict}[/]", highlight=False)
    for finding in before.findings:
        console.print(f"  {finding.text}", highlight=False, markup=False, soft_wrap=True)
    table = Table(*HEAD, box=None, pad_edge=False)
    for fork in story.choice.forks:
        found = fork.measured
        left = (found.log10_ratio_before, found.log10_ratio_after) if found else ()
        table.add_row(
            fork.candidate,
            str(fork.seed),
            f"{fork.score:.1f} {story.unit}",
            " → ".join(map(_share, left)),
            f"{fork.seconds:.1f} s",
            "kept" if fork.candidate == story.choice.kept else "",
        )
    console.print(table)
    console.print(f"\n{story.choice.why}", highlight=False, soft_wrap=True)
    if after is None:
        tried = len(story.choice.forks) > 1
        console.print("No remedy is kept." if tried else "Nothing was prescribed.")
    else:
        console.print(
            f"\ntest: {before.test:.1f} → [bold]{after.test:.1f}[/] {story.unit} with "
            f"{after.remedy}, verdict {after.verdict}; same epochs, optimiser and seed "
            f"({story.naive.name}: {story.naive.value:.1f})",
            highlight=False,
            soft_wrap=True,
        )
    report = f"report: {story.report}   ({story.seconds:.0f} s)"
    console.print(report, highlight=False, soft_wrap=True)


def _share(log10_ratio: float) -> str:
    """Format a share of the gradient; as a power of ten if it underflows."""
    return (
        f"1e{log10_ratio:+.0f}" if 300 < abs(log10_ratio) < math.inf else f"{10**log10_ratio:.2g}"
    )


def document(story: "Story") -> dict[str, Any]:
    """The results as plain JSON values."""
    runs = {
        name: None
        if run is None
        else asdict(run) | {"findings": [finding.to_record() for finding in run.findings]}
        for name, run in (("before", story.before), ("after", story.after))
    }
    return plain(
        {
            "lag": story.lag,
            "unit": story.unit,
            "naive": asdict(story.naive),
            **runs,
            "trials": [f.to_record(story.choice.kept, story.unit) for f in story.choice.forks],
            "choice": story.choice.why,
            "report": story.report,
            "seconds": story.seconds,
        }
    )
