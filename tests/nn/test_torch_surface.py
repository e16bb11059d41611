"""What code written for torch.nn.LSTM reads and does, done to ours beside torch's."""

import copy
import inspect
import io
import pickle
import warnings
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune, skip_init

import steadygrad as sg

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with one")

KINDS = [("RNN", {}), ("RNN", {"nonlinearity": "relu"}), ("LSTM", {}), ("GRU", {})]
KINDS += [("LSTM", {"proj_size": 3}), ("GRU", {"num_layers": 2, "bidirectional": True})]
IDS = [f"{kind}-{'-'.join(map(str, options.values()))}" for kind, options in KINDS]
each = pytest.mark.parametrize(("kind", "options"), KINDS, ids=IDS)


def pair(kind: str, options: dict[str, Any], **more: Any) -> tuple[Any, Any]:
    """Ours and torch's with the same weights."""
    ours = getattr(sg, kind)(4, 5, **options, **more)
    theirs = getattr(nn, kind)(4, 5, **options, **more)
    if not ours.weight_ih_l0.is_meta:
        theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def parts(state: Any) -> tuple[Tensor, ...]:
    return state if isinstance(state, tuple) else (state,)


def outcome(call: Any) -> Any:
    """What a call returns, or the type and words of what it raises."""
    try:
        return call()
    except (RuntimeError, ValueError, TypeError) as error:
        return type(error), str(error)


@each
def test_every_attribute_that_torch_has(kind: str, options: dict[str, Any]) -> None:
    ours, theirs = pair(kind, options)
    assert {name for name in dir(theirs) if not hasattr(ours, name)} == set()
    assert isinstance(ours, nn.RNNBase) and isinstance(ours, sg.Recurrent)
    for name in ("mode", "_flat_weights_names", "_all_weights", "__constants__", "proj_size"):
        assert getattr(ours, name) == getattr(theirs, name)
    for mine, other in zip(ours._flat_weights, theirs._flat_weights, strict=True):
        assert mine is not None and other is not None and torch.equal(mine, other)
    assert repr(ours) == repr(theirs)


@each
@pytest.mark.parametrize("packed", [False, True])
def test_the_checks_that_torch_exposes(kind: str, options: dict[str, Any], packed: bool) -> None:
    sizes = torch.tensor([3, 2]) if packed else None
    good, wide = (torch.zeros(5, 4), torch.zeros(5, 6)) if packed else (torch.zeros(2, 3, 4),) * 2
    order = torch.tensor([2, 0, 1])
    for x in (good, wide, torch.zeros(2), good.double()):
        for width in (5, 3):
            ours, theirs = pair(kind, options)
            layers = ours.num_layers * (2 if ours.bidirectional else 1)
            h = torch.randn(layers, 3, width)
            hx = (h, torch.zeros(layers, 3, 5)) if kind == "LSTM" else h
            for name, arguments in (
                ("check_input", (x, sizes)),
                ("get_expected_hidden_size", (good, sizes)),
                ("check_forward_args", (x, hx, sizes)),
                ("check_hidden_size", (h, (layers, 3, 5))),
            ):
                mine = outcome(lambda n=name, a=arguments, o=ours: getattr(o, n)(*a))
                assert mine == outcome(lambda n=name, a=arguments, t=theirs: getattr(t, n)(*a))
            moved = zip(parts(ours.permute_hidden(hx, order)), parts(hx), strict=True)
            assert all(torch.equal(a, b[:, order]) for a, b in moved)


@each
@pytest.mark.parametrize("given", [False, True])
def test_a_batch_of_none(kind: str, options: dict[str, Any], given: bool) -> None:
    results = []
    for layer in pair(kind, options):
        x = torch.zeros(7, 0, 4, requires_grad=True)
        rows = layer.num_layers * (2 if layer.bidirectional else 1)
        h = torch.zeros(rows, 0, layer.proj_size or 5)
        hx = ((h, torch.zeros(rows, 0, 5)) if kind == "LSTM" else h) if given else None
        output, last = layer(x, hx)
        output.sum().backward()
        grads = [x.grad, *(p.grad for p in layer.parameters())]
        assert all(g is not None and not g.any() for g in grads)
        results.append((output.shape, *(s.shape for s in parts(last))))
    assert results[0] == results[1]


def test_a_batch_of_none_in_every_kind_of_layer() -> None:
    for layer in (sg.Recurrent("lem", 4, 5), sg.Recurrent("lstm-zoneout", 4, 5, truncate=2)):
        output, _ = layer(torch.zeros(7, 0, 4))
        assert output.shape == (7, 0, 5)
    codes = torch.zeros(7, 0, dtype=torch.long)
    assert sg.LSTM(4, 5)(codes)[0].shape == (7, 0, 5)


@each
def test_no_time_step_is_refused_in_torch_words(kind: str, options: dict[str, Any]) -> None:
    ours, theirs = (outcome(lambda m=m: m(torch.zeros(0, 2, 4))) for m in pair(kind, options))
    assert ours == theirs and ours[0] is RuntimeError


