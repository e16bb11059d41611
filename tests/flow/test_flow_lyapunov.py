"""Lyapunov exponents, against closed forms and finite differences."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import steadygrad as sg
from steadygrad.cells import Cell, Gates, PerUnit, Recur, State
from steadygrad.flow import (
    LyapunovChain,
    advance,
    linearise,
    lyapunov_exponents,
    lyapunov_of_jacobians,
)
from tests.flow.test_flow_jacobian import differences, start

F64 = torch.float64


@final
@dataclass(frozen=True)
class Linear(Cell):
    """h = W x + R h: its exponents are known."""

    name: ClassVar[str] = "linear"
    gates: ClassVar[tuple[str, ...]] = ("candidate",)

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        return (x.candidate + recur.candidate(state[0]),)


def linear(matrix: Tensor) -> Any:
    layer: Any = sg.Recurrent(Linear(), 2, len(matrix), bias=False, dtype=F64)
    layer.weight_hh_l0.data.copy_(matrix)
    return layer


@pytest.mark.parametrize("gain", [1e-3, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("k", [None, 3])
def test_an_orthogonal_recurrence_gives_the_logarithm_of_its_gain(
    gain: float, graph: bool, k: int | None
) -> None:
    layer = linear(nn.init.orthogonal_(torch.empty(8, 8, dtype=F64), gain))
    with torch.set_grad_enabled(graph):
        got = lyapunov_exponents(layer, torch.randn(100, 3, 2, dtype=F64), k=k)
    assert got.shape == (k or 8,) and got.requires_grad == graph
    assert float((got.detach() - math.log(gain)).abs().max()) < 1e-6


def test_a_diagonal_recurrence_gives_the_logarithm_of_each_entry() -> None:
    w = torch.tensor([0.3, -1.2, 0.9, 0.01, -0.5], dtype=F64)
    with torch.no_grad():
        got = lyapunov_exponents(linear(w.diag()), torch.randn(60, 1, 2, dtype=F64))
        leading = lyapunov_exponents(
            linear(w.diag()), torch.randn(900, 1, 2, dtype=F64), k=2, discard=300
        )
    want = w.abs().log().sort(descending=True).values
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(leading, want[:2], rtol=1e-9, atol=1e-9)


def spectrum(jacobians: np.ndarray, discard: int) -> np.ndarray:
    """Benettin's recipe in numpy, one QR per step."""
    q, logs = np.eye(jacobians.shape[1]), []
    for t, step in enumerate(jacobians):
        q, r = np.linalg.qr(step @ q)
        if t >= discard:
            logs.append(np.log(np.abs(np.diag(r))))
    return np.mean(logs, 0)


@pytest.mark.parametrize("make", [nn.RNN, nn.LSTM, nn.GRU])
def test_torch_layers_against_finite_differences(make: Any) -> None:
    layer = make(3, 8, dtype=F64)
    x, state = torch.randn(80, 2, 3, dtype=F64), start(layer, 2) if make is nn.LSTM else None
    zeros = state or (torch.zeros(1, 2, 8, dtype=F64),)
    steps = differences(layer, x, zeros).numpy()
    want = np.sort(np.mean([spectrum(steps[:, b], 10) for b in range(2)], 0))[::-1]
    np.testing.assert_allclose(
        lyapunov_exponents(layer, x, state, discard=10).detach(), want, atol=1e-3
    )
    with torch.no_grad():
        np.testing.assert_allclose(lyapunov_exponents(layer, x, state, discard=10), want, atol=1e-3)


def test_a_quiet_random_network_gives_the_logarithm_of_its_gain() -> None:
    """Without input the state is zero, and R's spectral radius is g."""
    layer: Any = nn.RNN(1, 200, bias=False, dtype=F64)
    layer.weight_hh_l0.data.normal_(0, 0.7 / math.sqrt(200))
    with torch.no_grad():
        got = lyapunov_exponents(layer, torch.zeros(400, 1, 1, dtype=F64), k=3, discard=100)
    assert float(got[0]) == pytest.approx(math.log(0.7), abs=0.1)


