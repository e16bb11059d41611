"""What watching costs: a training of a stock nn.LSTM with and without, in turn, in one process.

    python -m benchmarks.watch_overhead [--steps 200] [--pairs 5] [--threads 2] [--json]

A pair is a block of unwatched steps and a block of watched ones, each from the same weights; the
watch is made at the beginning of its block, so that its first measurement counts. The step traced
once per process (a cell's first replay) is paid before the pairs, and printed by itself.
"""

import argparse
import json
import platform
import statistics
import time

import torch
from torch import nn

import steadygrad as sg

STEPS, BATCH, INPUTS, HIDDEN = 200, 32, 32, 128


def block(steps: int, watched: bool) -> tuple[float, dict[str, float]]:
    """Seconds for a block of training steps, and what the watch did in it."""
    torch.manual_seed(0)
    model = nn.LSTM(INPUTS, HIDDEN)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    x, y = torch.randn(STEPS, BATCH, INPUTS), torch.randn(BATCH, HIDDEN)
    seen: dict[str, float] = {}
    began = time.perf_counter()
    watch = sg.watch(model, optimizer, lag=STEPS - 1) if watched else None
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x)[0][-1], y).backward()
        optimizer.step()
    seconds = time.perf_counter() - began
    if watch:
        seen = {"spent": watch.budget.spent, "horizon": float(watch.latest["horizon"])}
        watch.close()
    return seconds, seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200, help="training steps in a block")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    began = time.perf_counter()
    block(1, True)
    first = time.perf_counter() - began
    ratios, spent, plain = [], [], []
    for pair in range(args.pairs):
        # Which block comes first changes from pair to pair: a drift of the machine cancels.
        blocks = {w: block(args.steps, w) for w in ((False, True), (True, False))[pair % 2]}
        ratios.append(blocks[True][0] / blocks[False][0])
        plain.append(blocks[False][0] / args.steps)
        spent.append(blocks[True][1]["spent"] / blocks[True][0])
    result = {
        "shape": f"T {STEPS}, B {BATCH}, I {INPUTS}, H {HIDDEN}, {args.threads} threads",
        "steps_per_block": args.steps,
        "pairs": args.pairs,
        "watched_over_unwatched": {
            "median": statistics.median(ratios),
            "min": min(ratios),
            "max": max(ratios),
        },
        "share_of_time_spent_in_watch": statistics.median(spent),
        "unwatched_step_ms": 1e3 * statistics.median(plain),
        "first_step_of_a_process_s": first,
        "machine": f"{platform.machine()}, torch {torch.__version__}",
    }
    if args.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:<30} {value}")


if __name__ == "__main__":
    main()
