"""Skips through time (dilated, MIST) and through depth (residual, highway)."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from steadygrad.nn import MIST, DeepRecurrent, Dilated, Recurrent

F64 = torch.float64
T, B, I, H = 11, 2, 3, 4


@pytest.fixture
def x() -> Tensor:
    return torch.randn(T, B, I, dtype=F64)


def dilated(*dilations: int, cell: str = "lstm") -> Dilated:
    return Dilated(cell, I, H, dilations, dtype=F64, backend="eager")


@pytest.mark.parametrize("d", [1, 2, 3, 20])
def test_a_dilated_layer_is_interleaved_layers_of_torch(x: Tensor, d: int) -> None:
    """Chang et al. 2017, equation 2: every d-th step is an LSTM of its own."""
    layer, theirs = dilated(d), nn.LSTM(I, H, dtype=F64)
    theirs.load_state_dict(layer.layers[0].state_dict())
    output, state = layer(x)
    for r in range(min(d, T)):
        torch.testing.assert_close(output[r::d], theirs(x[r::d])[0])
    assert state[0][1].shape == (d, B, H)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("cut", [1, 4, 10])
def test_dilated_layers_may_be_cut_and_carried_on(x: Tensor, cell: str, cut: int) -> None:
    layer = dilated(1, 2, 4, cell=cell)
    whole, last = layer(x)
    head, carried = layer(x[:cut])
    tail, end = layer(x[cut:], carried)
    torch.testing.assert_close(torch.cat([head, tail]), whole)
    torch.testing.assert_close(end, last)


def test_the_gradient_of_a_dilated_layer_jumps() -> None:
    layer = dilated(5, cell="elman")
    x = torch.randn(T, B, I, dtype=F64, requires_grad=True)
    layer(x)[0][10].sum().backward()
    assert x.grad is not None
    reached = x.grad.abs().sum((1, 2)).nonzero().flatten().tolist()
    assert reached == [0, 5, 10]


def mist_by_hand(layer: MIST, xs: np.ndarray[Any, Any]) -> list[Any]:
    """DiPietro et al. 2017, section 4, for one sequence, delay by delay."""
    w, b = layer.input.weight.detach().numpy(), layer.input.bias.detach().numpy()
    look, mixed = layer.look.weight.detach().numpy(), layer.mixed.weight.detach().numpy()
    n = len(layer.delays)
    past: dict[int, Any] = {}
    for t, x in enumerate(xs):
        before = past.get(t - 1, np.zeros(H))
        score = w[:n] @ x + look[:n] @ before + b[:n]
        a = np.exp(score) / np.exp(score).sum()
        r = 1 / (1 + np.exp(-(w[n : n + H] @ x + look[n:] @ before + b[n : n + H])))
        mixture = sum(a[i] * past.get(t - d, np.zeros(H)) for i, d in enumerate(layer.delays))
        past[t] = np.tanh(w[n + H :] @ x + mixed @ (r * mixture) + b[n + H :])
    return [past[t] for t in range(len(xs))]


def test_mist_is_what_the_paper_says(x: Tensor) -> None:
    layer = MIST(I, H, (1, 2, 4), dtype=F64)
    output, _ = layer(x)
    for row in range(B):
        wanted = torch.from_numpy(np.stack(mist_by_hand(layer, x[:, row].numpy())))
        torch.testing.assert_close(output[:, row].detach(), wanted)
    assert not torch.allclose(output, MIST(I, H, (1, 2), dtype=F64)(x)[0])


@pytest.mark.parametrize("cut", [1, 5])
def test_mist_may_be_cut_and_carried_on(x: Tensor, cut: int) -> None:
    layer = MIST(I, H, (1, 2, 4), dtype=F64)
    whole, last = layer(x)
    head, history = layer(x[:cut])
    tail, end = layer(x[cut:], history)
    torch.testing.assert_close(torch.cat([head, tail]), whole)
    torch.testing.assert_close(end, last)


def test_mist_has_a_gradient_and_shows_it_at_every_step() -> None:
    layer = MIST(2, 3, (1, 3), dtype=F64)
    x = torch.randn(5, 2, 2, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: layer(x)[0], (x,))
    seen: dict[int, Tensor] = {}
    layer.on_step_gradient = lambda _, step, grad: seen.update({step: grad})
    layer(x)[0][-1].sum().backward()
    assert sorted(seen) == [0, 1, 2, 3, 4] and seen[4].eq(1).all()


def test_long_delays_keep_more_of_the_gradient_than_short_ones() -> None:
    """The claim: over 64 steps the way through the long delays has few products."""
    left = {}
    for delays in ((1,), (1, 2, 4, 8, 16, 32)):
        layer = MIST(I, 32, delays, dtype=F64)
        x = torch.randn(65, B, I, dtype=F64, requires_grad=True)
        layer(x)[0][-1].sum().backward()
        assert x.grad is not None
        left[delays] = float(x.grad[0].norm() / x.grad[-1].norm())
    assert left[1, 2, 4, 8, 16, 32] > 1e3 * left[1,]


@pytest.mark.parametrize("skip", ["residual", "highway"])
def test_a_stack_with_skips_is_its_formula(x: Tensor, skip: Any) -> None:
    stack = DeepRecurrent("gru", I, H, 3, skip, dtype=F64, backend="eager")
    y = stack.project(x)
    for i in range(3):
        theirs = nn.GRU(H, H, dtype=F64)
        theirs.load_state_dict(stack.layers[i].state_dict())
        h = theirs(y)[0]
        if skip == "residual":
            y = y + h
        else:
            gate = torch.sigmoid(stack.gates[i](y))
            y = y + gate * (h - y)
    torch.testing.assert_close(stack(x)[0], y)


@pytest.mark.parametrize("skip", ["residual", "highway"])
@pytest.mark.parametrize("cell", ["lstm", "elman"])
def test_stacks_may_be_cut_and_carried_on(x: Tensor, skip: Any, cell: str) -> None:
    stack = DeepRecurrent(cell, I, H, 3, skip, dtype=F64, backend="eager")
    whole, last = stack(x)
    head, carried = stack(x[:4])
    tail, end = stack(x[4:], carried)
    torch.testing.assert_close(torch.cat([head, tail]), whole)
    torch.testing.assert_close(end, last)


def test_skips_bring_the_gradient_to_the_bottom_of_a_deep_stack() -> None:
    x = torch.randn(3, B, 8, dtype=F64, requires_grad=True)

    def at_the_bottom(layer: nn.Module) -> float:
        (grad,) = torch.autograd.grad(layer(x)[0][-1].sum(), x)
        return float(grad[-1].norm())

    plain = at_the_bottom(Recurrent("lstm", 8, 8, 16, dtype=F64, backend="eager"))
    for skip in ("residual", "highway"):
        stack = DeepRecurrent("lstm", 8, 8, 16, skip, dtype=F64, backend="eager")
        assert isinstance(stack.project, nn.Identity)
        assert at_the_bottom(stack) > 1e6 * plain


def test_wrong_use_is_answered() -> None:
    with pytest.raises(ValueError, match="dilations must be"):
        Dilated("lstm", I, H, (0,))
    with pytest.raises(ValueError, match=r"expected input \(T, B, I\)"):
        dilated(2)(torch.zeros(T, I, dtype=F64))
    with pytest.raises(ValueError, match="expected 1 states"):
        dilated(2)(torch.zeros(T, B, I, dtype=F64), [])
    with pytest.raises(ValueError, match="delays must be"):
        MIST(I, H, (1, 1))
    with pytest.raises(ValueError, match="expected history"):
        MIST(I, H, (1, 2))(torch.zeros(T, B, I), torch.zeros(1, B, H))
    with pytest.raises(ValueError, match="Unknown skip"):
        DeepRecurrent("lstm", I, H, 2, "none")  # type: ignore[arg-type]
