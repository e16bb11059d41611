"""Clips: the measure of every claim, on layers of torch and ours."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import steadygrad.nn as sg
from steadygrad import remedies
from steadygrad.remedies import Remedy

Claim = Callable[[str], None]
CLAIMS: dict[str, Claim] = {}
FAMILIES: dict[str, Any] = {"torch": nn, "ours": sg}
H = 4


def claim(name: str) -> Callable[[Claim], Claim]:
    def register(measure: Claim) -> Claim:
        CLAIMS[name] = measure
        return measure

    return register


def fill(parameters: Sequence[nn.Parameter], norm: float, seed: int = 0) -> np.ndarray:
    """Give the parameters random gradients of a given global norm; return them as one vector."""
    source = torch.Generator().manual_seed(seed)
    grads = [torch.randn(p.shape, dtype=p.dtype, generator=source) for p in parameters]
    total = math.sqrt(sum(float(g.square().sum()) for g in grads))
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.grad = grad * (norm / total)
    return vector(parameters)


def vector(parameters: Sequence[nn.Parameter]) -> np.ndarray:
    return np.concatenate([p.grad.numpy().ravel() for p in parameters if p.grad is not None])


def layer(family: str) -> Any:
    torch.manual_seed(0)
    return FAMILIES[family].LSTM(3, H).double()


def lengths(remedy: Remedy, family: str, norms: Sequence[float]) -> list[tuple[float, float]]:
    """Norms that go in and come out, step by step."""
    model = layer(family)
    parameters = list(model.parameters())
    treatment = remedy.begin(model)
    found = []
    for step, norm in enumerate(norms):
        fill(parameters, norm, step)
        report = treatment()
        after = float(np.linalg.norm(vector(parameters)))
        assert float(report["grad_norm"]) == pytest.approx(norm, rel=1e-5)
        assert float(report["grad_norm_clipped"]) == pytest.approx(after, rel=1e-4, abs=1e-9)
        found.append((norm, after))
    return found


@claim("auto-clip")
def auto_clip_bounds_the_norm_by_a_percentile(family: str) -> None:
    norms = list(np.random.default_rng(0).lognormal(size=40))
    for percent in (10.0, 90.0):
        found = lengths(remedies.AutoClip(percent), family, norms)
        for step, (before, after) in enumerate(found):
            bound = np.percentile(norms[: step + 1], percent)
            assert after == pytest.approx(min(before, bound), rel=1e-5)


@claim("z-clip")
def z_clip_brings_outliers_back(family: str) -> None:
    norms = list(1 + 0.1 * np.random.default_rng(1).normal(size=30))
    norms[28] = 50.0
    found = lengths(remedies.ZClip(max_norm=None), family, norms)
    for step, (before, after) in enumerate(found):
        if step == 28:
            assert after < 1.5
        else:
            assert after == pytest.approx(before, rel=1e-5)


@claim("skip-spike")
def skip_spike_zeroes_what_stands_out(family: str) -> None:
    norms = list(np.exp(0.1 * np.random.default_rng(2).normal(size=40)))
    norms[35] = 10.0
    found = lengths(remedies.SkipSpike(), family, norms)
    assert [after == 0 for _, after in found] == [step == 35 for step in range(40)]
    assert all(a == pytest.approx(b) for step, (b, a) in enumerate(found) if step != 35)


@claim("ada-gc")
def ada_gc_bounds_each_parameter_by_its_own_past(family: str) -> None:
    model = layer(family)
    parameters = list(model.parameters())
    treatment = remedies.AdaGC(ratio=1.1, beta=0.9, warmup=4).begin(model)
    average = np.full(len(parameters), np.inf)
    for step, norm in enumerate([0.5, 0.7, 3.0, 0.6, 0.8, 40.0, 0.1]):
        fill(parameters, norm, step)
        before = np.array([float(p.grad.norm()) for p in parameters if p.grad is not None])
        treatment()
        after = np.array([float(p.grad.norm()) for p in parameters if p.grad is not None])
        if step < 4:
            np.testing.assert_allclose(after, before * min(1, 1 / norm), rtol=1e-5)
            average = np.minimum(average, after)
        else:
            np.testing.assert_allclose(after, np.minimum(before, 1.1 * average), rtol=1e-5)
            average = 0.9 * average + 0.1 * after


@claim("agc")
def agc_bounds_each_unit_by_its_weights(family: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(layer(family), nn.Linear(H, 2).double())
    parameters = list(model.parameters())
    fill(parameters, 1e3)
    before = [p.grad.clone() for p in parameters if p.grad is not None]
    remedies.AGC(0.02).begin(model)()
    for number, (parameter, old) in enumerate(zip(parameters, before, strict=True)):
        grad = parameter.grad
        assert grad is not None
        if number >= 4:  # the last linear layer is left alone
            torch.testing.assert_close(grad, old, rtol=0, atol=0)
            continue
        rows = (grad, old, parameter.detach())
        own, was, weight = (t.norm(dim=1) if t.dim() > 1 else t.norm()[None] for t in rows)
        torch.testing.assert_close(own, torch.minimum(was, 0.02 * weight.clamp(min=1e-3)))


@claim("spam-clip")
def spam_clip_bounds_each_entry_by_its_running_size(family: str) -> None:
    model = layer(family)
    parameters = list(model.parameters())
    treatment = remedies.SpamClip(threshold=3.0, beta2=0.9, warmup=3).begin(model)
    squares = np.zeros(sum(p.numel() for p in parameters))
    for step, norm in enumerate([1.0, 1.0, 1.0, 5.0, 1.0, 100.0]):
        before = fill(parameters, norm, step)
        treatment()
        after = vector(parameters)
        bound = np.sqrt(3.0 * squares) if step >= 3 else np.inf
        np.testing.assert_allclose(after, np.clip(before, -bound, bound), rtol=1e-9)
        squares = 0.9 * squares + 0.1 * after**2


# Inside backpropagation through time: an RNN unrolled by hand, with hooks where the clip acts.


class Unrolled(nn.Module):
    """h_t = tanh(W x_t + b + R h_(t-1) + c), every place of a clip an ordinary tensor."""

    def __init__(self, weights: nn.Module, hook: Callable[[Tensor], Tensor], place: str) -> None:
        super().__init__()
        self.weights, self.hook, self.place = weights, hook, place

    def _at(self, place: str, value: Tensor) -> Tensor:
        if place != self.place or not value.requires_grad:
            return value
        value = value.view_as(value)
        value.register_hook(self.hook)
        return value

    def forward(self, x: Tensor) -> tuple[Tensor]:
        w: Any = self.weights
        h, out = x.new_zeros(x.shape[1], H), []
        for x_t in x:
            pre = x_t @ w.weight_ih_l0.T + w.bias_ih_l0 + w.bias_hh_l0
            pre = pre + self._at("recurrent", h) @ w.weight_hh_l0.T
            h = self._at("total", self._at("preactivation", pre).tanh())
            out.append(h)
        return (torch.stack(out),)


def norm_hook(bound: float) -> Callable[[Tensor], Tensor]:
    return lambda grad: grad * (bound / grad.norm(dim=1, keepdim=True)).clamp(max=1)


def value_hook(bound: float) -> Callable[[Tensor], Tensor]:
    return lambda grad: grad.clamp(-bound, bound)


def loop_gradients(model: nn.Module, weights: nn.Module, x: Tensor) -> list[Tensor]:
    weights.zero_grad()
    y = model(x)[0]
    source = torch.Generator().manual_seed(3)
    (y * torch.randn(y.shape, dtype=y.dtype, generator=source)).sum().backward()
    return [p.grad.clone() for p in weights.parameters() if p.grad is not None]


def plain(family: str) -> tuple[Any, Tensor]:
    torch.manual_seed(0)
    rnn = FAMILIES[family].RNN(3, H).double()
    nn.init.orthogonal_(rnn.weight_hh_l0, 1.8)  # so that the gradient grows
    return rnn, 0.1 * torch.randn(9, 5, 3, dtype=torch.float64)


def same_as_unrolled(remedy: Remedy, family: str, hook: Any, place: str) -> None:
    rnn, x = plain(family)
    free = loop_gradients(rnn, rnn, x)
    expected = loop_gradients(Unrolled(rnn, hook, place), rnn, x)
    model = nn.Sequential(rnn)
    remedy.apply(model)
    found = loop_gradients(model, rnn, x)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found[1], free[1], rtol=1e-2)  # the clip acts here


@claim("clip-through-time")
def clip_through_time_is_a_hook_on_every_step(family: str) -> None:
    for by, hook in (("norm", norm_hook(0.5)), ("value", value_hook(0.5))):
        for place in ("recurrent", "total", "preactivation"):
            remedy = remedies.ClipThroughTime(0.5, by, place)  # pyright: ignore[reportArgumentType]
            same_as_unrolled(remedy, family, hook, place)


@claim("derivative-clip")
def derivative_clip_is_a_hook_on_the_gates(family: str) -> None:
    same_as_unrolled(remedies.DerivativeClip(0.5), family, value_hook(0.5), "preactivation")


@claim("truncate")
def truncate_lets_no_gradient_pass_a_cut(family: str) -> None:
    rnn, x = plain(family)
    model = nn.Sequential(rnn)
    y = model(x)[0].detach()
    remedies.Truncate(4).apply(model)
    x.requires_grad_()
    for last, first in ((8, 8), (7, 4), (3, 0)):  # cuts before steps 4 and 8
        (grad,) = torch.autograd.grad(model(x)[0][last].sum(), x)
        reached = [t for t in range(9) if grad[t].abs().sum() > 0]
        assert reached == list(range(first, last + 1))
    torch.testing.assert_close(model(x)[0].detach(), y)
