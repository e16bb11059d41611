"""Learning on a stream that never ends: what was marked is asked for many steps later.

A row of the stream shows a new random value at every step. Now and then one is marked; after a
while it is asked for, and only then is there an error to learn from. The gradient of that step
alone cannot say which value to keep; exact real-time recurrent learning can, and holds no past.

python examples/online_learning.py [--steps 1500] [--cell mingru] [--rows 16]
"""

import argparse
from collections.abc import Iterator

import torch
from torch import Tensor, nn

import steadygrad as sg

FIRST, LAST = 5, 15
"""Steps from the mark to the question, the least and the most."""


def stream(rows: int, seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Forever: inputs ``(B, 3)`` (value, mark, question), what is asked for and where, ``(B,)``."""
    generator = torch.Generator().manual_seed(seed)
    held = torch.zeros(rows)
    left = torch.zeros(rows, dtype=torch.long)  # steps until the question
    while True:
        value = torch.rand(rows, generator=generator) * 2 - 1
        asked, marked = left == 1, left == 0
        held = torch.where(marked, value, held)
        drawn = torch.randint(FIRST, LAST + 1, (rows,), generator=generator)
        left = torch.where(marked, drawn, left - 1)
        yield torch.stack([value, marked.float(), asked.float()], 1), held, asked


def train(cell: str, learn: bool, steps: int, rows: int, seed: int = 0) -> list[float]:
    """Return the mean squared error of each tenth of the steps."""
    torch.manual_seed(seed)
    layer = sg.Recurrent(cell, 3, 16, backend="eager")
    head = nn.Linear(16, 1)
    optimizer = torch.optim.Adam([*layer.parameters(), *head.parameters()], 1e-2)
    online = sg.Stream(layer, learn="rtrl")
    state = None
    errors: list[float] = []
    for _, (x, wanted, asked) in zip(range(steps), stream(rows, seed), strict=False):
        if learn:
            h = online.push(x)
        else:  # the gradient of this step alone
            out, last = layer(x[None], state)
            state = tuple(s.detach() for s in last) if isinstance(last, tuple) else last.detach()
            h = out[0]
        if not asked.any():
            continue
        loss = (head(h)[:, 0] - wanted)[asked].square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
    return [sum(part) / len(part) for part in _tenths(errors)]


def _tenths(values: list[float]) -> list[list[float]]:
    return [values[len(values) * i // 10 : len(values) * (i + 1) // 10] for i in range(10)]


def main() -> None:
    """Train both ways and print how the error falls."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--cell", default="mingru")
    parser.add_argument("--rows", type=int, default=16)
    options = parser.parse_args()
    print(f"mean squared error, by tenths of {options.steps} steps; 0.333 without a memory")
    for name, learn in (("this step alone", False), ("real-time recurrent", True)):
        errors = train(options.cell, learn, options.steps, options.rows)
        print(f"{name:<20}", " ".join(f"{e:.3f}" for e in errors))


if __name__ == "__main__":
    main()
