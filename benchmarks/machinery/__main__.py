"""Try it: ``python -m benchmarks.machinery [WORD ...] [--kinds LSTM GRU RNN]``."""

import argparse

from torch import nn

import steadygrad as sg
from benchmarks.machinery import TRIED, tried


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="only what has one of them in its name")
    parser.add_argument("--kinds", nargs="+", default=["LSTM", "GRU", "RNN"])
    args = parser.parse_args()
    for what in TRIED:
        if args.words and not any(word in what for word in args.words):
            continue
        print(what.replace("`", ""))
        for kind in args.kinds:
            for place in (sg, nn):
                name = f"{'sg' if place is sg else 'nn'}.{kind}"
                print(f"    {name:8} {tried(what, getattr(place, kind))}", flush=True)


if __name__ == "__main__":
    main()
