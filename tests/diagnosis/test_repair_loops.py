"""Repair of a training by the loop that its owner has, and what it must never keep."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.optimizer import _global_optimizer_pre_hooks

import steadygrad as sg
from steadygrad.errors import InputError

STEPS = 30


class Net(nn.Module):
    def __init__(self, kind: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.rnn: Any = kind(1, 12)
        self.head = nn.Linear(12, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][-1])


def batch() -> tuple[Tensor, Tensor]:
    x = torch.randn(STEPS, 32, 1)
    return x, x[-1].clone()  # of the last step: learned within a few dozen steps


def stepper(net: nn.Module, optimizer: torch.optim.Optimizer) -> Callable[[], Tensor]:
    def step() -> Tensor:
        x, y = batch()
        optimizer.zero_grad()
        loss = F.mse_loss(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def state_of(net: nn.Module, optimizer: torch.optim.Optimizer) -> Any:
    return copy.deepcopy((net.state_dict(), optimizer.state_dict()))


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, Tensor) else one == other


def test_a_step_without_arguments_is_all_it_takes() -> None:
    """A rate a thousand times too high is mended, and the model left as it was."""
    torch.manual_seed(0)
    mine = Net(nn.GRU)
    solver = torch.optim.Adam(mine.parameters(), 3.0)
    step = stepper(mine, solver)
    for _ in range(2):
        step()
    before, random = state_of(mine, solver), torch.get_rng_state()
    tried = ["clip-norm", "learning-rate:factor=0.003"]
    found = sg.repair(mine, step, steps=60, remedies=tried, target=10.0)
    assert same(state_of(mine, solver), before) and torch.equal(torch.get_rng_state(), random)
    assert not _global_optimizer_pre_hooks
    assert found.choice is not None and {f.candidate for f in found.choice.forks} >= set(tried)


def test_a_whole_training_of_a_copy() -> None:
    torch.manual_seed(1)
    mine = Net(nn.RNN)
    before = copy.deepcopy(mine.state_dict())

    def fit(net: nn.Module) -> float:
        step = stepper(net, torch.optim.Adam(net.parameters(), 5e-3))
        losses = [float(step().detach()) for _ in range(40)]
        return -sum(losses[-5:])

    found = sg.repair(mine, fit, lag=STEPS - 1, dry_run=True)
    assert found.choice is None and same(mine.state_dict(), before)
    assert found.verdict in ("vanishing", "healthy")
    tried = sg.repair(mine, fit, remedies=["clip-norm:max_norm=1e-9"], findings=[])
    assert tried.choice is not None and tried.choice.kept is None


def test_what_trains_nothing_is_refused_in_words() -> None:
    mine = Net(nn.GRU)
    step = stepper(mine, torch.optim.SGD(mine.parameters(), 0.1))
    with pytest.raises(InputError, match="trained no parameter of the model: it must call"):
        sg.repair(mine, lambda: 0.0)
    with pytest.raises(InputError, match="make the optimiser inside of the function"):
        sg.repair(mine, lambda net: float(step().detach()))
    with pytest.raises(InputError, match=r"must return a number.*got NoneType"):
        sg.repair(mine, lambda: None if step() is not None else 0)
    with pytest.raises(InputError, match="give that model"):
        sg.repair(lambda: mine, step)
    with pytest.raises(InputError, match="expected loss_fn"):
        sg.repair(mine, lambda net, course: 0.0)


def exploded(kind: Callable[[int, int], nn.Module], gain: float) -> Net:
    net = Net(kind)
    with torch.no_grad():
        net.rnn.weight_hh_l0.mul_(gain)
    return net


def relu(inputs: int, hidden: int) -> nn.Module:
    return nn.RNN(inputs, hidden, nonlinearity="relu")


SETTINGS: dict[str, tuple[Callable[[], Net], Callable[..., torch.optim.Optimizer], dict[str, Any]]]
SETTINGS = {
    "relu, rate 3": (lambda: Net(relu), torch.optim.SGD, {"lr": 3.0}),
    "relu, rate 30, Adam": (lambda: Net(relu), torch.optim.Adam, {"lr": 30.0}),
    "relu, large weights": (lambda: exploded(relu, 12), torch.optim.SGD, {"lr": 0.1}),
    "relu, momentum": (lambda: Net(relu), torch.optim.SGD, {"lr": 1.0, "momentum": 0.95}),
    "tanh, rate 1": (lambda: Net(nn.RNN), torch.optim.Adam, {"lr": 1.0}),
    "tanh, large weights": (lambda: exploded(nn.RNN, 30), torch.optim.SGD, {"lr": 0.5}),
    "tanh, rate 1e-7": (lambda: Net(nn.RNN), torch.optim.Adam, {"lr": 1e-7}),
    "gru, rate 100": (lambda: Net(nn.GRU), torch.optim.SGD, {"lr": 100.0}),
    "gru, large weights": (lambda: exploded(nn.GRU, 30), torch.optim.RMSprop, {"lr": 0.3}),
    "lstm, rate 1000": (lambda: Net(nn.LSTM), torch.optim.SGD, {"lr": 1000.0}),
    "lstm, rate 10, AdamW": (lambda: Net(nn.LSTM), torch.optim.AdamW, {"lr": 10.0}),
    "lstm, rate 1e-8": (lambda: Net(nn.LSTM), torch.optim.SGD, {"lr": 1e-8}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_no_kept_remedy_ends_dead_or_worse(name: str) -> None:
    """Judged by an own loop, under seeds that the repair has not seen."""
    make, kind, options = SETTINGS[name]

    def trained(net: nn.Module, spec: str | None, seed: int) -> tuple[float, float]:
        torch.manual_seed(seed)
        remedy = () if spec is None else (sg.remedies.parse(spec),)
        course = sg.remedies.Course(remedy, net)
        optimizer = kind(net.parameters(), **options)
        course.begin(optimizer)
        losses: list[float] = []
        for _ in range(80):
            x, y = batch()
            optimizer.zero_grad()
            loss = F.mse_loss(net(x), y)
            (loss + course.penalty(loss)).backward()
            course.gradients()
            optimizer.step()
            losses.append(float(loss.detach()))
        return sum(losses[:3]) / 3, sum(losses[-8:]) / 8

    torch.manual_seed(0)
    mine = make()
    step = stepper(mine, kind(mine.parameters(), **options))
    always = ["nonfinite", "clip-norm", "clip-value", "skip-spike", "learning-rate"]
    found = sg.repair(mine, step, lag=STEPS - 1, steps=80, remedies=always)
    if found.choice is None or found.choice.kept is None:
        return
    kept = found.choice.kept
    for seed in (101, 102):
        _, without = trained(copy.deepcopy(mine), None, seed)
        start, end = trained(copy.deepcopy(mine), kept, seed)
        assert math.isfinite(end) and end < start, (kept, start, end)
        assert not math.isfinite(without) or end < 1.05 * without, (kept, without, end)
