"""The gradient at every time step, against an unrolled oracle."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

import steadygrad as sg
from steadygrad.flow import Capture, gradient_through_time
from steadygrad.flow.input_probe import InputProbe
from tests.helpers.unrolled import unroll

F64 = torch.float64
KINDS: dict[str, tuple[Any, Any]] = {
    "RNN": (nn.RNN, sg.RNN),
    "LSTM": (nn.LSTM, sg.LSTM),
    "GRU": (nn.GRU, sg.GRU),
}


class Reader(nn.Module):
    """A layer and a loss over packed or dense sequences; ``entry`` says where it enters."""

    def __init__(self, layer: nn.Module, sequences: list[Tensor], packed: bool, entry: str) -> None:
        super().__init__()
        self.rnn = layer
        self.sequences, self.packed, self.entry = sequences, packed, entry
        self.weights = [torch.randn(*s.shape[:1], 8, dtype=F64) for s in sequences]

    def loss(self) -> Tensor:
        dtype = next(self.rnn.parameters()).dtype
        if self.packed:
            given: Any = pack_sequence([s.to(dtype) for s in self.sequences], enforce_sorted=False)
            padded, lengths = pad_packed_sequence(self.rnn(given)[0])
            outputs = [padded[:n, b] for b, n in enumerate(lengths)]
        else:
            output, _ = self.rnn(torch.stack([s.to(dtype) for s in self.sequences], 1))
            outputs = [output[:, b] for b in range(len(self.sequences))]
        return self.of(outputs)

    def of(self, outputs: list[Tensor]) -> Tensor:
        total = torch.zeros((), dtype=outputs[0].dtype)
        for output, weight in zip(outputs, self.weights, strict=True):
            w = weight[:, : output.shape[1]].to(output.dtype)
            part = (output * w)[-1:] if self.entry == "last" else output * w
            total = total + part.sum()
        return total


CASES = [
    (kind, layers, both, packed, entry)
    for kind in KINDS
    for layers, both, packed, entry in [
        (1, False, False, "last"),
        (1, True, False, "all"),
        (2, False, True, "all"),
        (2, True, True, "last"),
        (3, True, False, "last"),
        (3, False, False, "all"),
    ]
]


@pytest.mark.parametrize("dtype", [F64, torch.float32], ids=["fp64", "fp32"])
@pytest.mark.parametrize("ours", [False, True], ids=["torch", "ours"])
@pytest.mark.parametrize(("kind", "layers", "both", "packed", "entry"), CASES)
def test_against_an_unrolled_oracle(
    kind: str, layers: int, both: bool, packed: bool, entry: str, ours: bool, dtype: torch.dtype
) -> None:
    torch.manual_seed(7)
    oracle_layer = KINDS[kind][0](3, 4, layers, bidirectional=both, dtype=F64)
    if dtype == torch.float32:  # the oracle gets the very weights of the float32 layer
        oracle_layer.load_state_dict(oracle_layer.float().state_dict())
        oracle_layer.double()
    layer = KINDS[kind][ours](3, 4, layers, bidirectional=both, dtype=dtype)
    layer.load_state_dict(oracle_layer.state_dict())
    lengths = (5, 9, 7) if packed else (9, 9, 9)
    sequences = [torch.randn(n, 3).double() for n in lengths]
    reader = Reader(layer, sequences, packed, entry)
    measured = gradient_through_time(reader, reader.loss)

    unrolled = unroll(oracle_layer, sequences)
    reader.of(unrolled.outputs).backward()
    bound = 1e-10 if dtype == F64 else 1e-4
    for index in range(layers):
        for reverse in (False, True)[: 1 + both]:
            name = "rnn"
            if layers > 1 or both:
                name += f".l{index}" + ("_reverse" if reverse else "")
            got = measured.flows[name].log10_grad
            want = [unrolled.log10_norm(index, reverse, t) for t in range(9)]
            reached = np.isfinite(want)
            np.testing.assert_allclose(10.0 ** got[reached], 10.0 ** np.array(want)[reached], bound)
            assert (got[~reached] == -np.inf).all()


@pytest.mark.parametrize("ours", [False, True], ids=["torch", "ours"])
def test_many_to_one_is_seen_at_all_200_steps(ours: bool) -> None:
    layer = (sg.LSTM if ours else nn.LSTM)(4, 16)
    x = torch.randn(200, 4, 4)
    flow = gradient_through_time(layer, lambda: layer(x)[0][-1].sum()).flows["lstm"]
    assert flow.log10_grad.shape == (200,) and np.isfinite(flow.log10_grad).all()
    # where retain_grad on the output shows one step of 200
    output = layer(x)[0]
    output.retain_grad()
    output[-1].sum().backward()
    assert (output.grad.abs().sum((1, 2)) > 0).sum() == 1


def test_a_ratio_of_1e_minus_60_from_a_float32_model() -> None:
    layer: Any = nn.RNN(1, 8, nonlinearity="relu")
    with torch.no_grad():
        layer.weight_hh_l0.copy_(0.5 * torch.eye(8))
        layer.weight_ih_l0.zero_()
        layer.bias_ih_l0.fill_(1.0)
    x = torch.zeros(201, 2, 1)
    flow = gradient_through_time(layer, lambda: layer(x)[0][-1].sum()).flows["rnn"]
    expected = 200 * np.log10(0.5)  # -60.2
    assert flow.by_lag.at(200) == pytest.approx(expected, abs=1e-3)
    assert flow.slope == pytest.approx(np.log10(0.5), abs=1e-6)
    assert flow.horizon == 13  # 2^-13 is the last power above 1e-4


def test_nearby_losses_do_not_hide_a_dead_trip() -> None:
    """Total and per-source ratio part where the loss enters everywhere."""
    layer: Any = nn.RNN(1, 8, dtype=F64)
    nn.init.orthogonal_(layer.weight_hh_l0, 0.5)
    x = 0.1 * torch.randn(60, 4, 1, dtype=F64)
    flow = gradient_through_time(layer, lambda: layer(x)[0].square().mean(), lag=40).flows["rnn"]
    assert flow.by_lag.mode == "per source" and flow.by_lag.sources == 5
    assert flow.log10_grad[10] - flow.log10_grad[50] > -2
    assert flow.by_lag.at(40) < -11


def test_sources_are_followed_from_the_top_through_the_layers_between() -> None:
    """Two modules in a chain: the lower one's curve starts where the loss entered the upper."""

    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.low, self.up = nn.GRU(2, 4, dtype=F64), nn.RNN(4, 4, dtype=F64)

        def forward(self, x: Tensor) -> Tensor:
            return self.up(self.low(x)[0])[0]

    model, x = Chain(), torch.randn(30, 3, 2, dtype=F64)
    flows = gradient_through_time(model, lambda: model(x).sum(), lag=25, sources=1).flows
    y = model.low(x)[0]
    (source,) = [29]
    (grad,) = torch.autograd.grad(model.up(y)[0][source].sum(), y, retain_graph=True)
    hidden = []
    state = None
    for t in range(30):
        _, state = model.low(x[t : t + 1], state)
        state.retain_grad()
        hidden.append(state)
    sum((h[0] * grad[t]).sum() for t, h in enumerate(hidden)).backward()  # type: ignore[union-attr]
    norms = [float(h.grad.norm().log10()) for h in hidden]
    np.testing.assert_allclose(flows["low"].by_lag.log10_ratio, np.array(norms[::-1]) - norms[-1])


