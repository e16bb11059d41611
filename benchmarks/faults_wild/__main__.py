"""Run what is missing, then score; see `benchmarks.faults_wild`."""

import argparse
import sys
import time
from pathlib import Path

import torch

from benchmarks.faults_wild import cases  # noqa: F401  # registers them
from benchmarks.faults_wild.case import CASES, PARTS, of_part
from benchmarks.faults_wild.lines import kept
from benchmarks.faults_wild.runs import Run, complete, unwatched
from benchmarks.faults_wild.score import table

HERE = Path(__file__).parent
RUNS, RESULT = HERE / "runs.jsonl", HERE / "result.txt"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--runs", type=Path, default=RUNS, help="file of the runs")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--table", action="store_true", help="print what is there, run nothing")
    parser.add_argument("--unwatched", action="store_true", help="print the losses alone")
    args = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [c for p in PARTS if args.part in (p, "all") for c in of_part(p)]
    chosen = [c for c in chosen if args.only in c.name]
    if args.unwatched:
        for case in chosen:
            began = time.perf_counter()
            first, last = unwatched(case)
            seconds = time.perf_counter() - began
            print(f"{case.kind:8} {case.name:45} {first:10.4g} {last:10.4g} {seconds:6.1f} s")
        return
    if not args.table:
        for run in complete(chosen, args.runs):
            right = ", ".join(run.right) or "no fault"
            print(f"{run.seconds:5.1f} s  {run.name}: {run.verdict} ({right})", file=sys.stderr)
    runs = {r.name: r for r in kept(args.runs, Run)}
    text = "\n".join(table([runs[name] for name in CASES if name in runs and args.only in name]))
    if args.runs == RUNS and not args.only:
        RESULT.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
