"""Batch-normalised recurrences, against loops written from the equations and torch's own layers."""

import inspect
import textwrap
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steadygrad.flow import step_gradients
from steadygrad.nn import BatchNormGRU, BatchNormLSTM
from steadygrad.nn.batch_norm import BatchNormRecurrence

T, B, I, H = 5, 6, 4, 3
LAYERS: list[Any] = [BatchNormLSTM, BatchNormGRU]
STATISTICS: list[tuple[str, int | None]] = [("shared", None), ("separate", 3), ("separate", T)]

every_layer = pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
every_statistics = pytest.mark.parametrize(("statistics", "length"), STATISTICS)


def made(kind: Any, statistics: str = "shared", length: int | None = None, **options: Any) -> Any:
    """A layer in float64, no two of its parameters and averages alike."""
    layer = kind(I, H, statistics, length, **options).double()
    with torch.no_grad():
        for value in layer.parameters():
            value.add_(torch.rand_like(value))
        for value in layer.buffers():
            value.add_(torch.rand_like(value))
    return layer


def series(batch: int = B) -> Tensor:
    return 0.5 + torch.randn(T, batch, I, dtype=torch.float64)


# ---- second formulations: gate by gate, from the equations


class Norm:
    """torch's batch_norm of one block of rows of one term, with averages of its own per step."""

    def __init__(self, layer: Any, term: str, block: int) -> None:
        rows = slice(block * H, (block + 1) * H)
        self.gain = getattr(layer, f"gain_{term}_l0")[rows]
        # Clones per step: nothing is shared with the layer.
        self.mean = [m[rows].clone() for m in getattr(layer, f"running_mean_{term}")]
        self.var = [v[rows].clone() for v in getattr(layer, f"running_var_{term}")]
        self.training, self.momentum = layer.training, layer.momentum

    def __call__(self, value: Tensor, t: int) -> Tensor:
        mean, var = (s[t] if t < len(s) else s[-1] for s in (self.mean, self.var))
        return F.batch_norm(
            value, mean, var, self.gain, training=self.training, momentum=self.momentum
        )


def products(layer: Any, blocks: int) -> tuple[Any, dict[str, list[Norm]]]:
    norms = {term: [Norm(layer, term, k) for k in range(blocks)] for term in ("x", "h")}
    weights = {"x": layer.weight_ih_l0.chunk(blocks), "h": layer.weight_hh_l0.chunk(blocks)}

    def product(term: str, k: int, value: Tensor, t: int) -> Tensor:
        return norms[term][k](F.linear(value, weights[term][k]), t)

    return product, norms


def gru_by_hand(layer: Any, x: Tensor, h: Tensor) -> tuple[Tensor, dict[str, list[Norm]]]:
    product, norms = products(layer, 3)
    b_r, b_z, b_n = layer.bias_l0.chunk(3)
    out = []
    for t, x_t in enumerate(x):
        reset = torch.sigmoid(product("x", 0, x_t, t) + product("h", 0, h, t) + b_r)
        update = torch.sigmoid(product("x", 1, x_t, t) + product("h", 1, h, t) + b_z)
        recurrent = product("h", 2, h, t) + layer.shift_h_l0
        candidate = torch.tanh(product("x", 2, x_t, t) + b_n + reset * recurrent)
        h = candidate + update * (h - candidate)
        out.append(h)
    return torch.stack(out), norms


def lstm_by_hand(layer: Any, x: Tensor, h: Tensor) -> tuple[Tensor, dict[str, list[Norm]]]:
    product, norms = products(layer, 4)
    if layer.memory:
        norms["c"] = [Norm(layer, "c", 0)]
    c = torch.zeros_like(h)
    out = []
    for t, x_t in enumerate(x):
        i, f, g, o = (
            product("x", k, x_t, t) + product("h", k, h, t) + b
            for k, b in enumerate(layer.bias_l0.chunk(4))
        )
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        seen = norms["c"][0](c, t) + layer.shift_c_l0 if layer.memory else c
        h = torch.sigmoid(o) * torch.tanh(seen)
        out.append(h)
    return torch.stack(out), norms


