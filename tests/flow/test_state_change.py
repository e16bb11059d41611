"""Sensitivity of the states to the recurrent parameters, against closed forms, and its fault."""

import math
from collections.abc import Callable, Mapping
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

import steadygrad as sg
from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State
from steadygrad.diagnosis.watch import Watch
from steadygrad.flow import memory_sensitivity

STEPS = 100


class Diagonal(Cell):
    """h = u h + W x, u as it is: nothing keeps it within the unit circle."""

    name: ClassVar[str] = "diagonal-as-it-is"
    gates: ClassVar[tuple[str, ...]] = ("candidate",)
    per_unit: ClassVar[Mapping[str, float]] = {"u": 1.0}

    @property
    def recurrent(self) -> tuple[str, ...]:
        return ()

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        return (x.candidate + unit.u * state[0],)


def of_one_unit(value: float) -> nn.Module:
    layer = sg.Recurrent(Diagonal(), 1, 1, bias=False)
    with torch.no_grad():
        layer.get_parameter("u_l0").fill_(value)
    return layer


@pytest.mark.parametrize("value", [0.5, 0.9, 0.99])
def test_sensitivity_of_a_linear_unit_is_the_closed_form(value: float) -> None:
    torch.manual_seed(0)
    steps, batch = 2000, 8
    x = torch.randn(steps, batch, 1)
    measured = memory_sensitivity(of_one_unit(value), x)
    # Long sequences of white noise: both moments at their limit, up to the noise of a sample.
    limit = value * math.sqrt(1 + value**2) / (1 - value**2)
    assert measured == pytest.approx(limit, rel=0.15)
    h, d = torch.zeros(batch, 1).double(), torch.zeros(batch, 1).double()
    states, slopes = [], []
    for row in x.double():
        h, d = value * h + row, value * d + h  # dh/du by the recursion, of the old h
        states.append(h)
        slopes.append(d)
    exact = value * torch.stack(slopes).norm() / torch.stack(states).norm()
    assert measured == pytest.approx(float(exact), rel=1e-6)


def test_sensitivity_wants_a_parameter_in_the_recurrence() -> None:
    with pytest.raises(ValueError, match="no parameter in the recurrence"):
        memory_sensitivity(sg.Recurrent(sg.cells.MinGRU(), 2, 3), torch.randn(4, 1, 2))


class Remembers(nn.Module):
    def __init__(self, rnn: nn.Module, hidden: int = 8) -> None:
        super().__init__()
        self.rnn, self.fc = rnn, nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x)[0])


def diagonal() -> nn.Module:
    layer = sg.Recurrent(Diagonal(), 1, 8)
    with torch.no_grad():
        layer.get_parameter("u_l0").uniform_(0.98, 0.999)
        layer.get_parameter("weight_ih_l0").mul_(0.05)
    return layer


def trained(rnn: nn.Module, remedy: sg.remedies.Remedy | None = None) -> tuple[Watch, float]:
    """The paper's teacher: a slow linear unit. The watch, and the mean of the last losses."""
    model = Remembers(rnn)
    optimizer = torch.optim.Adam(model.parameters(), 0.03)
    watch = sg.watch(model, optimizer, lag=STEPS, every=25)
    if remedy is not None:
        remedy.begin(model, optimizer)
    losses: list[float] = []
    slow, size = 0.998, math.sqrt(1 - 0.998**2)
    for _ in range(200):
        x, h, targets = torch.randn(300, 8, 1), torch.zeros(8, 1), []
        for row in x:
            h = slow * h + size * row
            targets.append(h)
        loss = nn.functional.mse_loss(model(x), torch.stack(targets))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        watch.loss(loss)
        optimizer.step()
        losses.append(float(loss.detach()))
    return watch, sum(losses[-50:]) / 50


@pytest.mark.slow
def test_the_curse_of_memory_is_named_and_its_remedy_helps() -> None:
    torch.manual_seed(1)
    watch, loss = trained(diagonal())
    found = {f.fault: f for f in watch.findings}
    assert watch.verdict == "curse-of-memory"
    first = found["curse-of-memory"].remedies[0]
    assert first.startswith("recurrent-rate")
    torch.manual_seed(1)
    _, better = trained(diagonal(), sg.remedies.parse(first))
    assert better < loss / 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.LSTM(1, 8),
        lambda: nn.GRU(1, 8),
        lambda: sg.Recurrent(sg.cells.LRU(r_min=0.98, r_max=0.999, max_phase=0.01), 1, 8),
    ],
    ids=["lstm", "gru", "lru"],
)
def test_gated_and_reparametrised_twins_are_not_accused(
    make: Callable[[], nn.Module],
) -> None:
    torch.manual_seed(1)
    watch, _ = trained(make())
    assert "curse-of-memory" not in {f.fault for f in watch.findings}
