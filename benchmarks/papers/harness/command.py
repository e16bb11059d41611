"""``python -m benchmarks.papers.NAME``: do what is not on file yet, and print the table."""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.papers.harness import config as configuration
from benchmarks.papers.harness.config import Config, Run, Settings
from benchmarks.papers.harness.ledger import Ledger
from benchmarks.papers.harness.rows import result
from steadygrad.bench.paper_table import as_text, to_json
from steadygrad.errors import InputError

Attempt = Callable[[Settings, int], dict[str, Any]]


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    fresh: bool
    table: bool
    json: bool
    full: bool
    seeds: int | None
    only: str
    threads: int


def main(file: str, attempt: Attempt) -> None:
    """Do every run of the folder of ``file`` that is not on file, and print the table.

    Args:
        file: ``__file__`` of the paper's ``__main__``.
        attempt: Does one run: settings and seed to figures by name. Its time is added as
            ``seconds`` unless it states that itself.
    """
    options = _options(sys.modules["__main__"].__doc__ or "")
    try:
        _run(Path(file).parent, attempt, options)
    except InputError as error:
        raise SystemExit(f"{Path(file).parent.name}: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("\nstopped; the same command goes on with what is missing") from None


def _run(folder: Path, attempt: Attempt, options: Options) -> None:
    torch.set_num_threads(options.threads)
    config = configuration.read(folder, options.full)
    ledger = Ledger(config)
    if options.fresh:
        ledger.forget()
    if not options.table:
        measure(config, ledger, attempt, options)
    told = ledger.strangers(config.runs)
    if told:
        print(f"{told} runs on file are of other settings, and do not count", file=sys.stderr)
    write(config, ledger)
    found = result(config, ledger)
    print(to_json([found]) if options.json else as_text([found]))


def measure(config: Config, ledger: Ledger, attempt: Attempt, options: Options) -> None:
    """Do what is not on file."""
    if options.seeds is not None and options.seeds < 1:
        raise InputError(f"--seeds {options.seeds}: expected at least 1")
    chosen = [run for run in config.runs if options.only in run.name]
    if not chosen:
        names = "; ".join(run.name for run in config.runs)
        raise InputError(f"--only {options.only}: there is no such run; there are: {names}")
    work = [
        (run, seed)
        for run in chosen
        for seed in range(options.seeds or run.seeds)
        if not ledger.holds(run, seed)
    ]
    for number, (run, seed) in enumerate(work, 1):
        progress(f"{number} of {len(work)}: {run.name}, seed {seed}", end="\n")
        ledger.add(run, seed, _timed(attempt, run, seed))
        write(config, ledger)


def _timed(attempt: Attempt, run: Run, seed: int) -> dict[str, Any]:
    began = time.perf_counter()
    found = attempt(run.settings, seed)
    figures = {"seconds": round(time.perf_counter() - began, 1)} | found
    progress(", ".join(f"{k} {v}" for k, v in figures.items()), end="\n")
    return figures


def write(config: Config, ledger: Ledger) -> None:
    """Write the rows beside the configuration."""
    path = config.folder / f"{config.prefix}result.json"
    path.write_text(to_json([result(config, ledger)]) + "\n", encoding="utf-8")


def progress(text: str, end: str = "") -> None:
    """Show where a long run stands, over the line before."""
    print(f"\r\x1b[K{text}", end=end, file=sys.stderr, flush=True)


def _options(description: str) -> Options:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fresh", action="store_true", help="forget what is on file")
    parser.add_argument("--table", action="store_true", help="train nothing, lay out what is there")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--full", action="store_true", help="the published budget, not the scaled")
    parser.add_argument("--seeds", type=int, help="how many; those of config.toml if not given")
    parser.add_argument("--only", default="", help="runs whose own settings hold this text")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    return Options(**vars(parser.parse_args()))
