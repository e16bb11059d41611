"""The gradient by source, by term, and by step of the weights; memory, growth, noise."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

import steadygrad as sg
from steadygrad.flow import (
    LagCurve,
    NoiseMeter,
    gradient_by_source,
    gradient_by_term,
    gradient_noise,
    gradient_through_time,
    update_ratio,
    update_ratios,
    weight_gradient_by_step,
)
from tests.helpers.unrolled import unroll

F64 = torch.float64
T, B, I, H = 9, 3, 2, 4


def norms(layer: Any, x: Tensor, entry: int, weight: Tensor, index: int) -> list[float]:
    """log10 |dL_s/dh_t| of one layer, from torch's layer unrolled by hand."""
    unrolled = unroll(layer, [x[:, b] for b in range(x.shape[1])])
    sum((out[entry] * weight[entry, b]).sum() for b, out in enumerate(unrolled.outputs)).backward()  # type: ignore[union-attr]
    return [unrolled.log10_norm(index, False, t) for t in range(entry + 1)]


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_every_source_is_measured_by_itself(kind: Any) -> None:
    layer = kind(I, H, 2, dtype=F64)
    x, weight = torch.randn(T, B, I, dtype=F64), torch.randn(T, B, H, dtype=F64)
    weight[[0, 1, 3]] = 0  # the loss enters at 2, 4, 5, ...
    found = gradient_by_source(layer, lambda: (layer(x)[0] * weight).sum(), sources=3)
    for index in (0, 1):
        got = found[f"{kind.__name__.lower()}.l{index}"]
        assert got.sources.tolist() == [2, 5, 8] and got.log10_grad.shape == (3, T)
        for row, source in zip(got.log10_grad, got.sources, strict=True):
            want = norms(layer, x, int(source), weight, index)
            np.testing.assert_allclose(row[: source + 1], want, atol=1e-9)
            assert (row[source + 1 :] == -np.inf).all()


def test_a_source_is_followed_into_the_layer_below() -> None:
    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.low, self.up = nn.GRU(I, H, dtype=F64), sg.RNN(H, H, dtype=F64)

        def forward(self, x: Tensor) -> Tensor:
            return self.up(self.low(x)[0])[0]

    model, x = Chain(), torch.randn(T, B, I, dtype=F64)
    found = gradient_by_source(model, lambda: model(x).square().sum(), sources=1)["low"]
    assert found.sources.tolist() == [T - 1]
    only = gradient_through_time(model, lambda: model(x)[-1].square().sum()).flows["low"]
    np.testing.assert_allclose(found.log10_grad[0], only.log10_grad, atol=1e-9)


def test_terms_of_a_loss_are_told_apart() -> None:
    layer = nn.LSTM(I, H, dtype=F64)
    x = torch.randn(T, B, I, dtype=F64)

    def terms() -> dict[str, Tensor]:
        output = layer(x)[0]
        return {"end": output[-1].sum(), "middle": 1e-3 * output[4].square().sum()}

    found = gradient_by_term(layer, terms)
    for name in ("end", "middle"):
        alone = gradient_through_time(layer, lambda n=name: terms()[n]).flows["lstm"]
        np.testing.assert_allclose(found[name]["lstm"], alone.log10_grad, atol=1e-9)
    assert (found["middle"]["lstm"][5:] == -np.inf).all()
    with pytest.raises(ValueError, match="no terms"):
        gradient_by_term(layer, dict)
    with pytest.raises(ValueError, match="depends on a recurrent layer"):
        gradient_by_term(layer, lambda: {"none": torch.zeros(())})


def by_step(layer: Any, sequences: list[Tensor], weights: list[Tensor], name: str) -> list[float]:
    """Norm of each step's share, every step having its own copy of the weights."""
    owned, whole = [], layer.all_weights[0]
    for _ in range(max(map(len, sequences))):
        owned.append([w.detach().clone().requires_grad_() for w in whole])
    total = torch.zeros((), dtype=F64)
    for sequence, weight in zip(sequences, weights, strict=True):
        cell: Any = {nn.LSTM: nn.LSTMCell, nn.GRU: nn.GRUCell, nn.RNN: nn.RNNCell}[type(layer)]
        state = None
        for t, x in enumerate(sequence):
            module = cell(layer.input_size, layer.hidden_size, dtype=F64)
            named: Any = dict(
                zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), owned[t], strict=True)
            )
            given = (x[None],) if state is None else (x[None], state)
            state = torch.func.functional_call(module, named, given)
            h = state[0] if isinstance(state, tuple) else state
            total = total + (h * weight[t]).sum()
    total.backward()
    place = ("weight_ih", "weight_hh").index(name)
    return [float(o[place].grad.norm().log10()) for o in owned]  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("packed", [False, True])
