"""States that a loop marks itself, against a closed form and against loops that are replayed."""

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import steadygrad as sg
from steadygrad.flow.marked import Marks, mark


@pytest.fixture
def marks() -> Iterator[Marks]:
    with Marks(sources=3) as found:
        yield found


class _Held:
    """Lives as long as a node of a graph."""


class _Holding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.held = _Held()
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad


def fading(a: float, steps: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """The last state of ``h = a h + x``, every state marked."""
    w = torch.tensor(a, dtype=dtype, requires_grad=True)
    h = torch.zeros(2, 3, dtype=dtype)
    for _ in range(steps):
        h = mark(w * h + 1.0)
    return h


def test_a_linear_loop_fades_by_its_factor(marks: Marks) -> None:
    fading(0.25, 30).sum().backward()
    flow = marks.flows()["state"]
    expected = np.arange(30) * np.log10(0.25)
    np.testing.assert_allclose(flow.by_lag.log10_ratio, expected, atol=1e-12)
    assert flow.horizon == 6 and flow.by_lag.mode == "total"
    np.testing.assert_allclose(flow.log10_grad, expected[::-1] + np.log10(6**0.5), atol=1e-12)


def test_single_precision_sees_the_whole_of_its_range_below_the_source(marks: Marks) -> None:
    (1e-30 * fading(0.1, 36, torch.float32).sum()).backward()
    ratio = marks.flows()["state"].by_lag.log10_ratio
    np.testing.assert_allclose(ratio, -np.arange(36.0), atol=1e-4)


@pytest.mark.parametrize("is_read_everywhere", [False, True])
def test_marks_of_a_loop_say_what_its_replay_says(marks: Marks, is_read_everywhere: bool) -> None:
    torch.manual_seed(0)
    cell, x = nn.GRUCell(3, 8).double(), torch.randn(24, 4, 3, dtype=torch.float64)

    def loss() -> Tensor:
        h, seen = torch.zeros(4, 8, dtype=torch.float64), []
        for step in x:
            h = mark(cell(step, h), "h")
            seen.append(h)
        return torch.stack(seen).square().mean() if is_read_everywhere else h.square().mean()

    loss().backward()
    flow = marks.flows()["h"]
    marks.is_looking = False
    replayed = sg.diagnose(cell, loss).flow["grucell"]
    np.testing.assert_allclose(flow.log10_grad, replayed.log10_grad, atol=1e-9)
    # Where the loss enters at every step a source of the marks holds all entries since the last
    # source, and a source of the replay one: the shares agree, not to the last digit.
    near = 0.2 if is_read_everywhere else 1e-9
    ours, theirs = flow.by_lag.log10_ratio, replayed.by_lag.log10_ratio
    np.testing.assert_allclose(ours[:12], theirs[:12], atol=near)


def test_a_state_handed_on_by_value_is_where_the_gradient_ends(marks: Marks) -> None:
    w, h = torch.tensor(0.9, requires_grad=True), torch.ones(2, 3)
    for t in range(12):
        h = mark(w * (h.detach() if t == 8 else h))
    h.sum().backward()
    flow = marks.flows()["state"]
    assert flow.severed == 4 and flow.by_lag.max_lag == 3


def test_a_step_that_begins_again_is_another_sequence(marks: Marks) -> None:
    w, last = torch.tensor(0.5, requires_grad=True), []
    for steps in (5, 9):
        h = torch.ones(2, 3)
        for t in range(steps):
            h = mark(w * h, "h", step=t)
        last.append(h.sum())
    torch.stack(last).sum().backward()
    assert {name: flow.time_steps for name, flow in marks.flows().items()} == {"h": 5, "h#2": 9}


def test_a_new_forward_pass_forgets_the_one_before_and_no_graph_is_kept(marks: Marks) -> None:
    h = _Holding.apply(fading(0.5, 4))
    held = weakref.ref(h.grad_fn.held)
    mark(h).sum().backward()
    del h
    gc.collect()
    assert held() is None and marks.flows()["state"].time_steps == 5
    fading(0.5, 7).sum().backward()
    assert marks.flows()["state"].time_steps == 7


def test_without_a_gradient_nothing_is_marked(marks: Marks) -> None:
    with torch.no_grad():
        fading(0.5, 5)
    assert not marks
    with pytest.raises(TypeError, match=r"mark each state of a step by itself"):
        mark((torch.ones(1), torch.ones(1)))  # pyright: ignore[reportArgumentType]


def test_what_is_not_finite_is_counted_where_it_is(marks: Marks) -> None:
    h = fading(0.5, 5)
    h = mark(h * torch.tensor([1.0, 1.0, torch.inf]))
    h.sum().backward()
    flow = marks.flows()["state"]
    assert flow.nonfinite.tolist() == [2, 2, 2, 2, 2, 0]
    assert np.isinf(flow.by_lag.log10_ratio[1:]).all() or np.isnan(flow.by_lag.log10_ratio).any()
