"""``steadygrad train FILE``: learn the reader's own data, and say how well."""

import json as json_format
import sys
from dataclasses import asdict
from typing import Annotated, Any

import tyro
from rich.console import Console

from steadygrad.cli.display import Lines, Live
from steadygrad.cli.plain_json import plain
from steadygrad.cli.report import write_report
from steadygrad.cli.score_table import print_scores
from steadygrad.train import Outcome, TrainConfig
from steadygrad.train import train as train_on

EXIT = {"finished": 0, "diverged": 1, "interrupted": 130}


def train(
    config: Annotated[TrainConfig, tyro.conf.arg(name="")],
    json: bool = False,
) -> int:
    """Train a recurrent network on your own CSV or text, and score it beside naive answers.

    A CSV is forecast (--target, --horizon), a text is learnt symbol by symbol (--symbol). The
    folder of the run (--out) receives the record run.db, the best weights model.safetensors, and
    report.html. Ctrl-C saves; the same command with --resume goes on.

    Args:
        config: Options of the run.
        json: Print one JSON document at the end, and nothing else.
    """
    console = Console()
    if json:
        outcome = train_on(config)
    elif console.is_terminal:
        with Live(console) as live:
            outcome = train_on(config, live.tell)
    else:
        outcome = train_on(config, Lines(console).tell)
    report = write_report([outcome.record], config.folder / "report.html")
    if json:
        document = _document(outcome) | {"report": str(report)}
        print(json_format.dumps(document, indent=2, allow_nan=False))
        return EXIT[outcome.status]
    _tell_end(console, outcome, config)
    console.print(f"report: {report}", highlight=False, soft_wrap=True)
    return EXIT[outcome.status]


def _tell_end(console: Console, outcome: Outcome, config: TrainConfig) -> None:
    if outcome.status == "interrupted":
        console.print(
            f"interrupted at step {outcome.step}, saved; go on with the same command and --resume",
            highlight=False,
            soft_wrap=True,
        )
        return
    print_scores(console, outcome)
    if outcome.status == "diverged":
        print(f"steadygrad: training diverged: {outcome.text}", file=sys.stderr)


def _document(outcome: Outcome) -> dict[str, Any]:
    return plain(asdict(outcome))