BY_HAND: dict[Any, Any] = {BatchNormLSTM: lstm_by_hand, BatchNormGRU: gru_by_hand}


def check(layer: Any) -> None:
    """Compare output, all gradients and all averages with those of the loop, over two batches."""
    weights = list(layer.parameters())
    for x in (series(), series()):
        h = torch.randn(B, H, dtype=torch.float64)
        looks = torch.randn(T, B, H, dtype=torch.float64)
        expected, norms = BY_HAND[type(layer)](layer, x, h)
        wanted = torch.autograd.grad((expected * looks).sum(), weights)
        state = (
            h[None] if isinstance(layer, BatchNormGRU) else (h[None], torch.zeros(1, B, H).double())
        )
        output, last = layer(x, state)
        torch.testing.assert_close(output, expected)
        torch.testing.assert_close(last if isinstance(last, Tensor) else last[0], expected[-1:])
        torch.testing.assert_close(torch.autograd.grad((output * looks).sum(), weights), wanted)
        for term, blocks in norms.items():
            for name in ("mean", "var"):
                average = torch.cat([torch.stack(getattr(n, name)) for n in blocks], 1)
                torch.testing.assert_close(layer.get_buffer(f"running_{name}_{term}"), average)


@every_layer
@every_statistics
@pytest.mark.parametrize("train", [True, False])
def test_layer_is_its_equations(kind: Any, statistics: str, length: int, train: bool) -> None:
    check(made(kind, statistics, length, momentum=0.3).train(train))


def test_lstm_without_a_normalised_memory_is_its_equations() -> None:
    check(made(BatchNormLSTM, memory=False))


MUTATIONS: list[tuple[Any, str, str, str]] = [
    (BatchNormGRU, "forward", "(1 - z) * n + z * h", "z * n + (1 - z) * h"),
    (BatchNormGRU, "forward", "r * (v[2] + self.shift_h_l0)", "r * v[2] + self.shift_h_l0"),
    (BatchNormGRU, "forward", "u[0] + v[0]), sigmoid(u[1]", "u[1] + v[0]), sigmoid(u[0]"),
    (BatchNormGRU, "forward", 'self.normalise("h", h @ weight_hh.t(), t)', "(h @ weight_hh.t())"),
    (BatchNormGRU, "forward", 'normalise("h", h @ weight_hh.t(), t)', 'normalise("h", x_t, t)'),
    (BatchNormLSTM, "forward", "sigmoid(f) * c", "c"),
    (BatchNormLSTM, "forward", 'self.normalise("c", c, t)', "c"),
    (BatchNormLSTM, "forward", 'normalise("c", c, t)', 'normalise("c", c, 0)'),
    *[
        (kind, "normalise", before, after)
        for kind in LAYERS
        for before, after in (
            ("min(step, len(mean) - 1)", "0"),  # the output in training does not see this one
            ("self.training", "True"),
            ("self.momentum", "0.1"),
            ("1e-5", "1e-3"),
        )
    ],
]