def test_how_often_it_is_decomposed_changes_nothing_but_rounding() -> None:
    layer, x = nn.LSTM(3, 10, dtype=F64), torch.randn(60, 2, 3, dtype=F64)
    with torch.no_grad():
        each, some, few = (lyapunov_exponents(layer, x, qr_every=q) for q in (None, 1, 3))
    by_qr = lyapunov_exponents(layer, x, qr_every=1).detach()
    for other in (each, some, few):
        torch.testing.assert_close(other, by_qr, rtol=0, atol=1e-5)
    with torch.no_grad():  # and too rarely is seen as what it is
        assert not torch.allclose(lyapunov_exponents(layer, x, qr_every=60), by_qr, atol=1e-2)


def test_discarded_steps_do_not_count() -> None:
    layer, x = nn.GRU(3, 6, dtype=F64), torch.randn(40, 1, 3, dtype=F64)
    with torch.no_grad():
        parts = [
            lyapunov_of_jacobians(steps, qr_every=1)
            for steps in [linearise(layer, x).jacobian(slice(0, 40)).dense(40)]
        ]
        whole = lyapunov_exponents(layer, x, qr_every=1)
        late = lyapunov_exponents(layer, x, discard=25, qr_every=1)
    torch.testing.assert_close(parts[0], whole)
    steps = linearise(layer, x).jacobian(slice(0, 40)).dense(40).detach().numpy()
    np.testing.assert_allclose(late, np.sort(spectrum(steps, 25))[::-1], atol=1e-9)
    assert not torch.allclose(late, whole, atol=1e-3)


def test_a_chain_goes_on_where_it_stopped() -> None:
    layer, x = nn.GRU(3, 6, dtype=F64), torch.randn(30, 2, 3, dtype=F64)
    with torch.no_grad():
        chain = LyapunovChain(k=2)
        advance(chain, linearise(layer, x[:17]))
        directions = chain.directions
        assert directions is not None and directions.shape == (2, 6, 2)
        torch.testing.assert_close(
            directions.mT @ directions, torch.eye(2, dtype=F64).expand(2, 2, 2)
        )
        advance(chain, linearise(layer, x[17:], layer(x[:17])[1]))
        torch.testing.assert_close(chain.exponents, lyapunov_exponents(layer, x, k=2))
    assert chain.steps == 30


def test_the_gradient_of_an_exponent_is_exact() -> None:
    layer = nn.LSTM(2, 3, dtype=F64)
    x = torch.randn(6, 2, 2, dtype=F64)
    weights = [layer.weight_hh_l0, layer.weight_ih_l0, layer.bias_hh_l0]
    lyapunov_exponents(layer, x, k=4).square().mean().backward()
    for weight in weights:
        assert isinstance(weight, Tensor) and weight.grad is not None
        at, eps = (1, 0)[: weight.dim()], 1e-6
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[at] += sign * eps
                values.append(lyapunov_exponents(layer, x, k=4, qr_every=1).square().mean())
                weight[at] -= sign * eps
        want = (values[0] - values[1]) / (2 * eps)
        torch.testing.assert_close(weight.grad[at], want, rtol=1e-5, atol=1e-8)


def test_flossing_raises_the_leading_exponents() -> None:
    """Engelken 2023: descend on the mean square of the exponents."""
    layer = nn.RNN(1, 16)
    optimizer = torch.optim.Adam(layer.parameters(), 1e-2)
    first = last = 0.0
    for _ in range(60):
        loss = lyapunov_exponents(layer, torch.randn(20, 4, 1), k=8).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first, last = first or loss.item(), loss.item()
    assert last < 0.1 * first


def test_refusals_say_what_is_wrong() -> None:
    layer, x = nn.GRU(2, 3), torch.randn(5, 1, 2)
    for options, text in [
        ({"k": 0}, "at least 1"),
        ({"k": 4}, "at most the 3 features"),
        ({"discard": -1}, "must not be negative"),
        ({"discard": 5}, "less than the 5 steps"),
        ({"qr_every": 0}, "at least 1"),
    ]:
        with pytest.raises(ValueError, match=text):
            lyapunov_exponents(layer, x, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no steps left"):
        _ = LyapunovChain().exponents
    with pytest.raises(ValueError, match=r"must be \(B, N, N\)"):
        lyapunov_of_jacobians([torch.zeros(2, 3)])
