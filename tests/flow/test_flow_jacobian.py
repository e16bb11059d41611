"""The step Jacobian and its products, against finite differences of torch's own layers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import pytest
import torch
from torch import Tensor, nn, sigmoid, tanh
from torch.nn import functional as F

import steadygrad as sg
from steadygrad.cells import CELLS, Cell, Gates, Noise, PerUnit, Recur, State
from steadygrad.flow import (
    jacobian,
    linearise,
    product,
    recurrent_weights,
    singular_values,
    step_jacobians,
    transition,
)

F64 = torch.float64
T, B, I, H = 4, 3, 2, 5


@final
@dataclass(frozen=True)
class Normed(Cell):
    """Units that see each other, two products one behind the other, a constant, and noise."""

    name: ClassVar[str] = "normed"
    gates: ClassVar[tuple[str, ...]] = ("input", "candidate")
    states: ClassVar[tuple[str, ...]] = ("h", "c")
    per_unit: ClassVar[Mapping[str, float]] = {"peep": 0.3}

    @property
    def noise(self) -> Mapping[str, Noise]:
        return {"keep": Noise(0.7)}

    def constants(self, hidden_size: int) -> Mapping[str, Tensor]:
        return {"speed": torch.linspace(0.5, 1.5, hidden_size)}

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        h, c = state
        i = x.keep * sigmoid(x.input + recur.input(tanh(c) * h) * unit.speed + unit.peep * c)
        a = x.candidate + recur.candidate(h)
        centred = a - a.mean(-1, keepdim=True)
        g = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return i * tanh(g) + (1 - i) * h, tanh(h)


def joined(state: Any) -> Tensor:
    """All states of all layers as one vector per row, ``(B, N)``."""
    parts = (state,) if isinstance(state, Tensor) else state
    return torch.cat([s[0] for s in parts], 1)


def differences(layer: Any, x: Tensor, state: tuple[Tensor, ...]) -> Tensor:
    """``(T, B, N, N)``: central differences of one call of the layer per step."""
    widths, found = [s.shape[2] for s in state], []

    def step(v: Tensor, t: int) -> Tensor:
        parts: Any = tuple(p.contiguous()[None] for p in v.split(widths, 1))
        return joined(layer(x[t : t + 1], parts if len(parts) > 1 else parts[0])[1])

    with torch.no_grad():
        now, eps = joined(state), 1e-6
        for t in range(len(x)):
            columns = []
            for unit in range(now.shape[1]):
                nudge = torch.zeros_like(now)
                nudge[:, unit] = eps
                columns.append((step(now + nudge, t) - step(now - nudge, t)) / (2 * eps))
            found.append(torch.stack(columns, 2))
            now = step(now, t)
    return torch.stack(found)


def start(layer: Any, batch: int = B) -> tuple[Tensor, ...]:
    """A state in which nothing happens to be zero."""
    widths = [getattr(layer, "proj_size", 0) or layer.hidden_size]
    if isinstance(layer, nn.LSTM):
        widths += [layer.hidden_size]
    elif isinstance(layer, sg.Recurrent):
        widths += [layer.hidden_size] * (len(layer.cell.states) - 1)
    return tuple(0.5 * torch.randn(1, batch, w, dtype=F64) for w in widths)


LAYERS: dict[str, Any] = {
    "nn.RNN": lambda: nn.RNN(I, H, dtype=F64),
    "nn.RNN relu": lambda: nn.RNN(I, H, nonlinearity="relu", bias=False, dtype=F64),
    "nn.LSTM": lambda: nn.LSTM(I, H, dtype=F64),
    "nn.LSTM projected": lambda: nn.LSTM(I, H, proj_size=3, dtype=F64),
    "nn.GRU": lambda: nn.GRU(I, H, dtype=F64),
    "normed": lambda: sg.Recurrent(Normed(), I, H, dtype=F64, backend="eager").eval(),
    **{
        n: lambda n=n: sg.Recurrent(n, I, H, dtype=F64, backend="eager").eval()
        for n in sorted(CELLS)
    },
}


@pytest.mark.parametrize("kind", LAYERS)
def test_every_cell_against_finite_differences(kind: str) -> None:
    layer, x = LAYERS[kind](), torch.randn(T, B, I, dtype=F64)
    state: Any = start(layer)
    given = state if len(state) > 1 else state[0]
    got = step_jacobians(layer, x, given)
    want = differences(layer, x, state)
    if kind == "clockwork":  # its counter jumps where it is zero, and has no derivative there
        got, want = got[..., :H], want[..., :H]
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-8)


def test_few_columns_are_pushed_without_the_matrix() -> None:
    for kind in ("lstm", "gru-original", "normed"):
        layer = LAYERS[kind]()
        linear = linearise(layer, torch.randn(T, B, I, dtype=F64), start(layer))
        rows = slice(B, 2 * B)
        whole = linear.jacobian(rows).dense(B)
        v = torch.randn(B, whole.shape[2], 2, dtype=F64)
        torch.testing.assert_close(linear.push(rows, v), whole @ v)


def test_layouts_layers_and_directions() -> None:
    layer = nn.GRU(I, H, 2, bidirectional=True, batch_first=True, dtype=F64)
    x, state = torch.randn(B, T, I, dtype=F64), torch.randn(4, B, H, dtype=F64)
    lower = nn.GRU(I, H, 1, bidirectional=True, batch_first=True, dtype=F64)
    upper = nn.GRU(2 * H, H, dtype=F64)  # the reverse direction of the second layer, run forward
    for name, _ in lower.named_parameters():
        getattr(lower, name).data.copy_(getattr(layer, name))
    for name, _ in upper.named_parameters():
        getattr(upper, name).data.copy_(getattr(layer, name.replace("_l0", "_l1_reverse")))
    between = lower(x, state[:2])[0].transpose(0, 1).flip(0).detach()
    want = differences(upper, between, (state[3:],))
    got = step_jacobians(layer, x, state, index=1, reverse=True)
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-8)
    single = nn.RNN(I, H)
    x, state = torch.randn(T, I), torch.randn(1, H)
    torch.testing.assert_close(
        step_jacobians(single, x, state), step_jacobians(single, x[:, None], state[:, None])
    )


def test_a_product_is_the_derivative_over_the_whole_span() -> None:
    layer = nn.LSTM(I, H, dtype=F64)
    x, state = torch.randn(9, 1, I, dtype=F64), start(layer, 1)
    middle = layer(x[:2], state)[1]

    def over_the_span(v: Tensor) -> Tensor:
        h, c = (s[None, None] for s in v.split(H))
        return joined(layer(x[2:7], (h.contiguous(), c.contiguous()))[1])[0]

    want = torch.autograd.functional.jacobian(over_the_span, joined(middle)[0].detach())
    got = transition(layer, x, state, start=2, stop=7)
    torch.testing.assert_close(got.matrix[0] * 10**got.log10_scale, want)
    norms = torch.linalg.svdvals(want).log10()
    torch.testing.assert_close(got.log10_singular_values[0], norms, rtol=0, atol=1e-4)
    torch.testing.assert_close(got.log10_norm[0], norms[0])
    torch.testing.assert_close(got.log10_condition[0], norms[0] - norms[-1], rtol=0, atol=1e-4)


def test_a_product_of_1e_minus_600_is_measured() -> None:
    """With R = gQ every singular value is g^T, whatever float64 can hold."""
    q = nn.init.orthogonal_(torch.empty(6, 6, dtype=F64))[None]
    got = product([0.5 * q] * 2000).log10_singular_values
    want = torch.full_like(got, 2000 * math.log10(0.5))  # -602
    torch.testing.assert_close(got, want, rtol=1e-12, atol=0)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("held", [1, 2 * B * H**2, jacobian.NUMBERS])
def test_singular_values_are_those_of_each_step(
    reverse: bool, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jacobian, "NUMBERS", held)  # one step, two, or all at a time
    layer = nn.GRU(I, H, bidirectional=True)
    x = torch.randn(T, B, I)
    want = torch.linalg.svdvals(step_jacobians(layer, x, reverse=reverse))
    torch.testing.assert_close(singular_values(layer, x, reverse=reverse), want)


def test_jacobians_are_differentiable() -> None:
    layer: Any = nn.LSTM(I, 3, dtype=F64)
    x = torch.randn(3, 1, I, dtype=F64)

    def size(weight: Tensor) -> Tensor:
        names = dict(layer.named_parameters()) | {"weight_hh_l0": weight}

        class Probe(nn.Module):
            def forward(self) -> Tensor:
                return step_jacobians(layer, x).square().sum()

        probe = Probe()
        probe.add_module("layer", layer)
        return torch.func.functional_call(probe, {f"layer.{n}": p for n, p in names.items()}, ())

    torch.autograd.gradcheck(size, (layer.weight_hh_l0.detach().clone().requires_grad_(),))


def test_refusals_say_what_is_wrong() -> None:
    layer, x = nn.LSTM(I, H), torch.randn(T, B, I)
    with pytest.raises(TypeError, match="expected a torch"):
        step_jacobians(nn.Linear(2, 2), x)
    with pytest.raises(ValueError, match=r"x must be \(T, B, 2\)"):
        step_jacobians(layer, F.pad(x, (0, 1)))
    with pytest.raises(ValueError, match="no time step"):
        step_jacobians(layer, x[:0])
    with pytest.raises(ValueError, match="1 layers, counted from 0; got index 1"):
        step_jacobians(layer, x, index=1)
    with pytest.raises(ValueError, match="one direction"):
        step_jacobians(layer, x, reverse=True)
    with pytest.raises(ValueError, match="state must be h, c"):
        step_jacobians(layer, x, torch.zeros(1, B, H))
    with pytest.raises(ValueError, match="span must satisfy"):
        transition(layer, x, start=3, stop=3)
    with pytest.raises(ValueError, match="at least one"):
        product([])


def test_pascanus_conditions_hold_where_they_speak() -> None:
    """Norm below 1/gamma: every step shrinks every gradient by at least that (section 2.1)."""
    for nonlinearity, gamma in (("tanh", 1.0), ("sigmoid", 0.25)):
        layer: Any = sg.RNN(I, 12, nonlinearity=nonlinearity, dtype=F64)  # type: ignore[arg-type]
        nn.init.orthogonal_(layer.weight_hh_l0, 0.9 / gamma)
        measured = recurrent_weights(layer)
        assert measured.slope_bound == gamma and measured.must_vanish
        assert measured.can_explode is False
        largest = singular_values(layer, torch.randn(20, 2, I, dtype=F64))[..., 0].detach()
        assert float(largest.max()) <= 0.9 + 1e-9
        nn.init.orthogonal_(layer.weight_hh_l0, 1.1 / gamma)
        measured = recurrent_weights(layer)
        assert measured.can_explode and measured.must_vanish is False


def test_norm_and_radius_are_told_apart_and_gates_too() -> None:
    layer: Any = nn.LSTM(I, 2, dtype=F64)
    with torch.no_grad():
        layer.weight_hh_l0.zero_()
        layer.weight_hh_l0[2:4] = torch.tensor([[0.5, 3.0], [0.0, 0.25]])  # the forget gate
    measured = recurrent_weights(layer)
    assert measured.spectral_radius["forget"] == pytest.approx(0.5)
    assert measured.spectral_norm["forget"] == pytest.approx(3.0506, abs=1e-3)
    assert measured.spectral_norm["output"] == 0 and measured.must_vanish is None
    with pytest.raises(ValueError, match="has no recurrent matrix"):
        recurrent_weights(sg.Recurrent("ind-rnn", I, H))
    projected = recurrent_weights(nn.LSTM(I, H, proj_size=3))
    assert projected.spectral_radius["input"] is None and projected.spectral_norm["input"] > 0
