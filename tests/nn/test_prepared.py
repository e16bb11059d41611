"""Prepared calls: everything made once per shape, and never a bit off, whatever changed."""

import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

import steadygrad as sg
from steadygrad.nn import prepared
from steadygrad.scan import BackendError, LoopClip
from tests.helpers.marks import needs_compiler

pytestmark = [needs_compiler, pytest.mark.usefixtures("any_backend")]
I, H = 4, 4
"""Square weights: as many inputs as units, so that only strides tell one from its transpose."""
Change = Callable[[Any], Any]


def parts(result: Any) -> list[Tensor]:
    output, last = result
    return [output, *(last if isinstance(last, tuple) else (last,))]


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return parts(call())
    except (RuntimeError, ValueError, BackendError) as error:
        return type(error), str(error)


def is_ready(layer: Any) -> bool:
    """Whether some call of this layer was prepared."""
    return any(shape is not None for shape in layer._prepared._known.values())


@torch.no_grad()
def assert_as_the_long_way(layer: Any, *given: Any) -> None:
    """To the last bit; or with the same words."""
    wanted = outcome(lambda: layer._run(*given, *[None] * (4 - len(given))))
    for _ in range(3):  # the long way, prepared, and once more
        found = outcome(lambda: layer(*given))
        if isinstance(wanted, tuple):
            assert found == wanted
        else:
            assert len(found) == len(wanted)
            assert all(map(torch.equal, found, wanted))
            for a, b in zip(found, wanted, strict=True):
                assert a.stride() == b.stride() and a.dtype == b.dtype and not a.requires_grad


def an_optimiser(make: Callable[..., Any]) -> Change:
    def change(layer: Any) -> None:
        optimizer = make(layer.parameters(), lr=0.1)
        for p in layer.parameters():
            p.grad = torch.randn_like(p)
        optimizer.step()

    return change


@torch.no_grad()
def in_place(layer: Any) -> None:
    layer.weight_hh_l0.mul_(2)


def through_data(layer: Any) -> None:
    layer.weight_hh_l0.data.mul_(2)  # torch counts no change of the parameter


def through_numpy(layer: Any) -> None:
    layer.weight_hh_l0.detach().numpy()[:] *= 2


def other_data(layer: Any) -> None:
    layer.weight_hh_l0.data = torch.randn_like(layer.weight_hh_l0)


def transposed_data(layer: Any) -> None:
    weight = layer.weight_hh_l0
    weight.data = torch.randn(weight.shape[::-1]).t()


def transposed_in_place(layer: Any) -> None:
    """The same memory and shape, other strides."""
    weight = layer.weight_hh_l0
    weight.data = weight.data.as_strided(weight.shape, (1, weight.shape[0]))


def too_few_rows(layer: Any) -> None:
    layer.bias_hh_l0.data = layer.bias_hh_l0.data[:3]


def negated(layer: Any) -> None:
    negative: Any = torch._neg_view  # type: ignore[attr-defined]  # pyright: ignore
    layer.weight_ih_l0.data = negative(layer.weight_ih_l0.data)


def another_parameter(layer: Any) -> None:
    layer.weight_ih_l0 = nn.Parameter(torch.randn_like(layer.weight_ih_l0))


def a_state_dict(layer: Any) -> None:
    layer.load_state_dict({n: torch.randn_like(v) for n, v in layer.state_dict().items()})


def an_assigned_state_dict(layer: Any) -> None:
    values = {n: torch.randn_like(v) for n, v in layer.state_dict().items()}
    layer.load_state_dict(values, assign=True)


def swapped(layer: Any) -> None:
    weight = layer.weight_hh_l0
    torch.utils.swap_tensors(weight, nn.Parameter(torch.randn_like(weight)))


def a_vector(layer: Any) -> None:
    count = sum(p.numel() for p in layer.parameters())
    nn.utils.vector_to_parameters(torch.randn(count), layer.parameters())