@pytest.mark.parametrize(("kind", "method", "before", "after"), MUTATIONS)
def test_a_broken_step_is_noticed(
    kind: Any, method: str, before: str, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = kind if method in vars(kind) else BatchNormRecurrence
    function = getattr(owner, method)
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(before) == 1
    space: dict[str, Any] = {}
    exec(source.replace(before, after), function.__globals__, space)
    monkeypatch.setattr(owner, method, space[method])
    layers = [made(kind, "separate", 3, momentum=0.3).train(train) for train in (True, False)]
    with pytest.raises(AssertionError):
        for layer in layers:
            check(layer)


# ---- statistics


@every_layer
@pytest.mark.parametrize(("statistics", "length"), [("shared", None), ("separate", 2)])
def test_running_averages_by_hand(kind: Any, statistics: str, length: int | None) -> None:
    layer = kind(I, H, statistics, length).double()
    x = series()
    layer(x)
    count, rows = length or 1, len(layer.bias_l0)
    mean, var = torch.zeros(count, rows).double(), torch.ones(count, rows).double()
    for t, x_t in enumerate(x):
        value, at = x_t @ layer.weight_ih_l0.T, min(t, count - 1)
        mean[at] = 0.9 * mean[at] + 0.1 * value.mean(0)
        var[at] = 0.9 * var[at] + 0.1 * value.var(0)
    torch.testing.assert_close(layer.running_mean_x, mean)
    torch.testing.assert_close(layer.running_var_x, var)


@every_layer
@every_statistics
def test_evaluation_uses_the_averages(kind: Any, statistics: str, length: int | None) -> None:
    layer, x = made(kind, statistics, length), series()
    assert not torch.allclose(layer(x[:, :3])[0], layer(x)[0][:, :3])  # rows mix in training
    layer.eval()
    held = {name: value.clone() for name, value in layer.named_buffers()}
    before = layer(x)[0]
    torch.testing.assert_close(layer(x[:, :1])[0], before[:, :1])  # rows mix no more
    for name, value in layer.named_buffers():
        torch.testing.assert_close(value, held[name], rtol=0, atol=0)
        value[-1] += 0.5  # of the last step with statistics of its own
        after = layer(x)[0]
        value.copy_(held[name])
        first = len(value) - 1
        torch.testing.assert_close(after[:first], before[:first], rtol=0, atol=0)
        assert not torch.allclose(after[first:], before[first:])


@every_layer
def test_in_evaluation_it_is_torchs_layer_of_folded_weights(kind: Any) -> None:
    """γ (W x - mean)/σ + b is a linear map: nn.LSTM and nn.GRU compute the same."""
    gru = kind is BatchNormGRU
    layer = (made(kind) if gru else made(kind, memory=False)).eval()
    twin: Any = (nn.GRU if gru else nn.LSTM)(I, H).double()
    with torch.no_grad():
        for term, side in (("x", "ih"), ("h", "hh")):
            mean, var = (getattr(layer, f"running_{k}_{term}")[0] for k in ("mean", "var"))
            scale = getattr(layer, f"gain_{term}_l0") / (var + 1e-5).sqrt()
            weight = getattr(layer, f"weight_{side}_l0")
            getattr(twin, f"weight_{side}_l0").copy_(scale[:, None] * weight)
            getattr(twin, f"bias_{side}_l0").copy_(-scale * mean)
        twin.bias_ih_l0.add_(layer.bias_l0)
        if gru:
            twin.bias_hh_l0[2 * H :].add_(layer.shift_h_l0)
    x = series()
    torch.testing.assert_close(layer(x), twin(x))


@every_layer
def test_cutting_time_in_evaluation_with_shared_statistics(kind: Any) -> None:
    layer, x = made(kind).eval(), series()
    whole, last = layer(x)
    head, carried = layer(x[:2])
    tail, end = layer(x[2:], carried)
    torch.testing.assert_close(torch.cat([head, tail]), whole)
    torch.testing.assert_close(end, last)


# ---- what normalisation is for


@every_layer
@every_statistics
def test_blind_to_the_scale_of_the_weights(kind: Any, statistics: str, length: int | None) -> None:
    """Weights times any positive number change nothing; gains and one sign do."""
    layer, x = made(kind, statistics, length), series()
    outs = []
    for factor in (1e4, 1e4, -1.0):  # large: the small number under the root no longer counts
        with torch.no_grad():
            layer.weight_hh_l0.mul_(factor)
            layer.weight_ih_l0.mul_(abs(factor))
        outs.append(layer(x)[0])
    torch.testing.assert_close(outs[0], outs[1], rtol=1e-6, atol=1e-8)
    assert not torch.allclose(outs[1], outs[2])
    twin: Any = (nn.GRU if kind is BatchNormGRU else nn.LSTM)(I, H).double()
    plain = twin(x)[0]
    with torch.no_grad():
        twin.weight_hh_l0.mul_(7.0)
    assert not torch.allclose(twin(x)[0], plain)


def test_the_memory_is_normalised_on_its_way_out() -> None:
    layer: Any = BatchNormLSTM(I, H, "shared", gain=1.0).double()
    with torch.no_grad():
        layer.bias_l0.view(4, -1)[3] = 1e3  # the output gate is open: h = tanh(N(c))
    normal = layer(series(64))[0].atanh()
    zero, one = torch.zeros(T, H).double(), torch.ones(T, H).double()
    torch.testing.assert_close(normal.mean(1), zero, atol=1e-6, rtol=0)
    torch.testing.assert_close(normal.var(1, correction=0), one, atol=1e-2, rtol=0)


@every_layer
def test_gradient_at_every_step_is_that_of_a_cut_there(kind: Any) -> None:
    layer, x = made(kind), series()
    (flow,) = step_gradients(layer, lambda: layer(x)[0][-1].square().sum()).values()
    for t in range(1, T):
        _, carried = layer(x[:t])
        state = [s.detach() for s in ([carried] if isinstance(carried, Tensor) else carried)]
        state[0].requires_grad_()
        out = layer(x[t:], state[0] if len(state) == 1 else tuple(state))[0]
        (wanted,) = torch.autograd.grad(out[-1].square().sum(), state[0])
        assert flow["h"][t - 1] == pytest.approx(float(wanted.norm().log10()))


# ---- the layer as a module


@every_layer
def test_batch_first_start_and_options(kind: Any) -> None:
    torch.manual_seed(0)
    layer = kind(I, H, "separate", T, gain=0.2, dtype=torch.float64)
    torch.manual_seed(0)
    swapped = kind(I, H, "separate", T, gain=0.2, batch_first=True, dtype=torch.float64)
    x = series()
    torch.testing.assert_close(swapped(x.transpose(0, 1))[0], layer(x)[0].transpose(0, 1))
    assert all((p == 0.2).all() for n, p in layer.named_parameters() if n.startswith("gain"))
    default = kind(I, H, "shared")
    assert float(default.gain_h_l0.detach().max()) == pytest.approx(0.1)
    assert "statistics='separate', max_length=5" in repr(layer)


@every_layer
def test_bad_input_is_refused_by_name(kind: Any) -> None:
    name = kind.__name__
    with pytest.raises(ValueError, match=f"{name}: input_size and hidden_size"):
        kind(I, 0, "shared")
    with pytest.raises(ValueError, match=f"{name}: statistics must be 'separate' or 'shared'"):
        kind(I, H, "none")
    for wrong in [("separate", None), ("separate", 0), ("shared", 3), ("shared", 0)]:
        with pytest.raises(ValueError, match=f"{name}: max_length, at least 1, goes with"):
            kind(I, H, *wrong)
    layer = kind(I, H, "shared")
    with pytest.raises(ValueError, match=f"{name}: training needs at least 2 sequences"):
        layer(torch.zeros(T, 1, I))
    with pytest.raises(ValueError, match=rf"{name}: expected an input \(T, B, 4\)"):
        layer(torch.zeros(T, 2, I + 1))
    with pytest.raises(ValueError, match=r"\(B, T, 4\)"):
        kind(I, H, "shared", batch_first=True)(torch.zeros(T, 2, I + 1))
    packed = nn.utils.rnn.pack_sequence([torch.zeros(2, I)])
    with pytest.raises(TypeError, match=f"{name}: expected a dense tensor, got PackedSequence"):
        layer(packed)
    wrong = torch.zeros(1, 1, H)
    with pytest.raises(ValueError, match=rf"{name}: expected a state \(1, 2, 3\), got \(1, 1, 3\)"):
        layer(torch.zeros(T, 2, I), wrong if kind is BatchNormGRU else (wrong, wrong))
