"""Properties every cell must have; a new cell is tested by existing.

The layers' parameters are drawn at random, so that none of them sits at a start (zero, one)
where a wrong term would not show. Noise is at its mean (evaluation mode) unless said.
"""

import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, get_args, get_type_hints

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

import steadygrad as sg
from steadygrad import cells
from steadygrad.cells import CELLS, Cell, Named, State
from steadygrad.nn import Recurrent
from steadygrad.scan import LoopClip, Tap, trace
from steadygrad.scan.backends.c import build
from steadygrad.scan.backends.choose import BackendError
from tests.helpers.few import FEW
from tests.helpers.marks import needs_compiler
from tests.helpers.tolerance import assert_as_near, in_double

T, B, I, H = 7, 3, 4, 5  # all different, so that no axis can pass for another
F64 = torch.float64
UNCOMPILED: dict[Cell, str] = {}
"""Cells that `eager` alone can run, and why."""

BACKENDS = ["eager", *(["c"] if build.compiler() else [])]


def choices(kind: type[Cell], option: str, default: object) -> Sequence[object]:
    """Values of an option other than its default."""
    hint = get_type_hints(kind)[option]
    if isinstance(default, bool):
        return [not default]
    if isinstance(default, float):
        return [default / 2 if default else 0.3]
    if isinstance(default, int):
        return [default - 1 if default > 1 else 2]
    return [c for c in get_args(hint) if c != default]


def sampled(found: Sequence[Cell]) -> list[Any]:
    """As parameters of a test: cells that differ from their default in a number alone are slow.

    Another number is another constant in the same step; a word or a switch makes another step.
    """
    parameters = []
    for cell in found:
        given = ((getattr(cell, f.name), f.default) for f in fields(cell))  # type: ignore[arg-type]
        changed = [value for value, default in given if value != default]
        is_number = any(type(value) in (int, float) for value in changed)
        parameters.append(pytest.param(cell, marks=[pytest.mark.slow] * is_number, id=repr(cell)))
    return parameters


def variants() -> list[Cell]:
    """Every cell with every choice of its options, one at a time."""
    found: list[Cell] = []
    for kind in CELLS.values():
        found.append(kind())
        for option in fields(kind):  # type: ignore[arg-type]
            found += [kind(**{option.name: c}) for c in choices(kind, option.name, option.default)]
    return found


def compiled_or_skip(cell: Cell, backend: str = "c") -> None:
    if backend == "c" and cell in UNCOMPILED:
        pytest.skip(UNCOMPILED[cell])


CASES = sampled(variants())


def some() -> list[Any]:
    """Every cell with its defaults; three quarters of them are slow."""
    return [
        pytest.param(
            kind(),
            marks=[] if name in FEW or place % 4 == 0 else [pytest.mark.slow],
            id=repr(kind()),
        )
        for place, (name, kind) in enumerate(CELLS.items())
    ]


def typed() -> list[Any]:
    """Cells with a type of number: every one in fp64, and those with their defaults in fp32.

    A quarter of the latter by default: another type is the same text with other functions, and
    `tests.scan.test_backends` measures the errors of those.
    """
    in_double = [pytest.param(*p.values, F64, marks=p.marks, id=f"{p.id}-fp64") for p in CASES]
    in_single = [
        pytest.param(*p.values, torch.float32, marks=p.marks, id=f"{p.id}-fp32") for p in some()
    ]
    return [*in_double, *in_single]


def truncates(cell: Cell) -> bool:
    """Whether the cell's gradient is, on purpose, not the derivative of its values."""
    return any(n.target in ("detach", torch.detach) for n in trace(cell).graph.nodes)


def drawn(layer: nn.Module, seed: int = 2) -> Any:
    """Move every parameter off its start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(torch.empty_like(p).uniform_(-0.5, 0.5, generator=generator))
    return layer


@pytest.fixture(params=CASES)
def cell(request: pytest.FixtureRequest) -> Cell:
    return request.param


@pytest.fixture
def layer(cell: Cell) -> Recurrent:
    return drawn(Recurrent(cell, I, H, dtype=F64, backend="eager")).eval()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(T, B, I, dtype=F64, generator=torch.Generator().manual_seed(1))


def as_tuple(state: Tensor | State) -> State:
    return state if isinstance(state, tuple) else (state,)


def unrolled(layer: Recurrent, x: Tensor) -> tuple[list[State], list[State]]:
    """The cell's own step in a plain loop: the states made, and the states handed on."""
    cell, weights = layer.cell, layer.weights(0)
    assert weights.bias_ih is not None
    matrices, biases = (), ()
    if cell.recurrent:
        assert weights.bias_hh is not None
        matrices, biases = weights.weight_hh.split(H), weights.bias_hh.split(H)
    blocks = dict(zip(cell.recurrent, zip(matrices, biases, strict=True), strict=True))
    recur = {g: (lambda v, m=m, b=b: v @ m.t() + b) for g, (m, b) in blocks.items()}
    unit = dict(zip(cell.per_unit, weights.per_unit, strict=True)) | dict(weights.constants)
    noise = {n: x.new_full((B, H), noise.mean) for n, noise in cell.noise.items()}
    state: State = tuple(x.new_zeros(B, H) for _ in cell.states)
    made: list[State] = []
    handed: list[State] = []
    for x_t in x:
        pre = (x_t @ weights.weight_ih.t() + weights.bias_ih).split(H, 1)
        gates = dict(zip(cell.gates, pre, strict=True)) | noise
        new = cell.step(Named("x", gates), Named("r", recur), state, Named("u", unit))
        made.append(new)
        # A copy is what the next step and the outside see; the rest of this step does not.
        state = tuple(s * 1 for s in new)
        for s in state:
            if s.requires_grad:
                s.retain_grad()
        handed.append(state)
    return made, handed