def pruned(layer: Any) -> None:
    prune.random_unstructured(layer, "weight_hh_l0", amount=0.5)


class Doubled(nn.Module):
    def forward(self, value: Tensor) -> Tensor:
        return 2 * value


def parametrised(layer: Any) -> None:
    parametrize.register_parametrization(layer, "weight_hh_l0", Doubled())


def parametrised_and_back(layer: Any) -> None:
    parametrised(layer)
    parametrize.remove_parametrizations(layer, "weight_hh_l0")


def to_double_and_back(layer: Any) -> None:
    layer.double()
    with torch.no_grad():
        layer(torch.randn(3, 2, I, dtype=torch.float64))
        layer.weight_hh_l0.mul_(2)
    layer.float()


def another_back_end(layer: Any) -> None:
    layer.backend = "eager"


def an_unknown_back_end(layer: Any) -> None:
    layer.backend = "none such"


def another_axis(layer: Any) -> None:
    layer.batch_first = True


def a_patched_method(layer: Any) -> None:
    own = layer.weights
    layer.weights = lambda *args, **named: own(*args, **named)
    layer._prepared = prepared.PreparedCalls()


def a_copy(layer: Any) -> Any:
    twin = copy.deepcopy(layer)
    through_data(twin)
    return twin


def a_pickle(layer: Any) -> Any:
    twin = pickle.loads(pickle.dumps(layer))
    through_data(twin)
    return twin


CHANGES: list[Change] = [
    in_place, through_data, through_numpy, other_data, transposed_data, transposed_in_place,
    too_few_rows, negated, another_parameter, a_state_dict, an_assigned_state_dict, swapped,
    a_vector, pruned, parametrised, parametrised_and_back, to_double_and_back, another_back_end,
    an_unknown_back_end, another_axis, a_patched_method, a_copy, a_pickle,
]  # fmt: skip
OPTIMISERS = [torch.optim.SGD, torch.optim.Adam]
OPTIMISERS += [lambda p, lr: torch.optim.Adam(p, lr, foreach=True)]
OPTIMISERS += [lambda p, lr: torch.optim.Adam(p, lr, fused=True)]


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_no_change_of_a_weight_is_missed(kind: str) -> None:
    x = torch.randn(3, 2, I)
    for change in [*CHANGES, *map(an_optimiser, OPTIMISERS)]:
        layer = getattr(sg, kind)(I, H)
        assert_as_the_long_way(layer, x)
        assert is_ready(layer)
        before = parts(layer._run(x, None, None, None))[0].detach()
        layer = change(layer) or layer
        assert_as_the_long_way(layer, x)
        harmless = (
            another_back_end, an_unknown_back_end, another_axis, a_patched_method,
            parametrised_and_back, too_few_rows,
        )  # fmt: skip
        if change not in harmless:
            assert not torch.equal(before, parts(layer._run(x, None, None, None))[0]), change


def test_a_state_or_weight_of_another_dtype_is_refused_not_misread() -> None:
    layer, x = sg.LSTM(I, H), torch.randn(3, 2, I)
    h = torch.zeros(1, 2, H)
    for start in ((h, h.double()), (h.double(), h), (h.half(), h.half())):
        with pytest.raises(RuntimeError, match=r"expected the initial state '[hc]' in the torch"):
            layer(x, start)
    for name in ("weight_hh_l0", "bias_hh_l0"):
        layer = sg.LSTM(I, H)
        weight = getattr(layer, name)
        weight.data = weight.data.double()
        with pytest.raises(RuntimeError, match=r"dtype|Double"):
            layer(x)