@each
def test_the_meta_device_gives_shapes(kind: str, options: dict[str, Any]) -> None:
    ours, theirs = pair(kind, options, device="meta")
    x = torch.zeros(7, 2, 4, device="meta")
    (mine, state), (other, their_state) = ours(x), theirs(x)
    assert mine.is_meta and mine.shape == other.shape and mine.requires_grad
    shapes = [[s.shape for s in parts(each)] for each in (state, their_state)]
    assert shapes[0] == shapes[1]
    with torch.autocast("cpu", torch.bfloat16):
        ours(x)


@each
def test_copies_pickles_and_skipped_starts(kind: str, options: dict[str, Any]) -> None:
    ours, theirs = pair(kind, options)
    x = torch.randn(6, 2, 4)
    file = io.BytesIO()
    torch.save(ours, file)
    file.seek(0)
    copies = [copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))]
    copies.append(torch.load(file, weights_only=False))
    assert type(ours._replicate_for_data_parallel()) is type(ours)
    for made in copies:
        assert torch.equal(made(x)[0], ours(x)[0]) and made.mode == ours.mode
    bare = skip_init(getattr(sg, kind), 4, 5, **options)
    bare.load_state_dict(theirs.state_dict())
    assert torch.equal(bare(x)[0], ours(x)[0])


def test_constants_of_a_cell_survive_a_start_on_the_meta_device() -> None:
    made = sg.Recurrent("clockwork", 4, 8)
    later = sg.Recurrent("clockwork", 4, 8, device="meta").to_empty(device="cpu")
    for layer in (skip_init(sg.Recurrent, "clockwork", 4, 8), later):
        assert all(map(torch.equal, layer.buffers(), made.buffers()))


@each
def test_pruned_weights_are_the_ones_that_compute(kind: str, options: dict[str, Any]) -> None:
    results = []
    for layer in pair(kind, options):
        torch.manual_seed(0)
        count = len(layer._flat_weights)
        assert all(isinstance(w, nn.Parameter) for w in layer._flat_weights)
        prune.l1_unstructured(layer, "weight_ih_l0", 0.5)
        assert sum(isinstance(w, nn.Parameter) for w in layer._flat_weights) == count - 1
        x = torch.ones(6, 2, 4)
        output, _ = layer(x)
        output.sum().backward()
        grad = layer.weight_ih_l0_orig.grad
        assert not grad[layer.weight_ih_l0_mask == 0].any()
        prune.remove(layer, "weight_ih_l0")
        assert sum(isinstance(w, nn.Parameter) for w in layer._flat_weights) == count
        results.append((output.detach(), grad, layer(x)[0].detach()))
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs)


@each
def test_torchs_layer_is_built_again(kind: str, options: dict[str, Any]) -> None:
    ours, _ = pair(kind, options, dropout=0.0)
    ours.weight_hh_l0.requires_grad_(False)
    theirs = ours.eval().to_torch()
    assert type(theirs) is getattr(nn, kind) and not theirs.training
    assert not theirs.weight_hh_l0.requires_grad and theirs.weight_ih_l0.requires_grad
    x = torch.randn(6, 2, 4)
    torch.testing.assert_close(ours(x)[0], theirs(x)[0])
    with pytest.raises(ValueError, match="has no sigmoid"):
        sg.RNN(4, 5, nonlinearity="sigmoid").to_torch()


@pytest.mark.parametrize("spec", [{nn.LSTM}, {nn.Linear}, None])
@pytest.mark.filterwarnings("ignore:.*torch.ao.quantization is deprecated")
def test_quantisation_by_torch_never_passes_over_a_layer_in_silence(spec: Any) -> None:
    model = nn.Sequential(sg.LSTM(4, 5))
    with pytest.warns(UserWarning, match=r"stays in floating point.*to_torch\(\)"):
        torch.ao.quantization.quantize_dynamic(model, spec, dtype=torch.qint8)
    with pytest.raises(RuntimeError, match=r"cannot be converted.*to_torch\(\)"):
        torch.ao.quantization.quantize_dynamic(model, {sg.LSTM}, dtype=torch.qint8)


@pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN")
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("lower", [torch.bfloat16, torch.float16])
def test_autocast_is_no_less_exact_than_that_of_torchs_layer(kind: str, lower: torch.dtype) -> None:
    ours = getattr(sg, kind)(3, 8)
    theirs, x = ours.to_torch(), torch.randn(6, 2, 3)

    def results(layer: Any, dtype: torch.dtype) -> list[Tensor]:
        layer.zero_grad()
        output = layer(x.to(dtype))[0]
        output.double().sin().sum().backward()
        return [output.detach().double(), *(p.grad.double().clone() for p in layer.parameters())]

    exact = results(copy.deepcopy(theirs).double(), torch.float64)
    # Without oneDNN, which has no LSTM in 16 bits on many processors.
    with torch.backends.mkldnn.flags(enabled=False), torch.autocast("cpu", lower):
        own, torchs = results(ours, torch.float32), results(theirs, torch.float32)
    for a, b, c in zip(own, torchs, exact, strict=True):
        tolerance = 2 * float((b - c).abs().max()) + torch.finfo(lower).eps * float(c.abs().max())
        assert float((a - c).abs().max()) <= tolerance


