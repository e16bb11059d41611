"""Mistakes that are no gradient problem: each is named, and its healthy twin is not."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import steadygrad as sg
from steadygrad.diagnosis.judge import judge_call
from steadygrad.faults import CallFacts
from steadygrad.flow import Capture
from steadygrad.flow.axes import axes

T, B, LAG = 20, 12, 10


class Reader(nn.Module):
    """A GRU, what is read of it, a head, and what is done with its scores."""

    def __init__(self, pick: Callable[[Tensor], Tensor], out: int, end: Callable[[Tensor], Tensor]):
        super().__init__()
        self.rnn, self.head = nn.GRU(4, 16), nn.Linear(16, out)
        self._pick, self._end = pick, end

    def forward(self, x: Tensor) -> Tensor:
        return self._end(self.head(self._pick(self.rnn(x)[0])))


def sign(x: Tensor) -> Tensor:
    return (x[-1, :, 0] > 0).long()


def noise() -> Tensor:
    return torch.randn(T, B, 4)


def padded() -> Tensor:
    steps = torch.randint(8, T, (B,))
    return torch.randn(T, B, 4) * (torch.arange(T)[:, None] < steps)[..., None]


def waves() -> Tensor:
    """As many sequences as steps, time first: the shape says nothing."""
    phase, time = torch.rand(T) * 6, torch.arange(T)[:, None] * 0.3
    x = torch.stack([(time + phase).sin(), (time + phase).cos(), (2 * time + phase).sin()], -1)
    return torch.cat([x, 0.02 * torch.randn(T, T, 1)], -1)


def windows() -> Tensor:
    """Windows of a series with a season of half a window, each one step behind the one before."""
    first = torch.randint(1000, ())
    angle = (first + torch.arange(24)[:, None] + torch.arange(16)) * torch.pi / 6
    return torch.stack([angle.sin(), angle.cos(), (2 * angle).sin(), (2 * angle).cos()], -1)


def next_wave(axis: int) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda out, x: F.mse_loss(out[..., 0], x.roll(-1, axis)[..., 0])


def masked(is_inverted: bool) -> Callable[[Tensor, Tensor], Tensor]:
    def loss(out: Tensor, x: Tensor) -> Tensor:
        mask = (x != 0).any(-1) != is_inverted
        each = F.cross_entropy(out.movedim(-1, 1), (x[..., 0] > 0).long(), reduction="none")
        return (each * mask).sum() / mask.sum()

    return loss


def error(scale: float, offset: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda out, x: F.mse_loss(out[:, 0], offset + scale * x[-1, :, 0] / (x.std() + 1e-9))


def entropy(out: Tensor, x: Tensor) -> Tensor:
    return F.cross_entropy(out, sign(x))


@dataclass
class Case:
    """A training; what is not said is as it should be."""

    loss: Callable[[Tensor, Tensor], Tensor] = entropy
    pick: Callable[[Tensor], Tensor] = lambda y: y[-1]
    end: Callable[[Tensor], Tensor] = lambda z: z
    data: Callable[[], Tensor] = noise
    out: int = 2
    clears: bool = True
    options: dict[str, Any] = field(default_factory=dict)


HEALTHY = {
    "cross-entropy": Case(),
    "log of a softmax": Case(
        end=lambda z: z.softmax(-1), loss=lambda p, x: F.nll_loss(p.log(), sign(x))
    ),
    "cross-entropy of probabilities": Case(
        end=lambda z: z.sigmoid(),
        out=1,
        loss=lambda p, x: F.binary_cross_entropy(p[:, 0], sign(x).float()),
    ),
    "raw scores of two classes": Case(
        out=1, loss=lambda z, x: F.binary_cross_entropy_with_logits(z[:, 0], sign(x).float())
    ),
    "one target for all": Case(out=1, loss=lambda z, x: (z - 0.3).square().mean()),
    "targets of 100": Case(out=1, loss=error(20.0, 100.0)),
    "inputs of 10": Case(data=lambda: 10 * noise()),
    "masked padding": Case(data=padded, pick=lambda y: y, loss=masked(False)),
    "waves": Case(data=waves, pick=lambda y: y, out=1, loss=next_wave(0)),
    "windows in their order, half of one a season": Case(
        data=windows, pick=lambda y: y, out=1, loss=next_wave(0)
    ),
}
MISTAKES = {
    "applied-twice": {
        "softmax": Case(end=lambda z: z.softmax(-1)),
        "softmax behind the model": Case(loss=lambda z, x: entropy(z.softmax(-1), x)),
        "sigmoid behind the model": Case(
            out=1,
            loss=lambda z, x: F.binary_cross_entropy_with_logits(
                z[:, 0].sigmoid(), sign(x).float()
            ),
        ),
        "sigmoid": Case(
            end=lambda z: z.sigmoid(),
            out=1,
            loss=lambda p, x: F.binary_cross_entropy_with_logits(p[:, 0], sign(x).float()),
        ),
    },
    "target-broadcast": {
        "squares": Case(out=1, loss=lambda z, x: (z - x[:, :, 0].sum(0)).square().mean()),
        "a column of targets": Case(
            out=1, loss=lambda z, x: (x[:, :, 0].sum(0)[:, None] - z[:, 0]).pow(2).sum() / 2
        ),
    },
    "target-scale": {"1e6": Case(out=1, loss=error(2e5, 1e6))},
    "input-scale": {"1e6": Case(data=lambda: 1e6 * noise())},
    "axes-swapped": {
        "one sequence read": Case(
            pick=lambda y: y[:, -1], loss=lambda z, x: F.cross_entropy(z, (x[:, 0, 0] > 0).long())
        ),
        "as many steps as sequences": Case(
            data=lambda: waves().transpose(0, 1), pick=lambda y: y, out=1, loss=next_wave(1)
        ),
    },
    "mask-inverted": {"": Case(data=padded, pick=lambda y: y, loss=masked(True))},
    "padding": {
        "mean over padding": Case(
            data=padded,
            pick=lambda y: y.mean(0),
            loss=lambda z, x: F.cross_entropy(z, (x.sum(0)[:, 0] > 0).long()),
        )
    },
    "recurrence-ignored": {"": Case(pick=lambda y: y[0])},
    "no-zero-grad": {"": Case(clears=False)},
}
ALL = [("healthy", n, case) for n, case in HEALTHY.items()]
ALL += [(fault, n, case) for fault, cases in MISTAKES.items() for n, case in cases.items()]


@pytest.mark.parametrize("is_told_by_value", [False, True])
@pytest.mark.parametrize(("fault", "which", "case"), ALL, ids=[f"{f}: {n}" for f, n, _ in ALL])
def test_a_mistake_is_named_and_its_healthy_twin_is_not(
    fault: str, which: str, case: Case, is_told_by_value: bool
) -> None:
    torch.manual_seed(0)
    model = Reader(case.pick, case.out, case.end)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    x = case.data()
    with sg.watch(model, optimizer, lag=LAG, every=5) as watch:
        for _ in range(8):
            x = case.data()
            loss = case.loss(model(x), x)
            if case.clears:
                optimizer.zero_grad()
            loss.backward()
            watch.loss(loss.detach() if is_told_by_value else loss)
            optimizer.step()
        assert watch.verdict == fault, watch
        if fault not in ("healthy", "padding"):
            assert watch.findings[0].text.startswith("Not a gradient problem: ")
            assert watch.findings[0].advice
    if fault != "no-zero-grad":  # seen over steps alone
        assert sg.diagnose(model, lambda: case.loss(model(x), x), lag=LAG).verdict == fault


def trained(model: nn.Module, rate: float, count: int) -> list[str]:
    """Faults after a training that is told its losses."""
    optimizer = torch.optim.SGD(model.parameters(), rate)
    with sg.watch(model, optimizer, lag=LAG, every=50) as watch:
        for _ in range(count):
            x = noise()
            loss = F.mse_loss(model(x)[:, 0], x[-1, :, 0])
            optimizer.zero_grad()
            loss.backward()
            watch.loss(loss)
            optimizer.step()
        return [f.fault for f in watch.findings]


@pytest.mark.slow
def test_a_constant_prediction_is_named_only_when_the_loss_has_stood() -> None:
    for end, expected in ((lambda z: 0 * z + z.mean(), ["constant-prediction"]), (lambda z: z, [])):
        torch.manual_seed(0)
        model = Reader(lambda y: y[-1], 1, end)
        assert trained(model, 0.05, 60) == []
        assert trained(model, 0.05, 252) == expected


def test_bits_have_no_order_by_chance() -> None:
    """Of zeros and ones a median distance is either, whatever the order."""
    torch.manual_seed(0)
    model, swapped = nn.GRU(1, 4), 0
    with Capture(model) as capture:
        for _ in range(60):
            capture.clear()
            output = model((torch.rand(20, 32, 1) < 0.5).float())[0]
            lies = axes(capture.calls[0], (torch.ones_like(output), (None,)))
            swapped += len(judge_call(CallFacts("gru", axes=lies), sg.Thresholds()))
    assert not swapped
