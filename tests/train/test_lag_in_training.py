"""A lag that nobody gave: estimated before training, recorded as such, gentle in its verdict."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import steadygrad as sg
from steadygrad.cli import main
from steadygrad.diagnosis.causes import causes
from steadygrad.diagnosis.lag import Lag, is_estimated, judge_at
from steadygrad.diagnosis.repair import Repair
from steadygrad.faults.history import of_losses
from steadygrad.record import read
from steadygrad.tasks.lag_estimate import LagEstimate
from steadygrad.train import Outcome, TrainConfig, repair_config, train
from steadygrad.train.events import Prepared

FAR = LagEstimate(30, 0.95, 0.8, ((0, 15, 0.1), (16, 31, 0.7)))
WORTHLESS = LagEstimate(30, 0.95, 0.8, ((0, 15, 0.7), (16, 31, 0.1)))
RESTING, FALLING = [1.0] * 260, list(np.linspace(1.0, 0.5, 260))


def dying(gain: float = 0.3) -> tuple[nn.Module, Callable[[], torch.Tensor]]:
    """A network whose gradient changes by about ``gain`` at every step."""
    torch.manual_seed(0)
    model = nn.RNN(2, 8, nonlinearity="relu")
    with torch.no_grad():
        weight, bias = model.get_parameter("weight_hh_l0"), model.get_parameter("bias_hh_l0")
        nn.init.eye_(weight).mul_(gain)
        bias.fill_(0.1)
    x = torch.rand(50, 4, 2)
    return model, lambda: model(x)[0][-1].square().sum()


def test_findings_say_that_the_lag_is_an_estimate() -> None:
    given, estimated = (sg.diagnose(*dying(), lag=lag) for lag in (30, FAR))
    for found in (given, estimated):
        assert found.verdict == "vanishing" and found.lag == 30
    assert "and the lag given is 30" in given.findings[0].text and "required lag 30" in str(given)
    finding = estimated.findings[0]
    assert "and the estimated lag is 30" in finding.text and finding.lag == 30
    assert finding.evidence["lag"] == "estimated" and finding.evidence["lag_explains"] == 0.8
    assert finding.confidence is not None and finding.confidence <= 0.95
    assert "estimated lag 30: predictions need about 30 past steps" in str(estimated)
    assert estimated.to_json()["lag_estimate"]["confidence"] == 0.95
    assert "lag_estimate" not in given.to_json()


def test_what_is_far_and_worth_little_accuses_nobody() -> None:
    assert (FAR.needed, WORTHLESS.needed) == (30, 15)
    only_now = replace(WORTHLESS, gains=((0, 0, 0.7), (1, 31, 0.1)))
    for estimate in (only_now, replace(FAR, lag=0), replace(FAR, lag=None)):
        assert estimate.needed is None
        found = sg.diagnose(*dying(), lag=estimate)
        assert found.verdict == "not judged" and found.lag is None
        assert "vanishing was not checked" in str(found)


def test_an_estimate_does_not_hide_where_a_gradient_grows() -> None:
    """A hump before the lag: at the lag itself there is nothing to see."""
    model, loss = dying(2.0)
    flow = sg.diagnose(model, loss).flow["rnn"]
    assert flow.from_top is not None
    ratio = flow.from_top.log10_ratio.copy()
    ratio[25:] = 0.0
    hump = replace(flow, growth={}, from_top=replace(flow.from_top, log10_ratio=ratio))
    thresholds = sg.Thresholds()
    assert [f.fault for f in judge_at(hump, 30, thresholds)] == ["exploding"]
    found = judge_at(hump, FAR, thresholds)
    assert [f.fault for f in found] == ["exploding"] and not is_estimated(found[0])


@pytest.mark.parametrize(
    ("lag", "losses", "verdict"),
    [
        (FAR, FALLING, "not judged"),  # it learns: what the far past is worth to it is not known
        (FAR, RESTING, "vanishing"),
        (FAR, RESTING[:60], "not judged"),  # too soon to say that it rests
        (FAR, [], "vanishing"),
        (30, FALLING, "vanishing"),
    ],
)
def test_an_estimate_waits_until_the_loss_rests(lag: Lag, losses: Any, verdict: str) -> None:
    assert sg.diagnose(*dying(), lag=lag, losses=losses).verdict == verdict


@pytest.mark.slow
def test_a_watch_that_is_told_the_losses_waits_too() -> None:
    model, loss_fn = dying(0.1)  # 1e-30 at the lag: with a given lag there is no waiting
    for lag, losses, verdict in (
        (FAR, FALLING, "not judged"),
        (FAR, RESTING, "vanishing"),
        (30, FALLING, "vanishing"),
    ):
        optimizer = torch.optim.SGD(model.parameters(), 0.0)
        with sg.watch(model, optimizer, lag=lag, every=50) as watch:
            for value in losses:
                optimizer.zero_grad()
                loss_fn().backward()
                watch.loss(value)
                optimizer.step()
        assert watch.verdict == verdict and watch.lag == 30


def test_a_finding_at_a_given_lag_is_not_touched() -> None:
    found = sg.diagnose(*dying(0.1), lag=30).findings
    history = of_losses(FALLING)
    assert causes(found, {}, history, sg.Thresholds()).findings == found


def echo(path: Path, lag: int | None) -> Path:
    """A column that repeats another one ``lag`` rows later, or noise."""
    rng = np.random.default_rng(0)
    u = rng.standard_normal(900)
    y = (
        rng.standard_normal(900)
        if lag is None
        else np.roll(u, lag) + 0.1 * rng.standard_normal(900)
    )
    path.write_text("u,y\n" + "\n".join(f"{a:.4f},{b:.4f}" for a, b in zip(u, y, strict=True)))
    return path


def config(file: Path, **options: Any) -> TrainConfig:
    """A network that cannot learn it: its gradient is gone after a few steps, which are tiny."""
    return TrainConfig(
        file,
        **{
            "target": "y",
            "horizon": 1,
            "window": 40,
            "cell": "elman",
            "hidden": 8,
            "max_steps": 230,
            "validate_every": 1000,
            "learning_rate": 1e-6,
            "batch_size": 8,
            "budget": 1.0,
            "threads": 1,
            "out": file.parent / "run",
            **options,
        },
    )


def assert_estimated(outcome: Outcome, told: list[str], lags: Any, text: str | None) -> None:
    """The estimate, if there was to be one, is recorded and told; a finding says its kind."""
    vanishing = [f for f in outcome.findings if f["fault"] == "vanishing"]
    assert [text in f["text"] for f in vanishing] == ([True] if text else [])
    with read(outcome.record) as run:
        notes = run.notes
    assert ("lag_estimate" in notes) == (len(told) == 2)
    assert notes["lag"] in (lags if text else [None])
    if "lag_estimate" in notes:
        assert notes["lag_estimate"]["text"] in told[1] and " took " in told[1]
        assert notes["lag_estimate"]["lag"] in lags


def prepared(told: list[str]) -> Callable[[object], None]:
    return lambda event: told.append(event.text) if isinstance(event, Prepared) else None


@pytest.mark.parametrize(
    ("lag", "options", "lags", "text"),
    [
        pytest.param(25, {"lag": 20}, [20], "the lag given is 20", marks=pytest.mark.slow),
        (25, {"lag": "none", "max_steps": 20}, [None], None),
        # Of noise the last value tells how it will change, and nothing before that does.
        pytest.param(None, {}, (0, None), None, marks=pytest.mark.slow),
    ],
    ids=["given", "none", "noise"],
)
def test_a_training_estimates_its_lag(
    tmp_path: Path, lag: int | None, options: dict[str, Any], lags: Any, text: str | None
) -> None:
    told: list[str] = []
    outcome = train(config(echo(tmp_path / "data.csv", lag), **options), prepared(told))
    assert (len(told) == 2) == (not options)
    assert_estimated(outcome, told, lags, text)


@pytest.mark.slow
def test_a_run_with_an_estimate_is_looked_at_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = echo(tmp_path / "data.csv", 25)
    first = train(config(file, max_steps=60))
    assert "vanishing" not in [f["fault"] for f in first.findings]  # too soon
    told: list[str] = []
    outcome = train(config(file, overwrite=True), prepared(told))
    assert len(told) == 2
    assert_estimated(outcome, told, range(24, 27), "the estimated lag is")
    folder, page = str(outcome.record.parent), tmp_path / "page.html"
    assert main(["diagnose", folder, "--json", "--out", str(page)]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (
        document["lag"]
        == document["lag_estimate"]["lag"]
        == next(f["lag"] for f in outcome.findings if f["fault"] == "vanishing")
    )
    assert "the estimated lag is" in page.read_text()
    assert main(["diagnose", folder, "--lag", "none"]) == 1  # not judged
    assert "vanishing was not checked" in capsys.readouterr().out
    assert main(["diagnose", folder, "--lag", "20"]) == 1
    assert "the lag given is 20" in capsys.readouterr().out


@pytest.mark.slow
def test_forks_of_a_repair_do_not_estimate_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def estimate(task: Any) -> LagEstimate:
        asked.append(1)
        return FAR

    monkeypatch.setattr("steadygrad.train.lag.estimate_lag", estimate)
    file = echo(tmp_path / "data.csv", 25)
    _, found = repair_config(config(file, max_steps=20), seeds=3, most=1)
    assert isinstance(found, Repair) and len(asked) == 1


def test_the_lag_option_is_a_number_or_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = echo(tmp_path / "data.csv", 25)
    for wrong in ("0", "some"):
        assert main(["train", str(file), "--lag", wrong]) == 2
        assert "lag" in capsys.readouterr().err