def test_the_weight_gradient_by_step(kind: Any, packed: bool) -> None:
    layer = kind(I, H, dtype=F64)
    sequences = [torch.randn(n, I, dtype=F64) for n in ((5, 9, 7) if packed else (9, 9, 9))]
    weights = [torch.randn(len(s), H, dtype=F64) for s in sequences]

    def loss() -> Tensor:
        if packed:
            output, lengths = pad_packed_sequence(layer(pack_sequence(sequences, False))[0])
            outputs = [output[:n, b] for b, n in enumerate(lengths)]
        else:
            outputs = list(layer(torch.stack(sequences, 1))[0].unbind(1))
        return torch.stack([(o * w).sum() for o, w in zip(outputs, weights, strict=True)]).sum()

    (got,) = weight_gradient_by_step(layer, loss).values()
    for name in ("weight_ih", "weight_hh"):
        np.testing.assert_allclose(got[name], by_step(layer, sequences, weights, name), atol=1e-6)


def test_the_weight_gradient_of_a_stack_in_both_directions() -> None:
    """One step alone: its share is the whole gradient, of every layer and direction."""
    layer = nn.LSTM(I, H, 2, bidirectional=True, dtype=F64)
    x, state = torch.randn(1, B, I, dtype=F64), torch.randn(2, 4, B, H, dtype=F64)

    def loss() -> Tensor:
        output, (h, c) = layer(x, (state[0], state[1]))
        return output.square().sum() + h.sum() + c.square().sum()

    got = weight_gradient_by_step(layer, loss)
    loss().backward()
    for index in range(2):
        for tail in ("", "_reverse"):
            for name in ("weight_ih", "weight_hh"):
                grad = getattr(layer, f"{name}_l{index}{tail}").grad
                share = got[f"lstm.l{index}{tail}"][name]
                np.testing.assert_allclose(share, [float(grad.norm().log10())], atol=1e-6)


def test_a_share_beyond_float64_is_measured() -> None:
    layer: Any = nn.RNN(1, 3, nonlinearity="relu", bias=False, dtype=F64)
    with torch.no_grad():
        layer.weight_hh_l0.copy_(0.1 * torch.eye(3))
        layer.weight_ih_l0.fill_(1.0)
    x = torch.ones(200, 1, 1, dtype=F64)
    (got,) = weight_gradient_by_step(layer, lambda: layer(x)[0][-1].sum()).values()
    slope = np.diff(got["weight_ih"])
    np.testing.assert_allclose(slope, np.ones(199), atol=1e-9)
    assert got["weight_ih"][0] == pytest.approx(got["weight_ih"][-1] - 199)


def test_mean_lag_is_the_closed_form() -> None:
    def mean(ratio: np.ndarray) -> float | None:
        return LagCurve(ratio, 1, "total").mean_lag

    lags = np.arange(400)
    assert mean(lags * np.log10(0.9)) == pytest.approx(0.9 / 0.1)
    assert mean(np.zeros(101)) == pytest.approx(50)
    assert mean(lags * 1.0) == pytest.approx(399 - 1 / 9)  # it explodes: all of it lies far back
    assert mean(np.array([0.0])) is None and mean(np.array([0.0, np.nan])) is None
    assert mean(np.array([0.0, -np.inf])) == 0


