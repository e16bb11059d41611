"""Our recurrent layers against torch's, and cells that torch does not have against a Python loop.

    python -m benchmarks.layers [--threads 2 1] [--rounds 9] [--quick] [--json]

Everything in one process, ours and the peer in turn, the ratio taken pair by pair: a machine whose
speed drifts slows both. Forward is without gradient; training is forward and backward with the
gradients of input, weights and biases. Share of the floor: time of the matrix products alone, over
all time steps at once and each by the faster of MKL and oneDNN, over our time; above 100 % we are
faster than those.
"""

import argparse
import json
import platform
import statistics
import subprocess
from pathlib import Path
from typing import Any

import torch

import steadygrad as sg
from benchmarks.layers import apart, show
from benchmarks.layers.against_torch import SHAPES, against_torch, packed, trained
from benchmarks.layers.custom_cells import against_loop, cells
from benchmarks.layers.timing import slope, timed
from benchmarks.stream import measure

LENGTHS = [100, 300, 1000, 3000, 10_000]


def processor() -> str:
    """The processor's model, as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((s.partition(":")[2].strip() for s in lines if s.startswith("model name")), "?")


def commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def growth(rounds: int) -> dict[str, Any]:
    """Time of a training step against the number of steps: LSTM, B 16, I 32, H 128."""
    times = []
    for steps in LENGTHS:
        run = trained(sg.LSTM(32, 128), torch.randn(steps, 16, 32))
        run(), run()  # pyright: ignore[reportUnusedExpression]
        times.append(1e3 * statistics.median(timed(run) for _ in range(rounds)))
    return {"steps": LENGTHS, "ms": times, "slope": slope([float(t) for t in LENGTHS], times)}


def memory() -> dict[str, Any]:
    """Peak memory of a training step of an LSTM, each in a process of its own."""
    found: dict[str, Any] = {}
    for shape in (SHAPES[3], SHAPES[4]):
        word = ",".join(map(str, shape))
        found[word] = {who: apart.run("memory", who, word) for who in ("ours", "torch")}
    word = ",".join(map(str, apart.LONG))
    found[word] = {
        "ours": apart.run("memory", "ours", word),
        "checkpoint": apart.run("memory", "ours", word, "checkpoint"),
    }
    return found


def layers(threads: int, rounds: int, quick: bool) -> dict[str, Any]:
    """All layers that torch has, at all shapes."""
    torch.set_num_threads(threads)
    shapes = [SHAPES[0], SHAPES[-1]] if quick else SHAPES
    rows = [against_torch(n, s, rounds) for n in ("LSTM", "GRU", "RNN") for s in shapes]
    return {"threads": threads, "layers": rows, "packed": packed(rounds)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Our recurrent layers against their peers.")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="the two smallest shapes alone")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(0)
    result: dict[str, Any] = {
        "machine": f"{processor()}, {torch.get_num_threads()} cores, {platform.system()}, fp32",
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"steadygrad {sg.__version__} ({commit()})",
        "rounds": args.rounds,
        "against_torch": [layers(n, args.rounds, args.quick) for n in args.threads],
    }
    torch.set_num_threads(args.threads[0])
    result["cells"] = [against_loop(cell, args.rounds) for cell in cells()]
    result["first_call_s"] = apart.first_calls()
    result["growth"] = growth(args.rounds)
    result["memory"] = memory()
    result["stream"] = vars(measure(40, 300, 1, 32, 128))
    if args.json:
        print(json.dumps(result))
    else:
        print("\n".join(show.lines(result)))


if __name__ == "__main__":
    main()
