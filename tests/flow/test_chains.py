"""Loops that call a layer, or one of torch's cells, step by step are measured as one recurrence.

The oracle is the same network over whole sequences in one call, and autograd over the loop.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import steadygrad as sg
from steadygrad.flow import Measured, gradient_by_source, gradient_through_time

F64 = torch.float64
T, B, I, H = 12, 4, 3, 5
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "nn.LSTM": lambda: nn.LSTM(I, H, dtype=F64),
    "nn.GRU": lambda: nn.GRU(I, H, 2, dtype=F64),
    "sg.LSTM": lambda: sg.LSTM(I, H, 2, dtype=F64),
    "sg.Recurrent": lambda: sg.Recurrent("lem", I, H, dtype=F64),
    "batch first": lambda: nn.RNN(I, H, batch_first=True, dtype=F64),
}
CELLS: dict[str, tuple[Any, Any]] = {
    "lstm": (nn.LSTMCell, nn.LSTM),
    "gru": (nn.GRUCell, nn.GRU),
    "rnn": (nn.RNNCell, nn.RNN),
}
READ: dict[str, Callable[[Tensor], Tensor]] = {
    "last": lambda y: y[-1].square().sum(),
    "all": lambda y: y.square().sum() + y[3].sum(),
}


class Loop(nn.Module):
    """A layer, called in chunks; what happens to the state in between is an argument."""

    def __init__(self, layer: nn.Module, chunk: int = 1) -> None:
        super().__init__()
        self.layer, self.chunk = layer, chunk

    def forward(self, x: Tensor, between: Callable[[Tensor, int], Tensor] | None = None) -> Tensor:
        first = bool(getattr(self.layer, "batch_first", False))
        state, made = None, []
        for t in range(0, len(x), self.chunk):
            if state is not None and between is not None:
                parts = (state,) if isinstance(state, Tensor) else state
                changed = tuple(between(s, t) for s in parts)
                state = changed[0] if isinstance(state, Tensor) else changed
            part = x[t : t + self.chunk]
            y, state = self.layer(part.transpose(0, 1) if first else part, state)
            made.append(y.transpose(0, 1) if first else y)
        return torch.cat(made)


class CellLoop(nn.Module):
    """One of torch's cells in a loop of one's own, two of them one above the other."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.low, self.top = kind(I, H, dtype=F64), kind(H, H, dtype=F64)

    def forward(self, x: Tensor) -> Tensor:
        low, top, made = None, None, []
        for x_t in x:
            low = self.low(x_t, low)
            top = self.top(low[0] if isinstance(low, tuple) else low, top)
            made.append(top[0] if isinstance(top, tuple) else top)
        return torch.stack(made)


def data() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(T, B, I, dtype=F64)


def same(a: Any, b: Any) -> None:
    """Whether two flows say the same."""
    np.testing.assert_allclose(a.log10_grad, b.log10_grad, atol=1e-8)
    np.testing.assert_allclose(a.by_lag.log10_ratio, b.by_lag.log10_ratio, atol=1e-8)
    assert a.by_lag.mode == b.by_lag.mode and a.by_lag.sources == b.by_lag.sources
    assert a.time_steps == b.time_steps and not a.goes_on


@pytest.mark.parametrize("read", READ)
@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_called_step_by_step_is_the_layer(name: str, chunk: int, read: str) -> None:
    torch.manual_seed(0)
    model, x = Loop(LAYERS[name](), chunk), data()
    loop = sg.diagnose(model, lambda: READ[read](model(x)), lag=8)
    model.chunk = T
    whole = sg.diagnose(model, lambda: READ[read](model(x)), lag=8)
    assert list(loop.flow) == list(whole.flow) and loop.verdict == whole.verdict
    for layer in whole.flow:
        same(loop.flow[layer], whole.flow[layer])


@pytest.mark.parametrize("read", READ)
@pytest.mark.parametrize("kind", CELLS)
def test_cells_in_a_loop_are_the_stacked_layer(kind: str, read: str) -> None:
    torch.manual_seed(0)
    cell, layer = CELLS[kind]
    loop, stack, x = CellLoop(cell), layer(I, H, 2, dtype=F64), data()
    with torch.no_grad():
        for index, own in enumerate((loop.low, loop.top)):
            for name, value in own.named_parameters():
                getattr(stack, f"{name}_l{index}").copy_(value)
    d = sg.diagnose(loop, lambda: READ[read](loop(x)), lag=8)
    whole = sg.diagnose(stack, lambda: READ[read](stack(x)[0]), lag=8)
    assert list(d.flow) == ["low", "top"]
    for own, theirs in (("low", "lstm.l0"), ("top", "lstm.l1")):
        same(d.flow[own], whole.flow[theirs.replace("lstm", type(stack).__name__.lower())])


