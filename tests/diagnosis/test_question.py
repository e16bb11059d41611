"""A question is answered from what the faults declare and from what is computed."""

import math
from typing import Any

import pytest
import torch

from steadygrad.diagnosis.question import FEW, Question, ask
from steadygrad.faults import FAULTS
from steadygrad.flow import gradient_through_time


@pytest.mark.parametrize("name", FAULTS)
def test_a_faults_own_symptom_leads_to_it_first(name: str) -> None:
    suspects = ask(Question(FAULTS[name].symptom, hidden=8)).suspects
    assert suspects[0].fault.fault == name


@pytest.mark.parametrize("name", FAULTS)
def test_what_brings_a_fault_about_is_named_beside_it(name: str) -> None:
    found = [s.fault.fault for s in ask(Question(FAULTS[name].symptom, hidden=8)).suspects]
    # The first few: more would be no answer.
    causes = set(FAULTS[name].caused_by)
    assert causes <= set(found) or len(causes & set(found)) >= FEW - 1


def test_the_first_step_of_adam_is_what_is_said() -> None:
    hidden, lr = 64, 0.01
    layer: Any = torch.nn.LSTM(8, hidden)
    optimizer = torch.optim.Adam(layer.parameters(), lr=lr)
    before = layer.weight_hh_l0.detach().clone()
    layer(torch.randn(20, 4, 8))[0][-1].pow(2).sum().backward()
    optimizer.step()
    moved = float((layer.weight_hh_l0.detach() - before).norm() / before.norm())
    (said,) = [e for e in ask(Question(lr=lr, hidden=hidden)).estimates if e.name == "update_ratio"]
    assert said.value == pytest.approx(moved, rel=0.05)
    assert said.fault == "lr-high"


def test_no_lag_no_vanishing() -> None:
    """Without the lag that the task needs, a small gradient accuses nobody."""
    assert ask(Question(hidden=16)).suspects == ()
    names = [s.fault.fault for s in ask(Question(hidden=16, lag=100)).suspects]
    assert "vanishing" in names


def test_the_slope_that_the_page_of_cells_states() -> None:
    """0.20 decades per step, 1e-40 after 199 (docs/cells.md, README)."""
    layer = torch.nn.LSTM(8, 64)
    x = torch.randn(200, 16, 8)
    measured = gradient_through_time(layer, lambda: layer(x)[0][-1].pow(2).mean(), lag=199)
    (found,) = measured.flows.values()
    ratio = found.by_lag.at(199)
    assert ratio == pytest.approx(-40, abs=3)
    assert ratio / 199 == pytest.approx(-0.20, abs=0.015)
    assert -ratio / 199 < math.log10(2)
