"""Loops of one's own, whose states are marked: diagnosed and watched as recurrences."""

import pytest
import torch
from torch import Tensor, nn

import steadygrad as sg

STEPS = 40


class ByHand(nn.Module):
    """A plain RNN as it is written by hand; nothing in it is a recurrent layer."""

    def __init__(self, radius: float, name: str | None = "h") -> None:
        super().__init__()
        self.inner, self.recurrent = nn.Linear(2, 16), nn.Linear(16, 16, bias=False)
        self.head, self.name = nn.Linear(16, 1), name
        with torch.no_grad():
            self.inner.weight *= 0.1
            nn.init.orthogonal_(self.recurrent.weight).mul_(radius)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[1], 16)
        for step in x:
            h = torch.tanh(self.inner(step) + self.recurrent(h))
            if self.name is not None:
                h = sg.mark(h, self.name)
        return self.head(h)


class Bare(nn.Module):
    """The same of parameters alone: not even a linear layer."""

    def __init__(self, radius: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(radius * torch.eye(8))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.shape[1], 8)
        for step in x:
            h = sg.mark(h @ self.weight + step.mean(-1, keepdim=True))
        return h


@pytest.fixture
def x() -> Tensor:
    return torch.randn(STEPS, 8, 2)


@pytest.mark.parametrize(("radius", "verdict"), [(0.5, "vanishing"), (1.0, "healthy")])
def test_a_loop_by_hand_is_judged_by_its_marks(x: Tensor, radius: float, verdict: str) -> None:
    model = ByHand(radius)
    found = sg.diagnose(model, lambda: model(x).square().mean(), lag=STEPS - 1)
    assert found.verdict == verdict and found.flow["h"].time_steps == STEPS
    assert "h " in str(found) and found.to_json()["verdict"] == verdict
    optimizer = torch.optim.SGD(model.parameters(), 1e-9)
    with sg.watch(model, optimizer, lag=STEPS - 1, every=1) as watch:
        for _ in range(2):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        assert watch.flow["h"].by_lag.log10_ratio == pytest.approx(
            found.flow["h"].by_lag.log10_ratio, abs=1e-4
        )
        assert [f.fault for f in watch.findings] == [f.fault for f in found.findings]


def test_parameters_alone_are_enough(x: Tensor) -> None:
    model = Bare(0.5)
    found = sg.diagnose(model, lambda: model(x).sum(), lag=STEPS - 1)
    assert found.verdict == "vanishing"
    assert found.flow["state"].slope == pytest.approx(-0.30103, abs=1e-4)


def test_a_loop_whose_states_are_not_marked_is_not_called_healthy(x: Tensor) -> None:
    model = ByHand(1.0, name=None)
    found = sg.diagnose(model, lambda: model(x).square().mean())
    assert found.verdict == "not judged" and "sg.mark" in str(found)
    optimizer = torch.optim.SGD(model.parameters(), 1e-9)
    with sg.watch(model, optimizer, every=1) as watch:
        model(x).square().mean().backward()
        optimizer.step()
        assert watch.verdict == "not judged"
    with pytest.raises(ValueError, match=r"sg\.mark"):
        sg.diagnose(nn.ParameterList([nn.Parameter(torch.ones(1))]), lambda: x.sum())


def test_micro_batches_are_no_loop() -> None:
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), 1e-9)
    with sg.watch(model, optimizer, every=1) as watch:
        for _ in range(6):
            model(torch.randn(8, 2)).square().mean().backward()
        optimizer.step()
        assert watch.verdict == "healthy"


def test_marks_stand_beside_layers(x: Tensor) -> None:
    layer, weight = nn.GRU(2, 6), nn.Parameter(torch.full((6,), 0.5))
    model = nn.ModuleDict({"gru": layer})
    model.weight = weight

    def loss() -> Tensor:
        h = torch.zeros(8, 6)
        for step in layer(x)[0]:
            h = sg.mark(weight * h + step, "sum")
        return h.square().mean()

    found = sg.diagnose(model, loss, lag=20)
    assert set(found.flow) == {"gru", "sum"}
    assert found.flow["sum"].slope == pytest.approx(-0.30103, abs=1e-3)
