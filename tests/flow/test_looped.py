"""Layers with a loop of their own: measured, named and watched as any recurrent layer is.

The oracle is autograd over an unrolled loop in float64: the layer called for one step after
another, or, where that is not possible, its equations written out.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import steadygrad as sg
from steadygrad.flow import gradient_by_source, gradient_through_time
from steadygrad.nn import MDLSTM, MIST, MLSTM, NARX, BatchNormGRU, BatchNormLSTM, ConvLSTM

F64 = torch.float64
T, B, I, H = 9, 3, 2, 4
MAKE: dict[str, Callable[[], nn.Module]] = {
    "batch-norm-lstm": lambda: BatchNormLSTM(I, H, "shared", gain=0.7, dtype=F64),
    "batch-norm-gru": lambda: BatchNormGRU(I, H, "shared", gain=0.7, dtype=F64),
    "conv-lstm": lambda: ConvLSTM(I, H, (3,), dtype=F64),
    "mist": lambda: MIST(I, H, (1, 2, 4), dtype=F64),
    "mlstm": lambda: MLSTM(I, H, 2, dtype=F64),
    "lru": lambda: sg.nn.LRU(I, H, dtype=F64),
    "gated-delta-net": lambda: sg.nn.GatedDeltaNet(I, H, 2, dtype=F64),
    "m2rnn": lambda: sg.nn.M2RNN(I, H, 2, dtype=F64),
}
NAMES = list(MAKE)


class Model(nn.Module):
    """A layer, and a loss of what it hands out last."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def loss(self, last: Any) -> Tensor:
        parts = [last] if isinstance(last, Tensor) else list(last)
        real = [p.real if p.is_complex() else p for p in parts]
        weights = [torch.linspace(-1, 2, p.numel(), dtype=F64).view_as(p) for p in real]
        return torch.stack([(p * w).sum() for p, w in zip(real, weights, strict=True)]).sum()

    def forward(self, x: Tensor) -> Tensor:
        return self.loss(self.layer(x)[1])


def setting(name: str) -> tuple[Model, Tensor]:
    torch.manual_seed(3)
    shape = (T, B, I, 3) if name == "conv-lstm" else (T, B, I)
    return Model(MAKE[name]()), torch.randn(shape, dtype=F64)


def unrolled(model: Model, x: Tensor) -> np.ndarray:
    """log10 of the norm of dL/ds_t, the layer called for one step after another."""
    made, state = [], None
    for t in range(T):
        _, state = model.layer(x[t : t + 1], state)
        first = state if isinstance(state, Tensor) else state[0]
        first.retain_grad()
        made.append(first)
    # Of a history of states the newest one was made at this step.
    newest = -1 if isinstance(model.layer, MIST) else slice(None)
    grads = torch.autograd.grad(model.loss(state), made)
    return np.array([float(g[newest].norm().log10()) for g in grads])


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_at_every_step_is_that_of_an_unrolled_loop(name: str) -> None:
    model, x = setting(name)
    flow = sg.diagnose(model, lambda: model(x), lag=4).flow["layer"]
    np.testing.assert_allclose(flow.log10_grad, unrolled(model, x), atol=1e-9)
    assert flow.time_steps == T and flow.exactness.startswith("exact")
    assert flow.cell == type(model.layer).__name__ and flow.by_lag.max_lag == T - 1


