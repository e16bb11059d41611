"""Gradient flossing: when it acts, on what, and what it leaves alone."""

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from steadygrad.remedies import Flossing
from steadygrad.remedies.flossing import distance, floss
from steadygrad.train import train
from steadygrad.train.events import Event, Stepped
from tests.remedies.remedy_penalties import FAMILIES, H, I, Reader, data, loss_of
from tests.train.test_train import quick, wave  # noqa: F401  # a fixture

QUICK = Flossing(before=3, bout=2, bouts=1, every=2, rate=0.01, discard=2)


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def moved(before: list[Tensor], model: nn.Module) -> bool:
    return any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_it_acts_before_the_first_update_and_in_its_bouts_alone() -> None:
    model = Reader("ours")
    QUICK.apply(model)
    seen = []
    for _ in range(6):
        before = weights(model)
        loss_of(model)
        seen.append(moved(before, model))
    assert seen == [True, False, True, False, False, False]


def test_evaluation_is_neither_flossed_nor_counted() -> None:
    model = Reader("ours")
    QUICK.apply(model)
    before = weights(model)
    model.eval()
    loss_of(model)
    model.train()
    with torch.no_grad():
        loss_of(model)
    assert not moved(before, model)
    loss_of(model)
    assert moved(before, model)


def test_gradients_of_the_training_and_the_head_are_left_alone() -> None:
    model = Reader("ours")
    loss_of(model).backward()
    grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    head = model.head.weight.detach().clone()
    QUICK.apply(model)
    loss_of(model)
    for p, grad in zip(model.parameters(), grads, strict=True):
        assert p.grad is not None and torch.equal(p.grad, grad)
    assert torch.equal(model.head.weight, head)


def test_a_linear_network_has_the_loss_in_closed_form() -> None:
    model = Reader("ours", nonlinearity="relu")
    gains = torch.linspace(0.5, 1.4, H, dtype=torch.float64)
    with torch.no_grad():
        for parameter in model.layer.parameters():
            parameter.abs_()
        model.layer.weight_hh_l0.copy_(gains.diag())
    away = distance(replace(QUICK, target=0.1), model.layer, data()[0].abs())
    assert away.item() == pytest.approx((gains.log() - 0.1).square().mean().item())
    values = floss(QUICK, model.layer, data()[0].abs(), 50)
    assert values[-1] < 0.5 * values[0]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch_first", [False, True])
def test_layouts_do_not_matter(family: str, batch_first: bool) -> None:
    x = data()[0]
    plain, other, packed = (
        Reader(family, batch_first=flag) for flag in (False, batch_first, False)
    )
    for model, given in (
        (plain, x),
        (other, x.transpose(0, 1) if batch_first else x),
        (packed, nn.utils.rnn.pack_sequence([*x.unbind(1), x[:3, 0]])),  # the short one is passed
    ):
        QUICK.apply(model)
        model.layer(given)
    for name, weight in plain.named_parameters():
        torch.testing.assert_close(other.get_parameter(name), weight)
        torch.testing.assert_close(packed.get_parameter(name), weight)


def test_lost_weights_stop_it_and_raise_nothing() -> None:
    model = Reader("ours")
    with torch.no_grad():
        model.get_parameter("layer.weight_hh_l0").fill_(float("nan"))
    assert floss(QUICK, model.layer, data()[0], 3) == []


def test_more_exponents_than_the_state_has_are_refused() -> None:
    assert Flossing(exponents=2 * H).applicable(nn.LSTM(I, H))
    with pytest.raises(ValueError, match=f"state of {H}, fewer than exponents={H + 1}"):
        Flossing(exponents=H + 1).apply(nn.GRU(I, H))


def test_a_resumed_training_is_not_flossed_again(
    wave: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    given: dict[str, Any] = {
        "remedies": ("flossing:before=2,bout=2,bouts=1,every=3,steps=20",),
        "validate_every": 1,
    }
    whole = replace(quick(wave, tmp_path), out=tmp_path / "whole", max_steps=5, **given)
    parts = replace(whole, out=tmp_path / "parts")
    train(whole)

    def stop(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == 2:
            signal.raise_signal(signal.SIGINT)

    assert train(parts, stop).status == "interrupted"
    assert train(replace(parts, resume=True)).status == "finished"
    ends = [(config.folder / "model.safetensors").read_bytes() for config in (whole, parts)]
    assert ends[0] == ends[1]
