"""A stream gives, sample by sample, what the whole sequence gives at once."""

import copy
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import steadygrad as sg
from steadygrad.scan import BackendError
from steadygrad.scan.backends.c import build
from tests.helpers.few import FEW
from tests.helpers.tolerance import assert_as_near, layer_in_float64

F64 = torch.float64
BACKENDS = ["eager"] + ["c"] * (build.compiler() is not None)
STOCK: dict[str, Any] = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}
STEPS, BATCH, INPUTS, HIDDEN = 9, 3, 5, 7


def parts(state: Any) -> tuple[Tensor, ...]:
    return state if isinstance(state, tuple) else (state,)


def pushed(stream: sg.Stream, x: Tensor) -> Tensor:
    return torch.stack([stream.push(sample) for sample in x])


def check(layer: Any, x: Tensor, got: Tensor, state: Any = None, begin: int = 0) -> None:
    """What a stream gave for time steps from ``begin`` on is what the layer gives for ``x``."""
    plain = copy.deepcopy(layer).eval()
    if isinstance(plain, sg.Recurrent):
        plain.backend = "eager"
    with torch.no_grad():
        runs = [plain(x), layer_in_float64(plain)(x.double())]
    wanted, exact = [
        [output[begin:], *(parts(last) if state is not None else ())] for output, last in runs
    ]
    assert_as_near([got, *(parts(state) if state is not None else ())], wanted, exact)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", FEW)
def test_a_stream_equals_the_whole_sequence(
    name: str, bias: bool, layers: int, dtype: torch.dtype, backend: str
) -> None:
    torch.manual_seed(0)
    layer = sg.Recurrent(name, INPUTS, HIDDEN, layers, bias, dtype=dtype, backend=backend)
    stream = sg.Stream(layer)
    for shape in ((STEPS, INPUTS), (STEPS, 1, INPUTS), (STEPS, BATCH, INPUTS)):
        x = torch.randn(shape, dtype=dtype)
        for _ in range(2):  # the second time after a reset
            assert stream.state is None
            check(layer, x, pushed(stream, x), stream.state)
            stream.reset()


@pytest.mark.parametrize("kind", STOCK)
@pytest.mark.parametrize("layers", [1, 2])
def test_a_stream_of_a_torch_layer(kind: str, layers: int) -> None:
    layer = STOCK[kind](INPUTS, HIDDEN, layers, batch_first=True)
    x = torch.randn(BATCH, STEPS, INPUTS)
    stream = sg.Stream(layer)
    ours = pushed(stream, x.transpose(0, 1)).transpose(0, 1)
    check(layer, x, ours, stream.state)


