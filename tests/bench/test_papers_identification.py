"""How models of a measured system are fitted, chosen and scored."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.papers.identification import protocol
from benchmarks.papers.identification.polynomial import Polynomial
from benchmarks.papers.identification.published import scored
from benchmarks.papers.identification.recurrent import Simulator, _parts
from torch import Tensor

from steadygrad.errors import InputError
from steadygrad.tasks.base import Split
from steadygrad.tasks.system_id import Record, SystemID

LAGS = {"input_delays": [1, 2], "output_delays": [1, 2]}
NETWORK = {"layers": 1, "window": 20, "batch": 4, "learning_rate": 1e-2, "updates": 6}
KINDS: dict[str, dict[str, Any]] = {
    "polynomial": {**LAGS, "degrees": [1, 2], "products": [True]},
    "polynomial, by AIC": {**LAGS, "degrees": [2, 3], "products": [False], "by_aic": True},
    "narx": {**LAGS, "hidden": 3, "open_steps": 5, "closed_steps": 3, "horizon": 10},
    "recurrent": {**NETWORK, "cell": "gru", "hidden": 4, "validate_every": 2},
    "recurrent, diagonal": {**NETWORK, "cell": "diagonal", "hidden": 4, "validate_every": 2},
    "recurrent, folds": {**NETWORK, "cell": "gru", "hidden": 4, "validate_every": 2, "folds": 3},
}


def plant(steps: int, seed: int) -> Record:
    u = torch.randn(steps, 1, 1, generator=torch.Generator().manual_seed(seed)).tanh()
    y = torch.zeros_like(u)
    for t in range(2, steps):
        y[t] = 0.6 * y[t - 1] - 0.2 * y[t - 2] + torch.tanh(u[t - 1])
    return u, y


@pytest.mark.parametrize("kind", KINDS)
def test_fit_and_choice_never_see_the_test_part(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With targets of the test part that are no numbers, all else is bit by bit the same."""
    hidden = False
    asked: list[Split] = []

    def record(_: SystemID, split: Split) -> Record:
        asked.append(split)
        u, y = plant({"train": 80, "val": 60, "test": 70}[split], len(split))
        return (u, torch.full_like(y, math.nan)) if hidden and split == "test" else (u, y)

    monkeypatch.setattr(SystemID, "record", record)
    monkeypatch.setattr(SystemID, "unit", 2.0)
    settings = {"kind": kind.split(",")[0], "begin": 10, "scale": 1.0} | KINDS[kind]
    settings |= {"tests": {"rmse": "tanks"}, "restarts": 3}
    models: list[list[Tensor]] = []

    def scores(_: str, found: list[protocol.Simulate], at: int, *__: Any) -> dict[str, float]:
        u, y = plant(40, 9)
        models.append([found[at](u, y[:10]), *(model(u, y[:10]) for model in found)])
        return score(_, found, at, *__)

    score = protocol._scores
    monkeypatch.setattr(protocol, "_scores", scores)
    seen = protocol.attempt(settings, 0)
    hidden = True
    blind = protocol.attempt(settings, 0)
    assert blind["validation"] == seen["validation"]
    assert torch.equal(torch.stack(models[0]), torch.stack(models[1]))  # same models, same choice
    assert math.isfinite(seen["rmse"]) and math.isinf(blind["rmse"])
    assert asked[:3] == ["train", "val", "test"]  # the test part comes last


def test_the_score_is_that_of_a_closed_form() -> None:
    u, y = torch.zeros(100, 1, 1), torch.arange(100.0)[:, None, None]
    shown: list[Tensor] = []

    def late(u: Tensor, begun: Tensor) -> Tensor:  # right, but for a sine of amplitude 3
        shown.append(begun)
        t = torch.arange(len(begun), len(u))[:, None, None]
        return t + 3 * torch.sin(2 * torch.pi * t / 10)

    assert protocol.rmse(late, (u, y), 50) == pytest.approx(3 / math.sqrt(2), rel=1e-5)
    assert torch.equal(shown[0], y[:50])
    assert protocol.rmse(lambda u, b: y[50:] * torch.nan, (u, y), 50) == math.inf
    # two restarts that are wrong by 1 and by -3, the first of them chosen
    runs: list[protocol.Simulate] = [lambda u, b: y[50:] + 1, lambda u, b: y[50:] - 3]
    found = protocol._scores("rmse", runs, 0, (u, y), 50)
    assert found == {
        "rmse": 1, "rmse_mean": 2, "rmse_best": 1, "rmse_worst": 3, "rmse_together": 1
    }  # fmt: skip


def test_published_predictions_are_scored_over_both_spans() -> None:
    y = torch.zeros(60, dtype=torch.float64)
    run = [4.0] * 30 + [3.0] * 10 + [1.0] * 10  # from step 10
    told = math.sqrt((30 * 16 + 10 * 9 + 10) / 50)
    found = scored(run, told, y)
    assert found["after_window"] == 1.0 and found["first"] == 10
    with pytest.raises(InputError, match="published RMSE 9"):
        scored(run, 9.0, y)


@pytest.mark.parametrize("restart", range(3))
def test_a_fold_is_never_trained_on(restart: int) -> None:
    t = torch.arange(100.0)[:, None, None]
    settings = {"begin": 4, "window": 6, "folds": 3, "restart": restart}
    (u, y), held, starts = _parts((t[:70], t[:70]), (t[70:], t[70:]), settings)
    assert torch.equal(u, t) and torch.equal(y, t) and torch.equal(held[0], held[1])
    trained = {int(u[s + k]) for s in starts for k in range(10)}
    assert not trained & {int(v) for v in held[0]}
    assert trained | {int(v) for v in held[0]} == set(range(100))
    with pytest.raises(InputError, match="84 steps do not fit"):
        _parts((t[:70], t[:70]), (t[70:], t[70:]), settings | {"window": 80})


@pytest.mark.parametrize("products", [True, False])
def test_least_squares_finds_a_polynomial_and_runs_it_freely(products: bool) -> None:
    u = np.random.default_rng(0).normal(size=300)
    y = np.zeros(300)
    for t in range(2, 300):
        y[t] = 0.5 * y[t - 1] - 0.3 * y[t - 2] ** 2 + 0.2 * u[t - 1] + 0.1
        y[t] += 0.1 * y[t - 1] * u[t] * products
    model = Polynomial(1, 2, 2, products)
    weights = model.fit(u, y)
    np.testing.assert_allclose(model.run(weights, u, y[:5]), y[5:], atol=1e-9)
    assert len(weights) == (15 if products else 9)
    other = Polynomial(1, 2, 2, not products)
    error = np.abs(other.run(other.fit(u, y), u, y[:5]) - y[5:]).max()
    assert (error > 1e-3) == products  # products hold the powers; powers lack the product


@pytest.mark.parametrize("cell", ["lstm", "diagonal"])
def test_the_simulator_reads_the_outputs_before_each_step(cell: str) -> None:
    torch.manual_seed(0)
    model = Simulator(1, cell, 3)
    u, y = torch.randn(2, 10, 2, 1)
    run = model(u, y[:4])
    assert run.shape == (6, 2, 1)
    for k in range(4):
        other = y[:4].clone()
        other[k] += 1
        assert not torch.equal(model(u, other), run)
    later = u.clone()
    later[7] += 1
    torch.testing.assert_close(model(later, y[:4])[:3], run[:3])
    assert not torch.equal(model(later, y[:4])[3:], run[3:])