def test_every_form_of_a_call() -> None:
    forms: list[dict[str, Any]] = [
        {},
        {"batch_first": True, "bias": False},
        {"num_layers": 2, "bidirectional": True},
        {"num_layers": 2, "dropout": 0.5, "batch_first": True},
        {"proj_size": 3, "dtype": torch.float64},
    ]
    for options in forms:
        layer = sg.LSTM(I, H, **options).eval()
        kind: Any = layer.weight_ih_l0.dtype
        for shape in ((7, 3, I), (1, 1, I), (5, 1, I), (1, 12, I), (6, I)):
            x = torch.randn(shape, dtype=kind)
            assert_as_the_long_way(layer, x)
            assert_as_the_long_way(layer, torch.randn(*shape[:-1], 2 * I, dtype=kind)[..., ::2])
            last = layer(x)[1]
            start = tuple(torch.randn_like(s) for s in last)
            assert_as_the_long_way(layer, x, start)
            axes = tuple(reversed(range(start[1].dim())))
            turned = torch.randn(start[1].shape[::-1], dtype=kind).permute(axes)
            assert_as_the_long_way(layer, x, (start[0], turned))
            assert_as_the_long_way(layer, x, list(start))
            assert_as_the_long_way(layer, x, start[:1])
            assert_as_the_long_way(layer, x, (start[0].float(), start[1].double()))
        assert is_ready(layer)


@pytest.mark.parametrize("name", sorted(sg.cells.CELLS)[::6])
def test_any_cell(name: str) -> None:
    layer = sg.Recurrent(name, I, H).eval()
    for x in (torch.randn(4, 3, I), torch.randint(I, (4, 3)), torch.randn(0, 3, I)):
        assert_as_the_long_way(layer, x)


def test_frozen_weights_are_as_good_as_no_grad() -> None:
    layer = sg.LSTM(I, H).requires_grad_(False)
    x = torch.randn(3, 2, I)
    first, second, third = (layer(x)[0] for _ in range(3))
    assert is_ready(layer) and torch.equal(first, third) and torch.equal(second, third)
    assert layer(x.clone().requires_grad_())[0].requires_grad
    layer.bias_hh_l0.requires_grad_()
    assert layer(x)[0].requires_grad


def test_modes_are_not_passed_over() -> None:
    layer, x = sg.LSTM(I, H), torch.randn(3, 2, I)
    assert_as_the_long_way(layer, x)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert layer(x)[0].dtype == torch.bfloat16
    with torch.no_grad():
        many = torch.func.vmap(lambda v: layer(v)[0])(torch.stack([x, 2 * x]))
        torch.testing.assert_close(many[1], layer(2 * x)[0])
        weights = {n: 2 * p for n, p in layer.named_parameters()}
        doubled = torch.func.functional_call(layer, weights, (x,))[0]
    with torch.inference_mode():
        assert layer(x)[0].is_inference()
    layer.load_state_dict(weights)
    assert torch.equal(layer(x)[0], doubled)


def test_results_are_memory_of_their_own() -> None:
    """No view of one another, which a saved last state would drag along, and never used again."""
    layer, x = sg.LSTM(I, H), torch.randn(50, 2, I)
    with torch.no_grad():
        results = [parts(layer(x)) for _ in range(4)]
    kept = [t.clone() for t in results[-1]]
    places = {t.untyped_storage().data_ptr() for r in results for t in r}
    assert len(places) == 12
    assert all(t.untyped_storage().nbytes() == t.nbytes for t in results[-1])
    with torch.no_grad():
        layer(2 * x)
    assert all(map(torch.equal, kept, results[-1]))


def test_shapes_that_never_come_again_are_not_kept() -> None:
    layer = sg.LSTM(I, H)
    with torch.no_grad():
        for steps in range(1, 2 * prepared.MOST):
            for _ in range(2):
                layer(torch.randn(steps, 1, I))
    assert len(layer._prepared._known) <= prepared.MOST
    assert len(layer._prepared._seen) <= prepared.MOST


def test_threads_share_a_layer() -> None:
    layer = sg.LSTM(I, 16)
    given = [torch.randn(40, 3, I) for _ in range(4)]
    with torch.no_grad():
        wanted = [layer._run(x, None, None, None)[0] for x in given]
    wrong: list[int] = []

    def work(index: int) -> None:
        with torch.no_grad():
            for _ in range(50):
                if not torch.equal(layer(given[index])[0], wanted[index]):
                    wrong.append(index)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("cores", [1, 2])
