"""The drop-in layers are torch's layers: values, gradients, state, words."""

import copy
import pickle
import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence
from torch.utils.checkpoint import checkpoint

import steadygrad as sg
from steadygrad.scan import trace
from tests.helpers.marks import needs_compiler

PAIRS: dict[str, tuple[Any, Any]] = {
    "RNN": (sg.RNN, nn.RNN),
    "LSTM": (sg.LSTM, nn.LSTM),
    "GRU": (sg.GRU, nn.GRU),
}
F64 = torch.float64


def random_configuration(seed: int) -> tuple[str, dict[str, Any], dict[str, Any]]:
    draw = random.Random(seed)
    kind = draw.choice(list(PAIRS))
    options: dict[str, Any] = {
        "input_size": draw.choice([1, 2, 5]),
        "hidden_size": draw.choice([1, 3, 7]),
        "num_layers": draw.choice([1, 1, 2, 3]),
        "bias": draw.random() < 0.7,
        "batch_first": draw.random() < 0.5,
        "bidirectional": draw.random() < 0.5,
    }
    if kind == "RNN":
        options["nonlinearity"] = draw.choice(["tanh", "relu"])
    if kind == "LSTM" and options["hidden_size"] > 1 and draw.random() < 0.4:
        options["proj_size"] = draw.randint(1, options["hidden_size"] - 1)
    given = {
        "form": draw.choice(["batched", "unbatched", "packed sorted", "packed unsorted"]),
        "state": draw.random() < 0.5,
        "steps": draw.choice([1, 2, 9]),
        "batch": draw.choice([1, 2, 4]),
    }
    return kind, options, given


def make_input(options: dict[str, Any], given: dict[str, Any]) -> Tensor | list[Tensor]:
    features, steps, batch = options["input_size"], given["steps"], given["batch"]
    if given["form"] == "unbatched":
        return torch.randn(steps, features, dtype=F64)
    if given["form"] == "batched":
        shape = (batch, steps) if options["batch_first"] else (steps, batch)
        return torch.randn(*shape, features, dtype=F64)
    lengths = [random.randint(1, steps) for _ in range(batch)]
    if given["form"] == "packed sorted":
        lengths.sort(reverse=True)
    return [torch.randn(n, features, dtype=F64) for n in lengths]


def run(
    layer: nn.Module, x: Tensor | list[Tensor], state: list[Tensor], form: str
) -> tuple[list[Tensor], list[Tensor]]:
    """Values, and gradients of a random weighting of them to everything that has one."""
    leaves = [v.clone().requires_grad_() for v in (x if isinstance(x, list) else [x])]
    start = [s.clone().requires_grad_() for s in state]
    given: Any = leaves[0]
    if isinstance(x, list):
        given = pack_sequence(leaves, enforce_sorted=form == "packed sorted")
    hx = None if not start else tuple(start) if len(start) > 1 else start[0]
    output, last = layer(given, hx)
    if isinstance(output, PackedSequence):
        assert isinstance(given, PackedSequence)
        torch.testing.assert_close(output.batch_sizes, given.batch_sizes)
        output = output.data
    values = [output, *(last if isinstance(last, tuple) else (last,))]
    generator = torch.Generator().manual_seed(0)
    loss = sum((v * torch.randn(v.shape, dtype=F64, generator=generator)).sum() for v in values)
    assert isinstance(loss, Tensor)
    grads = torch.autograd.grad(loss, [*leaves, *start, *layer.parameters()])
    return values, list(grads)


