"""Every cell as an ONNX file: how exact, how free in its sizes, and how fast beside ours.

    python -m benchmarks.onnx_parity [CELL ...] [--size 64] [--json]

For each cell a layer is exported with its states as inputs and outputs. The file then runs in ONNX
Runtime, on one thread, at a number of time steps and of rows that it was not exported with:

- ``error``: the largest difference from the layer, over the whole sequence and the last states,
  relative to the largest value where that is above one, as the export checks it;
- ``streamed``: the same of the sequence in three pieces, the state handed on;
- ``exact``: that of ONNX Runtime, and that of the layer, each from the layer run in float64;
- ``time``: CPU time of ONNX Runtime over ours, the median of pairs of calls, with quartiles.

What a cell's export refuses is printed with the reason.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import steadygrad as sg
from steadygrad.cells import CELLS
from steadygrad.deploy.explicit import largest_error
from steadygrad.errors import InputError

STEPS, ROWS, INPUTS = 48, 8, 16
PIECES = (20, 1, 27)
TURNS, REPEATS = 15, 5


@dataclass(frozen=True)
class Found:
    """One cell.

    Attributes:
        nodes: What the file is made of.
        error: Of the whole sequence.
        streamed: Of the sequence in pieces.
        runtime: Of ONNX Runtime, from the layer in float64.
        layer: Of the layer in float32, from itself in float64.
        time: ``ratio``, ``low`` and ``high`` of ONNX Runtime's time over ours.
        refused: Why there is no file, or empty.
    """

    cell: str
    nodes: dict[str, int] = field(default_factory=dict)
    error: float = 0.0
    streamed: float = 0.0
    runtime: float = 0.0
    layer: float = 0.0
    time: dict[str, float] = field(default_factory=dict)
    refused: str = ""


def _ratio(one: Callable[[], object], other: Callable[[], object]) -> dict[str, float]:
    """CPU time of one over that of the other, in turn: median and quartiles."""
    ratios: list[float] = []
    for turn in range(TURNS + 2):
        spent: list[float] = []
        for run in (one, other)[:: 1 if turn % 2 else -1]:
            began = time.process_time()
            for _ in range(REPEATS):
                run()
            spent.append(time.process_time() - began)
        a, b = spent[:: 1 if turn % 2 else -1]
        if turn > 1:  # the first ones warm up
            ratios.append(a / b)
    ratios.sort()
    middle = {"ratio": ratios[TURNS // 2], "low": ratios[TURNS // 4]}
    return {n: round(v, 2) for n, v in (middle | {"high": ratios[-1 - TURNS // 4]}).items()}


def found(cell: str, size: int, folder: Path) -> Found:
    import onnxruntime

    torch.manual_seed(0)
    layer = sg.Recurrent(cell, INPUTS, size).eval()
    try:
        done = sg.deploy.export(layer, folder / "layer.onnx", states=True)
    except (InputError, ValueError) as error:
        return Found(cell, refused=str(error).splitlines()[0])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(done.path, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def run(x: Tensor, *states: Tensor) -> list[Tensor]:
        given = dict(zip(names, (v.numpy() for v in (x, *states)), strict=True))
        return [torch.from_numpy(v) for v in session.run(None, given)]

    x = torch.randn(STEPS, ROWS, INPUTS)
    start = [torch.randn(1, ROWS, size) * 0.5 for _ in layer.cell.states]
    hx: Any = tuple(start) if len(start) > 1 else start[0]
    with torch.no_grad():
        output, last = layer(x, hx)
        expected = [output, *(last if isinstance(last, tuple) else (last,))]
        whole, states = run(x, *start), list(start)
        pieces: list[Tensor] = []
        for piece in x.split(PIECES):
            out, *states = run(piece, *states)
            pieces.append(out)
        streamed = [torch.cat(pieces), *states]
        given = dict(zip(names, (v.numpy() for v in (x, *start)), strict=True))
        ratio = _ratio(lambda: session.run(None, given), lambda: layer(x, hx))
        wide = [value.double() for value in start]
        output, last = layer.double()(x.double(), tuple(wide) if len(wide) > 1 else wide[0])
        exact = [output, *(last if isinstance(last, tuple) else (last,))]
    return Found(
        cell,
        dict(done.nodes),
        largest_error(whole, expected),
        largest_error(streamed, expected),
        largest_error(whole, exact),
        largest_error(expected, exact),
        ratio,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cells", nargs="*", metavar="CELL", help="all if none is given")
    parser.add_argument("--size", type=int, default=64, help="hidden units")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    table: list[Found] = []
    with tempfile.TemporaryDirectory() as folder:
        for cell in args.cells or sorted(CELLS):
            one = found(cell, args.size, Path(folder))
            table.append(one)
            if args.json:
                continue
            if one.refused:
                print(f"{cell:24s} refused: {one.refused}", flush=True)
                continue
            print(
                f"{cell:24s} {'+'.join(one.nodes):12s} error {one.error:.0e}  streamed "
                f"{one.streamed:.0e}  exact {one.runtime:.0e} and {one.layer:.0e}  "
                f"time {one.time['ratio']:6.2f} "
                f"({one.time['low']:.2f} to {one.time['high']:.2f})",
                flush=True,
            )
    if args.json:
        print(json.dumps([asdict(one) for one in table], indent=2))


if __name__ == "__main__":
    main()
