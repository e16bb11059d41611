"""The whole backward pass, against finite differences in float64 of what a plain loop computes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import steadygrad as sg
from steadygrad.flow import gradient_through_time
from steadygrad.flow.by_lag import LagCurve
from steadygrad.flow.whole_way import joined

F64 = torch.float64


def lstm(hidden: int, forget: float, scale: float, layers: int = 1) -> nn.LSTM:
    """Whose forget gate stands at ``forget``, and whose recurrent weights are scaled."""
    torch.manual_seed(hidden + layers)
    layer: Any = nn.LSTM(2, hidden, layers, dtype=F64)
    with torch.no_grad():
        for index in range(layers):
            layer.get_parameter(f"weight_hh_l{index}").mul_(scale)
            layer.get_parameter(f"bias_hh_l{index}").zero_()
            layer.get_parameter(f"bias_ih_l{index}").zero_()  # or c grows until tanh hides it
            layer.get_parameter(f"bias_ih_l{index}")[hidden : 2 * hidden] = forget
    return layer


def read(y: Tensor) -> Tensor:
    return (y[-1] * torch.linspace(1, 2, y.shape[-1], dtype=y.dtype)).sum()


def differences(answer: Callable[[Tensor], Tensor], x: Tensor, step: float = 1e-4) -> Any:
    """log10 of |dL/dx_t|, by central differences, the last step first."""
    with torch.no_grad():
        found = np.zeros(len(x))
        for t in range(len(x)):
            for place in np.ndindex(*x.shape[1:]):
                moved = torch.zeros_like(x)
                moved[(t, *place)] = step
                slope = (answer(x + moved) - answer(x - moved)) / (2 * step)
                found[t] += float(slope) ** 2
    return np.log10(found[::-1] + 1e-300) / 2


@pytest.mark.parametrize(
    ("hidden", "forget", "scale", "keeps"),
    [
        (1, 6.0, 0.0, True),
        (1, -2.0, 1.0, False),
        (16, 6.0, 0.0, True),
        (64, 5.0, 1e-3, True),  # all of it in c: dL/dh alone is 1e-60 after so many steps
        (64, -1.0, 1e-3, False),
    ],
)
def test_a_memory_is_kept_if_the_inputs_still_count(
    hidden: int, forget: float, scale: float, keeps: bool
) -> None:
    layer, lag = lstm(hidden, forget, scale), 40
    x = 0.5 * torch.randn(lag + 1, 1, 2, dtype=F64)
    found = sg.diagnose(layer, lambda: read(layer(x)[0]), lag=lag)
    expected = differences(lambda given: read(layer(given)[0]), x)
    ratio = expected - expected[0]
    way = found.flow["lstm"].way
    assert way is not None
    there = expected > -8  # below, the differences are rounding
    np.testing.assert_allclose(way.log10_ratio[there], ratio[there], atol=1e-3)
    assert (ratio.max() - ratio[-1] < 3) == keeps
    assert found.verdict == ("healthy" if keeps else "vanishing")


def test_in_a_stack_the_memory_may_be_any_layers() -> None:
    """Above a layer that keeps nothing one that does, and the other way round; in one module."""
    for forgetful in (0, 1):
        layer, x = lstm(6, 6.0, 0.0, layers=2), torch.randn(41, 2, 2, dtype=F64)
        with torch.no_grad():
            layer.get_parameter(f"bias_ih_l{forgetful}")[6:12] = -3.0
        found = sg.diagnose(layer, lambda layer=layer, x=x: read(layer(x)[0]), lag=40)
        low, top = found.flow["lstm.l0"], found.flow["lstm.l1"]
        assert low.is_lowest and not top.is_lowest and top.way is None
        assert found.verdict == "healthy"
        x_ = x.clone().requires_grad_()
        grads = torch.autograd.grad(read(layer(x_)[0]), x_)[0]
        norms = np.log10(grads.flatten(1).norm(dim=1).numpy()[::-1])
        assert low.way is not None
        np.testing.assert_allclose(low.way.log10_ratio, norms - norms[0], atol=1e-9)


class Stack(nn.Module):
    """Layers one above the other, each a module of its own, something between them."""

    def __init__(self, layers: int, residual: bool = False, keeps: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layers, self.residual = nn.ModuleList(nn.LSTM(5, 5) for _ in range(layers)), residual
        for layer in self.layers:
            with torch.no_grad():
                layer.get_parameter("bias_ih_l0")[5:10] = keeps

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            y = torch.tanh(layer(x)[0])
            x = x + y if self.residual else y
        return x


def looked_at(model: nn.Module, loss: Callable[[], Tensor], lag: int) -> Any:
    """What a watch sees of one step."""
    optimizer = torch.optim.SGD(model.parameters(), 1e-9)
    with sg.watch(model, optimizer, lag=lag, every=1, rows=64) as watch:
        loss().backward()
        optimizer.step()
        return watch.flow, watch.verdict


@pytest.mark.parametrize("at_every_step", [False, True])
def test_a_stack_of_modules_is_one_way_in_a_watch_too(at_every_step: bool) -> None:
    """Without a graph the layers are measured apart; what joins them must not lose any of it."""
    model, x = Stack(3), torch.randn(16, 4, 5)

    def loss() -> Tensor:
        return model(x).square().mean() if at_every_step else model(x)[-1].square().mean()

    whole = gradient_through_time(model, loss, lag=12).flows
    flows, _ = looked_at(model, loss, 12)
    assert [f.is_lowest for f in flows.values()] == [True, False, False]
    assert [f.is_lowest for f in whole.values()] == [True, False, False]
    low, below = flows["layers.0"], whole["layers.0"]
    assert low.way and below.way and low.depth and below.depth
    ours, theirs = low.way.kept(12), below.way.kept(12)
    assert ours == pytest.approx(theirs, abs=1.0 if at_every_step else 1e-3)
    np.testing.assert_allclose(low.depth.log10_share, below.depth.log10_share, atol=1e-3)


def test_a_classifier_that_reads_both_ends_sees_the_first_step() -> None:
    layer, x = nn.LSTM(3, 8, bidirectional=True), torch.randn(60, 4, 3)
    ends = sg.diagnose(layer, lambda: layer(x)[1][0].sum(), lag=59)
    assert ends.verdict == "healthy"
    tags = sg.diagnose(layer, lambda: layer(x)[0].square().mean(), lag=50)
    assert tags.verdict == "vanishing"


def test_a_decoder_is_no_layer_of_the_encoders_stack() -> None:
    low, top = nn.GRU(3, 6), nn.GRU(6, 6)
    model, x = nn.ModuleList([low, top]), torch.randn(12, 2, 3)
    found = sg.diagnose(model, lambda: top(low(x)[0][-5:])[0].sum(), lag=4)
    assert all(flow.is_lowest for flow in found.flow.values())


def test_ways_in_a_row_are_joined_at_their_best() -> None:
    line = np.arange(6.0)
    fast, slow = (LagCurve(-slope * line, 1, "per source") for slope in (2.0, 0.5))
    np.testing.assert_allclose(joined([fast, slow]).log10_ratio, -0.5 * line)
    np.testing.assert_allclose(joined([fast]).log10_ratio, -2 * line)


def test_what_is_kept_is_told_from_the_largest() -> None:
    hump = LagCurve(np.array([0.0, 2.0, 3.0, -1.0, -2.0]), 1, "total")
    assert hump.kept(1) == 0 and hump.kept(4) == -5 and hump.horizon() == 3
    assert LagCurve(np.array([0.0, np.inf, np.inf]), 1, "total").kept(2) == 0


class PerCall(nn.Module):
    """A layer called one step at a time, as policies and decoders do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.head = nn.RNN(4, 32), nn.Linear(32, 2)
        nn.init.normal_(self.layer.get_parameter("weight_hh_l0"), std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        y, h = self.layer(x[:1])
        for t in range(1, len(x)):
            y, h = self.layer(x[t : t + 1], h)
        return self.head(y[-1])


def test_a_layer_called_step_by_step_has_lost_what_it_has_lost() -> None:
    model, x = PerCall(), torch.randn(61, 16, 4)
    target = (x[0, :, 0] > 0).long()

    def loss() -> Tensor:
        return nn.functional.cross_entropy(model(x), target)

    found = sg.diagnose(model, loss, lag=60)
    assert found.verdict == "vanishing" and found.log10_ratio < -40
    assert "vanishing" in str(found)
    flows, said = looked_at(model, loss, 60)
    assert said == "vanishing" and len(flows) == 1


def test_gates_that_only_flip_between_their_ends_are_out_of_reach() -> None:
    """Inputs of a million: every gate is 0 or 1 by the sign of its argument, and has no slope."""
    torch.manual_seed(0)
    layer = nn.LSTM(5, 20)
    x = 1e6 * torch.randn(30, 8, 5)
    found = sg.diagnose(layer, lambda: layer(x)[0][-1].square().sum())
    shut = {f.gate for f in found.findings if f.fault == "saturated"}
    assert {"input", "output", "candidate"} <= shut
    assert any("switch between their two extremes" in f.text for f in found.findings)


def test_a_gate_that_keeps_for_as_long_as_the_task_needs_is_not_stuck() -> None:
    """Where one gate keeps and writes, a small share is written at each step, as it has to be."""
    torch.manual_seed(0)
    layer, x = nn.GRU(3, 16), torch.randn(401, 4, 3)
    with torch.no_grad():
        layer.get_parameter("bias_ih_l0")[16:32] = 6.5  # the update gate at 1 - 1/665
    kept = sg.diagnose(layer, lambda: layer(x)[0][-1].sum(), lag=400)
    assert kept.verdict == "healthy"
    far = sg.diagnose(layer, lambda: layer(x[-21:])[0][-1].sum(), lag=20)
    assert far.verdict == "saturated"
