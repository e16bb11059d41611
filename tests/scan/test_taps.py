"""Taps, clips and rescaling inside the backward loop."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import steadygrad as sg
from steadygrad.scan import LoopClip, Tap, log10_sum_squares
from steadygrad.scan.backends.c import kernel
from tests.helpers.few import FEW
from tests.helpers.marks import needs_compiler

F64 = torch.float64
Key = tuple[int, bool]
BACKENDS = ["eager", "auto"]


def tapped(layer: sg.Recurrent) -> dict[Key, Tap]:
    taps: dict[Key, Tap] = {}

    def keep(index: int, reverse: bool, tap: Tap) -> None:
        taps[index, reverse] = tap

    layer.on_tap = keep
    return taps


@pytest.mark.parametrize("name", FEW)
def test_taps_are_the_gradients_of_an_unrolled_scan(name: str) -> None:
    layer = sg.Recurrent(name, 3, 4, dtype=F64)
    x, weight = torch.randn(6, 2, 3, dtype=F64), torch.randn(6, 2, 4, dtype=F64)
    taps = tapped(layer)
    (layer(x)[0] * weight).sum().backward()
    whole = taps[0, False]
    layer.on_tap = None
    state = None
    states: list[Any] = []
    loss = torch.zeros((), dtype=F64)
    for t in range(6):
        _, state = layer(x[t : t + 1], state)
        states.append(state if isinstance(state, tuple) else (state,))
        for s in states[-1]:
            s.retain_grad()
        # h leaves the step as the state, so that the loss and step t+1 read one tensor
        loss = loss + (states[-1][0][0] * weight[t]).sum()
        state = states[-1] if len(states[-1]) > 1 else states[-1][0]
    loss.backward()
    for index, state_name in enumerate(layer.cell.states):
        for t in range(6):
            grad = states[t][index].grad
            # the last cell state is read by nobody
            norms = torch.full((2,), -math.inf) if grad is None else grad[0].norm(dim=1).log10()
            torch.testing.assert_close(whole.log10_norm[index, t], norms.double(), msg=state_name)


def test_taps_do_not_change_the_gradient() -> None:
    layer: Any = sg.LSTM(3, 4, 2, bidirectional=True, dtype=F64)
    x = torch.randn(9, 2, 3, dtype=F64, requires_grad=True)
    plain = torch.autograd.grad(layer(x)[0].square().sum(), [x, *layer.parameters()])
    taps = tapped(layer)
    watched = torch.autograd.grad(layer(x)[0].square().sum(), [x, *layer.parameters()])
    torch.testing.assert_close(watched, plain, rtol=0, atol=0)
    assert set(taps) == {(0, False), (0, True), (1, False), (1, True)}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("gain", "rate"), [(0.5, math.log10(0.5)), (2.0, math.log10(2.0))])
def test_float32_measures_far_outside_of_its_range(gain: float, rate: float, backend: str) -> None:
    """A linear recurrence by an orthogonal matrix: every step scales the gradient by the gain."""
    steps = 400
    layer: Any = sg.RNN(1, 8, nonlinearity="relu", backend=backend)
    with torch.no_grad():
        for p in layer.parameters():
            p.zero_()
        layer.weight_hh_l0.copy_(gain * torch.eye(8))
        layer.bias_ih_l0.fill_(1e-3 if gain < 1 else 0.0)
        layer.weight_ih_l0.fill_(1e-30 if gain > 1 else 0.0)
    taps = tapped(layer)
    # with gain 2 the state overflows unless it starts tiny; ReLU stays open either way
    x = torch.zeros(steps, 2, 1)
    h0 = torch.full((1, 2, 8), 1e-3 if gain < 1 else 1e-44 * 100)
    if gain > 1:
        h0 = torch.full((1, 2, 8), float(torch.finfo(torch.float32).tiny))
        steps = 200
        x = x[:steps]
    layer(x, h0)[0][-1].sum().backward()
    curve = taps[0, False].log10_over_batch()
    expected = curve[-1] + rate * torch.arange(steps - 1, -1, -1, dtype=F64)
    torch.testing.assert_close(curve, expected, rtol=0, atol=1e-3)
    assert abs(float(curve[0] - curve[-1])) > 38  # float32 alone could not hold it


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_true_gradient_underflows_as_it_should_while_the_tap_does_not(backend: str) -> None:
    layer: Any = sg.RNN(1, 4, backend=backend)
    nn.init.orthogonal_(layer.weight_hh_l0, 0.3)
    x = torch.randn(300, 2, 1, requires_grad=True)
    plain = torch.autograd.grad(layer(x)[0][-1].sum(), [x, *layer.parameters()])
    taps = tapped(layer)
    watched = torch.autograd.grad(layer(x)[0][-1].sum(), [x, *layer.parameters()])
    torch.testing.assert_close(watched, plain)
    assert watched[0][0].abs().max() == 0
    curve = taps[0, False].log10_over_batch()
    assert torch.isfinite(curve).all() and curve[0] - curve[-1] < -150


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gradient_from_outside_is_not_lost_beside_a_rescaled_one(backend: str) -> None:
    layer: Any = sg.RNN(1, 4, dtype=torch.float32, backend=backend)
    nn.init.orthogonal_(layer.weight_hh_l0, 0.2)
    x = torch.randn(120, 2, 1)
    twin: Any = sg.RNN(1, 4, dtype=F64)
    twin.load_state_dict(layer.state_dict())
    curves = []
    for net in (layer, twin):
        taps = tapped(net)
        output = net(x.to(net.weight_ih_l0.dtype))[0]
        (output[-1].sum() + output[10].sum()).backward()  # a second source, 109 steps before
        curves.append(taps[0, False].log10_over_batch())
    torch.testing.assert_close(curves[0], curves[1], rtol=0, atol=1e-4)
    torch.testing.assert_close(layer.weight_hh_l0.grad, twin.weight_hh_l0.grad.float())  # type: ignore[union-attr]


def test_a_nan_is_seen_in_its_row_and_in_no_other() -> None:
    layer: Any = sg.GRU(2, 3)
    taps = tapped(layer)
    x = torch.randn(5, 3, 2)
    output = layer(x)[0]
    weight = torch.ones_like(output)
    weight[3, 1] = float("nan")
    (output * weight).sum().backward()
    tap = taps[0, False]
    assert (tap.nonfinite[0, :4, 1] > 0).all()
    assert tap.nonfinite[0, 4, 1] == 0
    assert tap.nonfinite[:, :, [0, 2]].sum() == 0
    assert tap.log10_norm[0, :4, 1].isnan().all()


def test_zero_infinite_and_nan_norms_stay_apart_over_the_batch() -> None:
    inf, nan = math.inf, math.nan
    rows = torch.tensor([[-inf, -inf], [inf, 0.0], [nan, inf], [0.0, 0.0], [-400.0, 0.0]])
    total = log10_sum_squares(rows)
    assert total[4] == 0.0
    assert total[0] == -inf and total[1] == inf and total[2].isnan()
    torch.testing.assert_close(total[3], torch.tensor(math.log10(math.sqrt(2))))


@pytest.mark.parametrize("by", ["value", "norm"])
@pytest.mark.parametrize("place", ["recurrent", "total", "preactivation"])
@pytest.mark.parametrize("name", FEW)
def test_every_clip_equals_the_tape_and_changes_the_gradient(
    name: str, place: str, by: str
) -> None:
    layer = sg.Recurrent(name, 3, 4, dtype=F64)
    x = torch.randn(8, 2, 3, dtype=F64, requires_grad=True)
    inputs = [x, *layer.parameters()]
    weight = torch.randn(8, 2, 4, dtype=F64)
    free = torch.autograd.grad((layer(x)[0] * weight).sum(), inputs)
    layer.loop_clip = LoopClip(0.05, by, place)  # type: ignore[arg-type]
    loss = (layer(x)[0] * weight).sum()
    written = torch.autograd.grad(loss, inputs, retain_graph=True)
    taped = torch.autograd.grad(loss, inputs, create_graph=True)
    torch.testing.assert_close(written, taped)
    assert not torch.allclose(written[0], free[0])


@pytest.mark.parametrize("by", ["value", "norm"])
def test_a_clip_of_the_total_bounds_what_the_taps_see(by: str) -> None:
    layer: Any = sg.RNN(3, 4, dtype=F64)
    nn.init.orthogonal_(layer.weight_hh_l0, 3.0)
    taps = tapped(layer)
    layer.loop_clip = LoopClip(0.5, by, "total")  # type: ignore[arg-type]
    layer(0.01 * torch.randn(30, 2, 3, dtype=F64))[0].sum().backward()
    bound = 0.5 if by == "norm" else 0.5 * math.sqrt(4)
    assert taps[0, False].log10_norm.max() <= math.log10(bound) + 1e-9


def test_a_clip_does_not_hide_a_nan() -> None:
    for by in ("value", "norm"):
        clipped = LoopClip(1.0, by)(torch.tensor([[float("nan"), 5.0]]))  # type: ignore[arg-type]
        assert clipped[0, 0].isnan()


@pytest.mark.parametrize("options", [(0.0,), (1.0, "size"), (1.0, "norm", "everywhere")], ids=str)
def test_bad_clips_are_refused(options: tuple[float]) -> None:
    with pytest.raises(ValueError, match="LoopClip"):
        LoopClip(*options)


def seen_twice(
    x: Tensor, grad: Tensor, hidden: int, clip: LoopClip | None = None
) -> tuple[Tap, Tap]:
    """What the compiled loop and `eager` see of one gradient."""
    layer = sg.Recurrent("lstm", x.shape[-1], hidden, dtype=x.dtype)
    layer.loop_clip = clip
    found = []
    for backend in ("c", "eager"):
        layer.backend = backend
        taps = tapped(layer)
        layer(x)[0].backward(grad)
        found.append(taps[0, False])
    return found[0], found[1]


def agree(ours: Tap, theirs: Tap, atol: float = 1e-3) -> None:
    """To a thousandth: one unit of 64 left out would be three of them."""
    for field in ("log10_norm", "log10_gate"):
        torch.testing.assert_close(
            getattr(ours, field), getattr(theirs, field), rtol=0, atol=atol, equal_nan=True
        )
    assert torch.equal(ours.nonfinite, theirs.nonfinite)
    assert torch.equal(ours.present, theirs.present)
    assert (ours.states, ours.gates, ours.reverse) == (theirs.states, theirs.gates, theirs.reverse)


# Below, at and above a vector's width, a multiple of it or not; four rows at once, and those left.
@needs_compiler
@pytest.mark.parametrize("hidden", [1, 7, 15, 16, 17, 33, 64])
@pytest.mark.parametrize("batch", [1, 3, 4, 6, 9])
def test_sums_of_any_size_are_those_of_eager(hidden: int, batch: int) -> None:
    grad = torch.randn(11, batch, hidden, dtype=F64)
    agree(*seen_twice(torch.randn(11, batch, 3, dtype=F64), grad, hidden), atol=1e-10)
    # One step alone: over several, float32 loses digits where terms cancel.
    agree(*seen_twice(torch.randn(1, batch, 3), grad[:1].float(), hidden))


@needs_compiler
@pytest.mark.parametrize("hidden", [3, 40])
@pytest.mark.parametrize("batch", [1, 8])
def test_sums_whose_squares_leave_float32_are_those_of_eager(hidden: int, batch: int) -> None:
    """Squares of 1e-30 are zero in float32 and those of 1e30 infinite; no count may come of it."""
    clip = LoopClip(1e38, "value")  # binds nothing; under a clip rows are not rescaled
    for power in (-37, -30, -18, -14, 0, 14, 18, 30, 37):
        grad = torch.randn(1, batch, hidden).clamp(-3, 3) * 10.0**power
        grad[0, 0] = 0
        ours, theirs = seen_twice(torch.randn(1, batch, 2), grad, hidden, clip)
        agree(ours, theirs)
        assert ours.nonfinite.sum() == 0
        assert ours.log10_norm[0, 0, 0] == -math.inf
        if batch > 1 and power > -30:
            assert ours.log10_norm[0, 0, 1:].isfinite().all()


@needs_compiler
@pytest.mark.parametrize("row", range(6))
def test_one_row_far_below_the_others_is_rescaled(row: int) -> None:
    """Its forget gate is shut, theirs are open: it leaves float32 long before they are far."""
    found = []
    layer: Any = sg.LSTM(1, 5, backend="c")
    with torch.no_grad():
        layer.weight_ih_l0.fill_(-1.0)
        layer.bias_ih_l0.fill_(3.0)
        layer.weight_hh_l0.fill_(0.0)  # nothing but the forget gate on the way
    x = torch.zeros(30, 6, 1)
    x[:, row] = 9.0
    for net in (layer, copy.deepcopy(layer).double()):
        taps = tapped(net)
        output, (_, c) = net(x.to(net.weight_ih_l0))
        (c.sum() + output[:, torch.arange(6) != row].sum()).backward()
        found.append(taps[0, False].log10_norm)
    assert found[1][1, 0, row] < -50
    assert found[1][1, 0].sort().values[1] > -2
    torch.testing.assert_close(*found, rtol=0, atol=0.01)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_what_is_not_finite_is_counted(dtype: torch.dtype) -> None:
    grad = torch.randn(1, 6, 20, dtype=dtype)
    grad[0, 1, 3] = math.inf
    grad[0, 2, :7] = -math.inf
    grad[0, 4, 19] = math.nan
    grad[0, 5, ::2] = math.nan
    grad[0, 5, 1] = math.inf
    ours, theirs = seen_twice(torch.randn(1, 6, 2, dtype=dtype), grad, 20)
    agree(ours, theirs)
    assert ours.nonfinite[0, 0].tolist() == [0, 1, 7, 0, 1, 11]
    assert ours.log10_norm[0, 0, [1, 2]].tolist() == [math.inf, math.inf]
    assert ours.log10_norm[0, 0, [4, 5]].isnan().all()


@needs_compiler
@pytest.mark.parametrize("stacked", [1, 3])
def test_a_tap_keeps_what_it_saw_whatever_runs_after_it(stacked: int) -> None:
    """Unread, its numbers stand in a buffer that later calls of the same kernel would like."""
    layer: Any = sg.LSTM(3, 8, stacked, bidirectional=True, backend="c")
    eager: Any = sg.LSTM(3, 8, stacked, bidirectional=True, backend="eager")
    eager.load_state_dict(layer.state_dict())
    kept, wanted = [], []
    for i in range(4):
        x = (i + 1) * torch.randn(5 + i % 2, 3, 3)
        for net, taps in ((layer, kept), (eager, wanted)):
            net.on_tap = lambda index, reverse, tap, taps=taps: taps.append(tap)
            net(x)[0].square().sum().backward()
    assert len(kept) == len(wanted) == 8 * stacked
    for ours, theirs in zip(kept, wanted, strict=True):
        agree(ours, theirs)


@needs_compiler
def test_a_tap_that_was_read_keeps_its_tensors() -> None:
    layer: Any = sg.GRU(3, 8, backend="c")
    taps = tapped(layer)
    layer(torch.randn(5, 2, 3))[0].sum().backward()
    norms, counts = taps[0, False].log10_norm, taps[0, False].nonfinite
    before = norms.clone(), counts.clone()
    layer(100 * torch.randn(5, 2, 3))[0].square().sum().backward()  # may use the buffer again
    assert torch.equal(norms, before[0]) and torch.equal(counts, before[1])


@needs_compiler
def test_the_buffer_of_a_tap_that_is_gone_is_used_again() -> None:
    layer: Any = sg.GRU(3, 9, backend="c")
    layer.on_tap = lambda *_: None
    addresses = []
    for steps in (7, 7, 5):
        layer(torch.randn(steps, 2, 3))[0].sum().backward()
        ((_, address, _, _),) = kernel.loaded(layer.cell, torch.float32, False, False).records._idle
        addresses.append(address)
    assert len(set(addresses)) == 1