def test_the_gradient_at_every_h_is_that_of_autograd_over_the_loop() -> None:
    torch.manual_seed(0)
    cell, x = nn.LSTMCell(I, H, dtype=F64), data()
    h = c = torch.zeros(B, H, dtype=F64)
    made = []
    for x_t in x:
        h, c = cell(x_t, (h, c))
        made.append(h)
    grads = torch.autograd.grad(READ["all"](torch.stack(made)), made)

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = cell

        def forward(self, x: Tensor) -> Tensor:
            state, found = None, []
            for x_t in x:
                state = self.cell(x_t, state)
                found.append(state[0])
            return torch.stack(found)

    model = Own()
    flow = sg.diagnose(model, lambda: READ["all"](model(x))).flow["cell"]
    expected = [float(g.norm().log10()) for g in grads]
    np.testing.assert_allclose(flow.log10_grad, expected, atol=1e-9)


def test_a_row_that_is_reset_begins_anew() -> None:
    torch.manual_seed(0)
    model, x = Loop(nn.GRU(I, H, dtype=F64)), data()
    mask = torch.ones(T, B, dtype=F64)
    mask[5, 1] = mask[3, 2] = mask[9, 2] = 0

    def loss() -> Tensor:
        return model(x, lambda s, t: s * mask[t][None, :, None]).square().sum()

    d = sg.diagnose(model, loss, lag=4)
    # Row by row: 12; 5 and 7; 3, 6 and 3; 12 steps.
    pieces = [(0, 0, 12), (1, 0, 5), (1, 5, 12), (2, 0, 3), (2, 3, 9), (2, 9, 12), (3, 0, 12)]
    squares = np.zeros(T)
    for row, begin, end in pieces:
        hidden = []
        state = torch.zeros(1, 1, H, dtype=F64)
        for t in range(begin, end):
            _, state = model.layer(x[t : t + 1, row : row + 1], state)
            hidden.append(state)
        grads = torch.autograd.grad(torch.stack(hidden).square().sum(), hidden)
        for t, grad in enumerate(grads):
            squares[t] += float(grad.square().sum())
    np.testing.assert_allclose(d.flow["layer"].log10_grad, np.log10(squares) / 2, atol=1e-9)
    assert list(d.flow) == ["layer"] and d.flow["layer"].time_steps == T


def test_a_state_that_is_detached_is_truncated_and_not_vanishing() -> None:
    torch.manual_seed(0)
    model, x = Loop(nn.LSTM(I, H, dtype=F64)), data()

    def loss() -> Tensor:
        return model(x, lambda s, t: s.detach() if t == 7 else s)[-1].square().sum()

    d = sg.diagnose(model, loss, lag=8)
    assert d.verdict == "truncated" and "detached" in d.findings[0].text
    assert d.flow["layer"].severed == 7 and str(d)


def test_a_state_that_is_changed_on_its_way_is_no_chain() -> None:
    torch.manual_seed(0)
    model, x = Loop(nn.GRU(I, H, dtype=F64)), data()
    d = sg.diagnose(model, lambda: model(x, lambda s, t: 0.5 * s + 0.1)[-1].square().sum(), lag=8)
    assert len(d.flow) == T and all(f.time_steps == 1 for f in d.flow.values()) and str(d)


def test_a_memory_that_the_loss_reads_on_the_way_keeps_the_calls_apart() -> None:
    torch.manual_seed(0)
    layer, x = nn.LSTM(I, H, dtype=F64), data()
    model = nn.ModuleDict({"layer": layer})

    def loss() -> Tensor:
        state: Any = None
        total = x.new_zeros(())
        for t in range(3):
            _, state = layer(x[t : t + 1], state)
            total = total + state[1].square().sum()
        return total

    assert len(sg.diagnose(model, loss).flow) == 3


def test_calls_that_begin_at_zeros_are_calls_of_their_own() -> None:
    torch.manual_seed(0)
    layer, x = nn.GRU(I, H, dtype=F64), data()
    model = nn.ModuleDict({"layer": layer})
    d = sg.diagnose(model, lambda: layer(x)[0][-1].sum() + layer(2 * x)[0][-1].sum(), lag=8)
    assert list(d.flow) == ["layer", "layer#2"]


def test_noise_is_that_of_each_call() -> None:
    torch.manual_seed(0)
    model, x = Loop(sg.Recurrent("lstm-dropout", I, H, dtype=F64)), data()
    d = sg.diagnose(model, lambda: model(x)[-1].square().sum(), lag=8)
    assert d.flow["layer"].exactness.startswith("exact") and d.flow["layer"].time_steps == T


def test_a_chain_is_taken_apart_by_source() -> None:
    torch.manual_seed(0)
    model, x = Loop(nn.RNN(I, H, dtype=F64)), data()
    loop = gradient_by_source(model, lambda: READ["all"](model(x)), sources=4)["layer"]
    model.chunk = T
    whole = gradient_by_source(model, lambda: READ["all"](model(x)), sources=4)["layer"]
    np.testing.assert_allclose(loop.log10_grad, whole.log10_grad, atol=1e-8)


