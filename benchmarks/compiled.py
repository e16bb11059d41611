"""A training step under `torch.compile`, beside the same step without it and torch's layer.

    python -m benchmarks.compiled [--json]

The model is a linear layer, a recurrent layer and a linear layer, trained by Adam on random
numbers; ours is compiled with ``fullgraph=True``. torch refuses to compile its own recurrent layers
unless ``torch._dynamo.config.allow_rnn`` is set, and unrolls their steps then: its best is the
faster of both ways, the second tried up to 20 steps. Times are CPU time on one thread; two ways
take turns, and ratios are medians of the pairs, with quartiles. Compilation, told apart, is not
part of them.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

import steadygrad as sg

TURNS = 21
SIZES = ((20, 32, 64), (100, 16, 64), (50, 32, 256))
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "lengths": {},
    "truncate": {"truncate": 10},
    "checkpoint": {"checkpoint": True},
}


class Model(nn.Module):
    """Linear, recurrent, linear."""

    def __init__(self, kind: type, size: int, **options: Any) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(16, size), nn.Linear(size, 4)
        self.layer = kind(size, size, **options)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        given = {} if lengths is None else {"lengths": lengths}
        return self.leave(self.layer(self.enter(x), **given)[0])


@dataclass(frozen=True)
class Found:
    """One size and one way to call.

    Attributes:
        compile_s: Seconds that the first step took.
        to_plain: Time of a compiled step over that of a plain one: low, median, high.
        to_torch: Time of a compiled step over that of torch's layer, in its faster way.
    """

    way: str
    steps: int
    rows: int
    size: int
    compile_s: float
    to_plain: tuple[float, float, float]
    to_torch: tuple[float, float, float] | None


def step(model: Any, x: Tensor, lengths: Tensor | None) -> Callable[[], None]:
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def run() -> None:
        optimizer.zero_grad()
        (model(x) if lengths is None else model(x, lengths)).square().mean().backward()
        optimizer.step()

    return run


def ratio(one: Callable[[], None], other: Callable[[], None]) -> tuple[float, float, float]:
    """Median with quartiles of the CPU time of one over that of the other."""
    found: list[float] = []
    for turn in range(TURNS + 2):
        spent: dict[bool, float] = {}
        for first in (True, False) if turn % 2 else (False, True):
            began = time.process_time()
            (one if first else other)()
            spent[first] = time.process_time() - began
        if turn > 1:
            found.append(spent[True] / spent[False])
    found.sort()
    return tuple(round(found[i], 2) for i in (TURNS // 4, TURNS // 2, TURNS - 1 - TURNS // 4))  # type: ignore[return-value]


def found(way: str, steps: int, rows: int, size: int) -> Found:
    torch.manual_seed(0)
    torch._dynamo.reset()
    x = torch.randn(steps, rows, 16)
    lengths = torch.randint(steps // 2, steps + 1, (rows,)) if way == "lengths" else None
    model = Model(sg.LSTM, size, **WAYS[way])
    plain, compiled = (
        step(model, x, lengths),
        step(torch.compile(model, fullgraph=True), x, lengths),
    )
    began = time.process_time()
    compiled()
    spent = time.process_time() - began
    peer = None
    if way == "plain":
        own = Model(nn.LSTM, size)
        best = step(own, x, None)
        if steps <= 20:  # unrolled, longer ones compile for minutes
            with torch._dynamo.config.patch(allow_rnn=True):
                unrolled = step(torch.compile(own), x, None)
                unrolled()
                best = unrolled if ratio(unrolled, best)[1] < 1 else best
        peer = ratio(compiled, best)
    return Found(way, steps, rows, size, round(spent, 1), ratio(compiled, plain), peer)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    table: list[Found] = []
    for way in WAYS:
        for sizes in SIZES:
            table.append(found(way, *sizes))
            if not args.json:
                print(table[-1], flush=True)
    if args.json:
        print(json.dumps([asdict(one) for one in table], indent=2))


if __name__ == "__main__":
    main()
