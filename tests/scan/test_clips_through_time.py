"""Clips inside backpropagation through time: what replacing torch's layers keeps."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import steadygrad.nn as sg
from steadygrad import remedies
from steadygrad.remedies import Remedy, parse
from steadygrad.scan import LoopClip

INSIDE: list[Remedy] = [
    remedies.ClipThroughTime(0.5),
    remedies.DerivativeClip(0.5),
    remedies.Truncate(3),
]
KINDS: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "lstm": (nn.LSTM, {"num_layers": 2, "dropout": 0.4, "bidirectional": True}),
    "projected": (nn.LSTM, {"proj_size": 2, "batch_first": True}),
    "gru": (nn.GRU, {"bias": False}),
    "relu": (nn.RNN, {"nonlinearity": "relu"}),
}


def model_of(kind: str) -> nn.Sequential:
    torch.manual_seed(0)
    layer, options = KINDS[kind]
    return nn.Sequential(layer(3, 5, **options)).double()


def x() -> Tensor:
    return torch.randn(7, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("remedy", INSIDE, ids=lambda r: r.name)
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_options_stay(kind: str, remedy: Remedy) -> None:
    model = model_of(kind).eval()
    expected, state = model(x())
    old: Any = model[0]
    remedy.apply(model)
    new: Any = model[0]
    assert isinstance(new, sg.Recurrent) and not new.training
    torch.testing.assert_close(model(x()), (expected, state))
    for option in ("num_layers", "bias", "batch_first", "dropout", "bidirectional", "proj_size"):
        assert getattr(new, option) == getattr(old, option), option
    assert list(old.state_dict()) == list(new.state_dict())
    assert all(a is b for a, b in zip(old.parameters(), new.parameters(), strict=True))


@pytest.mark.parametrize("remedy", INSIDE, ids=lambda r: r.name)
def test_the_optimizer_goes_on_and_what_was_learned_stays(remedy: Remedy) -> None:
    model = model_of("gru")
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    before = [p.detach().clone() for p in model.parameters()]
    layer = model[0]
    applied = remedy.apply(model)
    model(x())[0].square().sum().backward()
    optimizer.step()
    learned = [p.detach().clone() for p in model.parameters()]
    y = model(x())[0]
    applied.undo()
    assert model[0] is layer
    torch.testing.assert_close(list(model.parameters()), learned, rtol=0, atol=0)
    assert not any(torch.equal(a, b) for a, b in zip(before, learned, strict=True))
    torch.testing.assert_close(model(x())[0], y)


def test_a_clip_and_a_cut_go_together_and_the_later_clip_holds() -> None:
    model = model_of("lstm")
    first = remedies.ClipThroughTime(2.0).apply(model)
    second = remedies.Truncate(3).apply(model)
    third = remedies.DerivativeClip(0.5).apply(model)
    layer: Any = model[0]
    assert layer.truncate == 3
    assert layer.loop_clip == LoopClip(0.5, "value", "preactivation")
    third.undo()
    assert layer.loop_clip == LoopClip(2.0, "norm", "recurrent") and layer.truncate == 3
    second.undo()
    assert layer.truncate is None
    first.undo()
    assert isinstance(model[0], nn.LSTM)


def test_derivative_clip_is_the_clip_it_says_it_is() -> None:
    outcomes = []
    for text in (
        "derivative-clip:bound=0.1",
        "clip-through-time:bound=0.1,by=value,place=preactivation",
    ):
        model = model_of("lstm").eval()
        parse(text).apply(model)
        model(x())[0].square().sum().mul(50).backward()
        outcomes.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(outcomes[0], outcomes[1], rtol=0, atol=0)


@pytest.mark.parametrize("remedy", INSIDE, ids=lambda r: r.name)
@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.LSTM(3, 4), "put it inside a module"),
        (nn.Sequential(nn.LSTMCell(3, 4)), "loop over time is its own"),
        (nn.Linear(3, 4), "no recurrent layer"),
    ],
    ids=["itself", "cells", "none"],
)
def test_where_no_loop_can_be_reached_it_says_so(
    model: nn.Module, reason: str, remedy: Remedy
) -> None:
    with pytest.raises(ValueError, match=reason):
        remedy.apply(model)


def test_one_of_our_layers_may_be_the_model_itself() -> None:
    layer = sg.GRU(3, 4)
    applied = remedies.ClipThroughTime(0.5).apply(layer)
    assert layer.loop_clip == LoopClip(0.5)
    applied.undo()
    assert layer.loop_clip is None


def test_gating_keeps_what_bounds_the_gradient() -> None:
    model = nn.Sequential(nn.RNN(3, 4))
    remedies.ClipThroughTime(0.5).apply(model)
    remedies.Truncate(3).apply(model)
    remedies.Gated().apply(model)
    layer: Any = model[0]
    assert isinstance(layer, sg.GRU)
    assert layer.loop_clip == LoopClip(0.5) and layer.truncate == 3