@pytest.mark.parametrize("kind", ["layer", "cells"])
@pytest.mark.parametrize("micro", [1, 2])
def test_a_watch_sees_the_chain_and_the_training_ends_bit_equal(kind: str, micro: int) -> None:
    def training(watched: bool) -> tuple[list[Tensor], Any]:
        torch.manual_seed(0)
        model: Any = Loop(nn.LSTM(I, H, dtype=F64)) if kind == "layer" else CellLoop(nn.LSTMCell)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        w = sg.watch(model, optimizer, lag=8, every=1) if watched else None
        for _ in range(2):
            optimizer.zero_grad()
            for part in data().chunk(micro, 1):
                READ["all"](model(part)).backward()
            optimizer.step()
        if w:
            w.close()
        return [p.detach().clone() for p in model.parameters()], w

    (plain, _), (watched, w) = training(False), training(True)
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
    assert list(w.flow) == (["layer"] if kind == "layer" else ["low", "top"])
    for flow in w.flow.values():
        assert flow.time_steps == T and f"over {B} sequences" in flow.exactness
        assert flow.exactness.startswith("exact")


def test_a_watch_holds_no_graph_and_forgets_loops_that_no_backward_follows() -> None:
    model = Loop(nn.GRU(I, H, dtype=F64))
    w = sg.watch(model, torch.optim.SGD(model.parameters(), 0.1), lag=8)
    for _ in range(200):
        model(data())  # with gradients on, and no backward pass
    calls = w._capture.calls
    assert len(calls) <= 65 * T
    assert not any(t.requires_grad for c in calls for t in (c.output, *c.last, *c.state))
    w.close()


class Whole(nn.Module):
    """One call of a layer; ``given`` are its other arguments."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Any, **given: Any) -> Tensor:
        y = self.layer(x, **given)[0]
        return y.data if isinstance(y, PackedSequence) else y


def all_same(ours: Measured, theirs: Measured) -> None:
    assert list(ours.flows) == list(theirs.flows)
    for name, flow in ours.flows.items():
        same(flow, theirs.flows[name])


@pytest.mark.parametrize("read", READ)
def test_resets_within_a_call_are_those_between_calls(read: str) -> None:
    layer = sg.LSTM(I, H, 2, dtype=F64, learn_initial_state=True)
    x, resets = torch.randn(T, B, I, dtype=F64), torch.zeros(T, B, dtype=torch.bool)
    resets[4, :3], resets[7, 1], resets[0, 2] = True, True, True

    def emptied(state: Tensor, t: int) -> Tensor:
        return state * ~resets[t][None, :, None]

    def measured(model: nn.Module, **given: Any) -> Measured:
        return gradient_through_time(model, lambda: READ[read](model(x, **given)), lag=3)

    all_same(measured(Whole(layer), resets=resets), measured(Loop(layer), between=emptied))
    model, resets[8, 3] = Whole(layer), True
    cut = sg.diagnose(model, lambda: READ[read](model(x, resets=resets)), lag=9)
    assert cut.verdict != "healthy"
    assert [f for f in cut.findings if "between two resets has 8 steps" in f.text]


def test_segments_of_a_bidirectional_call_are_rows() -> None:
    layer = sg.GRU(I, H, bidirectional=True, dtype=F64)
    x, lengths = torch.randn(T, 2, I, dtype=F64), [12, 9]
    resets = torch.zeros(T, 2, dtype=torch.bool)
    resets[5, 0] = resets[2, 1] = resets[10, 1] = True  # the last one beyond the end of its row
    segments = pack_sequence([x[5:, 0], x[2:9, 1], x[:5, 0], x[:2, 1]])
    model = Whole(layer)

    def whole() -> Tensor:
        return model(x, lengths=torch.tensor(lengths), resets=resets).square().sum()

    def apart() -> Tensor:
        return model(segments).square().sum()

    all_same(*(gradient_through_time(model, loss, lag=2) for loss in (whole, apart)))


@pytest.mark.parametrize("with_resets", [False, True])
def test_steps_that_warm_up_are_behind_the_end_of_the_way(with_resets: bool) -> None:
    layer, plain = sg.LSTM(I, H, dtype=F64, burn_in=4), sg.LSTM(I, H, dtype=F64)
    plain.load_state_dict(layer.state_dict())
    x, resets = torch.randn(T, B, I, dtype=F64), torch.zeros(T, B, dtype=torch.bool)
    resets[8, 0] = resets[2, 1] = resets[4, 2] = with_resets
    model, by_hand = Whole(layer), Whole(plain)
    with torch.no_grad():
        _, state = plain(x[:4], resets=resets[:4])

    def loss() -> Tensor:
        return model(x, resets=resets if with_resets else None).square().sum()

    def loss_by_hand() -> Tensor:
        return by_hand(x[4:], hx=state, resets=resets[4:]).square().sum()

    ours = gradient_through_time(model, loss, lag=2)
    all_same(ours, gradient_through_time(by_hand, loss_by_hand, lag=2))
    found = sg.diagnose(model, loss, lag=9).findings
    assert [f for f in found if f.fault == "truncated" and "by burn_in) after 8 steps" in f.text]
