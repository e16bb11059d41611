"""What a cell may state beside its step: starts, constants and noise; cells of the test's own."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

import steadygrad as sg
from steadygrad.cells import Cell, Gates, Noise, PerUnit, Recur, State
from steadygrad.nn import LSTM, Recurrent
from steadygrad.scan.backends.c import build

pytestmark = pytest.mark.usefixtures("any_backend")

BACKENDS = ["eager", *(["c"] if build.compiler() else [])]


@dataclass(frozen=True)
class Zoned(Cell):
    """Zoneout by a draw per step, recurrent dropout by one per sequence, and fixed periods."""

    name: ClassVar[str] = "zoned"
    gates: ClassVar[tuple[str, ...]] = ("candidate",)
    per_unit: ClassVar[Mapping[str, float]] = {"scale": 1.5}
    zoneout: float = 0.3
    dropout: float = 0.25

    @property
    def noise(self) -> Mapping[str, Noise]:
        return {"zone": Noise(self.zoneout), "keep": Noise(1 - self.dropout, shared=True)}

    def constants(self, hidden_size: int) -> Mapping[str, Tensor]:
        return {"rate": torch.linspace(0.2, 1, hidden_size)}

    def reset_(self, weights: Mapping[str, Tensor]) -> None:
        torch.nn.init.eye_(weights["weight_hh"])
        weights["bias_ih"].fill_(0.125)
        weights["scale"].fill_(2.0)

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        (h,) = state
        n = torch.tanh(unit.scale * (x.candidate + recur.candidate(h))) * x.keep / 0.75
        return (x.zone * h + (1 - x.zone) * (h + unit.rate * (n - h)),)


def zoned(**options: Any) -> Recurrent:
    torch.manual_seed(0)
    return Recurrent(Zoned(), 3, 5, dtype=torch.float64, **options)


def test_reset_has_the_last_word_in_every_direction_and_draws_as_torch_before() -> None:
    layer = zoned(num_layers=2, bidirectional=True)
    for suffix in ("_l0", "_l0_reverse", "_l1", "_l1_reverse"):
        assert torch.equal(layer.get_parameter("weight_hh" + suffix), torch.eye(5).double())
        assert (layer.get_parameter("bias_ih" + suffix) == 0.125).all()
        assert (layer.get_parameter("scale" + suffix) == 2).all()
    assert layer.get_parameter("weight_ih_l0").std() > 0.1
    torch.manual_seed(3)
    ours = LSTM(3, 4, 2)
    torch.manual_seed(3)
    theirs = torch.nn.LSTM(3, 4, 2)
    torch.testing.assert_close(dict(ours.named_parameters()), dict(theirs.named_parameters()))


def test_constants_follow_the_dtype_and_stay_out_of_the_state_dict() -> None:
    layer = Recurrent(Zoned(), 3, 5)
    assert layer.constant_rate.dtype == torch.float32
    assert layer.double().constant_rate.dtype == torch.float64
    assert layer.bfloat16()(torch.randn(2, 1, 3, dtype=torch.bfloat16))[0].dtype == torch.bfloat16
    assert not [name for name in layer.state_dict() if "rate" in name]
    assert "constant_rate" in dict(copy.deepcopy(layer).named_buffers())


def test_wrong_constants_are_refused() -> None:
    class Wrong(Zoned):
        def constants(self, hidden_size: int) -> Mapping[str, Tensor]:
            return {"rate": torch.ones(hidden_size + 1)}

    with pytest.raises(ValueError, match=r"constants: expected 'rate' of shape \(5,\)"):
        Recurrent(Wrong(), 3, 5)

    class Twice(Zoned):
        def constants(self, hidden_size: int) -> Mapping[str, Tensor]:
            return {"scale": torch.ones(hidden_size)}

    with pytest.raises(ValueError, match="'scale' names two different things"):
        Recurrent(Twice(), 3, 5)
    with pytest.raises(ValueError, match="a probability"):
        Noise(1.5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_evaluation_reads_the_mean_and_a_stream_is_evaluation(backend: str) -> None:
    layer = zoned(backend=backend)
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    assert not torch.equal(layer(x)[0], layer(x)[0])
    stream = sg.Stream(layer)
    pushed = torch.stack([stream.push(sample) for sample in x])
    layer.eval()
    torch.testing.assert_close(layer(x)[0], pushed)
    # a closed form of the same recurrence
    h, out = torch.zeros(2, 5, dtype=torch.float64), []
    w = {n.partition("_l")[0]: p for n, p in layer.named_parameters()}
    for sample in x:
        a = sample @ w["weight_ih"].T + w["bias_ih"] + h @ w["weight_hh"].T + w["bias_hh"]
        n = torch.tanh(2 * a)
        h = 0.3 * h + 0.7 * (h + layer.get_buffer("constant_rate") * (n - h))
        out.append(h)
    torch.testing.assert_close(pushed, torch.stack(out))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_draw_is_bernoulli_per_step_or_per_sequence(backend: str) -> None:
    layer = Recurrent(Zoned(), 1, 50, dtype=torch.float64)
    (drawn,) = layer.noise(100 * 8, 8, seed=1)
    assert drawn["zone"].shape == (800, 50) and drawn["keep"].shape == (8, 50)
    for name, mean in (("zone", 0.3), ("keep", 0.75)):
        assert set(drawn[name].unique().tolist()) == {0.0, 1.0}
        sigma = (mean * (1 - mean) / drawn[name].numel()) ** 0.5
        assert abs(float(drawn[name].mean()) - mean) < 4 * sigma
    for mean in (0.0, 1.0):  # certain is legal: h stays zero for ever, or is never kept
        layer = Recurrent(Zoned(zoneout=mean, dropout=0.0), 1, 4, backend=backend)
        moved = layer(torch.randn(5, 2, 1))[0].abs().sum() > 0
        assert bool(moved) == (mean == 0.0)


def test_the_global_generator_decides_the_draw() -> None:
    layer = zoned()
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    torch.manual_seed(7)
    first = layer(x)[0]
    torch.manual_seed(7)
    assert torch.equal(layer(x)[0], first)
    assert not torch.equal(layer(x)[0], first)


def passes(layer: Recurrent, given: Any) -> list[Tensor]:
    torch.manual_seed(5)
    output, last = layer(given)
    output = output.data if hasattr(output, "batch_sizes") else output
    source = given.data if hasattr(given, "batch_sizes") else given
    loss = (
        output * torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    ).sum()
    loss = loss + (last**2).sum()
    return [output, last, *torch.autograd.grad(loss, [source, *layer.parameters()])]


@pytest.mark.parametrize("form", ["dense", "packed"])
@pytest.mark.parametrize("cuts", [{}, {"truncate": 3}, {"checkpoint": True}], ids=str)
def test_all_ways_see_one_draw(form: str, cuts: dict[str, Any]) -> None:
    if form == "dense":
        given: Any = torch.randn(7, 3, 3, dtype=torch.float64, requires_grad=True)
    else:
        rows = [torch.randn(n, 3, dtype=torch.float64) for n in (4, 7, 2)]
        given = pack_sequence(rows, enforce_sorted=False)
        given.data.requires_grad_()
    layer = zoned(num_layers=2, bidirectional=True, backend="eager", **cuts)
    wanted = passes(layer, given)
    for backend in BACKENDS:
        layer.backend = backend
        torch.testing.assert_close(passes(layer, given), wanted)
    if cuts != {"truncate": 3}:
        whole = zoned(num_layers=2, bidirectional=True)
        torch.testing.assert_close(passes(whole, given), wanted)


@pytest.mark.parametrize("cuts", [{}, {"checkpoint": True}, {"truncate": 2}], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_are_those_of_the_drawn_function(backend: str, cuts: dict[str, Any]) -> None:
    layer = zoned(backend=backend, **cuts)
    names = [n for n, _ in layer.named_parameters()]

    def run(x: Tensor, *weights: Tensor) -> Tensor:
        torch.manual_seed(5)
        given = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(layer, given, (x,))[0]

    x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    values = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    if "truncate" not in cuts:  # a truncated gradient is no derivative
        assert torch.autograd.gradcheck(run, (x, *values), fast_mode=True)
        assert torch.autograd.gradgradcheck(run, (x, *values), atol=1e-4, fast_mode=True)
    output = run(x, *values).sum()
    written = torch.autograd.grad(output, [x, *values], retain_graph=True)
    taped = torch.autograd.grad(output, [x, *values], create_graph=True)
    torch.testing.assert_close(written, taped)


def test_a_diagnosis_replays_the_draw_that_was_made() -> None:
    torch.manual_seed(0)
    model = torch.nn.ModuleDict({"rnn": Recurrent(Zoned(), 3, 5)})
    x = torch.randn(12, 3, 3)
    from steadygrad.flow.capture import Capture
    from steadygrad.flow.replay import Replay, rows_of

    with Capture(model) as caught:
        output, _ = model["rnn"](x)
        output.sum().backward()
        (call,) = caught.calls
        for limit in (2, 3):
            replay = Replay(call.layer, rows_of(call, (None, (None,)), limit))
            assert replay.reproduces(call, limit) < 1e-5
            assert set(replay.observe()) == {(0, False)}


# A normalisation takes the bias of a gate out again, and a fuzzy gate need not rise with it.
# Cells without a recurrent matrix are none that the remedy treats.
NOT_BY_BIAS = {"lstm-layer-norm", "gru-layer-norm", "fuzzy-lstm", "para-gru", "para-lstm"}
KEEPING = sorted(n for n, kind in sg.cells.CELLS.items() if kind().keeping and n not in NOT_BY_BIAS)


@pytest.mark.parametrize("name", KEEPING)
def test_the_keeping_gate_keeps_with_its_sign_and_forgets_with_the_other(name: str) -> None:
    """By the gradient that is left after 20 steps, whatever the cell calls its gate."""
    left = {}
    for sign in (1, -1):
        torch.manual_seed(0)
        layer = Recurrent(name, 3, 8, backend="eager").double().eval()
        sg.remedies.ForgetBias(6.0 * sign).apply(layer)
        x = torch.randn(20, 2, 3, dtype=torch.float64, requires_grad=True)
        layer(x)[0][-1].square().sum().backward()
        assert x.grad is not None
        left[sign] = float(x.grad[0].norm() / x.grad[-1].norm())
    assert left[1] > 100 * left[-1]