def test_no_cell_is_left_out() -> None:
    files = {m.name for m in pkgutil.iter_modules(cells.__path__) if m.name[0] != "_"} - {
        "base",
        "parse",
    }
    assert files == {c.__module__.rpartition(".")[2] for c in CELLS.values()}


def test_names_are_right_for_a_command_line() -> None:
    assert all(n == n.lower() and " " not in n and ":" not in n for n in CELLS)
    assert len(CELLS) == len({c.__name__ for c in CELLS.values()})


@pytest.mark.parametrize("kind", CELLS.values(), ids=CELLS)
def test_every_cell_says_what_it_is_and_when_to_choose_it(kind: type[Cell]) -> None:
    text = kind.__doc__ or ""
    assert "References:" in text and "gradient" in text and ".. math::" in text
    assert kind.choose_when.endswith(".")
    for option in fields(kind):  # type: ignore[arg-type]
        assert f"{option.name}:" in text.partition("Args:")[2], f"{option.name} is not described"


@pytest.mark.parametrize(
    "cut", [T // 2, *(pytest.param(cut, marks=pytest.mark.slow) for cut in (1, T - 1))]
)
def test_cutting_time_and_carrying_the_state_changes_nothing(
    layer: Recurrent, x: Tensor, cut: int
) -> None:
    whole, last = layer(x)
    head, carried = layer(x[:cut])
    tail, last_cut = layer(x[cut:], carried)
    torch.testing.assert_close(torch.cat([head, tail]), whole)
    torch.testing.assert_close(last_cut, last)


def test_the_past_does_not_see_the_future(layer: Recurrent, x: Tensor) -> None:
    with torch.no_grad():
        before = layer(x)[0]
        x[3:] += 1
        after = layer(x)[0]
    torch.testing.assert_close(after[:3], before[:3], rtol=0, atol=0)
    assert not torch.equal(after[3], before[3])
    assert not torch.equal(after[-1], before[-1])


def test_rows_do_not_mix(layer: Recurrent, x: Tensor) -> None:
    torch.testing.assert_close(layer(x[:, 1:2])[0], layer(x)[0][:, 1:2])


def test_a_step_of_the_cell_is_a_step_of_the_layer(layer: Recurrent, x: Tensor) -> None:
    made, _ = unrolled(layer, x)
    output, last = layer(x)
    torch.testing.assert_close(torch.stack([s[0] for s in made]), output)
    torch.testing.assert_close(tuple(s[0] for s in as_tuple(last)), made[-1])


def test_the_gradient_at_every_step_is_that_of_an_unrolled_loop(
    layer: Recurrent, x: Tensor
) -> None:
    weight = torch.randn(T, B, H, dtype=F64)
    _, handed = unrolled(layer, x)
    (torch.stack([s[0] for s in handed]) * weight).sum().backward()
    seen: list[Tap] = []
    layer.on_tap = lambda _, __, tap: seen.append(tap)
    layer.zero_grad()
    (layer(x)[0] * weight).sum().backward()
    for index in range(len(layer.cell.states)):
        grads = [s[index].grad for s in handed]
        norms = [torch.zeros(B, dtype=F64) if g is None else g.norm(dim=1) for g in grads]
        wanted = torch.stack(norms).log10()
        torch.testing.assert_close(seen[0].log10_norm[index], wanted)


def checked(cell: Cell) -> tuple[Callable[..., tuple[Tensor, ...]], tuple[Tensor, ...]]:
    """A layer as a function of all that it is given, and values of those: two steps of two rows."""
    steps, batch, inputs, hidden = 2, 2, 2, 3  # from a given state, whose gradient is checked, too
    layer = drawn(Recurrent(cell, inputs, hidden, dtype=F64, backend="eager")).eval()
    names = [n for n, _ in layer.named_parameters()]
    values = [p.detach().clone().requires_grad_() for _, p in layer.named_parameters()]
    state = [torch.randn(1, batch, hidden, dtype=F64, requires_grad=True) for _ in cell.states]

    def run(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        hx = rest[: len(state)] if len(state) > 1 else rest[0]
        weights = dict(zip(names, rest[len(state) :], strict=True))
        output, last = torch.func.functional_call(layer, weights, (x, hx))
        return output, *as_tuple(last)

    x = torch.randn(steps, batch, inputs, dtype=F64, requires_grad=True)
    return run, (x, *state, *values)


# A product of the whole Jacobian with random vectors; the test against the tape is entry by entry.
# That a gradient may be absent does not depend on the cell: a few are asked.


def test_gradients_agree_with_finite_differences(cell: Cell) -> None:
    if truncates(cell):
        pytest.skip("its gradient is truncated: see the test against the tape, and its oracle")
    absent = cell.name in FEW
    assert torch.autograd.gradcheck(*checked(cell), fast_mode=True, check_undefined_grad=absent)


@pytest.mark.parametrize("cell", some(), indirect=True)
def test_second_derivatives_agree_with_finite_differences(cell: Cell) -> None:
    """They are those of the tape, which the first are compared with for every cell."""
    if truncates(cell):
        pytest.skip("its gradient is truncated: see the test against the tape, and its oracle")
    assert torch.autograd.gradgradcheck(
        *checked(cell), atol=1e-4, fast_mode=True, check_undefined_grad=cell.name in FEW
    )


def test_the_second_backward_pass_repeats_the_first(layer: Recurrent, x: Tensor) -> None:
    output = layer(x.requires_grad_())[0].sum()
    first = torch.autograd.grad(output, x, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(output, x), first, rtol=0, atol=0)


def test_the_written_out_gradient_is_that_of_the_tape(layer: Recurrent, x: Tensor) -> None:
    inputs = [x.requires_grad_(), *(p for p in layer.parameters() if p.numel())]
    weight = torch.randn(T, B, H, dtype=F64)
    output = (layer(x)[0] * weight).sum()
    written = torch.autograd.grad(output, inputs, retain_graph=True)
    taped = torch.autograd.grad(output, inputs, create_graph=True)
    torch.testing.assert_close(written, taped)


def outcome(layer: Recurrent, given: Any) -> list[Tensor]:
    """Values and all gradients of a loss that weighs every value differently."""
    torch.manual_seed(3)  # of the noise: both back ends draw the same
    output, last = layer(given)
    data = output if isinstance(output, Tensor) else output.data
    values = [data, *as_tuple(last)]
    generator = torch.Generator().manual_seed(4)
    loss = torch.stack(
        [
            (v * torch.randn(v.shape, dtype=F64, generator=generator).to(v.dtype)).sum()
            for v in values
        ]
    ).sum()
    source = given if isinstance(given, Tensor) else given.data
    return [*values, *torch.autograd.grad(loss, [source, *layer.parameters()])]


@needs_compiler
@pytest.mark.usefixtures("any_backend")
@pytest.mark.parametrize(("cell", "dtype"), typed(), indirect=["cell"])
def test_compiled_equals_eager(cell: Cell, dtype: torch.dtype) -> None:
    compiled_or_skip(cell)
    x = torch.randn(T, B, I, dtype=dtype, requires_grad=True)
    lengths = pack_sequence([torch.randn(n, I, dtype=dtype) for n in (2, 5, 3)], False)
    lengths.data.requires_grad_()
    layer = drawn(Recurrent(cell, I, H, 2, bidirectional=True, dtype=dtype))
    for training in (False, True) if cell.noise else (False,):  # else they are the same
        layer.train(training)
        for given, calls in ((x, 2), (lengths, 1)):
            layer.backend = "eager"
            wanted = outcome(layer, given)
            exact = wanted if dtype is F64 else in_double(outcome, layer, given)
            layer.backend = "c"
            for _ in range(calls):
                assert_as_near(outcome(layer, given), wanted, exact)


@needs_compiler
@pytest.mark.usefixtures("any_backend")
def test_what_runs_uncompiled_is_listed_with_its_reason(x: Tensor) -> None:
    refused: set[Cell] = set()
    for kind in CELLS.values():
        try:
            Recurrent(kind(), I, H, dtype=F64, backend="c")(x)
        except BackendError:
            refused.add(kind())
    assert refused == set(UNCOMPILED)


@needs_compiler
@pytest.mark.usefixtures("any_backend")
def test_taps_and_clips_compiled_equal_eager(cell: Cell, x: Tensor) -> None:
    compiled_or_skip(cell)
    layer = drawn(Recurrent(cell, I, H, dtype=F64)).eval()
    x.requires_grad_()
    for clip in (None, LoopClip(0.1, "norm", "recurrent"), LoopClip(0.1, "value", "preactivation")):
        layer.loop_clip = clip
        values, taps = [], []
        for name in ("eager", "c"):
            layer.backend = name
            layer.on_tap = lambda _, __, tap, into=taps: into.append(tap)
            values.append(outcome(layer, x))
        torch.testing.assert_close(values[1], values[0])
        for what in ("log10_norm", "log10_gate", "nonfinite", "present"):
            torch.testing.assert_close(getattr(taps[1], what), getattr(taps[0], what))


@pytest.mark.usefixtures("any_backend")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_stream_equals_the_whole_sequence(cell: Cell, x: Tensor, backend: str) -> None:
    compiled_or_skip(cell, backend)
    layer = drawn(Recurrent(cell, I, H, 2, dtype=F64, backend=backend)).eval()
    with torch.no_grad():
        output, last = layer(x)
    stream = sg.Stream(layer)
    torch.testing.assert_close(torch.stack([stream.push(sample) for sample in x]), output)
    torch.testing.assert_close(stream.state, last)


@pytest.mark.usefixtures("any_backend")
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_not_a_number_stays_in_its_row(cell: Cell, x: Tensor, backend: str) -> None:
    compiled_or_skip(cell, backend)
    layer = drawn(Recurrent(cell, I, H, dtype=F64, backend=backend)).eval()
    clean = layer(x)[0]
    x[3, 1, 0] = torch.nan
    output = layer(x)[0]
    torch.testing.assert_close(output[:3], clean[:3], rtol=0, atol=0)
    torch.testing.assert_close(output[:, [0, 2]], clean[:, [0, 2]], rtol=0, atol=0)
    assert output[3:, 1].isnan().any(1).all()


def test_gates_are_looked_at_by_their_own_activation(cell: Cell) -> None:
    """A gate without a bounded activation is legal; what is found has to be a gate's."""
    found = trace(cell).activations
    assert set(found) <= set(cell.gates)
    linear = type(cell).linear is not Cell.linear
    assert found or cell.gates == ("candidate",) or linear


@pytest.mark.usefixtures("any_backend")
def test_a_diagnosis_measures_every_state_and_names_the_gates(cell: Cell, x: Tensor) -> None:
    compiled_or_skip(cell)  # a diagnosis would warn that it runs uncompiled
    layer = Recurrent(cell, I, H, bidirectional=True, dtype=F64)
    d = sg.diagnose(layer, lambda: layer(x)[0].square().mean())
    assert len(d.flow) == 2
    for flow in d.flow.values():
        assert flow.cell == cell.name
        assert set(flow.log10_grad_by_state) == set(cell.states)
        assert set(flow.gates) == set(trace(cell).activations)
        assert flow.log10_grad.shape == (T,)


@pytest.mark.parametrize("kind", CELLS.values(), ids=CELLS)
def test_every_option_changes_the_result(kind: type[Cell], x: Tensor) -> None:
    """Values or gradients, over the parameters that both have; in training, for the noise."""

    def result(cell: Cell) -> list[Tensor]:
        torch.manual_seed(0)
        layer = Recurrent(cell, I, H, dtype=F64, backend="eager")
        with torch.no_grad():
            for name, p in layer.named_parameters():
                seed = sum(map(ord, name))  # the same draw wherever the name is the same
                generator = torch.Generator().manual_seed(seed)
                p.add_(torch.empty_like(p).uniform_(-1, 1, generator=generator))
        torch.manual_seed(5)
        output = layer(x)[0]
        return [output, torch.autograd.grad(output.sum(), layer.weight_ih_l0)[0]]  # type: ignore[arg-type]

    default = kind()
    x.mul_(2)
    for option in fields(kind):  # type: ignore[arg-type]
        for value in choices(kind, option.name, option.default):
            changed = result(kind(**{option.name: value}))
            same = [
                a.shape == b.shape and torch.allclose(a, b)
                for a, b in zip(changed, result(default), strict=True)
            ]
            assert not all(same), f"{kind.name}: {option.name}={value!r} changes nothing"


def test_a_wrong_option_is_answered_with_the_right_ones() -> None:
    for kind in CELLS.values():
        for option in fields(kind):  # type: ignore[arg-type]
            if isinstance(option.default, str):
                with pytest.raises(ValueError, match="Select from"):
                    kind(**{option.name: "nonsense"})


def test_a_wrong_gate_name_is_answered_with_the_right_ones() -> None:
    with pytest.raises(AttributeError, match="no gate named 'forgot'; there are: input, forget"):
        Named("gate", {"input": 1, "forget": 2}).forgot  # noqa: B018
