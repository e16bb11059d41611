"""Loops by hand, told from the graph alone; marks, by whose loop they are in."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import steadygrad as sg
from steadygrad.flow.graph_uses import graph_uses
from steadygrad.flow.marked import Marks

STEPS = 6


class Loop(nn.Module):
    """One linear layer, used in one of several ways.

    Args:
        use: Makes an answer of the layer and the inputs.
    """

    def __init__(self, use: Callable[[nn.Linear, Tensor], Tensor]) -> None:
        super().__init__()
        self.step, self.use = nn.Linear(4, 4), use

    def forward(self, x: Tensor) -> Tensor:
        return self.use(self.step, x)


def one_after_the_other(step: nn.Linear, x: Tensor) -> Tensor:
    h = torch.zeros_like(x[0])
    for row in x:
        h = torch.tanh(row + step(h))
    return h


def side_by_side(step: nn.Linear, x: Tensor) -> Tensor:
    return torch.stack([step(row) for row in x]).sum(0)


def cut_in_between(step: nn.Linear, x: Tensor) -> Tensor:
    h = torch.zeros_like(x[0])
    for row in x:
        h = torch.tanh(row + step(h.detach()))
    return h


@pytest.mark.parametrize(
    ("use", "times"), [(one_after_the_other, STEPS), (side_by_side, 1), (cut_in_between, 1)]
)
def test_uses_count_along_one_path(use: Callable[[nn.Linear, Tensor], Tensor], times: int) -> None:
    model = Loop(use)
    loss = model(torch.randn(STEPS, 2, 4)).sum()
    for _ in range(2):  # and once more when the backward pass has freed what it could
        uses = graph_uses(loss.grad_fn, model)
        assert uses.in_sequence.get("step.weight", 1) == times
        assert uses.loops(4) == (["step"] if times > 3 else [])
        if loss.grad_fn is not None and model.step.weight.grad is None:
            loss.backward()


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_measured_layer_and_the_loop_around_it_are_no_loop_by_hand(kind: type[nn.Module]) -> None:
    layer, head = kind(4, 4), nn.Linear(4, 4)
    model = nn.ModuleDict({"layer": layer, "head": head})
    y, state = torch.randn(1, 2, 4), None
    for _ in range(STEPS):  # its answer comes in again, as when text is made
        out, state = layer(y, state)
        y = head(out)
    measured = {id(p) for p in layer.parameters()}
    assert graph_uses(y.sum().grad_fn, model, measured).loops(4) == []
    assert graph_uses(y.sum().grad_fn, model).loops(4) != []


class Beside(nn.Module):
    """A recurrent layer, and a loop by hand behind it."""

    def __init__(self, marks: bool = False) -> None:
        super().__init__()
        self.layer, self.step, self.marks = nn.LSTM(4, 4), nn.Linear(4, 4), marks

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.layer(x)
        h = out[-1]
        for row in out:
            h = torch.tanh(row + self.step(h))
            h = sg.mark(h, "h") if self.marks else h
        return h


@pytest.mark.parametrize("marks", [False, True])
def test_a_loop_beside_a_layer_is_judged_only_if_it_is_marked(marks: bool) -> None:
    torch.manual_seed(0)
    model, x = Beside(marks), torch.randn(STEPS, 8, 4)
    d = sg.diagnose(model, lambda: model(x).square().mean(), lag=2)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    w = sg.watch(model, optimizer, lag=2, every=1)
    for _ in range(4):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    w.close()
    for said in (d.unjudged, w.unjudged):
        assert any("loop over step" in gap.what for gap in said) != marks
    assert marks or d.verdict == w.verdict == "not judged"


def test_a_mark_belongs_to_the_model_whose_parameters_made_it() -> None:
    torch.manual_seed(0)
    mine, other = (nn.ModuleDict({"step": nn.Linear(4, 4)}) for _ in range(2))
    x = torch.randn(STEPS, 2, 4)
    with Marks(sources=1, model=mine) as marks:
        ends: list[Tensor] = []
        for model, name in ((other, "h"), (mine, "h"), (other, "g")):
            h = sg.mark(torch.zeros(2, 4), name)
            for row in x:
                h = sg.mark(torch.tanh(row + model["step"](h)), name)
            ends.append(h)
        torch.stack(ends).sum().backward()
    assert list(marks.flows()) == ["h"]
    assert marks.flows()["h"].time_steps == STEPS + 1
