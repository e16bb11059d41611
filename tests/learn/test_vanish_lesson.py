"""The lesson on products of Jacobians against autograd and NumPy."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from steadygrad.errors import InputError
from steadygrad.learn import VanishLesson
from steadygrad.learn.vanish import bound, cell_decay, norms_by_lag, through_depth
from tests.learn.scripts import compute

CASES = [
    {"scale": 0.8, "angle": 0.0, "shear": 2.0, "slope": 1.0, "steps": 4},
    {"scale": 1.1, "angle": 35.0, "shear": -0.7, "slope": 0.9, "steps": 11},
    {"scale": 1.0, "angle": 90.0, "shear": 0.0, "slope": 0.3, "steps": 0},
]


def test_the_pages_product_is_numpys() -> None:
    for made, case in zip(compute("vanish", "product", *CASES), CASES, strict=True):
        turn, scale = np.radians(case["angle"]), case["scale"]
        step = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        step[0, 1] += case["shear"]
        step *= case["slope"]
        expected = [np.linalg.norm(np.linalg.matrix_power(step, k), 2) for k in range(41)]
        assert made["powers"] == pytest.approx(expected, rel=1e-9)
        text = made["text"]
        assert text["radius"] == pytest.approx(abs(np.linalg.eigvals(step)).max(), rel=1e-7)
        assert text["norm"] == pytest.approx(np.linalg.norm(step, 2), rel=1e-12)
        assert text["left"] == pytest.approx(expected[int(case["steps"])], rel=1e-9)
        assert made["lines"]["norms"][0][7][1] == pytest.approx(np.log10(expected[7]), abs=1e-9)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_the_products_norm_is_that_of_autograds_jacobian(kind: type[nn.Module]) -> None:
    layer: Any = kind(2, 3, dtype=torch.float64)
    x = torch.randn(6, 1, 2, dtype=torch.float64)
    states = 2 if kind is nn.LSTM else 1

    def last(flat: torch.Tensor) -> torch.Tensor:
        parts = tuple(s.reshape(1, 1, 3) for s in flat.split(3))
        _, state = layer(x, parts if states == 2 else parts[0])
        return torch.cat([s.flatten() for s in (state if states == 2 else (state,))])

    whole = torch.autograd.functional.jacobian(last, torch.zeros(3 * states, dtype=torch.float64))
    expected = float(torch.linalg.matrix_norm(whole, 2).log10())
    assert norms_by_lag(layer, x)[-1] == pytest.approx(expected, abs=1e-9)


def test_the_depth_is_that_of_autograd() -> None:
    x = torch.randn(7, 1, 4, dtype=torch.float64)
    torch.manual_seed(3)
    found = through_depth(5, 3, x).layers
    torch.manual_seed(3)
    stack = nn.RNN(4, 5, 3, dtype=torch.float64)  # the same draws, one layer after the other
    target = torch.randn(5, dtype=torch.float64)
    below, hidden = list(x[:, 0]), []
    for level in range(3):
        w, r, a, b = (p for n, p in stack.named_parameters() if n.endswith(f"_l{level}"))
        h, row = torch.zeros(5, dtype=torch.float64), []
        for value in below:
            h = torch.tanh(w @ value + a + r @ h + b)
            h.retain_grad()
            row.append(h)
        hidden.append(row)
        below = row
    (hidden[-1][-1] @ target).backward()
    start = hidden[-1][-1].grad.norm().log10()
    for level, row in enumerate(hidden):
        expected = [float(h.grad.norm().log10() - start) for h in row[::-1]]
        assert found[level] == pytest.approx(expected, abs=1e-9)


def test_signs_for_weights_raise_the_bound_and_a_normalisation_lowers_it() -> None:
    x = torch.randn(12, 1, 4, dtype=torch.float64)
    plain, signs, normal = (
        bound(*pair, 16, x) for pair in (("full", "none"), ("binary", "none"), ("binary", "weight"))
    )
    assert signs.lambda1 > 3 * max(plain.lambda1, normal.lambda1)
    for one in (plain, signs, normal):
        assert one.lambda1 > one.lambda2 > 0


def test_an_open_forget_gate_reaches_further() -> None:
    x = torch.randn(30, 1, 4, dtype=torch.float64)
    closed, opened = (cell_decay(name, 8, x) for name in ("lstm", "lstm, forget bias 3"))
    assert opened.per_step > closed.per_step + 0.05
    assert closed.mean_slope == pytest.approx(0.5, abs=0.1)
    assert opened.mean_slope == pytest.approx(0.95, abs=0.03)
    assert all(c.radius <= c.norm for c in (closed, opened))


def test_sizes_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="hidden must be 4 to 128, got 500"):
        VanishLesson(hidden=500).run()
