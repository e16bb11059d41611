"""A NARX network: one step ahead on true outputs first, then over many steps on its own."""

import torch
from torch import Tensor

from benchmarks.papers.harness import Settings
from benchmarks.papers.identification.protocol import Simulate, rmse
from steadygrad.nn import NARX, fit_narx
from steadygrad.tasks.system_id import Record


def fit(train: Record, val: Record, settings: Settings) -> tuple[Simulate, float]:
    """Levenberg-Marquardt in both loops; the validation part ends each.

    Settings: ``input_delays``, ``output_delays``, ``hidden``, ``open_steps``; ``closed_steps``,
    0 for open loop alone, over ``horizon`` steps; ``fitted``, how many rows are fitted if not all.
    """
    rows = slice(settings.get("fitted"))
    train, val = ((u[rows].double(), y[rows].double()) for u, y in (train, val))
    net = NARX(
        train[0].shape[-1], 1, settings["hidden"], settings["input_delays"],
        settings["output_delays"], dtype=torch.float64,
    )  # fmt: skip
    fit_narx(net, *train, steps=settings["open_steps"], validation=val)
    if settings["closed_steps"]:
        fit_narx(
            net, *train, loop="closed", steps=settings["closed_steps"],
            horizon=settings["horizon"], validation=val,
        )  # fmt: skip

    def simulate(u: Tensor, begun: Tensor) -> Tensor:
        u, begun = u.double(), begun.double()
        at = len(begun)
        with torch.no_grad():
            return net.free_run(u[at:], net.delays(u[:at], begun))[0]

    return simulate, rmse(simulate, val, settings["begin"])