@pytest.mark.parametrize("cuts", [[1] * T, [4, 2, 3]], ids=["steps", "chunks"])
@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith("batch-norm")])
def test_calls_that_hand_their_state_on_are_measured_as_one(name: str, cuts: list[int]) -> None:
    model, x = setting(name)
    assert model.layer.is_streaming

    def handed(is_cut: bool = False) -> Tensor:
        state: Any = None
        loss = torch.zeros((), dtype=F64)
        for number, part in enumerate(x.split(cuts)):
            if is_cut and number == 1:
                is_one = isinstance(state, Tensor)
                state = state.detach() if is_one else tuple(s.detach() for s in state)
            output, state = model.layer(part, state)
            loss = loss + output.square().sum()
        return loss + model.loss(state)

    def whole() -> Tensor:
        output, last = model.layer(x)
        return output.square().sum() + model.loss(last)

    flows = [sg.diagnose(model, each, lag=T - 1).flow for each in (handed, whole)]
    assert list(flows[0]) == ["layer"]
    cut, uncut = (f["layer"] for f in flows)
    np.testing.assert_allclose(cut.log10_grad, uncut.log10_grad, atol=1e-9)
    np.testing.assert_allclose(cut.by_lag.log10_ratio, uncut.by_lag.log10_ratio, atol=1e-9)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    with sg.watch(model, optimizer, lag=T - 1, every=1) as w:
        handed().backward()
        optimizer.step()
    np.testing.assert_allclose(w.flow["layer"].log10_grad, flows[1]["layer"].log10_grad, atol=1e-6)
    # A state that is handed on by value alone is no chain.
    cut = sg.diagnose(model, lambda: handed(is_cut=True), lag=T - 1)
    assert cut.verdict != "healthy"


def test_a_state_that_is_handed_out_counts_once_where_the_output_reads_it_too() -> None:
    torch.manual_seed(3)
    layer, x = MLSTM(I, H, 2, form="recurrent", dtype=F64), torch.randn(T, B, I, dtype=F64)
    model = Model(layer)
    made: list[Tensor] = []

    def see(name: str, step: int, value: Tensor) -> None:
        if name == "C":
            made.append(value)

    layer.on_state = see
    output, last = layer(x)
    layer.on_state = None
    grads = torch.autograd.grad((output[-1] * 2).sum() + model.loss(last), made)
    wanted = [float(g.norm().log10()) for g in grads]

    def loss() -> Tensor:
        output, last = layer(x)
        return (output[-1] * 2).sum() + model.loss(last)

    found = sg.diagnose(model, loss, lag=4).flow["layer"].log10_grad
    np.testing.assert_allclose(found, wanted, atol=1e-9)


def narx() -> tuple[NARX, Tensor, Tensor]:
    torch.manual_seed(4)
    net = NARX(1, 1, 5, (1, 2), (1, 3), dtype=F64)
    u, y = torch.randn(2, 3 + T, B, 1, dtype=F64)
    return net, u, y


def closed(net: NARX, u: Tensor, y: Tensor) -> Tensor:
    delays = net.delays(u[:3], y[:3])
    return (net.free_run(u[3:], delays)[0][-1] - y[-1]).square().sum()


def test_so_it_is_for_the_closed_loop_of_a_narx() -> None:
    net, u, y = narx()
    past = list(y[:3])
    for t in range(3, 3 + T):
        taps = torch.cat([past[t - 1], past[t - 3], u[t - 1], u[t - 2]], -1)
        past.append(net.readout(torch.tanh(net.hidden(taps))))
    grads = torch.autograd.grad((past[-1] - y[-1]).square().sum(), past[3:])
    expected = [float(g.norm().log10()) for g in grads]
    d = sg.diagnose(net, lambda: closed(net, u, y), lag=8)
    np.testing.assert_allclose(d.flow["closed_loop"].log10_grad, expected, atol=1e-9)


