"""The next value of a FitzHugh-Nagumo neuron, from 16 units.

python -m benchmarks.papers.lem [--help]
"""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

import steadygrad as sg
from benchmarks.papers.harness import Settings, main, progress
from steadygrad.cells import parse as parse_cell

Field = NDArray[np.float64]


class Network(nn.Module):
    """A recurrent layer and a linear answer at every step."""

    def __init__(self, cell: str, units: int) -> None:
        super().__init__()
        self.recurrent = sg.Recurrent(parse_cell(cell), 1, units)
        self.head = nn.Linear(units, 1)
        nn.init.kaiming_normal_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.recurrent(x)[0])


def flow(state: Field, options: Settings) -> Field:
    """Time derivative of potential and recovery, ``(2, N)``."""
    v, w = state
    drive = v - v**3 / 3 - w + options["current"]
    return np.stack([drive, (v + options["a"] - options["b"] * w) / options["tau"]])


def solved(count: int, options: Settings, source: np.random.Generator) -> Tensor:
    """Potentials at equal times from random starts, ``(T + 1, N, 1)``: Runge-Kutta of order 4."""
    state = np.stack([source.uniform(-1, 1, count), np.zeros(count)])
    step = options["until"] / options["steps"] / options["inner"]
    found = [state[0]]
    for _ in range(options["steps"]):
        for _ in range(options["inner"]):
            one = flow(state, options)
            two = flow(state + step / 2 * one, options)
            three = flow(state + step / 2 * two, options)
            four = flow(state + step * three, options)
            state = state + step / 6 * (one + 2 * two + 2 * three + four)
        found.append(state[0])
    return torch.from_numpy(np.stack(found)).float().unsqueeze(-1)


@torch.no_grad()
def rmse(model: nn.Module, series: Tensor) -> float:
    """Root of the mean squared error over all steps and series."""
    parts = [
        (model(part[:-1]) - part[1:]).square().mean((0, 2)) for part in series.split(128, dim=1)
    ]
    return math.sqrt(torch.cat(parts).mean())


def attempt(settings: Settings, seed: int) -> dict[str, Any]:
    """Train, and score the weights of the best epoch on the test series."""
    torch.manual_seed(seed)
    source = np.random.default_rng(seed)
    options, data = settings["training"], settings["data"]
    train, valid, test = (solved(data[part], data, source) for part in ("train", "valid", "test"))
    model = Network(settings["cell"], settings["units"])
    optimizer = torch.optim.Adam(model.parameters(), options["learning_rate"])
    best, kept = math.inf, model.state_dict()
    for epoch in range(1, options["epochs"] + 1):
        for rows in torch.randperm(data["train"]).split(options["batch"]):
            loss = F.mse_loss(model(train[:-1, rows]), train[1:, rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        score = rmse(model, valid)
        if score < best:
            best, kept = score, {name: value.clone() for name, value in model.state_dict().items()}
        progress(f"{settings['cell']}, seed {seed}, epoch {epoch}: {score:.5f}, best {best:.5f}")
    model.load_state_dict(kept)
    return {"rmse": rmse(model, test), "valid_rmse": best, "repeat_rmse": float(persistence(test))}


def persistence(series: Tensor) -> Tensor:
    """What naming the last value scores."""
    return (series[1:] - series[:-1]).square().mean().sqrt()


if __name__ == "__main__":
    main(__file__, attempt)
