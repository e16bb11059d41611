"""Exponents followed in training: compiled backward passes against transposed step Jacobians."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import steadygrad as sg
from steadygrad.flow import LiveExponents, LyapunovChain, linearise, lyapunov_of_jacobians
from steadygrad.flow.adjoint import retreat, segment_for
from steadygrad.flow.capture import Call
from steadygrad.flow.linearise import trajectory
from tests.helpers.marks import needs_compiler

pytestmark = pytest.mark.usefixtures("any_backend")

F64 = torch.float64
CELLS = [
    nn.LSTM,
    nn.GRU,
    nn.RNN,
    "gru-original",
    "lstm-peephole",
    "lstm-layer-norm",
    "slstm",
    "lem",
    "cornn",
    "mgu",
]


def made(kind: Any, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    if isinstance(kind, str):
        return sg.Recurrent(kind, 3, 6, **options)
    return kind(3, 6, **options)


def jacobians_backward(layer: nn.Module, x: Tensor, reverse: bool = False) -> Iterator[Tensor]:
    """Transposed, the last step of the layer's way first: eager, in float64, with J formed."""
    linear = linearise(layer, x, reverse=reverse)
    for rows in reversed(list(linear.steps())):
        yield linear.jacobian(rows).dense(x.shape[1]).mT


@contextmanager
def backend(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("STEADYGRAD_BACKEND", name)
        yield


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("kind", CELLS)
@torch.no_grad()
def test_a_backward_pass_gives_what_transposed_jacobians_give(
    kind: Any, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, x = made(kind), torch.randn(41, 2, 3)
    want = lyapunov_of_jacobians(jacobians_backward(layer, x), k=3)
    for name in ("c", "eager"):
        with backend(name, monkeypatch):
            chain = LyapunovChain(3, qr_every=1)
            retreat(chain, trajectory(layer, x).to(dtype), 5)
        np.testing.assert_allclose(chain.exponents, want, atol=1e-5 if dtype != F64 else 1e-10)
        assert chain.steps == 41


@pytest.mark.parametrize("segment", [1, 4, 41])
@torch.no_grad()
def test_the_length_of_a_segment_changes_nothing(segment: int) -> None:
    layer, x = made(nn.LSTM, bidirectional=True), torch.randn(41, 2, 3)
    for reverse in (False, True):
        chain = LyapunovChain(2, qr_every=1)
        retreat(chain, trajectory(layer, x, reverse=reverse), segment)
        want = lyapunov_of_jacobians(jacobians_backward(layer, x, reverse), k=2)
        np.testing.assert_allclose(chain.exponents, want, atol=1e-9)


def test_in_the_long_run_both_ways_give_the_same() -> None:
    layer = made(nn.RNN)
    with torch.no_grad():
        layer.get_parameter("weight_hh_l0").mul_(2)
        x = torch.randn(4000, 1, 3)
        want = sg.flow.lyapunov_exponents(layer, x, k=2)
        chain = LyapunovChain(2, qr_every=1)
        retreat(chain, trajectory(layer, x), 8)
    np.testing.assert_allclose(chain.exponents, want, atol=2e-3)


def call(layer: nn.Module, x: Tensor) -> Call:
    output, last = layer(x)
    last = last if isinstance(last, tuple) else (last,)
    return Call("layer", layer, x, (), output.detach(), tuple(s.detach() for s in last))


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_what_is_followed_settles_at_the_spectrum(dtype: torch.dtype) -> None:
    layer, x = made(nn.LSTM, num_layers=2).to(dtype), torch.randn(250, 4, 3, dtype=dtype)
    live = LiveExponents(2, 8)
    found = [live.measure(call(layer, x)) for _ in range(6)][-1]
    for index, got in enumerate(found):
        with torch.no_grad():
            want = sg.flow.lyapunov_exponents(layer, x, index=index, k=2, discard=20)
        np.testing.assert_allclose(got, want, atol=0.03)
    assert not any(p.grad is not None for p in layer.parameters())


def test_a_network_that_kills_its_gradient_is_followed_all_the_same() -> None:
    """The first look, in segments of several steps, underflows in float32; the next does not."""
    layer, x = made(nn.RNN), torch.randn(40, 2, 3)
    with torch.no_grad():
        nn.init.eye_(layer.get_parameter("weight_hh_l0")).mul_(1e-14)
    live = LiveExponents(1, 8)
    found = [float(live.measure(call(layer, x))[0][0]) for _ in range(2)]
    assert found[0] < -32 and -36 < found[1] < -32  # ln 1e-14 is -32.2, and tanh' at most 1


def test_segments_get_no_longer_than_numbers_allow() -> None:
    apart = torch.tensor([0.0, -1.0])
    assert segment_for(apart, torch.float32) == 7 and segment_for(apart, F64) == 22
    assert segment_for(torch.tensor([-10.0, -10.0]), torch.float32) == 4
    assert segment_for(torch.tensor([0.0, -torch.inf]), F64) == 1
    assert segment_for(torch.tensor([0.0, 0.0]), F64) == 32
