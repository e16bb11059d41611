"""Run what is missing, then score; see `benchmarks.faults`."""

import argparse
import json
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

from benchmarks.faults import verdicts
from benchmarks.faults.labels import Labels, Run, label
from benchmarks.faults.recipe import Half
from benchmarks.faults.repairs import asking, harmed, healthy_updates, repaired
from benchmarks.faults.runs import complete, kept
from benchmarks.faults.settings import HALVES, SEEDS, settings
from benchmarks.faults.table import read_lines, table

HERE = Path(__file__).parent
VERDICTS, REPAIRS, DROPPED = (
    HERE / name for name in ("verdicts.csv", "repairs.jsonl", "dropped.json")
)
RESULT = HERE / "result.txt"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--half", choices=[*HALVES, "all"], default="all")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--raw", type=Path, default=HERE / "raw", help="folder of the raw runs")
    parser.add_argument("--table", action="store_true", help="print what is committed, run nothing")
    args = parser.parse_args()
    if not args.table:
        args.raw.mkdir(parents=True, exist_ok=True)
        for half in HALVES if args.half == "all" else [args.half]:
            _run(half, args)
        _condense(args.raw)
    text = table(verdicts.read(VERDICTS), read_lines(REPAIRS), json.loads(DROPPED.read_text()))
    RESULT.write_text(text + "\n", encoding="utf-8")
    print(text)


def _run(half: Half, args: argparse.Namespace) -> None:
    path = args.raw / f"{half}.jsonl"
    jobs = [(recipe, seed) for seed in range(args.seeds) for recipe in settings(half)]
    done = kept(path)
    left = sum((recipe.key, seed) not in done for recipe, seed in jobs)
    for count, run in enumerate(complete(jobs, path, args.workers), 1):
        _say(f"{half}: {count} of {left}  {run['pair']}, {run['variant']}")
    if half == "held-out":  # what was tuned is not repaired for a figure
        _repair(half, args, list(kept(path).values()))


def _repair(half: Half, args: argparse.Namespace, runs: list[dict[str, Any]]) -> None:
    labels = label(runs)
    recipes = {recipe.key: recipe for recipe in settings(half)}
    jobs: list[tuple[Callable[..., dict[str, Any]], list[Run], tuple[Any, ...]]] = [
        (repaired, labels.faulty, (recipes[run["key"]], run, healthy_updates(runs, run)))
        for run in asking(labels.faulty)
    ]
    accused = _accused(labels)
    jobs += [(harmed, accused, (recipes[run["key"]], run)) for run in asking(accused)]
    path = args.raw / f"repairs-{half}.jsonl"
    done = {line["key"] for line in read_lines(path)}
    jobs = [job for job in jobs if job[2][0].key not in done]
    pool = ProcessPoolExecutor(args.workers, initializer=torch.set_num_threads, initargs=(1,))
    with pool, path.open("a", encoding="utf-8") as file:
        alike = {pool.submit(job, *given): among for job, among, given in jobs}
        for count, future in enumerate(as_completed(alike), 1):
            line = future.result()
            count_of = sum(run["key"] == line["key"] for run in alike[future])
            file.write(json.dumps({"half": half, "runs": count_of} | line) + "\n")
            file.flush()
            _say(f"{half}: repair {count} of {len(jobs)}  {line['pair']}, {line['variant']}")


def _accused(labels: Labels) -> list[Run]:
    """Healthy runs of which something was said."""
    return [run for run in labels.healthy if any(look[1] for look in run["looks"])]


def _condense(raw: Path) -> None:
    """Write what is committed from the raw runs."""
    rows: list[verdicts.Verdict] = []
    dropped = {}
    lines = []
    for half in HALVES:
        labels = label(kept(raw / f"{half}.jsonl").values())
        rows += verdicts.verdicts(labels)
        dropped[half] = dict(labels.dropped)
        asked = {run["key"] for run in [*labels.faulty, *_accused(labels)]}
        lines += [r for r in read_lines(raw / f"repairs-{half}.jsonl") if r["key"] in asked]
    verdicts.write(rows, VERDICTS)
    DROPPED.write_text(json.dumps(dropped, indent=1, sort_keys=True) + "\n")
    REPAIRS.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _say(text: str) -> None:
    print(f"\r{text:<100}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
