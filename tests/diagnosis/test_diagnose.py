"""One look at a model: verdicts, evidence, remedies, and no accusation without a lag."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import steadygrad as sg
from steadygrad.diagnosis.judge import judge
from steadygrad.flow import GateHealth, LagCurve, TimeFlow
from steadygrad.remedies import parse


def curve_of(slope: float, steps: int = 101) -> LagCurve:
    return LagCurve(np.float64(slope) * np.arange(steps, dtype=np.float64), 1, "total")


def flow_of(by_lag: LagCurve, **more: object) -> TimeFlow:
    fields = {
        "name": "rnn",
        "cell": "lstm",
        "hidden_size": 4,
        "log10_grad": by_lag.log10_ratio[::-1],
        "log10_grad_by_state": {"h": by_lag.log10_ratio[::-1]},
        "by_lag": by_lag,
        "gates": {},
        "nonfinite": np.zeros(len(by_lag.log10_ratio), dtype=np.int64),
        "how": "replay",
        "exactness": "exact",
        "time_steps": len(by_lag.log10_ratio),
    }
    return TimeFlow(**(fields | more))  # type: ignore[arg-type]


def reader(layer: nn.Module, steps: int = 60) -> Callable[[], Tensor]:
    x = 1e-6 * torch.randn(steps, 4, 3)  # tanh stays linear: the gain decides
    return lambda: layer(x)[0][-1].square().sum()


def orthogonal_rnn(gain: float) -> nn.RNN:
    layer: Any = nn.RNN(3, 16)
    nn.init.orthogonal_(layer.weight_hh_l0, gain)
    nn.init.zeros_(layer.bias_ih_l0)
    nn.init.zeros_(layer.bias_hh_l0)
    return layer


@pytest.mark.parametrize(
    ("gain", "lag", "verdict"),
    [
        (0.5, 59, "vanishing"),
        (0.5, 5, "healthy"),  # the same network, and a task that needs no more than it has
        (0.5, None, "not judged"),
        (1.0, 59, "healthy"),
        (1.2, 59, "exploding"),
        (1.2, 5, "exploding"),  # an update is as large, wherever the task needs it from
        (1.2, None, "exploding"),
    ],
)
def test_the_verdict_follows_the_lag_that_the_task_needs(
    gain: float, lag: int | None, verdict: str
) -> None:
    layer = orthogonal_rnn(gain)
    found = sg.diagnose(layer, reader(layer), lag=lag)
    assert found.verdict == verdict
    if verdict not in ("healthy", "not judged"):
        (finding,) = found.findings
        assert finding.layer == "rnn" and finding.evidence["threshold"] in (1e-4, 100.0)
        assert finding.evidence["log10_ratio"] == pytest.approx(59 * math.log10(gain), rel=0.02)


def test_without_a_lag_the_horizon_is_stated() -> None:
    layer = orthogonal_rnn(0.5)
    found = sg.diagnose(layer, reader(layer))
    flow = found.flow["rnn"]
    # At the states it is 13; at the input it depends on what W makes of it.
    assert flow.by_lag.horizon() == 13 and flow.horizon in (10, 11, 12, 13)
    assert "vanishing was not checked" in str(found) and f" {flow.horizon} " in str(found)


def test_thresholds_decide_and_stand_in_the_evidence() -> None:
    layer = orthogonal_rnn(0.5)
    strict = sg.diagnose(layer, reader(layer), lag=5, thresholds=sg.Thresholds(vanishing=0.5))
    assert strict.verdict == "vanishing"
    assert strict.findings[0].evidence["threshold"] == 0.5
    loose = sg.Thresholds(exploding=1e30)
    wild = orthogonal_rnn(1.2)
    assert sg.diagnose(wild, reader(wild), lag=59, thresholds=loose).verdict == "healthy"


@pytest.mark.parametrize("bad", [{"vanishing": 2.0}, {"exploding": 0.5}, {"dead_share": 0.0}])
def test_impossible_thresholds_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        sg.Thresholds(**bad)


@pytest.mark.parametrize("fault_gain", [0.4, 1.2])
def test_the_remedies_suit_the_model_and_can_be_read_back(fault_gain: float) -> None:
    layer = orthogonal_rnn(fault_gain)
    model = nn.ModuleDict({"rnn": layer})
    found = sg.diagnose(model, reader(layer), lag=59)
    assert found.findings[0].remedies
    for spec in found.findings[0].remedies:
        assert parse(spec).applicable(model)


def test_a_saturated_candidate_is_named_with_its_gate() -> None:
    layer: Any = nn.LSTM(3, 8)
    with torch.no_grad():
        layer.bias_ih_l0[16:24] = 20.0  # rows of the candidate
    found = sg.diagnose(layer, reader(layer))
    assert found.verdict == "saturated"
    assert [(f.fault, f.gate) for f in found.findings] == [("saturated", "candidate")]
    assert found.findings[0].evidence["dead_share"] == 1.0


def test_a_forget_gate_that_is_open_by_design_is_not_accused() -> None:
    layer: Any = nn.LSTM(3, 8)
    with torch.no_grad():
        layer.bias_ih_l0[8:16] = 8.0
    assert sg.diagnose(layer, reader(layer), lag=59).verdict == "healthy"


def test_a_gate_that_jumps_between_its_ends_has_decided_and_is_not_stuck() -> None:
    """What gates of a network look like that has learned a text by heart."""
    jumping = GateHealth(
        "sigmoid", torch.full((4,), 0.01), torch.full((4,), 0.5), torch.full((4,), 0.45)
    )
    assert jumping.dead_share == 1 and jumping.stuck_share == 0
    assert judge(flow_of(curve_of(0.0), gates={"input": jumping}), 100, sg.Thresholds()) == []


def test_dead_relu_units_are_named() -> None:
    layer: Any = nn.RNN(3, 8, nonlinearity="relu")
    with torch.no_grad():
        layer.bias_ih_l0[:6] = -50.0
    found = sg.diagnose(layer, reader(layer))
    assert found.verdict == "dead"
    assert set(found.findings[0].evidence["units"]) >= set(range(6))


def test_a_gradient_that_is_no_number_is_named_with_its_time_step() -> None:
    layer: Any = nn.GRU(3, 8)
    x = torch.randn(30, 4, 3)
    weight = torch.ones(30, 1, 1)
    weight[12] = float("nan")
    found = sg.diagnose(layer, lambda: (layer(x)[0] * weight).sum())
    assert found.verdict == "nonfinite"
    assert found.findings[0].evidence["first_time_step_on_the_way_back"] == 12


def test_a_bidirectional_reader_of_the_last_step_is_not_accused_of_its_reverse_half() -> None:
    """The reverse direction made that output in its first step: there is no trip to judge."""
    layer: Any = nn.LSTM(3, 8, 2, bidirectional=True)
    found = sg.diagnose(layer, reader(layer), lag=50)
    assert [(f.fault, f.layer) for f in found.findings] == [("vanishing", "lstm.l0")]


@pytest.mark.parametrize(
    ("slope", "horizon"), [(-0.1, 40), (-1.0, 4), (0.0, 100), (0.2, 100), (-8.0, 0)]
)
def test_horizon_and_slope_of_a_straight_line(slope: float, horizon: int) -> None:
    curve = curve_of(slope)
    assert curve.horizon() == horizon
    assert curve.slope == pytest.approx(slope, abs=1e-9)


def test_a_curve_of_nothing_accuses_nobody() -> None:
    for curve in (LagCurve(np.empty(0), 0, "total"), curve_of(0.0, 1)):
        assert curve.horizon() is None and curve.slope is None
        assert judge(flow_of(curve), 10, sg.Thresholds()) == []


def test_a_gradient_of_exactly_zero_has_vanished() -> None:
    ratio = np.full(101, -np.inf)
    ratio[0] = 0.0
    (finding,) = judge(flow_of(LagCurve(ratio, 1, "total")), 100, sg.Thresholds())
    assert finding.fault == "vanishing" and "nothing" in finding.text


def test_a_shut_forget_gate_is_the_vanishing_and_any_other_its_cause() -> None:
    """One finding for one fault: the gate is named in the one that it explains."""
    shut = GateHealth("sigmoid", *(torch.full((4,), 1e-3) for _ in range(3)))
    (dead,) = judge(flow_of(curve_of(-1.0), gates={"forget": shut}), 100, sg.Thresholds())
    assert (dead.fault, dead.gate) == ("vanishing", "forget")
    (dead,) = judge(flow_of(curve_of(-1.0), gates={"output": shut}), 100, sg.Thresholds())
    assert (dead.fault, dead.gate) == ("saturated", "output")


def test_a_wrong_layer_name_is_answered_with_the_right_ones() -> None:
    layer: Any = nn.LSTM(3, 4)
    with pytest.raises(KeyError, match="there are: lstm"):
        _ = sg.diagnose(layer, reader(layer)).flow["gru"]
    with pytest.raises(ValueError, match="at least 1, got 0"):
        sg.diagnose(layer, reader(layer), lag=0)


def test_the_page_and_the_plain_values(tmp_path: Path) -> None:
    layer: Any = nn.LSTM(3, 4)
    found = sg.diagnose(layer, reader(layer), lag=59)
    page = found.save(tmp_path / "report.html")
    text = page.read_text()
    assert "vanishes in the backward pass" in text and "https://" not in text.replace(
        "https://www.w3", ""
    )
    document = json.loads(json.dumps(found.to_json()))
    assert document["verdict"] == "vanishing" and document["layers"][0]["time_steps"] == 60


def test_a_layer_that_cuts_its_gradient_is_seen_to_cut_it() -> None:
    layer = sg.LSTM(3, 8, truncate=5)
    found = sg.diagnose(layer, reader(layer), lag=20)
    assert found.verdict == "truncated" and found.flow["lstm"].by_lag.at(20) == -math.inf
