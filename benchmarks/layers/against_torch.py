"""The layers that torch has: training step, forward, taps, clips, and the share of the floor."""

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import steadygrad as sg
from benchmarks.layers.timing import pairs, timed
from steadygrad.scan import LoopClip

SHAPES = [
    (100, 1, 32, 64),
    (100, 16, 128, 128),
    (100, 16, 256, 256),
    (50, 64, 256, 256),
    (784, 64, 1, 128),
    (200, 8, 8, 32),
]


def trained(layer: nn.Module, x: Tensor) -> Callable[[], None]:
    """Forward and backward, with the gradients of input, weights and biases."""
    grad = torch.randn_like(layer(x)[0])
    return lambda: layer(x)[0].backward(grad)


def free(layer: nn.Module, x: Tensor) -> Callable[[], None]:
    """Forward without gradient."""

    @torch.no_grad()
    def run() -> None:
        layer(x)

    return run


def against_torch(name: str, shape: tuple[int, int, int, int], rounds: int) -> dict[str, Any]:
    """One layer at one shape."""
    steps, batch, inputs, hidden = shape
    ours, theirs = getattr(sg, name)(inputs, hidden), getattr(nn, name)(inputs, hidden)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(steps, batch, inputs, requires_grad=True)
    repeat = 5 if steps * batch * hidden < 1e5 else 1
    train = pairs(trained(ours, x), trained(theirs, x), rounds, repeat)
    forward = pairs(free(ours, x), free(theirs, x), rounds, repeat)
    seconds, speed = floor(shape, len(ours.cell.gates), rounds)
    return {
        "layer": name,
        "shape": shape,
        "train": train,
        "forward": forward,
        "floor": 1e3 * seconds / train["ours_ms"],
        "gflops": speed * 1e3 * seconds / train["ours_ms"],
        "taps": observed(ours, x, rounds, lambda *_: None, None),
        "clip_value": observed(ours, x, rounds, None, LoopClip(1.0, "value")),
        "clip_norm": observed(ours, x, rounds, None, LoopClip(1.0, "norm")),
    }


def observed(
    layer: sg.Recurrent, x: Tensor, rounds: int, on_tap: Any, clip: LoopClip | None
) -> dict[str, float]:
    """With taps or a clip inside the backward loop, against without.

    The very same layer: a copy of it, its weights elsewhere in memory, differs by a percent. Where
    a step is short there are as many pairs as a second has room for, since a hundredth is sought.
    """
    run, options = trained(layer, x), vars(layer)

    def with_options(on_tap: Any, clip: LoopClip | None) -> None:
        options["on_tap"], options["loop_clip"] = on_tap, clip
        run()

    enough = max(2 * rounds + 1, int(0.5 / (timed(run) + timed(run))))
    found = pairs(lambda: with_options(on_tap, clip), lambda: with_options(None, None), enough)
    options["on_tap"] = options["loop_clip"] = None
    return found


def floor(shape: tuple[int, int, int, int], gates: int, rounds: int) -> tuple[float, float]:
    """Seconds of the matrix products of a training step alone, and their 1e9 operations a second.

    Over all time steps at once, each by the fastest way that torch has: MKL or oneDNN.
    """
    steps, batch, inputs, hidden = shape
    x, h = torch.randn(steps * batch, inputs), torch.randn(steps * batch, hidden)
    w, r = torch.randn(gates * hidden, inputs), torch.randn(gates * hidden, hidden)
    d = torch.randn(steps * batch, gates * hidden)
    products = [(x, w.t()), (h, r.t()), (d, r), (d, w), (d.t(), x), (d.t(), h)]
    seconds = sum(_fastest(a, b, rounds) for a, b in products)
    return seconds, sum(2e-9 * a.shape[0] * a.shape[1] * b.shape[1] for a, b in products) / seconds


def _fastest(a: Tensor, b: Tensor, rounds: int) -> float:
    ways: list[Callable[[], object]] = [lambda: a @ b]
    linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if linear is not None and torch.backends.mkldnn.is_available():
        ways.append(lambda: linear(a, b.t(), None, "none", [], ""))
    found = []
    for way in ways:
        way()
        found.append(statistics.median(timed(way) for _ in range(rounds)))
    return min(found)


def packed(rounds: int) -> dict[str, float]:
    """An LSTM over 32 sequences with lengths drawn from 10 to 100, packed."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(10, 101, (32,), generator=generator)
    rows = [torch.randn(int(n), 128) for n in lengths]
    given = nn.utils.rnn.pack_sequence(rows, enforce_sorted=False)
    ours, theirs = sg.LSTM(128, 128), nn.LSTM(128, 128)

    def run(layer: nn.Module) -> Callable[[], None]:
        return lambda: layer(given)[0].data.sum().backward()

    return pairs(run(ours), run(theirs), rounds)
