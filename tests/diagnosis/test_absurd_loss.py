"""A loss that falls from an absurd height is no sign of health; nor is one told a little late."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import steadygrad as sg

Loss = Callable[[Tensor, Tensor], Tensor]


def _train(
    layer: nn.RNNBase, loss: Loss, scale: float, shift: float, steps: int, is_late: bool
) -> sg.Watch:
    torch.manual_seed(0)
    head = nn.Linear(16, 1)
    model = nn.ModuleList([layer, head])  # never called itself
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    w = sg.watch(model, optimizer, lag=19)
    for _ in range(steps):
        x = torch.rand(16, 30, 2)
        y = x[..., 0].mean(1, keepdim=True) * scale + shift
        optimizer.zero_grad()
        value = loss(head(layer(x)[0][:, -1]), y)
        value.backward()
        if not is_late:
            w.loss(value)
        optimizer.step()
        if is_late:
            w.loss(value)
    return w


@pytest.mark.parametrize("is_late", [False, True])
def test_a_blow_up_that_comes_down_is_still_one(is_late: bool) -> None:
    torch.manual_seed(0)
    layer = nn.RNN(2, 16, nonlinearity="relu", batch_first=True)
    with torch.no_grad():
        layer.get_parameter("weight_hh_l0").copy_(2 * torch.eye(16))
    w = _train(layer, functional.mse_loss, 1.0, 0.0, 60, is_late)
    losses = w._seen.history.loss
    assert losses[-1] < 0.5 * losses[0]  # it falls
    assert w.verdict == "exploding"
    w.close()


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize(
    "loss", [functional.mse_loss, functional.l1_loss, functional.smooth_l1_loss]
)
def test_targets_far_beyond_the_outputs_are_named(loss: Loss, is_late: bool) -> None:
    w = _train(nn.LSTM(2, 16, batch_first=True), loss, 1e5, 3e5, 40, is_late)
    assert w.verdict == "target-scale"
    w.close()
