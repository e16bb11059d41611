"""Check the Triton back end on a GPU, and time it there. It needs one CUDA device.

Run ``python -m benchmarks.gpu``; ``--only checks`` or ``--only times`` runs one half. In order:

1. the LSTM equals eager, and itself to the bit, over many repeats, at each size of blocks;
2. every cell, small, equals eager, with taps and clips;
3. errors against float64 of ieee float32 and bfloat16;
4. a gradient beyond 2^31 elements of saved values (``--large``);
5. time of a training step per time step against cuDNN, a loop in a CUDA graph and torch.compile, at
   T 1024, B 16, with the time of the first call, and memory.

It has not been run yet: nothing of it has been timed on a GPU.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad.cells import CELLS
from steadygrad.nn import Recurrent
from steadygrad.scan import BackendError, LoopClip
from steadygrad.scan.backends.triton import resources, tiles

SIZES = (64, 128, 256, 768)
STEPS, ROWS = 1024, 16


def gradients(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """The output, and the gradients of the input and of all weights."""
    x = x.detach().requires_grad_()
    output = layer(x)[0]
    weight = torch.linspace(-1, 1, output.numel(), device=x.device, dtype=x.dtype)
    loss = (output.flatten() * weight).sum()
    return [output.detach(), *torch.autograd.grad(loss, [x, *layer.parameters()])]


def worst(found: list[Tensor], wanted: list[Tensor]) -> float:
    """The largest difference of all tensors, each in terms of its largest value."""
    pairs = zip(found, wanted, strict=True)
    return max(
        ((a.double() - b.double()).abs().max() / b.double().abs().max().clamp_min(1e-30)).item()
        for a, b in pairs
    )


def check_repeats(repeats: int) -> Iterator[str]:
    """The same bits every time, at every candidate's size of blocks."""
    layer = Recurrent("lstm", 32, 100, device="cuda")
    x = torch.randn(64, 35, 32, device="cuda")
    layer.backend = "eager"
    wanted = gradients(layer, x)
    layer.backend = "triton"
    candidates = tiles.CANDIDATES
    for one in candidates:
        resources.CANDIDATES = (one,)  # type: ignore[attr-defined]
        resources.best_tiles.cache_clear()
        first = gradients(layer, x)
        same = all(
            torch.equal(a, b)
            for _ in range(repeats)
            for a, b in zip(gradients(layer, x), first, strict=True)
        )
        yield f"{one}: error {worst(first, wanted):.1e}, the same bits {repeats} times: {same}"
    resources.CANDIDATES = candidates  # type: ignore[attr-defined]
    resources.best_tiles.cache_clear()


def check_cells() -> Iterator[str]:
    """Every cell beside eager, by every kind of call."""
    clips = [None, LoopClip(0.1, "norm", "total"), LoopClip(0.1, "value", "recurrent")]
    clips += [LoopClip(0.1, "norm", "preactivation")]
    for name in sorted(CELLS):
        try:
            layer = Recurrent(name, 8, 24, device="cuda").eval()
        except (TypeError, ValueError) as error:
            yield f"{name}: left out, {error}"
            continue
        x = torch.randn(9, 35, 8, device="cuda")
        errors = []
        try:
            for clip in clips:
                layer.loop_clip = clip
                layer.on_tap = None if clip else lambda *_: None
                found = []
                for backend in ("triton", "eager"):
                    layer.backend = backend
                    found.append(gradients(layer, x))
                errors.append(worst(*found))
            yield f"{name}: " + " ".join(f"{error:.1e}" for error in errors)
        except BackendError as error:
            yield f"{name}: {error}"


def check_precision() -> Iterator[str]:
    """Errors against a float64 run of eager."""
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        layer = Recurrent("lstm", 32, 128, device="cuda", dtype=dtype)
        x = torch.randn(512, 16, 32, device="cuda", dtype=dtype)
        exact = Recurrent("lstm", 32, 128, device="cuda", dtype=torch.float64, backend="eager")
        exact.load_state_dict({k: v.double() for k, v in layer.state_dict().items()})
        wanted = gradients(exact, x.double())
        for backend in ("triton", "eager"):
            layer.backend = backend
            yield f"{dtype} {backend}: {worst(gradients(layer, x), wanted):.1e}"


