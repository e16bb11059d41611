"""Depth as a fault of its own, in stacks of recurrent layers and in networks without recurrence."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import steadygrad as sg
from steadygrad.flow import gradient_through_depth

F64 = torch.float64


def cells(stack: nn.RNNBase, x: Tensor) -> list[list[Tensor]]:
    """All states of a stack of tanh layers, made by a plain loop."""
    below, made = list(x), []
    for index in range(stack.num_layers):
        w, r, b, c = (
            stack.get_parameter(f"{name}_l{index}")
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        h, states = torch.zeros(x.shape[1], stack.hidden_size, dtype=x.dtype), []
        for given in below:
            h = torch.tanh(given @ w.t() + b + h @ r.t() + c)
            states.append(h)
        below = states
        made.append(states)
    return made


def test_depth_is_the_largest_gradient_of_each_layer_over_the_top() -> None:
    torch.manual_seed(0)
    stack, x = nn.RNN(3, 6, 5, dtype=F64), torch.randn(7, 4, 3, dtype=F64)
    made = cells(stack, x)
    flat = [h for states in made for h in states]
    grads = torch.autograd.grad(made[-1][-1].square().sum(), flat, allow_unused=True)
    norms = [0.0 if g is None else float(g.norm()) for g in grads]
    largest = np.array(norms).reshape(5, 7).max(1)
    (depth,) = sg.diagnose(stack, lambda: stack(x)[0][-1].square().sum()).depths
    np.testing.assert_allclose(depth.log10_share, np.log10(largest / largest[-1]), atol=1e-9)
    assert depth.layers == tuple(f"rnn.l{i}" for i in range(5))


class Deep(nn.Module):
    """Default LSTM layers, one module each."""

    def __init__(self, layers: int, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.layers = nn.ModuleList(nn.LSTM(16, 16) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x)[0] if self.residual else layer(x)[0]
        return x


@pytest.mark.parametrize("layers", [12, 20])
def test_a_deep_stack_vanishes_in_depth_and_does_not_explode(layers: int) -> None:
    torch.manual_seed(layers)
    stack, x = nn.LSTM(8, 32, layers), torch.randn(20, 4, 8)
    found = sg.diagnose(stack, lambda: stack(x)[0][-1].sum(), lag=10)
    assert {f.fault for f in found.findings} == {"vanishing-depth"}
    (finding,) = found.findings
    assert finding.layer == "lstm.l0" and finding.evidence["layers"] == layers
    assert finding.evidence["log10_ratio"] < -6
    assert f"in depth, {layers} layers" in str(found)


def test_a_way_around_each_layer_is_the_cure() -> None:
    x = torch.randn(8, 4, 16)
    for residual, verdict in ((False, "vanishing-depth"), (True, "healthy")):
        torch.manual_seed(1)
        model = Deep(14, residual)
        found = sg.diagnose(model, lambda model=model: model(x)[-1].square().mean(), lag=1)
        assert found.verdict == verdict


@pytest.mark.parametrize(("layers", "least"), [(2, -1.5), (4, -3.5), (8, -5.5)])
def test_a_few_layers_are_healthy_and_what_they_lose_is_told(layers: int, least: float) -> None:
    torch.manual_seed(layers)
    stack, x = nn.LSTM(8, 32, layers), torch.randn(8, 4, 8)
    found = sg.diagnose(stack, lambda: stack(x)[0][-1].sum(), lag=3)
    assert found.verdict == "healthy" and least < found.depths[0].lowest[1] < 0
    assert ("SGD" in str(found)) == (found.depths[0].lowest[1] < -3)


def test_the_same_network_is_judged_by_its_optimiser() -> None:
    """What Adam rescales plain SGD does not."""
    x = torch.randn(8, 4, 8)
    said = {}
    for kind in (torch.optim.SGD, torch.optim.Adam):
        torch.manual_seed(8)
        stack = nn.LSTM(8, 32, 8)
        optimizer = kind(stack.parameters(), 1e-4)
        with sg.watch(stack, optimizer, lag=1, every=1) as watch:
            stack(x)[0][-1].sum().backward()
            optimizer.step()
            said[kind.__name__] = watch.verdict
    assert said == {"SGD": "vanishing-depth", "Adam": "healthy"}


def mlp(layers: int, act: Callable[[], nn.Module], gain: float = 1.0) -> nn.Sequential:
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for _ in range(layers):
        linear = nn.Linear(16, 16)
        with torch.no_grad():
            linear.weight.mul_(gain)
        parts += [linear, act()]
    return nn.Sequential(*parts, nn.Linear(16, 1))


def convolutions(layers: int, act: Callable[[], nn.Module]) -> nn.Sequential:
    torch.manual_seed(0)
    parts = [m for _ in range(layers) for m in (nn.Conv2d(4, 4, 3, padding=1), act())]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(4 * 16, 1))


@pytest.mark.parametrize(
    ("model", "shape", "verdict"),
    [
        (mlp(3, nn.Tanh), (16,), "healthy"),
        (mlp(12, nn.Sigmoid), (16,), "vanishing-depth"),
        (mlp(16, nn.ReLU, 5.0), (16,), "exploding-depth"),
        (convolutions(3, nn.ReLU), (4, 4, 4), "healthy"),
        (convolutions(12, nn.Sigmoid), (4, 4, 4), "vanishing-depth"),
    ],
)
def test_a_network_without_recurrence_is_judged_in_depth(
    model: nn.Sequential, shape: tuple[int, ...], verdict: str, tmp_path: Any
) -> None:
    x = torch.randn(8, *shape)
    found = sg.diagnose(model, lambda: model(x).square().mean())
    assert found.verdict == verdict and "no recurrence: judged in depth" in str(found)
    expected = gradient_through_depth(model, lambda: model(x).square().mean())
    (depth,) = found.depths
    norms = list(expected.values())
    np.testing.assert_allclose(depth.log10_share, np.array(norms) - norms[-1], atol=1e-6)
    assert found.save(tmp_path / "page.html").stat().st_size > 1000
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)
    with sg.watch(model, optimizer, every=1) as watch:
        model(x).square().mean().backward()
        optimizer.step()
        assert watch.verdict == verdict
        assert watch.latest["log10_share"] == pytest.approx(depth.lowest[1], abs=1e-3)
    with pytest.raises(ValueError, match="no backward pass through"):
        sg.diagnose(model, lambda: model(x).sum(), lag=5)


def test_what_the_loss_does_not_read_is_no_layer_that_it_misses() -> None:
    torch.manual_seed(0)
    online, target = mlp(2, nn.Tanh), mlp(2, nn.Tanh, 2.0)
    model, x = nn.ModuleDict({"online": online, "target": target}), torch.randn(8, 16)
    found = sg.diagnose(model, lambda: (online(x) - target(x).detach()).square().mean())
    assert found.verdict == "healthy"
    assert [name.partition(".")[0] for name in found.depths[0].layers] == ["online"] * 3


def test_where_it_explodes_in_time_depth_is_not_accused_as_well() -> None:
    torch.manual_seed(0)
    stack: Any = nn.RNN(4, 16, 3, nonlinearity="relu")
    with torch.no_grad():
        for index in range(3):
            stack.get_parameter(f"weight_hh_l{index}").copy_(2.0 * torch.eye(16))
    x = torch.rand(20, 4, 4)
    found = sg.diagnose(stack, lambda: stack(x)[0][-1].mean())
    assert found.verdict == "exploding"
    assert not any("depth" in f.fault for f in found.findings)
    top = next(f for f in found.findings if f.layer == "rnn.l2")
    assert top.evidence["log10_ratio"] == pytest.approx(19 * math.log10(2.0), rel=0.1)


def test_a_layer_that_is_shut_is_told_and_not_what_it_does_to_those_below() -> None:
    torch.manual_seed(0)
    stack, x = nn.LSTM(4, 16, 2), torch.randn(12, 4, 4)
    with torch.no_grad():
        stack.get_parameter("bias_ih_l1")[32:48] = 14.0  # the candidate of the upper layer
    found = sg.diagnose(stack, lambda: stack(x)[0][-1].sum())
    assert [(f.fault, f.layer) for f in found.findings] == [("saturated", "lstm.l1")]