@pytest.mark.parametrize("seed", range(150))
def test_a_random_configuration_equals_torch(seed: int) -> None:
    kind, options, given = random_configuration(seed)
    ours_type, theirs_type = PAIRS[kind]
    torch.manual_seed(seed)
    random.seed(seed)
    theirs = theirs_type(**options, dtype=F64)
    ours = ours_type(**options, dtype=F64)
    ours.load_state_dict(theirs.state_dict())  # strict
    theirs.load_state_dict(ours.state_dict())
    x = make_input(options, given)
    state: list[Tensor] = []
    if given["state"]:
        rows = options["num_layers"] * (1 + options["bidirectional"])
        batch = () if given["form"] == "unbatched" else (given["batch"],)
        widths = [options.get("proj_size") or options["hidden_size"], options["hidden_size"]]
        for width in widths[: 2 if kind == "LSTM" else 1]:
            state.append(torch.randn(rows, *batch, width, dtype=F64))
    wanted = run(theirs, x, state, given["form"])
    for _ in range(2):  # the second call, too
        torch.testing.assert_close(run(ours, x, state, given["form"]), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", PAIRS)
def test_weights_begin_as_in_torch(kind: str) -> None:
    ours, theirs = PAIRS[kind]
    torch.manual_seed(3)
    a = theirs(2, 4, 2, bidirectional=True).state_dict()
    torch.manual_seed(3)
    b = ours(2, 4, 2, bidirectional=True).state_dict()
    assert list(a) == list(b)
    torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("kind", PAIRS)
def test_survives_copy_and_pickle(kind: str) -> None:
    layer = PAIRS[kind][0](3, 4, num_layers=2)
    layer.on_tap = lambda *_: None  # what an observer leaves behind must not travel
    x = torch.randn(5, 2, 3)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.testing.assert_close(twin(x), layer(x), rtol=0, atol=0)
        assert twin.on_tap is None


MISTAKES: list[tuple[dict[str, Any], tuple[int, ...], tuple[int, ...] | None]] = [
    ({}, (5, 2, 4), None),
    ({}, (5, 2, 2, 3), None),
    ({}, (3,), None),
    ({}, (5, 2, 3), (1, 3, 4)),
    ({}, (5, 2, 3), (2, 4)),
    ({}, (5, 3), (1, 1, 4)),
    ({}, (0, 2, 3), None),
    ({"bidirectional": True}, (5, 2, 3), (1, 2, 4)),
    ({"batch_first": True}, (5, 2, 3), (1, 2, 4)),
]


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize(("options", "shape", "state"), MISTAKES)
def test_wrong_shapes_are_refused_in_torchs_words(
    kind: str, options: dict[str, Any], shape: tuple[int, ...], state: tuple[int, ...] | None
) -> None:
    words = []
    for layer_type in PAIRS[kind]:
        build: Any = layer_type
        layer = build(3, 4, **options)
        hx = None if state is None else torch.zeros(state)
        if kind == "LSTM" and hx is not None:
            hx = (hx, hx)
        with pytest.raises((RuntimeError, ValueError)) as refusal:
            layer(torch.zeros(shape), hx)
        words.append((refusal.type, str(refusal.value)))
    assert words[0] == words[1]


BAD_OPTIONS: list[dict[str, Any]] = [
    {"dropout": 1.5},
    {"dropout": True},
    {"bias": 1},
    {"batch_first": 0},
    {"num_layers": 0},
    {"proj_size": -1},
    {"proj_size": 4},
]


@pytest.mark.parametrize("options", BAD_OPTIONS, ids=str)
def test_bad_options_are_refused_in_torchs_words(options: dict[str, Any]) -> None:
    words = []
    for layer_type in (sg.LSTM, nn.LSTM):
        with pytest.raises((TypeError, ValueError)) as refusal:
            build: Any = layer_type
            build(3, 4, **options)
        words.append((refusal.type, str(refusal.value)))
    assert words[0] == words[1]


@pytest.mark.parametrize("sizes", [(0, 4), (3, 0), (3.0, 4), (3, "4")], ids=str)
def test_bad_sizes_are_refused_in_torchs_words(sizes: tuple[Any, Any]) -> None:
    words = []
    for layer_type in (sg.GRU, nn.GRU):
        with pytest.raises((TypeError, ValueError)) as refusal:
            layer_type(*sizes)
        words.append((refusal.type, str(refusal.value)))
    assert words[0] == words[1]


def test_dtype_mismatch_is_refused_in_torchs_words() -> None:
    words = []
    for layer_type in (sg.GRU, nn.GRU):
        with pytest.raises(ValueError, match="does not match weight dtype") as refusal:
            layer_type(3, 4)(torch.zeros(5, 2, 3, dtype=F64))
        words.append(str(refusal.value))
    assert words[0] == words[1]


def test_dropout_that_drops_nothing_warns() -> None:
    with pytest.warns(UserWarning, match="num_layers greater than 1"):
        sg.LSTM(3, 4, dropout=0.5)


def test_dropout_acts_between_layers_and_only_in_training() -> None:
    torch.manual_seed(0)
    layer = sg.LSTM(3, 64, num_layers=2, dropout=0.5)
    x = torch.randn(5, 2, 3)
    assert not torch.allclose(layer(x)[0], layer(x)[0])
    layer.eval()
    torch.testing.assert_close(layer(x)[0], layer(x)[0])
    torch.manual_seed(0)
    plain = sg.LSTM(3, 64, num_layers=2)
    torch.testing.assert_close(layer(x)[0], plain(x)[0])


def test_packed_rows_equal_the_same_rows_alone() -> None:
    layer = sg.Recurrent("gru-original", 3, 4, 2, bidirectional=True, dtype=F64)
    rows = [torch.randn(n, 3, dtype=F64) for n in (2, 6, 4)]
    packed, last = layer(pack_sequence(rows, enforce_sorted=False))
    padded, lengths = nn.utils.rnn.pad_packed_sequence(packed)
    for b, row in enumerate(rows):
        alone, last_alone = layer(row)
        torch.testing.assert_close(padded[: lengths[b], b], alone)
        torch.testing.assert_close(last[:, b], last_alone)


def test_sigmoid_and_unknown_nonlinearities() -> None:
    assert sg.RNN(2, 3, nonlinearity="sigmoid").nonlinearity == "sigmoid"
    with pytest.raises(ValueError, match="Unknown nonlinearity 'sine'"):
        sg.RNN(2, 3, nonlinearity="sine")  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"cell 'lstn': no such cell; did you mean 'lstm'.; there are: .*elman"
    ):
        sg.Recurrent("lstn", 2, 3)


