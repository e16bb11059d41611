"""Run one of the counts: ``python -m benchmarks.reliability kills --count 1000``."""

import argparse
import sys
from pathlib import Path


def main() -> int:
    """Parse the command line and run one of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability")
    commands = parser.add_subparsers(dest="command", required=True)
    kills = commands.add_parser("kills", help="kill trainings at random moments")
    kills.add_argument("--count", type=int, default=1000)
    kills.add_argument("--seed", type=int, default=0)
    kills.add_argument("--only", nargs="*", default=[], help="settings, by their first word")
    kills.add_argument("--minutes", type=float, default=1e6, help="stop after this time")
    fuzz = commands.add_parser("fuzz", help="draw spoiled inputs for every reader")
    fuzz.add_argument("--count", type=int, default=200_000)
    fuzz.add_argument("--start", type=int, default=0, help="first number")
    fuzz.add_argument("--only", nargs="*", default=[], help="readers by name")
    fuzz.add_argument("--minutes", type=float, default=1e6, help="stop after this time")
    fuzz.add_argument("--show", type=int, default=12, help="most kinds of defects shown")
    flips = commands.add_parser("flips", help="flip every bit of a checkpoint and a kernel")
    flips.add_argument("--every", type=int, default=1, help="only each n-th bit")
    mutations = commands.add_parser("mutations", help="take each mend back, run its tests")
    mutations.add_argument("--only", nargs="*", type=int, default=[], help="defects by number")
    mutations.add_argument("--out", type=Path, help="write the table here")
    endurance = commands.add_parser("endurance", help="watch a tiny model for very many steps")
    endurance.add_argument("--count", type=int, default=2_000_000)
    endurance.add_argument("--minutes", type=float, default=1e6, help="stop after this time")
    options = parser.parse_args()
    if options.command == "kills":
        from benchmarks.reliability import kills as module

        return module.main(options.count, options.seed, options.only, 60 * options.minutes)
    if options.command == "fuzz":
        from benchmarks.reliability import fuzz as module

        minutes = 60 * options.minutes
        return module.main(options.count, options.start, options.only, minutes, options.show)
    if options.command == "flips":
        from benchmarks.reliability import flips as module

        return module.main(options.every)
    if options.command == "mutations":
        from benchmarks.reliability import mutations as module

        return module.main(options.only, options.out)
    if options.command == "endurance":
        from benchmarks.reliability import endurance as module

        return module.main(options.count, 60 * options.minutes)
    raise AssertionError(options.command)


if __name__ == "__main__":
    sys.exit(main())