def test_a_projected_layer_streams() -> None:
    layer = sg.LSTM(INPUTS, HIDDEN, 2, proj_size=4)
    x = torch.randn(STEPS, BATCH, INPUTS)
    with torch.no_grad():
        output, last = layer(x)
    stream = sg.Stream(layer)
    torch.testing.assert_close(pushed(stream, x), output)
    torch.testing.assert_close(stream.state, last)
    stream.state = last
    torch.testing.assert_close(stream.push(x[0]), layer(x[:1], last)[0][0].detach())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_cutting_the_stream_and_setting_the_state_changes_nothing(name: str, backend: str) -> None:
    layer = sg.Recurrent(name, INPUTS, HIDDEN, 2, backend=backend)
    for shape in ((STEPS, INPUTS), (STEPS, BATCH, INPUTS)):
        x = torch.randn(shape)
        stream = sg.Stream(layer)
        whole = pushed(stream, x)
        stream.reset()
        pushed(stream, x[:4])
        held = stream.state
        before = copy.deepcopy(held)
        pushed(stream, torch.randn_like(x))  # what was read must not change under its reader
        torch.testing.assert_close(held, before, rtol=0, atol=0)
        stream.reset()
        pushed(stream, x[:4])
        for mine in parts(stream.state):
            mine.zero_()  # nor does its reader change the stream
        torch.testing.assert_close(pushed(stream, x[4:]), whole[4:], rtol=0, atol=0)
        other = sg.Stream(layer)
        for fresh in (stream, other, copy.deepcopy(other), pickle.loads(pickle.dumps(other))):
            fresh.state = held
            torch.testing.assert_close(pushed(fresh, x[4:]), whole[4:], rtol=0, atol=0)
        # a state from a layer that was run on a whole sequence, gradient and all
        _, last = layer(x[:4])
        stream.state = last
        check(layer, x, pushed(stream, x[4:]), begin=4)
        stream.state = None
        torch.testing.assert_close(pushed(stream, x), whole, rtol=0, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_copy_lives_by_itself(backend: str) -> None:
    layer, x = sg.LSTM(INPUTS, HIDDEN, backend=backend), torch.randn(STEPS, INPUTS)
    stream = sg.Stream(layer)
    whole = pushed(stream, x)
    stream.reset()
    pushed(stream, x[:4])
    twin = copy.deepcopy(stream)
    pushed(stream, x)
    torch.testing.assert_close(pushed(twin, x[4:]), whole[4:], rtol=0, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_outputs_are_ones_own(backend: str) -> None:
    stream = sg.Stream(sg.GRU(INPUTS, HIDDEN, backend=backend))
    x = torch.randn(STEPS, INPUTS, requires_grad=True)
    first = stream.push(x[0])
    kept = first.clone()
    first_again = stream.push(x[1])
    torch.testing.assert_close(first, kept, rtol=0, atol=0)
    assert not first_again.requires_grad
    first_again.zero_()  # must not reach the state
    out = torch.empty(HIDDEN)
    assert stream.push(x[2], out) is out
    stream.reset()
    torch.testing.assert_close(out, pushed(stream, x[:3])[2], rtol=0, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_changed_weights_are_seen_and_the_state_stays(backend: str) -> None:
    layer: Any = sg.LSTM(INPUTS, HIDDEN, 2, backend=backend)
    stream, x = sg.Stream(layer), torch.randn(STEPS, BATCH, INPUTS)
    optimizer = torch.optim.SGD(layer.parameters(), 0.5)

    def step() -> None:
        layer(x)[0].square().sum().backward()
        optimizer.step()

    def in_data() -> None:
        layer.weight_hh_l1.data.mul_(2)
        stream.refresh()

    other = sg.LSTM(INPUTS, HIDDEN, 2)
    for change in (step, lambda: layer.load_state_dict(other.state_dict()), in_data):
        stream.reset()
        pushed(stream, x[:4])
        with torch.no_grad():
            _, last = layer(x[:4])
            change_with_grad(change)
            wanted, _ = layer(x[4:], last)
            exact, _ = layer_in_float64(layer)(x[4:].double(), tuple(s.double() for s in last))
            assert_as_near([pushed(stream, x[4:])], [wanted], [exact])
    layer.double()
    with torch.no_grad():
        wanted = layer(x[:1].double(), tuple(s.double() for s in parts(stream.state)))[0]
    torch.testing.assert_close(stream.push(x[0].double()), wanted[0])


def change_with_grad(change: Any) -> None:
    with torch.enable_grad():
        change()


def test_there_is_no_dropout_and_the_layers_mode_stays() -> None:
    layer = sg.LSTM(INPUTS, HIDDEN, 2, dropout=0.9)
    x = torch.randn(STEPS, INPUTS)
    ours = pushed(sg.Stream(layer), x)
    assert layer.training
    check(layer, x, ours)


@pytest.mark.parametrize("backend", BACKENDS)
def test_inference_mode_may_come_and_go(backend: str) -> None:
    with torch.inference_mode():
        layer = sg.GRU(INPUTS, HIDDEN, 2, backend=backend)
        stream, x = sg.Stream(layer), torch.randn(STEPS, INPUTS)
        first = pushed(stream, x[:4])
    second = pushed(stream, x[4:])
    fresh = sg.GRU(INPUTS, HIDDEN, 2)  # a layer made under inference mode stays in it
    fresh.load_state_dict(layer.state_dict())
    check(fresh, x, torch.cat([first, second]))
    stream.state = stream.state
    stream.reset()
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        again = pushed(stream, x)
    check(fresh, x, again)


def test_several_threads_share_the_rows() -> None:
    layer, x = sg.LSTM(INPUTS, HIDDEN, 2), torch.randn(STEPS, 8, INPUTS)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        ours = pushed(sg.Stream(layer), x)
    finally:
        torch.set_num_threads(before)
    check(layer, x, ours)


def test_nonfinite_values_pass() -> None:
    stream = sg.Stream(sg.RNN(INPUTS, HIDDEN, nonlinearity="relu"))
    assert stream.push(torch.full((INPUTS,), torch.nan)).isnan().all()


@pytest.mark.skipif("c" not in BACKENDS, reason="no C compiler on this machine")
def test_compiled_steps_allocate_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that torch hands out in a push with ``out``, as its own profiler counts it."""
    stream = sg.Stream(sg.LSTM(INPUTS, HIDDEN, 2, backend="c"))
    x, out = torch.randn(BATCH, INPUTS), torch.empty(BATCH, HIDDEN)
    stream.push(x, out)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the profiler's own words
        with torch.profiler.profile(profile_memory=True) as profile:
            stream.push(x, out)
    names = {event.key for event in profile.key_averages()}
    assert "aten::copy_" in names  # the profiler saw the push
    assert not names & {"aten::empty", "aten::empty_strided", "aten::clone", "[memory]"}


MISTAKES: list[tuple[Any, type[Exception], str]] = [
    ([1.0, 2.0], TypeError, "expected a tensor, got list"),
    (torch.zeros(2, 3, INPUTS), ValueError, r"expected one sample \(5,\).*got \(2, 3, 5\)"),
    (torch.zeros(4), ValueError, r"expected one sample \(5,\).*got \(4,\)"),
    (torch.zeros(()), ValueError, r"got \(\)"),
    (torch.zeros(0, INPUTS), ValueError, r"got \(0, 5\)"),
    (torch.zeros(INPUTS, dtype=F64), ValueError, "expected torch.float32.*got torch.float64"),
]


@pytest.mark.parametrize(("x", "kind", "words"), MISTAKES)
def test_a_bad_sample_is_refused_and_changes_nothing(
    x: Any, kind: type[Exception], words: str
) -> None:
    stream = sg.Stream(sg.GRU(INPUTS, HIDDEN))
    with pytest.raises(kind, match=words):
        stream.push(x)
    assert stream.state is None
    stream.push(torch.zeros(BATCH, INPUTS))


def test_other_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got a bidirectional LSTM.*bidirectional=False"):
        sg.Stream(nn.LSTM(3, 4, bidirectional=True))
    with pytest.raises(TypeError, match=r"expected a torch.nn.RNN, LSTM or GRU.*got Linear"):
        sg.Stream(nn.Linear(3, 4))
    with pytest.raises(BackendError, match="float32 and float64"):
        sg.Stream(sg.LSTM(3, 4, dtype=torch.bfloat16, backend="c"))
    stream = sg.Stream(sg.LSTM(INPUTS, HIDDEN))
    stream.push(torch.zeros(INPUTS))
    with pytest.raises(ValueError, match=r"expected \(5,\) as before, got \(1, 5\); call reset"):
        stream.push(torch.zeros(1, INPUTS))
    held = stream.state
    for bad in (torch.empty(1, HIDDEN), torch.empty(HIDDEN, dtype=F64)):
        with pytest.raises(
            ValueError, match=r"expected out of shape \(7,\) and torch.float32, got"
        ):
            stream.push(torch.zeros(INPUTS), out=bad)
    torch.testing.assert_close(stream.state, held, rtol=0, atol=0)
    h = torch.zeros(1, HIDDEN)
    for bad in (h, (h, h, h), (h, torch.zeros(2, HIDDEN)), (h, h.double())):
        with pytest.raises(ValueError, match=r"Stream.state: expected h, c of shape \(1, 7\)"):
            stream.state = bad


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["lstm", "gru", "lstm-peephole"])
@pytest.mark.parametrize("bias", [True, False])
def test_codes_are_their_one_hot_features(name: str, bias: bool, backend: str) -> None:
    layer = sg.Recurrent(name, INPUTS, HIDDEN, 2, bias, backend=backend)
    stream, twin = sg.Stream(layer), sg.Stream(layer)
    for rows, dtype in (((BATCH,), torch.int64), ((), torch.int32), ((1,), torch.uint8)):
        codes = torch.randint(INPUTS, (STEPS, *rows))
        features = nn.functional.one_hot(codes, INPUTS).float()
        for _ in range(2):  # one after the other, in one stream: each packs what it reads
            wanted = pushed(twin, features)
            torch.testing.assert_close(pushed(stream, codes.to(dtype)), wanted)
            torch.testing.assert_close(stream.state, twin.state)
            stream.reset()
            torch.testing.assert_close(pushed(stream, features), wanted)
            stream.reset(), twin.reset()  # pyright: ignore[reportUnusedExpression]


@pytest.mark.parametrize("backend", BACKENDS)
def test_codes_go_on_where_features_ended(backend: str) -> None:
    stream = sg.Stream(sg.LSTM(INPUTS, HIDDEN, backend=backend))
    codes = torch.randint(INPUTS, (STEPS, BATCH))
    features = nn.functional.one_hot(codes, INPUTS).float()
    mixed = torch.stack([stream.push(codes[t] if t % 2 else features[t]) for t in range(STEPS)])
    stream.reset()
    torch.testing.assert_close(mixed, pushed(stream, features))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("code", [-1, INPUTS])
def test_a_code_that_there_is_not_is_refused(code: int, backend: str) -> None:
    stream = sg.Stream(sg.GRU(INPUTS, HIDDEN, backend=backend))
    stream.push(torch.tensor([0, 1]))
    held = stream.state
    with pytest.raises(
        ValueError, match=rf"expected codes from 0 to 4 .*got {min(code, 1)} to {max(code, 1)}"
    ):
        stream.push(torch.tensor([1, code]))
    assert torch.equal(parts(stream.state)[0], parts(held)[0])
    with pytest.raises(ValueError, match=r"expected \(2,\) as before, got \(3,\); call reset"):
        stream.push(torch.tensor([1, 2, 3]))
    with pytest.raises(ValueError, match=r"or codes \(\) or \(B,\), got \(1, 1\), torch.int64"):
        sg.Stream(sg.GRU(INPUTS, HIDDEN)).push(torch.zeros(1, 1, dtype=torch.int64))