def test_eight_threads_train_one_layer_and_their_own(cores: int) -> None:
    shared = sg.LSTM(I, 16, 2)
    own = [sg.Recurrent(name, I, 16) for name in ("lstm", "gru", "elman", "ind-rnn") * 2]
    given = [torch.randn(9 + i, 3 + i, I) for i in range(8)]
    wrong: list[Any] = []

    def values(layer: Any, x: Tensor) -> list[Tensor]:
        x = x.clone().requires_grad_()
        output = layer(x)[0]
        found = torch.autograd.grad(output.square().sum(), [x, *layer.parameters()])
        return [output.detach(), *found]

    def work(index: int) -> None:
        try:
            for layer, wanted in ((shared, ours[index]), (own[index], theirs[index])):
                for _ in range(10):
                    found = values(layer, given[index])
                    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
        except BaseException as error:
            wrong.append((index, error))

    before = torch.get_num_threads()
    torch.set_num_threads(cores)
    try:
        ours = [values(shared, x) for x in given]
        theirs = [values(layer, x) for layer, x in zip(own, given, strict=True)]
        threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        torch.set_num_threads(before)
    assert wrong == []


def gradients(layer: Any, run: Callable[..., Any], x: Tensor, start: Any) -> list[Tensor]:
    """Values and all gradients, taps included, of one call."""
    torch.manual_seed(3)
    taps: list[Any] = []
    if layer.on_tap is not None:
        layer.on_tap = lambda n, r, tap: taps.append((n, r, tap.log10_norm))
    values = parts(run(x, start, None))
    loss = torch.stack([(v * torch.randn(v.shape)).sum() for v in values]).sum()
    wanted = [v for v in (x, *(start or ()), *layer.parameters()) if v.requires_grad]
    found = torch.autograd.grad(loss, wanted)
    taps.sort(key=lambda t: t[:2])
    return [*values, *found, *(t[2] for t in taps), torch.tensor([t[:2] for t in taps])]


def short(layer: Any, x: Tensor, start: Any, _lengths: None) -> Any:
    """The call as a user makes it, prepared from the third on."""
    return layer(x, start)


def test_a_gradient_is_that_of_the_long_way() -> None:
    forms: list[dict[str, Any]] = [
        {},
        {"num_layers": 2, "bidirectional": True, "dropout": 0.5},
        {"num_layers": 2, "batch_first": True, "proj_size": 3},
    ]
    for options in forms:
        layer: Any = sg.LSTM(I, H, **options)
        shapes = [s.shape for s in parts(layer(torch.randn(5, 3, I)))[1:]]
        for what in ("plain", "frozen", "tapped", "clipped", "start"):
            start = None
            if what == "start":
                size = layer.num_layers * layer.num_directions
                start = tuple(torch.randn(size, 3, s[-1], requires_grad=True) for s in shapes)
            layer.on_tap = (lambda *_: None) if what == "tapped" else None
            layer.loop_clip = LoopClip(0.01) if what == "clipped" else None
            layer.weight_hh_l0.requires_grad_(what != "frozen")
            x = torch.randn(*((3, 5) if layer.batch_first else (5, 3)), I)
            x.requires_grad_(what == "plain")
            for _ in range(3):
                wanted = gradients(layer, layer._run, x, start)
                found = gradients(layer, partial(short, layer), x, start)
                assert len(found) == len(wanted)
                assert all(map(torch.equal, found, wanted))
                with torch.no_grad():  # as an optimiser
                    layer.bias_ih_l0.add_(0.1)
        assert is_ready(layer)