def test_so_it_is_for_the_diagonals_of_an_image() -> None:
    torch.manual_seed(5)
    layer, x = MDLSTM(1, 2, directions=1, dtype=F64), torch.randn(B, 1, 3, 4, dtype=F64)
    zero = torch.zeros(B, 2, dtype=F64)
    h: dict[tuple[int, int], Tensor] = {}
    c: dict[tuple[int, int], Tensor] = {}
    assert layer.bias is not None
    for at_y in range(3):
        for at_x in range(4):
            up, left = (at_y - 1, at_x), (at_y, at_x - 1)
            both = torch.cat([h.get(up, zero), h.get(left, zero)], 1)
            pre = x[:, :, at_y, at_x] @ layer.weight_ih[0].t() + both @ layer.weight_hh[0].t()
            gates = dict(zip(layer.gates, (pre + layer.bias[0]).chunk(5, 1), strict=True))
            i, g, o = (gates[n] for n in ("input", "candidate", "output"))
            fy, fx = (v for n, v in gates.items() if n.startswith("forget"))
            memory = fy.sigmoid() * c.get(up, zero) + fx.sigmoid() * c.get(left, zero)
            c[at_y, at_x] = i.sigmoid() * g.tanh() + memory
            h[at_y, at_x] = o.sigmoid() * c[at_y, at_x].tanh()
    grads = torch.autograd.grad(h[2, 3].square().sum(), list(h.values()))
    squares = np.zeros(6)
    for (at_y, at_x), grad in zip(h, grads, strict=True):
        squares[at_y + at_x] += float(grad.square().sum())
    model = nn.Sequential(layer)
    d = sg.diagnose(model, lambda: model(x)[:, :, 2, 3].square().sum())
    np.testing.assert_allclose(d.flow["0"].log10_grad, np.log10(squares) / 2, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_at_every_step_is_followed_from_each_by_itself(name: str) -> None:
    model, x = setting(name)
    found = gradient_by_source(model, lambda: model.layer(x)[0].square().sum(), sources=3)["layer"]
    assert found.sources.tolist() == [0, 4, 8]
    whole = gradient_through_time(model, lambda: model.layer(x)[0][4].square().sum())
    one = whole.flows["layer"]
    np.testing.assert_allclose(found.log10_grad[1], one.log10_grad, atol=1e-9)
    assert np.isneginf(found.log10_grad[1][5:]).all() and one.by_lag.max_lag == 4


@pytest.mark.parametrize("name", [*NAMES, "md-lstm", "narx"])
def test_a_watch_sees_the_same_and_changes_nothing(name: str) -> None:
    def training(watched: bool) -> tuple[list[Tensor], Any, Any]:
        if name == "narx":
            net, u, y = narx()
            model: nn.Module = net
            loss_of = lambda: closed(net, u, y)  # noqa: E731
        elif name == "md-lstm":
            torch.manual_seed(5)
            model, x = nn.Sequential(MDLSTM(1, 2, dtype=F64)), torch.randn(B, 1, 3, 4, dtype=F64)
            loss_of = lambda: model(x)[:, :, 2, 3].square().sum()  # noqa: E731
        else:
            model, x = setting(name)
            loss_of = lambda: model(x)  # noqa: E731
        optimizer = torch.optim.SGD(model.parameters(), 1e-3)
        d = sg.diagnose(model, loss_of) if watched else None
        w = sg.watch(model, optimizer, lag=4, every=1) if watched else None
        seen = None
        for _ in range(2):
            optimizer.zero_grad()
            loss_of().backward()
            optimizer.step()
            seen = seen or (w and dict(w.flow))
        if w:
            w.close()
        return [t.detach().clone() for t in model.state_dict().values()], d, seen

    (plain, _, _), (watched, d, seen) = training(False), training(True)
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
    (layer, flow), *_ = seen.items()
    np.testing.assert_allclose(flow.log10_grad, d.flow[layer].log10_grad, atol=1e-9)


def test_a_fault_in_a_closed_loop_is_named() -> None:
    net, u, y = narx()
    with torch.no_grad():
        net.readout.weight.mul_(1e-4)
    d = sg.diagnose(net, lambda: closed(net, u, y), lag=6)
    assert d.verdict == "vanishing" and d.findings[0].layer == "closed_loop"
    assert "closed_loop" in str(d)


def test_rows_that_do_not_mix_may_be_left_out() -> None:
    model, x = setting("mlstm")
    few = gradient_through_time(model, lambda: model(x), rows=2).flows["layer"]
    assert "over 2 sequences" in few.exactness
    mixed, x = setting("batch-norm-lstm")
    all_rows = gradient_through_time(mixed, lambda: mixed(x), rows=2).flows["layer"]
    assert f"over {B} sequences" in all_rows.exactness
