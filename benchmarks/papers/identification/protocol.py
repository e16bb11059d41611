"""Fit on the training part, choose by the validation part, score on the official test parts."""

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.papers.harness import Settings
from steadygrad.tasks import SystemID
from steadygrad.tasks.system_id import Record

Simulate = Callable[[Tensor, Tensor], Tensor]
"""From all inputs ``(T, 1, I)`` and the first ``begin`` outputs, the outputs after those."""
Fit = Callable[[Record, Record, Settings], tuple[Simulate, float]]
"""``fit(train, val, settings)``: the model, and its root mean squared error on what was held back.

No test part is ever handed to it. ``settings["restart"]`` counts the restarts from 0.
"""


def attempt(settings: Settings, seed: int) -> dict[str, Any]:
    """One repetition of the whole protocol: fit ``restarts`` models, choose, and score.

    Returns:
        ``validation`` of the chosen model, and for each entry ``NAME`` of the table ``tests``:
        ``NAME``, the chosen model's error, the one with the lowest on the validation part;
        ``NAME_mean``, ``NAME_best`` and ``NAME_worst`` over all restarts; and ``NAME_together``, of
        the mean of all their predictions. Root mean squared errors in free simulation, in the unit
        of the table.
    """
    tests = {name: SystemID(system=system) for name, system in settings["tests"].items()}
    task = next(iter(tests.values()))
    train, val = task.record("train"), task.record("val")
    fit: Fit = importlib.import_module(f"benchmarks.papers.identification.{settings['kind']}").fit
    models, errors = [], []
    for restart in range(settings["restarts"]):
        torch.manual_seed(1000 * seed + restart)
        model, error = fit(train, val, settings | {"restart": restart})
        models.append(model)
        errors.append(error)
    at = min(range(len(models)), key=errors.__getitem__)
    scale = task.unit * settings["scale"]
    figures = {"validation": errors[at]}
    for name, tested in tests.items():
        figures |= _scores(name, models, at, tested.record("test"), settings["begin"])
    return {name: round(scale * value, 4) for name, value in figures.items()}


@torch.no_grad()
def _scores(
    name: str, models: list[Simulate], at: int, part: Record, begin: int
) -> dict[str, float]:
    u, y = part
    runs = [model(u, y[:begin]).double() for model in models]
    each = [_error(run, y[begin:]) for run in runs]
    return {
        name: each[at],
        f"{name}_mean": sum(each) / len(each),
        f"{name}_best": min(each),
        f"{name}_worst": max(each),
        f"{name}_together": _error(torch.stack(runs).mean(0), y[begin:]),
    }


@torch.no_grad()
def rmse(simulate: Simulate, part: Record, begin: int) -> float:
    """Root mean squared error after the first ``begin`` steps; infinite if it is no number."""
    u, y = part
    return _error(simulate(u, y[:begin]), y[begin:])


def _error(run: Tensor, asked: Tensor) -> float:
    return float((run - asked).double().square().mean().sqrt().nan_to_num(torch.inf))
