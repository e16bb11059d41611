"""What watching costs: a training with and without, step by step in turn, in one process.

    python -m benchmarks.watch_overhead [--seconds 20] [--threads 1] [--json]

Two trainings from the same weights take turns, step for step, and which goes first changes, so that
whatever else the machine does hits both. Times are CPU time of the process: with one thread, the
default, that is what the step itself took. The watch is the default one, ``sg.watch(model,
optimizer, lag=...)``, from its first step on. Three numbers for each shape:

- ``every step``: median over all pairs of watched over unwatched, without the steps at which a look
  was taken: what each step pays for its norm, and for what is kept in case it breaks.
- ``a look``: what the steps with a look took more, in milliseconds (median).
- ``repaid in``: steps of training until one look has cost no more than the budget of 2 %; the next
  one is taken then, or later if every step has already used up a part of the budget.
"""

import argparse
import json
import math
import platform
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

import steadygrad as sg
from steadygrad.diagnosis.budget import LOOK

BUDGET = 0.02
LEAST = 20  # pairs
SHAPES = (
    (100, 16, 128, 128),
    (100, 16, 256, 256),
    (50, 64, 256, 256),
    (200, 32, 32, 128),
    (784, 64, 1, 128),
    (200, 8, 8, 32),
)
LAYERS = {"nn.LSTM": nn.LSTM, "sg.LSTM": sg.LSTM}


@dataclass(frozen=True)
class Cost:
    """Of one layer and shape."""

    layer: str
    shape: tuple[int, ...]
    pairs: int
    step_ms: float
    every_step: float  # 0.01 for one per cent
    quartiles: tuple[float, float]
    look_ms: float
    looks: int

    @property
    def repaid_in(self) -> int:
        """Steps."""
        return math.ceil(self.look_ms / (BUDGET * self.step_ms))


class LastStep(nn.Module):
    """A recurrent layer, and a linear head on its last output.

    Args:
        layer: Class of the recurrent layer.
        inputs: Features.
        hidden: Units.
    """

    def __init__(self, layer: Any, inputs: int, hidden: int) -> None:
        super().__init__()
        self.recurrent, self.head = layer(inputs, hidden), nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.recurrent(x)[0][-1])


class Training:
    """A last-step regression on one batch.

    Args:
        layer: Class of the recurrent layer.
        shape: T, B, I, H.
        watched: Whether to watch.
    """

    def __init__(self, layer: Any, shape: tuple[int, ...], watched: bool) -> None:
        steps, batch, inputs, hidden = shape
        torch.manual_seed(0)
        self.model = LastStep(layer, inputs, hidden)
        self.optimizer = torch.optim.Adam(self.model.parameters(), 1e-3)
        self.x, self.y = torch.randn(steps, batch, inputs), torch.randn(batch, 1)
        self.seconds: list[float] = []
        # The clock of the budget also runs while the other one trains.
        options: dict[str, Any] = {"lag": steps - 1, "budget": BUDGET / 2}
        self.watch = sg.watch(self.model, self.optimizer, **options) if watched else None

    @property
    def looking(self) -> float:
        """Seconds spent on looks."""
        return 0.0 if self.watch is None else self.watch.budget.spent_on(LOOK)

    def step(self) -> None:
        """One step of training, timed."""
        began = time.process_time()
        self.optimizer.zero_grad()
        nn.functional.mse_loss(self.model(self.x), self.y).backward()
        self.optimizer.step()
        self.seconds.append(time.process_time() - began)


def cost(name: str, shape: tuple[int, ...], seconds: float) -> Cost:
    """Train both for so many seconds together."""
    Training(LAYERS[name], shape, watched=True).step()  # what a shape costs once is nobody's
    plain, watched = (Training(LAYERS[name], shape, w) for w in (False, True))
    ratios: list[float] = []
    looks: list[float] = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds or len(ratios) < LEAST:
        before = watched.looking
        for training in (plain, watched) if len(plain.seconds) % 2 else (watched, plain):
            training.step()
        if watched.looking > before:
            looks.append(watched.seconds[-1] - plain.seconds[-1])
        else:
            ratios.append(watched.seconds[-1] / plain.seconds[-1])
    low, middle, high = statistics.quantiles(ratios, n=4)
    return Cost(
        name,
        shape,
        len(plain.seconds),
        1e3 * statistics.median(plain.seconds),
        middle - 1,
        (low - 1, high - 1),
        1e3 * statistics.median(looks),
        len(looks),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each layer and shape")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    began = time.perf_counter()
    for layer in LAYERS.values():
        Training(layer, SHAPES[-1], watched=True).step()
    first = time.perf_counter() - began
    machine = f"{platform.machine()}, torch {torch.__version__}, {args.threads} threads"
    if not args.json:
        print(f"{machine}; a budget of {BUDGET:.0%}; first steps of the process {first:.1f} s\n")
        print("layer    T,B,I,H          step ms  every step (quartiles)   a look ms  repaid in")
    found = []
    for name in LAYERS:
        for shape in SHAPES:
            found.append(cost(name, shape, args.seconds))
            if not args.json:
                print(_line(found[-1]), flush=True)
    if args.json:
        print(json.dumps({"machine": machine, "first_s": first, "costs": [*map(asdict, found)]}))


def _line(c: Cost) -> str:
    low, high = c.quartiles
    return (
        f"{c.layer:<8} {','.join(map(str, c.shape)):<16} {c.step_ms:7.2f}  {c.every_step:+10.2%} "
        f"({low:+.1%}, {high:+.1%})  {c.look_ms:9.0f}  {c.repaid_in} steps"
    )


if __name__ == "__main__":
    main()