def test_the_model_is_left_as_it_was() -> None:
    layer: Any = nn.LSTM(2, 4, 2, dropout=0.5)
    x = torch.randn(6, 2, 2)
    random_before = torch.get_rng_state()
    gradient_through_time(layer, lambda: (layer(x)[0] * torch.rand(4)).sum())
    assert torch.equal(torch.get_rng_state(), random_before)
    assert layer.dropout == 0.5
    assert all(p.grad is None for p in layer.parameters())
    assert not layer._forward_hooks and not layer._forward_pre_hooks


@pytest.mark.parametrize(
    "make", [lambda: nn.LSTM(3, 5, dtype=F64), lambda: nn.GRU(3, 5, dtype=F64)]
)
def test_gate_health_counts_what_a_direct_count_finds(make: Callable[[], nn.RNNBase]) -> None:
    layer = make()
    with torch.no_grad():
        layer.bias_ih_l0[:5] += torch.tensor([0.0, 9.0, -9.0, 9.0, 0.0])  # type: ignore[operator]
    x = torch.randn(6, 2, 3, dtype=F64)
    flow = gradient_through_time(layer, lambda: layer(x)[0].sum()).flows
    (only,) = flow.values()
    first = "input" if isinstance(layer, nn.LSTM) else "reset"
    assert only.gates[first].dead_share == 3 / 5
    assert only.gates[first].dead_units == [1, 2, 3]
    assert all(h.dead_share == 0 for gate, h in only.gates.items() if gate != first)