@pytest.mark.parametrize("kind", ["RNN", "GRU"])
def test_projection_is_for_cells_that_allow_it(kind: str) -> None:
    with pytest.raises(ValueError, match="only supported for LSTM"):
        PAIRS[kind][0](3, 4, proj_size=2)


def test_a_loop_that_cannot_be_compiled_breaks_the_graph_and_stays_right() -> None:
    layer, x = sg.LSTM(3, 4), torch.randn(5, 2, 3)
    compiled = torch.compile(layer, backend="eager")
    torch.testing.assert_close(compiled(x)[0], layer(x)[0])


def test_autocast_keeps_full_precision_inside() -> None:
    layer, x = sg.LSTM(3, 4), torch.randn(5, 2, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, _ = layer(x.bfloat16())
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output, layer(x.bfloat16().float())[0].bfloat16())


def test_half_precision_weights_run() -> None:
    layer = sg.GRU(3, 4, dtype=torch.bfloat16)
    output, _ = layer(torch.randn(5, 2, 3, dtype=torch.bfloat16))
    output.sum().backward()
    assert output.dtype == torch.bfloat16


@pytest.mark.parametrize("frozen", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"])
@pytest.mark.parametrize("kind", [sg.LSTM, sg.GRU])
def test_frozen_weights_get_no_gradient_and_change_no_other(
    kind: type[sg.LSTM | sg.GRU], frozen: str
) -> None:
    layer = kind(3, 4, dtype=F64)
    x = torch.randn(150, 3, 3, dtype=F64)  # more rows than are multiplied at once
    layer(x)[0].sum().backward()
    whole = {name: p.grad for name, p in layer.named_parameters()}
    layer.zero_grad()
    layer.get_parameter(frozen).requires_grad_(False)
    layer(x)[0].sum().backward()
    assert layer.get_parameter(frozen).grad is None
    for name, parameter in layer.named_parameters():
        if name != frozen:
            torch.testing.assert_close(parameter.grad, whole[name])


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("into", [(), (0,), (1,), (0, 1)])
@pytest.mark.parametrize("out_of", [(0,), (1,), (2,), (1, 2)])
@pytest.mark.parametrize("backend", ["eager", pytest.param("c", marks=needs_compiler)])
def test_any_part_of_what_comes_out_sends_its_gradient_to_any_state_that_went_in(
    backend: str, out_of: tuple[int, ...], into: tuple[int, ...], layers: int
) -> None:
    theirs = nn.LSTM(3, 4, layers, dtype=F64)
    ours = sg.LSTM(3, 4, layers, dtype=F64, backend=backend)
    ours.load_state_dict(theirs.state_dict())
    x, h, c = torch.randn(5, 2, 3), torch.randn(layers, 2, 4), torch.randn(layers, 2, 4)
    found = []
    for layer in (ours, ours, theirs):
        state = [s.double().requires_grad_(k in into) for k, s in enumerate((h, c))]
        output, last = layer(x.double(), tuple(state))
        seen = (output, *last)
        inputs = [*(state[k] for k in into), *layer.parameters()]
        loss = torch.stack([seen[k].square().sum() for k in out_of]).sum()
        found.append(torch.autograd.grad(loss, inputs))
    torch.testing.assert_close(found[0], found[2])
    torch.testing.assert_close(found[1], found[2])


@pytest.mark.parametrize("options", [{}, {"checkpoint": True}, {"num_layers": 2}])
@pytest.mark.parametrize("backend", ["eager", pytest.param("c", marks=needs_compiler)])
def test_the_last_state_can_be_cut_off_in_place(backend: str, options: dict[str, Any]) -> None:
    layer = sg.GRU(3, 4, backend=backend, **options)
    last = layer(torch.randn(5, 2, 3))[1]
    assert last.shape == (layer.num_layers, 2, 4)
    assert last.requires_grad
    assert not last.detach_().requires_grad


def test_a_hook_on_the_last_state_is_spared_where_no_gradient_comes() -> None:
    layer = sg.LSTM(3, 4)
    output, last = layer(torch.randn(5, 2, 3))
    for state in last:
        state.register_hook(lambda grad: grad.norm() and grad)  # None has no norm
    output.sum().backward()


def test_padded_and_packed_give_the_same_loss_gradient() -> None:
    layer = sg.LSTM(3, 4, batch_first=True, dtype=F64)
    x = torch.randn(2, 6, 3, dtype=F64)
    packed = pack_padded_sequence(x, [6, 6], batch_first=True)
    torch.testing.assert_close(
        nn.utils.rnn.pad_packed_sequence(layer(packed)[0], batch_first=True)[0], layer(x)[0]
    )


@pytest.mark.parametrize("backend", ["eager", pytest.param("c", marks=needs_compiler)])
def test_inside_torchs_own_checkpoint(backend: str) -> None:
    trace.cache_clear()  # the first use of a cell may be inside
    layer = sg.GRU(3, 4, dtype=F64, backend=backend)
    x = torch.randn(5, 2, 3, dtype=F64, requires_grad=True)
    inputs = [x, *layer.parameters()]
    inside = checkpoint(lambda v: layer(v)[0].square().sum(), x, use_reentrant=False)
    assert isinstance(inside, Tensor)
    got = torch.autograd.grad(inside, inputs)
    torch.testing.assert_close(got, torch.autograd.grad(layer(x)[0].square().sum(), inputs))


def strided(shape: tuple[int, ...], axes: tuple[int, ...]) -> Tensor:
    """Random numbers of ``shape`` whose axes lie in memory in the order of ``axes``."""
    order = torch.randn([shape[a] for a in axes], dtype=F64)
    return order.permute([axes.index(a) for a in range(len(shape))])


@pytest.mark.parametrize("options", [{}, {"truncate": 3}, {"checkpoint": True}], ids=str)
@pytest.mark.parametrize("backend", ["eager", pytest.param("c", marks=needs_compiler)])
@pytest.mark.parametrize("axes", [(0, 1, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0)], ids=str)
def test_an_initial_state_may_have_any_strides(
    axes: tuple[int, ...], backend: str, options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    theirs = nn.LSTM(3, 4, 2, dtype=F64)
    layer = sg.LSTM(3, 4, 2, dtype=F64, backend=backend, **options)
    layer.load_state_dict(theirs.state_dict())
    x, state = torch.randn(7, 5, 3, dtype=F64), [strided((2, 5, 4), axes) for _ in range(2)]
    values, grads = run(layer, x, state, "")
    wanted, wanted_grads = run(theirs, x, state, "")
    torch.testing.assert_close(values, wanted)
    if "truncate" not in options:
        torch.testing.assert_close(grads, wanted_grads)


@pytest.mark.parametrize("options", [{}, {"checkpoint": True}], ids=str)
@pytest.mark.parametrize("backend", ["eager", pytest.param("c", marks=needs_compiler)])
@pytest.mark.parametrize("kind", PAIRS)
def test_a_second_derivative_through_calls_that_hand_their_state_on(
    kind: str, backend: str, options: dict[str, Any]
) -> None:
    """The state of the second call is made from the weights that it is given beside it."""
    torch.manual_seed(0)
    ours_type, theirs_type = PAIRS[kind]
    theirs = theirs_type(3, 4, dtype=F64)
    ours = ours_type(3, 4, dtype=F64, backend=backend, **options)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(5, 2, 3, dtype=F64)

    def derivatives(layer: nn.Module) -> tuple[Any, ...]:
        first, state = layer(x)
        second, _ = layer(x.flip(0), state)
        third, _ = layer(x, state)
        loss = (first * second * third).sum()
        once = torch.autograd.grad(loss, list(layer.parameters()), create_graph=True)
        penalty = torch.stack([g.square().sum() for g in once]).sum()
        return once, torch.autograd.grad(penalty, list(layer.parameters()))

    torch.testing.assert_close(derivatives(ours), derivatives(theirs))


@pytest.mark.parametrize("backend", ["eager", pytest.param("c", marks=needs_compiler)])
def test_a_tensor_whose_sign_is_a_bit_is_read_by_its_values(backend: str) -> None:
    layer = sg.LSTM(3, 4, backend=backend)
    x = torch.randn(5, 2, 3)
    turn: Any = torch.ops.aten._neg_view
    lazy = turn(x)
    assert lazy.is_neg()
    torch.testing.assert_close(layer(lazy)[0], layer(-x)[0], rtol=0, atol=0)
    state = (torch.randn(1, 2, 4), torch.randn(1, 2, 4))
    turned = tuple(turn(s) for s in state)
    expected = layer(x, tuple(-s for s in state))
    torch.testing.assert_close(layer(x, turned), expected, rtol=0, atol=0)