def test_growth_of_states() -> None:
    layer: Any = sg.LSTM(1, H, dtype=F64)
    with torch.no_grad():  # the forget gate open, the input gate open, the candidate at one
        for parameter in layer.parameters():
            parameter.zero_()
        layer.bias_ih_l0.copy_(torch.tensor([50.0, 50.0, 50.0, 50.0]).repeat_interleave(H))
    x = torch.zeros(101, B, 1, dtype=F64)
    flow = gradient_through_time(layer, lambda: layer(x)[0][-1].sum()).flows["lstm"]
    np.testing.assert_allclose(10 ** flow.growth["c"].log10_rms, np.arange(101), atol=1e-9)
    assert flow.growth["c"].last == pytest.approx(2)
    np.testing.assert_allclose(10 ** flow.growth["h"].log10_rms[3:], 1, atol=0.01)
    relu: Any = nn.RNN(1, H, nonlinearity="relu", dtype=F64)
    with torch.no_grad():
        relu.weight_hh_l0.copy_(1.1 * torch.eye(H))
    start = torch.ones(1, B, H, dtype=F64)
    with torch.no_grad():
        for name in ("weight_ih_l0", "bias_ih_l0", "bias_hh_l0"):
            getattr(relu, name).zero_()
    flow = gradient_through_time(relu, lambda: relu(x, start)[0][-1].sum()).flows["rnn"]
    assert flow.growth["h"].slope == pytest.approx(np.log10(1.1))
    assert flow.growth["h"].log10_rms[0] == pytest.approx(0)


def test_growth_under_packing_and_in_reverse_follows_the_steps() -> None:
    layer = nn.GRU(I, H, bidirectional=True, dtype=F64)
    x = pack_sequence([torch.randn(n, I, dtype=F64) for n in (6, 4)])
    flows = gradient_through_time(layer, lambda: layer(x)[0].data.sum()).flows
    padded, _ = pad_packed_sequence(layer(x)[0])
    back = flows["gru.l0_reverse"].growth["h"].log10_rms
    assert back[0] == -np.inf and len(back) == 6
    want = padded[5, 0, H:].detach().square().mean().sqrt().log10()
    assert back[1] == pytest.approx(float(want))


def test_noise_of_a_known_gradient() -> None:
    """g = mean + e, with |mean|^2 = 4 * 9 and the variance of e 2.25 per element."""
    generator = torch.Generator().manual_seed(3)
    meter = NoiseMeter(["w", "unused"], batch_size=16)
    drawn = []
    for _ in range(4000):
        drawn.append(3 + 1.5 * torch.randn(4, generator=generator, dtype=F64))
        meter.add([drawn[-1], None])
    all_of_it = torch.stack(drawn)
    got = meter.read()["w"]
    assert got.noise == pytest.approx(float(all_of_it.var(0).sum()))
    assert got.noise == pytest.approx(4 * 2.25, rel=0.05)
    assert got.signal == pytest.approx(36, rel=0.02)
    assert got.signal_to_noise == pytest.approx(4, rel=0.06)
    assert got.noise_scale == pytest.approx(16 / got.signal_to_noise)
    assert meter.read()[""].signal == got.signal and meter.read()["unused"].noise == 0


def test_noise_of_a_model_and_its_limits() -> None:
    layer: Any = nn.GRU(I, H)
    x = torch.randn(T, B, I)
    same = gradient_noise(layer, lambda: layer(x)[0].sum(), batches=3)[""]
    assert same.noise == pytest.approx(0, abs=1e-9 * same.signal) and same.noise_scale is None
    fresh = gradient_noise(layer, lambda: layer(torch.randn(T, B, I))[0].sum(), batches=4)
    assert set(fresh) == {"", *(n for n, _ in layer.named_parameters())}
    assert fresh[""].noise > 0 and layer.weight_hh_l0.grad is None
    none = NoiseMeter(["w"], 8)
    for sign in (1, -1):
        none.add([torch.full((2,), float(sign))])
    assert none.read()["w"].noise_scale == float("inf")
    with pytest.raises(ValueError, match="at least two batches"):
        gradient_noise(layer, lambda: layer(x)[0].sum(), batches=1)


def test_update_ratio_of_each_parameter() -> None:
    before = [torch.full((2,), 3.0), torch.full((3,), 4.0)]
    after = [torch.full((2,), 3.3), torch.full((3,), 4.0)]
    got = update_ratios(["a", "b"], before, after)
    assert got == {"a": pytest.approx(0.1), "b": 0}
    assert update_ratio(before, after) == pytest.approx((0.18 / (18 + 48)) ** 0.5)
