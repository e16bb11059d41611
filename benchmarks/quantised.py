"""Quantised LSTMs on characters of Penn Treebank, after Hou et al.: the gradient, drawn.

    STEADYGRAD_DATA=DIR python -m benchmarks.quantised [--draw docs/quantised_gradient.svg]

Draws the gradient at every time step at initialisation (512 units, 100 steps, loss at every step as
in training), and prints that of a loss at the last step alone beside it. The table of trained
networks is `benchmarks.papers.hou`, which trains by what stands here.
"""

import argparse
import lzma
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steadygrad.errors import InputError
from steadygrad.nn import QuantisedLSTM
from steadygrad.report import Line, Plot, lines


@dataclass(frozen=True)
class Budget:
    """How large a network, and how long a training.

    Args:
        hidden: Units.
        length: Steps of truncated backpropagation, ``bptt``.
        batch: Sequences.
        steps: Updates.
        train: Characters of the training text that are read; all if None.
        test: Characters that are scored; all if None.
        learning_rate: Of Adam, times 0.98 per pass over the text after the tenth.
        clip: Bound on the norm of the gradient.
    """

    hidden: int = 128
    length: int = 50
    batch: int = 64
    steps: int = 800
    train: int | None = 2_000_000
    test: int | None = 200_000
    learning_rate: float = 2e-3
    clip: float = 5.0


class Characters(nn.Module):
    """One-hot characters, one quantised layer, a linear read-out."""

    def __init__(self, symbols: int, method: str, norm: str, budget: Budget) -> None:
        super().__init__()
        length = budget.length if norm == "batch-separate" else None
        self.symbols = symbols
        self.lstm = QuantisedLSTM(symbols, budget.hidden, method, norm, max_length=length)
        self.head = nn.Linear(budget.hidden, symbols)

    def forward(
        self, tokens: Tensor, state: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        output, last = self.lstm(F.one_hot(tokens, self.symbols).float(), state)
        return self.head(output), (last[0].detach(), last[1].detach())


@lru_cache(maxsize=2)
def text(budget: Budget) -> tuple[Tensor, Tensor, int]:
    """Training and test characters as numbers, and how many different ones there are."""
    where = os.environ.get("STEADYGRAD_DATA")
    if where is None or not (folder := Path(where, "ptb")).is_dir():
        raise InputError(
            f"STEADYGRAD_DATA is {where or 'not set'}: expected a folder that holds"
            " ptb/ptb.char.train.txt.xz and ptb/ptb.char.test.txt"
        )
    with lzma.open(folder / "ptb.char.train.txt.xz", "rt") as file:
        train = characters(file.read())
    test = characters((folder / "ptb.char.test.txt").read_text())
    number = {c: i for i, c in enumerate(sorted(set(train)))}
    found = [torch.tensor([number[c] for c in s if c in number]) for s in (train, test)]
    return found[0][: budget.train], found[1][: budget.test], len(number)


def characters(raw: str) -> list[str]:
    """The file parts characters by blanks; an end of line is one, too."""
    return [c for line in raw.splitlines() for c in (*line.split(), "\n")]


def windows(series: Tensor, budget: Budget) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and targets ``(T, B)``, each row of the batch one stretch of the text."""
    length, batch = budget.length, budget.batch
    rows = series[: len(series) // batch * batch].view(batch, -1).t()
    for start in range(0, len(rows) - length, length):
        yield rows[start : start + length], rows[start + 1 : start + length + 1]


def train(model: nn.Module, series: Tensor, budget: Budget) -> Iterator[tuple[int, float]]:
    """Train, the state carried over within a pass; yield each update's number and loss in bits."""
    optimizer = torch.optim.Adam(model.parameters(), budget.learning_rate)
    done = 0
    for epoch in range(budget.steps):  # at least one update each
        for group in optimizer.param_groups:
            group["lr"] = budget.learning_rate * 0.98 ** max(0, epoch - 10)
        state = None
        for x, y in windows(series, budget):
            optimizer.zero_grad()
            logits, state = model(x, state)
            loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), budget.clip)
            optimizer.step()
            done += 1
            yield done, loss.item() / math.log(2)
            if done >= budget.steps:
                return


@torch.no_grad()
def bits_per_character(model: nn.Module, series: Tensor, budget: Budget) -> float:
    model.eval()
    state, total, count = None, 0.0, 0
    for x, y in windows(series, budget):
        logits, state = model(x, state)
        total += float(F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum"))
        count += y.numel()
    model.train()
    return total / count / math.log(2)


def gradient(
    model: Characters, series: Tensor, budget: Budget, at_last: bool = True
) -> list[float]:
    r"""log10 of :math:`|dL/dh_t|` over a batch, with the loss at the last step, or at all."""
    x, y = next(windows(series, budget))
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
    return [seen[t] for t in range(len(x))]


def kilobytes(model: Characters, method: str) -> float:
    """Size of the layer as exported."""
    rnn = model.lstm.rnn
    full = sum(p.nbytes for p in rnn.state_dict().values())
    return (full if method == "full" else model.lstm.pack().nbytes) / 1024


def passes(curve: list[float], decades: float = 3) -> int | None:
    """Steps back after which a gradient is that many decades above that at the last step."""
    return next((k for k, v in enumerate(curve[::-1]) if v - curve[-1] > decades), None)


CURVES = [
    ("full precision", "full", "none", "main dashed"),
    ("BinaryConnect", "binary", "none", "before"),
    ("TerConnect", "ternary", "none", "before dashed"),
    ("BC, weight norm", "binary", "weight", "second"),
    ("BC, layer norm", "binary", "layer", "third"),
    ("BC, batch norm shared", "binary", "batch-shared", "fourth"),
    ("BC, batch norm separate", "binary", "batch-separate", "fourth dashed"),
]


def draw(path: Path, budget: Budget) -> None:
    """Draw the gradient at every step at initialisation, and print what it does."""
    series, _, symbols = text(budget)
    back = np.arange(budget.length, dtype=float)
    drawn = []
    print(f"{'log10 |dL/dh_t|':<24}{'loss at all steps':>17}{'x1000 in':>10}{'at the last':>21}")
    for name, method, norm, style in CURVES:
        torch.manual_seed(0)
        model = Characters(symbols, method, norm, budget)
        curve = gradient(model, series, budget, at_last=False)
        last = gradient(model, series, budget)
        drawn.append(Line(name, back, np.array(curve[::-1]), style))
        print(
            f"{name:<24}{curve[-1]:7.2f} ->{curve[0]:7.2f}{passes(curve) or 'never':>10}"
            f"{last[-1]:12.2f} ->{last[0]:7.2f}"
        )
    plot = Plot(
        "One-bit weights explode the gradient; normalised they do not",
        "Gradient at every step back, at initialisation, after Hou et al. 2019.",
        drawn,
        f"steps back from the loss ({budget.hidden} units, characters of Penn Treebank)",
        "norm of the gradient at h, log scale",
        is_log=True,
        powers=True,
    )
    print(lines(plot, path))


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draw", type=Path, default=Path("docs/quantised_gradient.svg"))
    draw(parser.parse_args().draw, Budget(hidden=512, length=100))


if __name__ == "__main__":
    main()