def check_large() -> Iterator[str]:
    """Offsets beyond 32 bits: more than 2^31 saved values."""
    layer = Recurrent("lstm", 8, 128, device="cuda", backend="triton")
    x = torch.randn(1, 1, 8, device="cuda").expand(4200, 1024, 8).contiguous()
    output = layer(x)[0]
    spread = (output - output[:, :1]).abs().max().item()
    yield f"identical rows differ by {spread:.1e} at 4200 x 1024 x 128"


class GraphedLoop(nn.Module):
    """A loop over `nn.LSTMCell` or `nn.GRUCell`, in a CUDA graph of forward and backward."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """``(T, B, I)`` to ``(T, B, H)``."""
        state: Any = None
        outputs = []
        for part in x:
            state = self.cell(part, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return (torch.stack(outputs),)


def contenders(name: str, size: int, dtype: torch.dtype) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Layers to time, each made when its turn comes."""
    options: dict[str, Any] = {"device": "cuda", "dtype": dtype}
    kinds: dict[str, Any] = {"lstm": (nn.LSTM, nn.LSTMCell), "gru": (nn.GRU, nn.GRUCell)}
    yield "steadygrad", lambda: Recurrent(name, size, size, backend="triton", **options)
    if name not in kinds:
        return
    whole, cell = kinds[name]
    yield "cuDNN", lambda: whole(size, size, **options)

    def graphed() -> Any:
        x = torch.randn(STEPS, ROWS, size, **options, requires_grad=True)
        return torch.cuda.make_graphed_callables(GraphedLoop(cell(size, size, **options)), (x,))

    yield "CUDA graph", graphed
    # An unrolled chunk alone: torch.compile takes a minute for a few steps.
    yield (
        "torch.compile (16 steps)",
        lambda: torch.compile(GraphedLoop(cell(size, size, **options))),
    )


def seconds(layer: nn.Module, x: Tensor, repeats: int) -> tuple[float, float]:
    """Seconds of the first training step, and the median of those after."""
    taken = []
    for _ in range(repeats + 1):
        torch.cuda.synchronize()
        began = time.perf_counter()
        gradients(layer, x)
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return taken[0], sorted(taken[1:])[repeats // 2]


def times(repeats: int) -> Iterator[str]:
    """A training step of each contender."""
    yield f"{'cell':>14}{'H':>5}{'dtype':>16} {'layer':<26}{'us/step':>9}{'first s':>9}{'GB':>7}"
    for name in ("lstm", "gru", "gru-original"):
        for size in SIZES:
            for dtype in (torch.float32, torch.bfloat16):
                for label, make in contenders(name, size, dtype):
                    steps = 16 if "compile" in label else STEPS
                    x = torch.randn(steps, ROWS, size, device="cuda", dtype=dtype)
                    torch.cuda.reset_peak_memory_stats()
                    head = f"{name:>14}{size:>5}{str(dtype)[6:]:>16} {label:<26}"
                    try:
                        first, median = seconds(make(), x, repeats)
                    except (RuntimeError, BackendError) as error:
                        yield f"{head} {str(error).splitlines()[0]}"
                        continue
                    memory = torch.cuda.max_memory_allocated() / 1e9
                    yield f"{head}{median / steps * 1e6:>9.2f}{first:>9.1f}{memory:>7.2f}"


def main() -> None:
    """Print each result as it comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("checks", "times"))
    parser.add_argument("--large", action="store_true", help="also check 64-bit offsets")
    parser.add_argument("--repeats", type=int, default=100)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks.gpu needs a CUDA device; torch finds none")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, seed 0", flush=True)
    torch.manual_seed(0)
    parts: list[Iterator[str]] = []
    if options.only != "times":
        parts += [check_repeats(options.repeats), check_cells(), check_precision()]
        parts += [check_large()] if options.large else []
    if options.only != "checks":
        parts.append(times(max(3, options.repeats // 10)))
    for part in parts:
        for line in part:
            print(line, flush=True)


if __name__ == "__main__":
    main()
