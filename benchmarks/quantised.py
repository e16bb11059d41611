"""Quantised LSTMs on characters of Penn Treebank: figure and table of Hou et al., in small.

    STEADYGRAD_DATA=DIR python -m benchmarks.quantised [--steps 800] [--only METHOD/NORM ...]
    STEADYGRAD_DATA=DIR python -m benchmarks.quantised --draw docs/quantised_gradient.svg

The first trains every row of the table on a subset: the first 2,000,000 characters of the training
text, 128 units instead of 512, bptt 50 instead of 100, batch 64, Adam 0.002, clipped to norm 5,
state carried over, a fixed number of steps; tested on the first 200,000 characters of the test
text. What can be compared with the published table is the order. The second draws the gradient at
every time step at initialisation (512 units, 100 steps, loss at every step as in training), and
prints that of a loss at the last step alone beside it.
"""

import argparse
import json
import lzma
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steadygrad.nn import QuantisedLSTM
from steadygrad.report import Line, Plot, lines

HIDDEN, STEPS, BATCH = 128, 50, 64
TRAIN, TEST = 2_000_000, 200_000

# method, norm, published bits per character and KB on PTB (512 units; the poster's table)
ROWS = [
    ("full", "none", 1.45, 4504),
    ("full", "weight", 1.45, 4520),
    ("full", "layer", 1.43, 4536),
    ("full", "batch-shared", 1.45, 4568),
    ("full", "batch-separate", 1.45, 7736),
    ("binary", "none", 2.51, 149),
    ("binary", "weight", 1.50, 165),
    ("binary", "layer", 1.49, 181),
    ("binary", "batch-shared", 1.51, 213),
    ("binary", "batch-separate", 1.50, 3381),
    ("ternary", "none", 5.84, 289),
    ("ternary", "weight", 1.42, 305),
    ("ternary", "layer", 1.43, 321),
    ("ternary", "batch-shared", 1.44, 353),
    ("ternary", "batch-separate", 1.45, 3521),
]


@dataclass(frozen=True)
class Row:
    """One trained network."""

    method: str
    norm: str
    bits: float
    published: float
    size: float
    published_size: float
    norms: list[float]
    seconds: float


