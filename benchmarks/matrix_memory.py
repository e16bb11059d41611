"""Layers with a matrix as state: the chunked form against the loop over time.

    python -m benchmarks.matrix_memory [--pairs 7] [--batch 4] [--heads 4] [--size 32]

One training step (forward and backward pass) of each form, in turn, in one process and on one
thread. Times are processor time; the ratio is taken within the pair, and the median and the
quartiles are over the pairs. The last column is the largest difference of the outputs over that of
the loop from the same in float64: below 1 the chunked form is the more exact one.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from steadygrad.nn import GLA, MLSTM, RWKV7, DeltaNet, GatedDeltaNet

KINDS: dict[str, Callable[..., Any]] = {
    "GLA": GLA,
    "DeltaNet": DeltaNet,
    "GatedDeltaNet": GatedDeltaNet,
    "RWKV7": RWKV7,
    "MLSTM": MLSTM,
}
LOOP = "recurrent"
STEPS = (16, 64, 256, 1024)


def seconds(layer: Any, x: Tensor) -> float:
    """Processor time of one training step."""
    began = time.process_time()
    layer(x)[0].square().mean().backward()
    return time.process_time() - began


def row(name: str, steps: int, pairs: int, batch: int, heads: int, size: int) -> str:
    """One line of the table."""
    torch.manual_seed(0)
    width = heads * size
    fast, x = KINDS[name](width, width, heads), torch.randn(steps, batch, width)
    chunked = fast.form
    found: list[tuple[float, float]] = []
    for _ in range(pairs + 1):
        taken: list[float] = []
        for form in (chunked, LOOP):
            fast.form = form
            taken.append(seconds(fast, x))
        found.append((taken[0], taken[1]))
    found = found[1:]  # the first warms up
    ratios = sorted(ours / loop for ours, loop in found)
    low, _, high = statistics.quantiles(ratios, n=4)
    outputs: list[Tensor] = []
    with torch.no_grad():
        for form in (chunked, LOOP):
            fast.form = form
            outputs.append(fast(x)[0].double())
        exact = fast.double()(x.double())[0]
    ours, loop = (float((output - exact).abs().max()) for output in outputs)
    own, other = (statistics.median(times) / steps * 1e6 for times in zip(*found, strict=True))
    return (
        f"{name:14} {steps:5} {other:10.1f} {own:10.1f}   "
        f"{statistics.median(ratios):5.2f} ({low:.2f}-{high:.2f}) {ours / loop:9.2f}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--size", type=int, default=32)
    options = parser.parse_args()
    torch.set_num_threads(1)
    given = " ".join(f"--{name} {value}" for name, value in vars(options).items())
    print("python -m benchmarks.matrix_memory", given)
    machine = platform.processor() or platform.machine()
    print(f"{machine}, 1 thread, torch {torch.__version__}, float32")
    print(f"{'layer':14} {'T':>5} {'loop':>10} {'chunked':>10}   ratio (quartiles)    error")
    print(f"{'':20} {'us a step':>10} {'us a step':>10}")
    for name in KINDS:
        for steps in STEPS:
            size = options.batch, options.heads, options.size
            print(row(name, steps, options.pairs, *size), flush=True)


if __name__ == "__main__":
    main()
