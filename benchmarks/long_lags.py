"""Long lags on two cores: adding over 1,000 steps and copying over 500, until they are solved.

Every finished run is kept in ``--out`` and not done again, so an interrupted measurement goes on;
``--table`` prints what is there. Beside each run stands the command that does the same.

    python -m benchmarks.long_lags [--out FOLDER] [--workers N] [--table]
"""

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from steadygrad.bench import Local, Result, Trial, run_trial
from steadygrad.bench.grid import read_back
from steadygrad.record import Results

RUNS = (
    Trial("adding:length=1000", "lem"),
    # The setting of benchmarks/papers/copy_memory, at a longer lag.
    Trial("copy:length=500", "urnn", hidden=128, batch_size=20, learning_rate=1e-3),
)
HEAD = f"{'task':20} {'cell':10} {'seed':>4} {'status':9} {'update':>6} {'score':>28} "
HEAD += f"{'no memory':>9} {'CPU s':>7} {'clock s':>7}"


def command(trial: Trial) -> str:
    """The command line of one run, options at their defaults left out."""
    plain = Trial(trial.task, trial.cell)
    given = [
        f"--{name.replace('_', '-')} {value}"
        for name, value in asdict(trial).items()
        if name not in ("task", "cell", "remedies", "seed") and value != getattr(plain, name)
    ]
    seeds = trial.seed + 1
    return " ".join([f"steadygrad bench {trial.task} --cells {trial.cell} --seeds {seeds}", *given])


def line(trial: Trial, result: Result) -> str:
    """One run as a line of the table."""
    unit = result["unit"]
    score = f"{unit} {result['figures'][unit]:.4g}"
    memory = result["without_memory"]
    return (
        f"{trial.task:20} {trial.cell:10} {trial.seed:4} {result['status']:9} "
        f"{result['updates']:6} {score:>28} {memory:9.4g} {_seconds(result, 'cpu_seconds'):>7} "
        f"{_seconds(result, 'seconds'):>7}"
    )


def _seconds(result: Result, kind: str) -> str:
    return f"{result[kind]:.0f}" if result.get(kind) is not None else "-"


def table(done: dict[str, Result]) -> Iterator[str]:
    """The table of the runs that are finished, and their commands."""
    yield HEAD
    for trial in RUNS:
        missing = f"{trial.task:20} {trial.cell:10} {trial.seed:4} not run yet"
        yield line(trial, done[trial.key]) if trial.key in done else missing
    yield ""
    yield from map(command, RUNS)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/long-lags"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    by_key = {trial.key: trial for trial in RUNS}
    with Results(given.out / "results.db") as results:
        left = [t for key, t in by_key.items() if key not in results.keys()]
        for trial, result in Local(given.workers).run(run_trial, left) if not given.table else ():
            results.add(trial.key, asdict(trial), result)
            print(line(trial, result), flush=True)
        stored = {read_back(options).key: result for options, result in results.rows()}
    print("\n".join(table(stored)))


if __name__ == "__main__":
    main()