def test_what_a_graph_of_a_prepared_call_is_good_for() -> None:
    """Changes in place are noticed, hooks on saved tensors see them, derivatives of derivatives."""
    layer: Any = sg.LSTM(I, H, dtype=torch.float64)
    x = torch.randn(3, 2, I, dtype=torch.float64, requires_grad=True)
    outputs = [layer(x)[0] for _ in range(3)]
    assert is_ready(layer)
    with torch.no_grad():
        layer.weight_hh_l0.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs[-1].sum().backward()
    seen: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: seen.append(t.numel()) or t, lambda t: t
    ):
        layer(x)[0].sum().backward()
    assert len(seen) >= 7
    assert torch.autograd.gradgradcheck(lambda v: layer(v)[0], (x,))
    layer.truncate = 2
    cut = parts(layer(x))[0]
    layer.truncate = None
    assert torch.equal(cut, parts(layer(x))[0])


def test_a_prepared_backward_pass_takes_whatever_arrives() -> None:
    """Nothing at h, a single number repeated, a sign bit, many at once, other threads; any cell."""
    negative: Any = torch._neg_view  # type: ignore[attr-defined]  # pyright: ignore
    shapes = [(1, 1, I), (1, 3, I), (5, 2, I), (4, I)]
    threads = torch.get_num_threads()
    for cell, shape in product(("lstm-peephole", "gru", "elman", "lstm"), shapes):
        layer: Any = sg.Recurrent(cell, I, H)
        x = torch.randn(shape, requires_grad=True)
        for _ in range(3):
            layer(x)
        assert is_ready(layer)

        def compared(use: Callable[[list[Tensor]], Any], layer: Any = layer, x: Any = x) -> None:
            wanted = use(parts(layer._run(x, None)))
            found = use(parts(layer(x)))
            assert all(map(torch.equal, found, wanted)) and len(found) == len(wanted)

        inputs = [x, *layer.parameters()]
        grad = torch.randn_like(layer(x)[0])
        several = torch.randn(3, *grad.shape)
        ways: list[Callable[[list[Tensor]], Any]] = [
            lambda p, i=inputs: torch.autograd.grad(p[-1].sum(), i),
            lambda p, i=inputs: torch.autograd.grad(p[0].sum() + p[1].sum(), i),
            lambda p, i=inputs, g=grad: torch.autograd.grad(p[0], i, negative(g)),
            lambda p, i=inputs, g=grad: torch.autograd.grad(
                p[0], i, g.transpose(-1, -2).contiguous().transpose(-1, -2)
            ),
            lambda p, i=inputs, g=several: torch.autograd.grad(p[0], i, g, is_grads_batched=True),
            lambda p, i=inputs, g=grad: torch.autograd.grad(p[0], i, g, create_graph=True),
        ]
        for use in ways:
            compared(use)

        def elsewhere(p: list[Tensor], i: Any = inputs, g: Any = grad) -> Any:
            torch.set_num_threads(3 - threads if threads < 3 else 1)
            try:
                return torch.autograd.grad(p[0], i, g)
            finally:
                torch.set_num_threads(threads)

        compared(elsewhere)


def test_a_prepared_call_keeps_no_weight_alive() -> None:
    layer: Any = sg.LSTM(I, H)
    for _ in range(3):
        layer(torch.randn(3, 2, I))[0].sum().backward()
    assert is_ready(layer)
    old = weakref.ref(layer.weight_hh_l0)
    layer.weight_hh_l0 = nn.Parameter(torch.randn_like(layer.weight_hh_l0))
    layer(torch.randn(3, 2, I))
    gc.collect()
    assert old() is None


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_a_hook_where_nothing_comes_back_is_not_called(kind: str) -> None:
    """As with torch's layers; a function of ours would call it with None."""
    layer, x = getattr(sg, kind)(3, 4), torch.randn(5, 2, 3, requires_grad=True)
    for used in (0, 1, 0, 1, 0):  # prepared from the third call on
        output, state = layer(x)
        results = [output, *(state if isinstance(state, tuple) else (state,))]
        arrived: dict[int, Tensor] = {}
        for i, result in enumerate(results):
            result.register_hook(partial(arrived.__setitem__, i))
        results[used].sum().backward()
        assert list(arrived) == [used]
