"""Initialisers against closed forms; every axis has its own size."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from steadygrad import init

G, H, I = 3, 8, 5
DOUBLE = torch.float64


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def same(filled: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(filled, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_every_block_is_orthogonal_times_gain(gain: float, generator: torch.Generator) -> None:
    weight = torch.zeros(G * H, H, dtype=DOUBLE)
    assert init.orthogonal_(weight, G, gain, generator) is weight
    for block in weight.view(G, H, H):
        same(block @ block.T, gain**2 * torch.eye(H, dtype=DOUBLE))
    assert not torch.equal(weight[:H], weight[H : 2 * H])


def test_a_block_that_is_not_square_is_semi_orthogonal(generator: torch.Generator) -> None:
    weight = init.orthogonal_(torch.zeros(G * H, I, dtype=DOUBLE), G, 1.0, generator)
    for block in weight.view(G, H, I):
        same(block.T @ block, torch.eye(I, dtype=DOUBLE))


def test_every_block_is_a_scaled_identity() -> None:
    weight = torch.full((G * H, H), 7.0, dtype=DOUBLE)
    assert init.identity_(weight, G, 0.3) is weight
    same(weight.view(G, H, H), 0.3 * torch.eye(H, dtype=DOUBLE).expand(G, H, H))


def test_glorot_counts_the_fan_of_one_gate(generator: torch.Generator) -> None:
    weight = torch.zeros(4 * 200, 100, dtype=DOUBLE)
    assert init.glorot_(weight, 4, 2.0, generator) is weight
    bound = 2.0 * math.sqrt(6 / (100 + 200))  # a stack of four would give sqrt(6 / 900)
    assert weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
    assert weight.abs().max().item() <= bound
    # A uniform law on (-a, a) has the standard deviation a / sqrt(3).
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)


@pytest.mark.parametrize("gate", range(G))
def test_gate_bias_sets_one_gate_and_leaves_the_others(gate: int) -> None:
    bias = torch.arange(G * H, dtype=DOUBLE)
    expected = bias.clone()
    expected[gate * H : (gate + 1) * H] = 2.5
    assert init.gate_bias_(bias, G, gate, 2.5) is bias
    same(bias, expected)


def test_chrono_shares_out_the_lags(generator: torch.Generator) -> None:
    bias = torch.zeros(20_000, dtype=DOUBLE)
    assert init.chrono_(bias, 100.0, generator) is bias
    gate = bias.sigmoid()
    # A gate held at f has the characteristic time 1 / (1 - f).
    times = 1 / (1 - gate)
    assert times.min().item() == pytest.approx(2, abs=0.1)
    assert times.max().item() == pytest.approx(100, abs=0.1)
    assert times.mean().item() == pytest.approx(51, abs=1)


def test_a_generator_repeats_the_draw() -> None:
    for fill in (init.orthogonal_, init.glorot_):
        first, second = (
            fill(torch.zeros(G * H, H), G, 1.0, torch.Generator().manual_seed(3)) for _ in "ab"
        )
        assert torch.equal(first, second)
        assert not torch.equal(first, fill(torch.zeros(G * H, H), G))


def test_parameters_are_filled_without_a_graph() -> None:
    weight = torch.nn.Parameter(torch.zeros(G * H, H))
    for filled in (init.orthogonal_(weight, G), init.identity_(weight, G), init.glorot_(weight, G)):
        assert filled is weight and weight.is_leaf and weight.grad_fn is None


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (lambda: init.orthogonal_(torch.zeros(10, 4), 3), r"\(10, 4\) into 3"),
        (lambda: init.orthogonal_(torch.zeros(12), 3), "weight matrix"),
        (lambda: init.glorot_(torch.zeros(0, 4), 2), "multiple"),
        (lambda: init.identity_(torch.zeros(12, 5), 3), r"square.*\(4, 5\)"),
        (lambda: init.gate_bias_(torch.zeros(10), 4, 1, 1.0), "multiple"),
        (lambda: init.chrono_(torch.zeros(4), 2.0), "above 2"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(fill: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fill()


def test_a_gate_that_is_not_there_is_refused() -> None:
    with pytest.raises(IndexError, match="no gate 3 among 3"):
        init.gate_bias_(torch.zeros(12), 3, 3, 1.0)