def test_refusals_say_what_to_do() -> None:
    layer: Any = nn.LSTM(2, 3)
    with pytest.raises(ValueError, match="holds no recurrent layer"):
        gradient_through_time(nn.Linear(2, 2), lambda: torch.zeros(()))
    with pytest.raises(ValueError, match="no recurrent layer of LSTM was called"):
        gradient_through_time(layer, lambda: torch.zeros((), requires_grad=True))
    x = torch.randn(4, 1, 2)
    with pytest.raises(ValueError, match=r"scalar loss, got \(4, 1, 3\)"):
        gradient_through_time(layer, lambda: layer(x)[0])
    with pytest.raises(ValueError, match="does not require a gradient"):
        gradient_through_time(layer, lambda: layer(x)[0].sum().detach())


def test_calls_of_one_layer_are_told_apart() -> None:
    layer: Any = nn.GRU(2, 3)

    def loss() -> Tensor:
        head, state = layer(torch.randn(4, 2, 2))
        return layer(torch.randn(5, 2, 2), 0.5 * state)[0].sum() + head.sum()

    flows = gradient_through_time(layer, loss).flows
    assert {name: f.time_steps for name, f in flows.items()} == {"gru": 4, "gru#2": 5}


@pytest.mark.parametrize("kind", KINDS)
def test_the_input_probe_follows_the_gradient_inside(kind: str) -> None:
    torch.manual_seed(0)
    layer = KINDS[kind][0](6, 16)
    x = torch.randn(60, 4, 6)
    flow = gradient_through_time(layer, lambda: layer(x)[0][-1].sum()).flows[kind.lower()]
    probe = InputProbe(layer)
    layer(x)[0][-1].sum().backward()
    assert probe.log10_grad is None  # off until asked
    probe.is_on = True
    layer(x)[0][-1].sum().backward()
    assert probe.log10_grad is not None and x.grad is None and not x.requires_grad
    inner, witness = flow.log10_grad[:-1], probe.log10_grad[:-1]
    assert np.corrcoef(inner, witness)[0, 1] > 0.99
    probe.close()
    assert not layer._forward_pre_hooks


def test_the_input_probe_keeps_no_tensor_alive() -> None:
    layer = nn.GRU(3, 4)
    probe = InputProbe(layer)
    probe.is_on = True
    data = (torch.randn(6, 2, 3, requires_grad=True) * 2).tanh()  # a tensor of the graph
    layer(data)[0].sum().backward()
    assert probe.log10_grad is not None
    seen = weakref.ref(data)
    del data
    gc.collect()
    assert seen() is None
    probe.close()


def test_capture_keeps_nothing_after_it_closes() -> None:
    layer: Any = nn.LSTM(2, 3)
    with Capture(layer) as capture:
        layer(torch.randn(4, 1, 2))
        assert len(capture.calls) == 1
    assert not capture.calls and not layer._forward_hooks
