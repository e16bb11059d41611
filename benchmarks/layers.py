"""Our recurrent layers against torch's, and cells that torch does not have against a Python loop.

    python -m benchmarks.layers [--threads 2] [--rounds 9] [--quick] [--json]

Everything in one process, ours and the peer in turn, the ratio taken pair by pair: a machine whose
speed drifts slows both. Forward is without gradient; training is forward and backward with the
gradients of input, weights and biases. Shares of the floor: time of the matrix products alone,
at the speed at which torch multiplies them over all time steps at once, over our time.
"""

import argparse
import json
import math
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import steadygrad as sg
from steadygrad.cells import CELLS, Named

SHAPES = [
    (100, 1, 32, 64),
    (100, 16, 128, 128),
    (100, 16, 256, 256),
    (50, 64, 256, 256),
    (784, 64, 1, 128),
    (200, 8, 8, 32),
]


def timed(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def pairs(ours: Callable[[], object], peer: Callable[[], object], rounds: int) -> dict[str, float]:
    """Medians of both, and of the ratio pair by pair with its quartiles."""
    ours(), peer()
    a, b = zip(*[(timed(ours), timed(peer)) for _ in range(rounds)], strict=True)
    ratios = sorted(x / y for x, y in zip(a, b, strict=True))
    return {
        "ours_ms": 1e3 * statistics.median(a),
        "peer_ms": 1e3 * statistics.median(b),
        "ratio": statistics.median(ratios),
        "low": ratios[len(ratios) // 4],
        "high": ratios[-1 - len(ratios) // 4],
    }


def trained(layer: nn.Module, x: Tensor) -> Callable[[], None]:
    out = layer(x)[0]
    grad = torch.randn_like(out)

    def run() -> None:
        layer(x)[0].backward(grad)

    return run


def free(layer: nn.Module, x: Tensor) -> Callable[[], None]:
    @torch.no_grad()
    def run() -> None:
        layer(x)

    return run


class Loop(nn.Module):
    """A cell as a Python loop under autograd, the way a custom cell is usually written."""

    def __init__(self, layer: sg.Recurrent) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        cell, w = self.layer.cell, self.layer.weights(0)
        size = self.layer.hidden_size
        state = tuple(x.new_zeros(x.shape[1], size) for _ in cell.states)
        assert w.bias_hh is not None
        blocks = dict(
            zip(
                cell.recurrent,
                zip(w.weight_hh.split(size), w.bias_hh.split(size), strict=True),
                strict=True,
            )
        )
        recur = {
            g: (lambda v, m=m, b=b: nn.functional.linear(v, m, b)) for g, (m, b) in blocks.items()
        }
        unit = Named("unit", dict(zip(cell.per_unit, w.per_unit, strict=True)))
        outputs = []
        for x_t in nn.functional.linear(x, w.weight_ih, w.bias_ih):
            gates = dict(zip(cell.gates, x_t.split(size, 1), strict=True))
            state = cell.step(Named("gate", gates), Named("product", recur), state, unit)
            outputs.append(state[0])
        return torch.stack(outputs), state


def floor(shape: tuple[int, int, int, int], gates: int, rounds: int) -> float:
    """Seconds of the matrix products of a training step, done over all time steps at once."""
    steps, batch, inputs, hidden = shape
    x, h = torch.randn(steps * batch, inputs), torch.randn(steps * batch, hidden)
    w, r = torch.randn(gates * hidden, inputs), torch.randn(gates * hidden, hidden)
    d = torch.randn(steps * batch, gates * hidden)

    def products() -> None:
        _ = x @ w.t(), h @ r.t(), d @ r, d @ w, d.t() @ x, d.t() @ h

    products()
    return statistics.median(timed(products) for _ in range(rounds))


def against_torch(name: str, rounds: int, shapes: list[Any]) -> list[dict[str, Any]]:
    rows = []
    for shape in shapes:
        steps, batch, inputs, hidden = shape
        ours, theirs = getattr(sg, name)(inputs, hidden), getattr(nn, name)(inputs, hidden)
        theirs.load_state_dict(ours.state_dict())
        x = torch.randn(steps, batch, inputs, requires_grad=True)
        train = pairs(trained(ours, x), trained(theirs, x), rounds)
        share = 1e3 * floor(shape, len(ours.cell.gates), rounds) / train["ours_ms"]
        rows.append(
            {
                "layer": name,
                "shape": shape,
                "train": train,
                "forward": pairs(free(ours, x), free(theirs, x), rounds),
                "share_of_floor": share,
                "taps": taps(ours, x, rounds),
            }
        )
    return rows


def taps(layer: sg.Recurrent, x: Tensor, rounds: int) -> dict[str, float]:
    """With taps against without, the same layer."""
    run = trained(layer, x)

    def with_taps() -> None:
        layer.on_tap = lambda *_: None
        run()
        layer.on_tap = None

    return pairs(with_taps, run, rounds)


def packed(rounds: int) -> dict[str, float]:
    """An LSTM over lengths drawn from 10 to 100, packed."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(10, 101, (32,), generator=generator)
    rows = [torch.randn(int(n), 128) for n in lengths]
    given = nn.utils.rnn.pack_sequence(rows, enforce_sorted=False)
    ours, theirs = sg.LSTM(128, 128), nn.LSTM(128, 128)

    def run(layer: nn.Module) -> Callable[[], None]:
        return lambda: layer(given)[0].data.sum().backward()

    return pairs(run(ours), run(theirs), rounds)


def against_loop(rounds: int) -> list[dict[str, Any]]:
    rows = []
    for name in CELLS:
        layer = sg.Recurrent(name, 128, 128)
        x = torch.randn(100, 16, 128, requires_grad=True)
        rows.append({"cell": name, **pairs(trained(layer, x), trained(Loop(layer), x), rounds)})
    return rows


def mean(values: list[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="the two smallest shapes alone")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    shapes = [SHAPES[0], SHAPES[-1]] if args.quick else SHAPES
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    result: dict[str, Any] = {
        "machine": f"{platform.machine()}, {args.threads} threads, fp32",
        "versions": f"torch {torch.__version__}, steadygrad {sg.__version__} ({commit})",
        "rounds": args.rounds,
        "layers": [
            r for n in ("LSTM", "GRU", "RNN") for r in against_torch(n, args.rounds, shapes)
        ],
        "packed": packed(args.rounds),
        "loop": against_loop(args.rounds),
    }
    if args.json:
        print(json.dumps(result))
        return
    show(result)


def show(result: dict[str, Any]) -> None:
    for name in ("machine", "versions"):
        print(result[name])
    print(
        f"ratio ours / peer, median of {result['rounds']} pairs (quartiles); "
        "below 1 we are faster\n"
    )
    print(f"{'layer':<6}{'T, B, I, H':<22}{'train':>18}{'forward':>9}{'taps':>7}{'floor':>8}")
    for row in result["layers"]:
        t = row["train"]
        shape = ", ".join(map(str, row["shape"]))
        print(
            f"{row['layer']:<6}{shape:<22}{t['ratio']:>6.2f} ({t['low']:.2f}-{t['high']:.2f})"
            f"{row['forward']['ratio']:>9.2f}{row['taps']['ratio']:>7.2f}"
            f"{row['share_of_floor']:>8.0%}"
        )
    for name in ("LSTM", "GRU", "RNN"):
        rows = [r for r in result["layers"] if r["layer"] == name]
        print(
            f"{name}: geometric mean train {mean([r['train']['ratio'] for r in rows]):.2f}, "
            f"forward {mean([r['forward']['ratio'] for r in rows]):.2f}"
        )
    print(f"packed LSTM, lengths 10 to 100: {result['packed']['ratio']:.2f} of nn.LSTM")
    print("\nagainst the same cell as a Python loop under autograd, T 100, B 16, I = H = 128")
    for row in result["loop"]:
        print(
            f"{row['cell']:<14}{row['ratio']:>6.3f}"
            f"  ({row['ours_ms']:.1f} / {row['peer_ms']:.1f} ms)"
        )


if __name__ == "__main__":
    main()
