"""What it costs to follow Lyapunov exponents in training: compiled backward passes against eager.

    python -m benchmarks.live_exponents [--pairs 9] [--every 10] [--rows 8,4,2] [--json]

A look at the k leading exponents, beside one training step of the same layer on the same batch, in
turn, in one process; CPU time of one thread, medians. ``eager`` runs the layer step by step in
float64 and pushes the directions forward; ``compiled`` is `steadygrad.flow.LiveExponents`. Before
a time is printed, its exponents must agree with those of transposed step Jacobians, formed in
float64, to 1e-5.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

import steadygrad as sg
from steadygrad.flow import (
    LiveExponents,
    LyapunovChain,
    advance,
    linearise,
    lyapunov_of_jacobians,
)
from steadygrad.flow.capture import Call

STEPS, BATCH, INPUTS, HIDDEN, K = 100, 16, 128, 128, 4
LAYERS = {
    "nn.LSTM": lambda: nn.LSTM(INPUTS, HIDDEN),
    "nn.GRU": lambda: nn.GRU(INPUTS, HIDDEN),
    "nn.RNN": lambda: nn.RNN(INPUTS, HIDDEN),
    "sg.LSTM": lambda: sg.LSTM(INPUTS, HIDDEN),
    "lem": lambda: sg.Recurrent("lem", INPUTS, HIDDEN),
}


@dataclass(frozen=True)
class Cost:
    """Of one layer; milliseconds of CPU time."""

    layer: str
    rows: int
    step: float
    eager: float
    compiled: float
    difference: float  # from transposed Jacobians, largest of all exponents


def cost(name: str, rows: int, pairs: int) -> Cost:
    """Time a training step, and both looks."""
    torch.manual_seed(0)
    layer: Any = LAYERS[name]()
    x, y = torch.randn(STEPS, BATCH, INPUTS), torch.randn(BATCH, HIDDEN)
    optimizer = torch.optim.Adam(layer.parameters(), 1e-3)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.mse_loss(layer(x)[0][-1], y).backward()
        optimizer.step()

    output, last = layer(x)
    states = tuple(s.detach() for s in (last if isinstance(last, tuple) else (last,)))
    call = Call(name, layer, x, (), output.detach(), states)
    live = LiveExponents(K, rows)
    difference = float((live.measure(call)[0] - oracle(layer, x[:, :rows])).abs().max())
    if difference > 1e-5:
        raise SystemExit(f"{name}: exponents differ by {difference:.1e} from transposed Jacobians")
    chain = LyapunovChain(K)

    @torch.no_grad()
    def eager() -> None:
        chain.restart()
        advance(chain, linearise(layer, x[:, :rows]))

    plain, stepped, compiled = in_turn([step, eager, lambda: live.measure(call)], pairs)
    return Cost(name, rows, plain, stepped, compiled, difference)


@torch.no_grad()
def oracle(layer: nn.Module, x: Tensor) -> Tensor:
    """The same exponents, from Jacobians."""
    linear = linearise(layer, x)
    steps = reversed(list(linear.steps()))
    return lyapunov_of_jacobians((linear.jacobian(r).dense(x.shape[1]).mT for r in steps), k=K)


def in_turn(what: list[Callable[[], object]], pairs: int) -> list[float]:
    """Medians, in milliseconds."""
    seconds: list[list[float]] = [[] for _ in what]
    for turn in range(pairs + 1):
        for one, kept in zip(what, seconds, strict=True):
            began = time.process_time()
            one()
            if turn:  # the first is a warm-up
                kept.append(time.process_time() - began)
    return [1e3 * statistics.median(kept) for kept in seconds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--every", type=int, default=10, help="training steps from look to look")
    parser.add_argument("--rows", default="8,4,2", help="sequences looked at")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if not args.json:
        print(f"T {STEPS}, B {BATCH}, I {INPUTS}, H {HIDDEN}, k {K}; torch {torch.__version__}")
        print(
            f"cost: of a look at every {args.every}th training step, as a share of the training\n"
        )
        print("layer    rows  step ms  eager ms  compiled ms  cost eager  compiled  difference")
    found = []
    for name in LAYERS:
        for rows in map(int, args.rows.split(",")):
            found.append(c := cost(name, rows, args.pairs))
            shares = [f"{t / c.step / args.every:.1%}" for t in (c.eager, c.compiled)]
            if not args.json:
                print(
                    f"{name:<8} {rows:>4} {c.step:>8.1f} {c.eager:>9.1f} {c.compiled:>12.1f} "
                    f"{shares[0]:>11} {shares[1]:>9}  {c.difference:.0e}",
                    flush=True,
                )
    if args.json:
        print(json.dumps([asdict(c) for c in found]))


if __name__ == "__main__":
    main()
