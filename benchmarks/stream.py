"""What one streamed step costs: `sg.Stream` against `torch.nn.LSTMCell`, in turn, in one process.

    python -m benchmarks.stream [--pairs 40] [--steps 300] [--batch 1] [--hidden 128] [--json]

A pair is a block of steps of each; the ratio is taken within the pair, so that a slower moment of
the machine touches both, and the median is over the pairs. The state is carried in both.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import nn

import steadygrad as sg


@dataclass(frozen=True)
class Result:
    """Microseconds of one step, medians over the pairs, and the ratio stream / cell."""

    cell_us: float
    stream_us: float
    ratio: float
    ratio_low: float
    ratio_high: float


def block(step: Callable[[], object], steps: int) -> float:
    """Seconds of one step, over ``steps`` of them."""
    began = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - began) / steps


@torch.no_grad()
def measure(pairs: int, steps: int, batch: int, inputs: int, hidden: int) -> Result:
    """Time both in turn; the first pair warms up and does not count."""
    torch.manual_seed(0)
    layer, cell = nn.LSTM(inputs, hidden), nn.LSTMCell(inputs, hidden)
    stream, x = sg.Stream(layer), torch.randn(batch, inputs)
    state = (torch.zeros(batch, hidden), torch.zeros(batch, hidden))

    def by_cell() -> None:
        nonlocal state
        state = cell(x, state)

    found = [
        (block(by_cell, steps), block(lambda: stream.push(x), steps)) for _ in range(pairs + 1)
    ][1:]
    ratios = sorted(ours / theirs for theirs, ours in found)
    return Result(
        statistics.median(theirs for theirs, _ in found) * 1e6,
        statistics.median(ours for _, ours in found) * 1e6,
        statistics.median(ratios),
        ratios[len(ratios) // 10],
        ratios[-1 - len(ratios) // 10],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="One streamed step against torch.nn.LSTMCell.")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--inputs", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = measure(options.pairs, options.steps, options.batch, options.inputs, options.hidden)
    if options.json:
        where = {"torch": torch.__version__, "machine": platform.processor()}
        print(json.dumps(vars(options) | where | asdict(found)))
        return
    print(
        f"B {options.batch}, I {options.inputs}, H {options.hidden}: LSTMCell {found.cell_us:.1f} "
        f"us, Stream {found.stream_us:.1f} us, ratio {found.ratio:.2f} "
        f"({found.ratio_low:.2f} to {found.ratio_high:.2f}, 10 % of pairs beyond each)"
    )


if __name__ == "__main__":
    main()