class Characters(nn.Module):
    """One-hot characters, one quantised layer, a linear read-out."""

    def __init__(self, symbols: int, method: str, norm: str, hidden: int = HIDDEN) -> None:
        super().__init__()
        length = STEPS if norm == "batch-separate" else None
        self.symbols = symbols
        self.lstm = QuantisedLSTM(symbols, hidden, method, norm, max_length=length)
        self.head = nn.Linear(hidden, symbols)

    def forward(
        self, tokens: Tensor, state: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        output, last = self.lstm(F.one_hot(tokens, self.symbols).float(), state)
        return self.head(output), (last[0].detach(), last[1].detach())


def text() -> tuple[Tensor, Tensor, int]:
    """Training and test characters as numbers, and how many there are."""
    folder = Path(os.environ["STEADYGRAD_DATA"], "ptb")
    with lzma.open(folder / "ptb.char.train.txt.xz", "rt") as file:
        train = characters(file.read())
    test = characters((folder / "ptb.char.test.txt").read_text())
    number = {c: i for i, c in enumerate(sorted(set(train)))}
    found = [torch.tensor([number[c] for c in s if c in number]) for s in (train, test)]
    return found[0][:TRAIN], found[1][:TEST], len(number)


def characters(raw: str) -> list[str]:
    """The file parts characters by blanks; an end of line is one, too."""
    return [c for line in raw.splitlines() for c in (*line.split(), "\n")]


def windows(series: Tensor, length: int = STEPS) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and targets ``(T, B)``, each row of the batch one stretch of the text."""
    rows = series[: len(series) // BATCH * BATCH].view(BATCH, -1).t()
    for start in range(0, len(rows) - length, length):
        yield rows[start : start + length], rows[start + 1 : start + length + 1]


def train(model: Characters, series: Tensor, steps: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    done = 0
    while done < steps:
        state = None
        for x, y in windows(series):
            optimizer.zero_grad()
            logits, state = model(x, state)
            F.cross_entropy(logits.flatten(0, 1), y.flatten()).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            done += 1
            if done >= steps:
                break


@torch.no_grad()
def bits_per_character(model: Characters, series: Tensor) -> float:
    model.eval()
    state, total, count = None, 0.0, 0
    for x, y in windows(series):
        logits, state = model(x, state)
        total += float(F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum"))
        count += y.numel()
    model.train()
    return total / count / math.log(2)


def gradient(
    model: Characters, series: Tensor, length: int = STEPS, at_last: bool = True
) -> list[float]:
    r"""log10 of :math:`|dL/dh_t|` over a batch, with the loss at the last step, or at all."""
    x, y = next(windows(series, length))
    seen: dict[int, float] = {}
    rnn: Any = model.lstm.rnn

    def note(state: str, step: int, grad: Tensor) -> None:
        if state == "h":
            seen[step] = float(grad.double().norm().log10())

    if hasattr(rnn, "on_step_gradient"):
        rnn.on_step_gradient = note
    else:
        rnn.on_tap = lambda _layer, _reverse, tap: seen.update(
            enumerate(tap.log10_over_batch("h").tolist())
        )
    logits, _ = model(x, None)
    chosen = slice(-1, None) if at_last else slice(None)
    F.cross_entropy(logits[chosen].flatten(0, 1), y[chosen].flatten()).backward()
    model.zero_grad()
    for hook in ("on_step_gradient", "on_tap"):
        if hasattr(rnn, hook):
            setattr(rnn, hook, None)
    return [seen[t] for t in range(length)]


def run(method: str, norm: str, steps: int, seed: int = 0) -> Row:
    """Train one row."""
    series, test, symbols = text()
    torch.manual_seed(seed)
    model = Characters(symbols, method, norm)
    start = time.perf_counter()
    train(model, series, steps)
    seconds = time.perf_counter() - start
    bits = bits_per_character(model, test)
    published, kilobytes = next((p, k) for m, n, p, k in ROWS if (m, n) == (method, norm))
    rnn = model.lstm.rnn
    size = sum(p.nbytes for p in rnn.state_dict().values()) if method == "full" else None
    size = (model.lstm.pack().nbytes if size is None else size) / 1024
    return Row(method, norm, bits, published, size, kilobytes, gradient(model, series), seconds)


CURVES = [
    ("full precision", "full", "none", "main dashed"),
    ("BinaryConnect", "binary", "none", "before"),
    ("TerConnect", "ternary", "none", "before dashed"),
    ("BC, weight norm", "binary", "weight", "second"),
    ("BC, layer norm", "binary", "layer", "third"),
    ("BC, batch norm shared", "binary", "batch-shared", "fourth"),
    ("BC, batch norm separate", "binary", "batch-separate", "fourth dashed"),
]


def draw(path: Path, hidden: int = 512, length: int = 100) -> None:
    """Draw the gradient at every step at initialisation, and print what it does."""
    series, _, symbols = text()
    back = np.arange(length, dtype=float)
    drawn = []
    print(f"{'log10 |dL/dh_t|':<24}{'loss at all steps':>17}{'x1000 in':>10}{'at the last':>21}")
    for name, method, norm, style in CURVES:
        torch.manual_seed(0)
        model = Characters(symbols, method, norm, hidden)
        curve = gradient(model, series, length, at_last=False)
        last = gradient(model, series, length)
        drawn.append(Line(name, back, np.array(curve[::-1]), style))
        first = next((k for k, v in enumerate(curve[::-1]) if v - curve[-1] > 3), "never")
        print(
            f"{name:<24}{curve[-1]:7.2f} ->{curve[0]:7.2f}{first:>10}"
            f"{last[-1]:12.2f} ->{last[0]:7.2f}"
        )
    plot = Plot(
        "One-bit weights explode the gradient; normalised they do not",
        "Gradient at every step back, at initialisation, after Hou et al. 2019.",
        drawn,
        f"steps back from the loss ({hidden} units, characters of Penn Treebank)",
        "norm of the gradient at h, log scale",
        is_log=True,
        powers=True,
    )
    print(lines(plot, path))


def main() -> None:
    """Draw, or train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="e.g. binary/none full/layer")
    parser.add_argument("--json", type=Path, help="append every row to this file")
    parser.add_argument("--draw", type=Path, help="draw the figure, and train nothing")
    parser.add_argument("--read", type=Path, help="print what --json wrote, and train nothing")
    options = parser.parse_args()
    if options.draw:
        return draw(options.draw)
    if options.read:
        rows = [Row(**json.loads(line)) for line in options.read.read_text().splitlines()]
        order = [(method, norm) for method, norm, *_ in ROWS]
        return report(sorted(rows, key=lambda row: order.index((row.method, row.norm))))
    for method, norm, *_ in ROWS:
        if options.only and f"{method}/{norm}" not in options.only:
            continue
        row = run(method, norm, options.steps, options.seed)
        report([row])
        if options.json:
            with options.json.open("a") as file:
                file.write(json.dumps(asdict(row)) + "\n")


def report(rows: list[Row]) -> None:
    """Print rows beside the published ones, and what of their order is reproduced."""
    print(f"{'method':<9}{'norm':<16}{'bits/char':>10}{'published':>10}{'KB':>8}{'published':>10}")
    for row in rows:
        print(
            f"{row.method:<9}{row.norm:<16}{row.bits:>10.3f}{row.published:>10.2f}"
            f"{row.size:>8.0f}{row.published_size:>10.0f}   {row.seconds:.0f} s",
            flush=True,
        )
    agree, all_pairs = 0, 0
    for at, one in enumerate(rows):
        for other in rows[:at]:
            if abs(one.published - other.published) > 0.02:  # nearer ones are ties in the paper
                all_pairs += 1
                agree += (one.bits < other.bits) == (one.published < other.published)
    if all_pairs > 5:
        print(f"{agree} of {all_pairs} pairs that the paper tells apart are in its order here, too")


if __name__ == "__main__":
    main()
