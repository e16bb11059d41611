"""``steadygrad train FILE``: train on a user's own data, and score the result."""

import json as json_format
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from steadygrad.cli.plain_json import plain
from steadygrad.cli.rank_zero import is_first
from steadygrad.cli.report import write_report
from steadygrad.errors import InputError
from steadygrad.train.config import TrainConfig

if TYPE_CHECKING:
    from rich.console import Console

    from steadygrad.diagnosis import Repair
    from steadygrad.diagnosis.forks import Fork
    from steadygrad.train import Outcome

SIZES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (0, "bytes"))
EXIT = {"finished": 0, "diverged": 1, "interrupted": 130}


def train(
    config: Annotated[TrainConfig, tyro.conf.arg(name="")],
    json: bool = False,
    repair: bool = False,
    dry_run: bool = False,
    seeds: int = 1,
) -> int:
    """Train a recurrent network on your own CSV or text, and score it beside naive answers.

    A table is forecast (--target, --horizon), a text is learnt symbol by symbol (--symbol). How the
    file was understood is printed first; --dry-run stops there. The folder of the run (--out)
    receives the record run.db, the model model.safetensors with everything needed to use it
    (steadygrad forecast, generate, stream), and report.html. Ctrl-C saves, and leaves the best
    model so far; the same command with --resume continues. In several processes: torchrun
    --no-python --nproc-per-node 2 steadygrad train FILE; they share each batch.

    Args:
        config: Options of the run.
        json: Print one JSON document at the end, and nothing else.
        repair: First diagnose a short run; if it has a fault, try the remedies for it in short
            runs, and train with one that is better beyond noise, if any. If the training diverges,
            roll back to its last good state and continue with a remedy.
        dry_run: Print how the file was understood, and train nothing. With --repair: after the
            first short run, print what would be tried.
        seeds: Train from this many seeds, and report how much the score varies.
    """
    if not json:
        _announce(config)
    from steadygrad.ranks import joined

    if dry_run and not repair:
        return _dry_run(config, json)
    with joined(config.device):
        return _train(config, json, repair, dry_run, seeds)


def _announce(config: TrainConfig) -> None:
    """Print a first line before torch is imported, which takes a while."""
    if is_first() and config.file.is_file():
        size = config.file.stat().st_size
        unit, name = next((u, n) for u, n in SIZES if size >= u)
        print(f"reading {config.file.name}, {size / max(unit, 1):.4g} {name}", flush=True)


def _dry_run(config: TrainConfig, json: bool) -> int:
    """Print how the file was understood."""
    from rich.console import Console

    from steadygrad.cli.display import print_understood
    from steadygrad.tasks import understood
    from steadygrad.train.data import read_task

    config.check()
    task = read_task(config)
    if json:
        rows = [list(row) for row in understood(task)]
        document = {"understood": rows, "data": plain(task.facts())}
        print(json_format.dumps(document, indent=2, allow_nan=False))
    else:
        print_understood(Console(), understood(task))
    return 0


def _train(config: TrainConfig, json: bool, repair: bool, dry_run: bool, seeds: int) -> int:
    """Train, in one process or as one of those that torchrun started."""
    from rich.console import Console

    from steadygrad.cli.display import Lines, Live
    from steadygrad.train import train as train_on
    from steadygrad.train.folder import Folder
    from steadygrad.train.seeds import Spread, train_seeds

    if not 1 <= seeds <= 1000:
        raise InputError(f"--seeds {seeds}: expected 1 to 1000")
    console = Console()
    repaired = None
    if repair:
        config, repaired = _repair(console, config, dry_run, json)
        if dry_run:
            return 0
    # Noted at the start of the run, because a kill could lose what is written at the end.
    notes = {} if repaired is None else {"repair": repaired.to_record()}

    def run(own: TrainConfig) -> "Outcome":
        if json:
            return train_on(own, notes=notes)
        if console.is_terminal:
            with Live(console) as live:
                return train_on(own, live.tell, notes)
        return train_on(own, Lines(console).tell, notes)

    outcome = run(config)
    spread = None
    if seeds > 1 and outcome.status == "finished":
        found = train_seeds(config, outcome, seeds, run)
        if isinstance(found, Spread):
            spread = found
        else:
            outcome = found
    if not is_first():
        return EXIT[outcome.status]
    report = write_report([outcome.record], Folder(config.folder).report)
    if json:
        document = _document(outcome) | {"report": str(report)}
        document |= {} if repaired is None else {"repair": plain(repaired.to_record())}
        document |= {} if spread is None else {"seeds": plain(asdict(spread))}
        print(json_format.dumps(document, indent=2, allow_nan=False))
        return EXIT[outcome.status]
    _tell_end(console, outcome, config)
    if spread is not None:
        console.print(spread.text, highlight=False, soft_wrap=True)
    console.print(f"report: {report}", highlight=False, soft_wrap=True)
    return EXIT[outcome.status]


def _repair(
    console: "Console", config: TrainConfig, dry_run: bool, json: bool
) -> tuple[TrainConfig, "Repair | None"]:
    """The options with the remedy that was kept; those of a resumed run, if there is one."""
    from steadygrad.train import repair_config, resumed_config
    from steadygrad.train.folder import Folder
    from steadygrad.train.rescue import MANY

    config.check()
    config = replace(config, rollbacks=config.rollbacks or MANY)
    # A run killed while remedies were tried has no checkpoint yet: they are tried again.
    if config.resume and Folder(config.folder).checkpoint.exists():
        return resumed_config(config, Folder(config.folder).record), None

    def tell(fork: "Fork") -> None:
        if not json:
            text = f"{fork.candidate}, seed {fork.seed}: validation loss {fork.score:.4g}"
            console.print(f"  tried {text} ({fork.seconds:.0f} s)", highlight=False)

    config, found = repair_config(config, dry_run=dry_run, tell=tell)
    if dry_run and json:
        print(json_format.dumps(plain(found.to_record()), indent=2, allow_nan=False))
    elif not json:
        console.print(str(found), highlight=False, soft_wrap=True, markup=False)
    return config, found


def _tell_end(console: "Console", outcome: "Outcome", config: TrainConfig) -> None:
    from steadygrad.cli.score_table import print_scores

    if outcome.status == "interrupted":
        console.print(
            f"interrupted at step {outcome.step}, saved; continue with the same command and "
            "--resume,"
            f" or use the best model so far: {outcome.weights}",
            highlight=False,
            soft_wrap=True,
        )
        return
    print_scores(console, outcome)
    if outcome.status == "diverged":
        print(f"steadygrad: training diverged: {outcome.text}", file=sys.stderr)


def _document(outcome: "Outcome") -> dict[str, Any]:
    return plain(asdict(outcome))