@pytest.mark.parametrize("lower", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["RNN", "GRU"])
def test_autocast_gives_the_dtype_of_torchs_layer(kind: str, lower: torch.dtype) -> None:
    """An LSTM gives autocast's; torch's own has several answers, by processor and library."""
    floating = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
    for weights, input, start in product(floating, floating, (None, *floating)):
        ours = getattr(sg, kind)(3, 4, dtype=weights)
        x = torch.randn(5, 2, 3, dtype=input)
        hx = None if start is None else torch.zeros(1, 2, 4, dtype=start)
        with torch.autocast("cpu", lower):
            try:
                expected = [t.dtype for t in ours.to_torch()(x, hx)]
            except RuntimeError:  # double and another, which autocast does not bring together
                with pytest.raises((ValueError, RuntimeError), match=r"torch.float64"):
                    ours(x, hx)
                continue
            assert [t.dtype for t in ours(x, hx)] == expected, (weights, input, start)


def test_autocast_gives_its_dtype_and_double_stays_double() -> None:
    x = torch.randn(6, 2, 4)
    for layer in (sg.LSTM(4, 5), sg.LSTM(4, 5, 2), sg.Recurrent("lem", 4, 5)):
        exact, _ = layer(x)
        with torch.autocast("cpu", torch.bfloat16):
            output, last = layer(x)
            assert {output.dtype, *(s.dtype for s in parts(last))} == {torch.bfloat16}
            again, _ = layer(x.bfloat16(), last)  # as a second piece of a sequence goes on
            assert again.dtype == torch.bfloat16
            assert copy.deepcopy(layer).half()(x)[0].dtype == torch.bfloat16
            assert copy.deepcopy(layer).double()(x.double())[0].dtype == torch.float64
        assert torch.equal(output, exact.bfloat16())  # full precision inside
        output.float().sum().backward()
        assert all(p.grad is not None and p.grad.dtype == p.dtype for p in layer.parameters())


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_the_signature_is_spelled_out_in_torchs_order(kind: str) -> None:
    layer = getattr(sg, kind)
    given = inspect.signature(layer).parameters
    assert not any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in given.values())
    positional = [n for n, p in given.items() if p.kind is not p.KEYWORD_ONLY]
    order = ["input_size", "hidden_size", "num_layers"] + ["nonlinearity"] * (kind == "RNN")
    order += ["bias", "batch_first", "dropout", "bidirectional"] + ["proj_size"] * (kind == "LSTM")
    assert positional == [*order, "device", "dtype"]
    assert all(f"{name}:" in layer.__doc__ for name in positional)


def test_a_misspelt_argument_is_told_the_right_one() -> None:
    with pytest.raises(TypeError, match="LSTM: no argument 'batch_frist'; did you mean 'batch_f"):
        sg.LSTM(4, 5, batch_frist=True)  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match="Recurrent: no argument 'hiden_size'"):
        sg.Recurrent("lstm", 4, hiden_size=5)  # pyright: ignore[reportCallIssue]
    with pytest.raises(ValueError, match="only supported for LSTM, not RNN or GRU"):
        sg.GRU(4, 5, proj_size=2)  # pyright: ignore[reportCallIssue]


def test_the_warning_about_dropout_points_at_the_caller() -> None:
    for make in (lambda: sg.LSTM(4, 5, dropout=0.5), lambda: sg.Recurrent("lstm", 4, 5, dropout=1)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            make()
        assert [w.filename for w in caught] == [__file__]


class Head(nn.Module):
    """A layer within a model, which unpacks what it gives."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        output, _ = self.layer(x)
        return output.relu()


def test_a_symbolic_trace_takes_every_layer_for_a_leaf() -> None:
    for layer in (sg.LSTM(4, 6), sg.Recurrent("lem", 4, 6), sg.nn.GLA(4, 6)):
        model, x = Head(layer), torch.randn(5, 3, 4)
        traced = torch.fx.symbolic_trace(model)
        assert [n.target for n in traced.graph.nodes if n.op == "call_module"] == ["layer"]
        assert torch.equal(traced(x), model(x))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_script_is_refused_with_the_way_out() -> None:
    for layer in (sg.GRU(4, 6), sg.Recurrent("lem", 4, 6), sg.nn.GLA(4, 6)):
        model = Head(layer)
        way = "to_torch" if isinstance(layer, sg.GRU) else "no source that it could read; use"
        with pytest.raises(TypeError, match=way):
            torch.jit.script(model)
        assert model.layer is layer
    assert isinstance(torch.jit.script(Head(sg.GRU(4, 6).to_torch())), torch.jit.ScriptModule)
