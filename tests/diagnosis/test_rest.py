"""A watch at rest: between two measurements it keeps least, and misses nothing that breaks."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import steadygrad as sg


class Reader(nn.Module):
    """Draws random numbers, so that a step is only the same with the same draws."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.rnn, self.head = nn.Dropout(0.2), nn.LSTM(3, 8), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.rnn(self.drop(x))[0])[-1])


def _training() -> tuple[Reader, torch.optim.Optimizer, Tensor, Tensor]:
    torch.manual_seed(0)
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    return model, optimizer, torch.randn(12, 4, 3), torch.randn(4, 1)


def _until_rest(w: sg.Watch, step: Callable[[], None]) -> None:
    for _ in range(400):
        step()
        if not w.model.rnn._forward_hooks:  # pyright: ignore[reportAttributeAccessIssue]
            return
    raise AssertionError("the watch never came to rest")


@pytest.mark.parametrize("broken", ["input", "target"])
def test_a_step_that_breaks_at_rest_is_located(broken: str) -> None:
    model, optimizer, x, y = _training()
    w = sg.watch(model, optimizer, lag=11)

    def step(x: Tensor = x, y: Tensor = y) -> None:
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()

    _until_rest(w, step)
    bad = {"input": x, "target": y}[broken].clone()
    bad[5 if broken == "input" else 2, 2 if broken == "input" else 0] = torch.nan
    step(**{"x" if broken == "input" else "y": bad})
    finding = w.findings[0]
    assert (finding.fault, finding.layer, finding.step) == ("nonfinite", "rnn", w.step)
    if broken == "input":
        assert (finding.evidence["time_step"], finding.evidence["sequence"]) == (5, 2)
    else:
        assert "arrives at the output" in finding.text
    w.close()


def test_what_cannot_be_run_again_is_said_to_be_unknown() -> None:
    """A model that answers otherwise the second time is no evidence for a layer."""
    model, optimizer, x, y = _training()
    calls: list[int] = []
    model.register_forward_hook(lambda *a: a[2] * (1 + len(calls)) + (calls.append(0) or 0))
    w = sg.watch(model, optimizer, lag=11)

    def step(y: Tensor = y) -> None:
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()

    _until_rest(w, step)
    step(y * torch.nan)
    assert "not known" in w.findings[0].text
    w.close()


def test_a_training_is_the_same_bit_for_bit_with_a_watch_that_rests() -> None:
    ends: list[list[Tensor]] = []
    for is_watched in (True, False):
        model, optimizer, x, y = _training()
        w = sg.watch(model, optimizer, lag=11) if is_watched else None
        rested = 0
        for _ in range(120):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            if w is not None:
                w.loss(loss)
            optimizer.step()
            rested += not model.rnn._forward_hooks
        if w is not None:
            assert 20 < rested < 120
            w.close()
        ends.append([p.detach().clone() for p in model.parameters()] + [torch.get_rng_state()])
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=0)
