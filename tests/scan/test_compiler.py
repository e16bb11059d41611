"""Any step compiled: small odd cells and many operations, against `eager` and autograd's tape."""

import ctypes
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

import steadygrad as sg
from steadygrad.cells import CELLS, Cell, Gates, PerUnit, Recur, State
from steadygrad.nn import LSTM, Recurrent
from steadygrad.scan import BackendWarning, LoopClip, trace
from steadygrad.scan.backends.c import build, kernel
from steadygrad.scan.backends.c.printer.operations import LINES
from steadygrad.scan.ir.operations import NUMBERS, POINTWISE
from tests.helpers.marks import needs_compiler
from tests.helpers.small_cells import GROUPS, ODD, Noisy, OtherArguments, Truncated
from tests.helpers.tolerance import assert_as_near, in_double

# Many kernels that run a few steps each: what counts is how long the compiler takes.
pytestmark = [needs_compiler, pytest.mark.usefixtures("any_backend")]

T, B, I, H = 6, 3, 4, 5


def outcome(layer: Recurrent, given: Any, taped: bool = False) -> list[Tensor]:
    """Values and all gradients, of input, initial state and weights, under one draw of noise."""
    torch.manual_seed(3)
    source = given.data if hasattr(given, "batch_sizes") else given
    batch = int(given.batch_sizes[0]) if hasattr(given, "batch_sizes") else given.shape[1]
    count = layer.num_layers * layer.num_directions
    widths = [layer.output_size] + [layer.hidden_size] * (len(layer.cell.states) - 1)
    start = [torch.rand(count, batch, w, dtype=torch.float64).to(source.dtype) for w in widths]
    start = [s.requires_grad_() for s in start]
    output, last = layer(given, tuple(start) if len(start) > 1 else start[0])
    last = last if isinstance(last, tuple) else (last,)
    values = [output.data if hasattr(output, "batch_sizes") else output, *last]
    mixture = [torch.rand(v.shape, dtype=torch.float64).to(v.dtype) for v in values]
    loss = torch.stack([(v * m).sum() for v, m in zip(values, mixture, strict=True)]).sum()
    inputs = [source, *start, *layer.parameters()]
    found = torch.autograd.grad(
        loss, inputs, create_graph=taped, allow_unused=True, materialize_grads=True
    )
    return [*values, *found]


def hidden(layer: Recurrent, given: Any) -> list[Tensor]:
    with torch.no_grad():
        output = layer(given)[0]
    return [output.data if hasattr(output, "batch_sizes") else output]


def inputs(form: str, dtype: torch.dtype = torch.float64) -> Any:
    if form == "dense":
        return torch.randn(T, B, I, dtype=dtype, requires_grad=True)
    rows = [torch.randn(n, I, dtype=dtype) for n in (2, T, 4)]
    packed = pack_sequence(rows, enforce_sorted=False)
    packed.data.requires_grad_()
    return packed


def test_every_operation_of_a_step_has_a_line_of_c_and_every_line_an_operation() -> None:
    assert {*POINTWISE.values(), *NUMBERS.values()} - {"size"} == set(LINES)


@pytest.mark.parametrize("cell", [*ODD, *GROUPS], ids=lambda c: str(c)[:40])
def test_a_written_out_gradient_is_that_of_the_tape(cell: Cell) -> None:
    layer = Recurrent(cell, I, H, backend="eager", dtype=torch.float64)
    x = inputs("dense")
    torch.testing.assert_close(outcome(layer, x), outcome(layer, x, taped=True))


@pytest.mark.parametrize("cell", [*ODD, *GROUPS], ids=lambda c: str(c)[:40])
def test_compiled_is_eager(cell: Cell) -> None:
    for dtype in (torch.float64, torch.float32):
        for count, form in ((1, "dense"), (2, "packed")):
            torch.set_num_threads(count)
            layer = Recurrent(cell, I, H, bidirectional=True, dtype=dtype)
            x = inputs(form, dtype)
            layer.backend = "eager"
            wanted, exact = outcome(layer, x), in_double(outcome, layer, x)
            assert {v.dtype for v in wanted} == {dtype}
            layer.backend = "c"
            for _ in range(2):
                assert_as_near(outcome(layer, x), wanted, exact)
            free = hidden(layer.eval(), x)
            layer.backend = "eager"
            assert_as_near(free, hidden(layer, x), in_double(hidden, layer, x))


@pytest.mark.parametrize("cell", ODD, ids=repr)
def test_taps_clips_and_streams_of_a_compiled_cell_are_those_of_eager(cell: Cell) -> None:
    layer = Recurrent(cell, I, H, dtype=torch.float64)
    x = inputs("packed")
    places = ("recurrent", "total", "preactivation")
    clips = [None, *(LoopClip(0.1, by, p) for by in ("value", "norm") for p in places)]  # type: ignore[arg-type]
    for clip in clips:
        layer.loop_clip = clip
        values, taps = [], []
        for name in ("eager", "c"):
            layer.backend = name
            layer.on_tap = lambda _, __, tap, into=taps: into.append(tap)
            values.append(outcome(layer, x))
        torch.testing.assert_close(values[1], values[0])
        for what in ("log10_norm", "log10_gate", "nonfinite", "present"):
            torch.testing.assert_close(getattr(taps[1], what), getattr(taps[0], what))
    layer.eval()
    layer.on_tap, layer.backend = None, "c"
    samples = torch.randn(T, B, I, dtype=torch.float64)
    stream = sg.Stream(layer)
    torch.testing.assert_close(torch.stack([stream.push(s) for s in samples]), layer(samples)[0])


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("form", ["dense", "packed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
def test_a_projected_lstm_is_compiled_and_equals_torch(form: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    theirs = torch.nn.LSTM(I, 20, 2, bidirectional=True, proj_size=3, dtype=dtype)
    ours = LSTM(I, 20, 2, bidirectional=True, proj_size=3, dtype=dtype, backend="c")
    ours.load_state_dict(theirs.state_dict())
    x = inputs(form, dtype)

    def squared(layer: Any, given: Any) -> list[Tensor]:
        output, last = layer(given)
        loss = (output.data**2).sum() + sum((s**2).sum() for s in last)
        source = given.data if form == "packed" else given
        return [output.data, *last, *torch.autograd.grad(loss, [source, *layer.parameters()])]

    assert_as_near(squared(ours, x), squared(theirs, x), in_double(squared, theirs, x))


def test_a_projected_lstm_has_the_taps_clips_and_stream_of_eager() -> None:
    layer = LSTM(I, H, proj_size=3, dtype=torch.float64)
    x = inputs("packed")
    for clip in (None, LoopClip(0.1, "norm", "total"), LoopClip(0.1, "norm", "recurrent")):
        layer.loop_clip = clip
        values, taps = [], []
        for name in ("eager", "c"):
            layer.backend = name
            layer.on_tap = lambda _, __, tap, into=taps: into.append(tap)
            values.append(outcome(layer, x))
        torch.testing.assert_close(values[1], values[0])
        torch.testing.assert_close(taps[1].log10_norm, taps[0].log10_norm)
    layer.on_tap = None
    samples = torch.randn(T, B, I, dtype=torch.float64)
    stream = sg.Stream(layer)
    torch.testing.assert_close(torch.stack([stream.push(s) for s in samples]), layer(samples)[0])


def test_a_vanished_gradient_is_carried_in_every_state_however_wide() -> None:
    x = torch.randn(400, 2, I, dtype=torch.float32, requires_grad=True)
    taps = []
    for kind in (LSTM(I, 8, proj_size=3), Recurrent(OtherArguments(), I, 8)):
        for p in kind.parameters():
            p.data *= 0.3
        kind.on_tap = lambda _, __, tap: taps.append(tap)
        for name in ("eager", "c"):
            kind.backend = name
            kind(x)[0][-1].sum().backward()
        eager, compiled = taps[-2:]
        far = eager.log10_norm[0, 0]
        assert (far < -60).all() and far.isfinite().all()
        torch.testing.assert_close(compiled.log10_norm[0, 0], far, rtol=1e-3, atol=0.01)


def test_a_detached_state_sends_nothing_back_and_c_sends_everything() -> None:
    layer = Recurrent(Truncated(), I, H, backend="c", dtype=torch.float64)
    start = [torch.zeros(1, B, H, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    _, (_, c) = layer(torch.randn(50, B, I, dtype=torch.float64), tuple(start))
    to_h, to_c = torch.autograd.grad(c.sum(), start, allow_unused=True, materialize_grads=True)
    assert (to_h == 0).all() and (to_c == 1).all()  # the constant error carousel, exactly


@pytest.mark.parametrize("cell", ODD, ids=repr)
def test_not_a_number_shows_in_its_row_from_its_step_on(cell: Cell) -> None:
    layer = Recurrent(cell, 2, 20, backend="c").eval()
    x = torch.randn(8, 3, 2)
    clean = layer(x)[0]
    x[3, 1] = float("nan")
    output = layer(x)[0]
    torch.testing.assert_close(output[:3], clean[:3], rtol=0, atol=0)
    torch.testing.assert_close(output[:, [0, 2]], clean[:, [0, 2]], rtol=0, atol=0)
    assert output[3:, 1].isnan().all()


@dataclass(frozen=True)
class Base(Cell):
    name: ClassVar[str] = "base"
    gates: ClassVar[tuple[str, ...]] = ("candidate",)


class InPlace(Base):
    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        return (x.candidate.tanh_(),)


class Drawn(Base):
    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        return (x.candidate + torch.rand_like(state[0]),)


class Held(Base):
    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        return (x.candidate + torch.ones(5),)


class Deciding(Base):
    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        return (x.candidate if x.candidate.sum() > 0 else state[0],)


class Hyphened(Base):
    gates: ClassVar[tuple[str, ...]] = ("two-words",)

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        return state


class Short(Base):
    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        return (x.candidate[:, :2],)


class Sorting(Base):
    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        return (torch.tanh(torch.sort(x.candidate + recur.candidate(state[0]), -1).values),)


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (InPlace(), "InPlace.step cannot be traced: tanh_ changes a tensor in place"),
        (Drawn(), "draws random numbers (aten.rand_like.default); the backward pass could not"),
        (Held(), "holds a tensor of shape (5,) that is not an argument of the step"),
        (Deciding(), "Decide on options of the cell"),
        (Hyphened(), "Hyphened: 'two-words' is not a valid attribute name"),
        (Short(), "expected the new state 'h' of shape (B, H), got one of shape (5, 2)"),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, Cell) else "",
)
def test_a_step_that_cannot_be_followed_is_refused_in_a_line(cell: Cell, words: str) -> None:
    with pytest.raises(TypeError, match=re.escape(words)):
        trace(cell)


def test_what_cannot_be_printed_is_named_and_runs_uncompiled() -> None:
    layer = Recurrent(Sorting(), I, H, dtype=torch.float64)
    x = inputs("dense")
    with pytest.warns(BackendWarning, match="Sorting runs uncompiled.*aten.sort"):
        written = outcome(layer, x)
    torch.testing.assert_close(written, outcome(layer, x, taped=True))


def test_noise_is_drawn_in_training_alone() -> None:
    layer = Recurrent(Noisy(), I, H, backend="c")
    x = torch.randn(T, B, I)
    assert not torch.equal(layer(x)[0], layer(x)[0])
    layer.eval()
    assert torch.equal(layer(x)[0], layer(x)[0])


def test_the_example_of_the_page_runs_compiled() -> None:
    page = (Path(__file__).parents[2] / "docs" / "compiler.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    found: dict[str, Any] = {"__name__": "page"}
    exec(code.replace("32, 64)", '32, 64, backend="c")'), found)
    assert found["output"].shape == (100, 16, 64)
    assert len(trace(found["layer"].cell).stages) == 3


VARIANTS = [kind() for kind in CELLS.values()]


@pytest.mark.slow
@pytest.mark.parametrize("cell", VARIANTS, ids=repr)
def test_every_cell_is_compiled_as_eager(cell: Cell) -> None:
    test_compiled_is_eager(cell)


@pytest.mark.slow
@pytest.mark.parametrize("cell", VARIANTS, ids=repr)
def test_in_every_cell_not_a_number_stays_in_its_row(cell: Cell) -> None:
    layer = Recurrent(cell, 2, 20, backend="auto").eval()
    x = torch.randn(8, 3, 2)
    clean = layer(x)[0]
    x[3, 1] = float("nan")
    output = layer(x)[0]
    torch.testing.assert_close(output[:3], clean[:3], rtol=0, atol=0)
    torch.testing.assert_close(output[:, [0, 2]], clean[:, [0, 2]], rtol=0, atol=0)
    ended = layer.eval()(x)[0][3:, 1].isnan()
    # A clockwork's slow units do not look at every step; all others see it at once.
    assert ended.all() if cell.name != "clockwork" else ended.any(-1).all()


def test_kernels_are_called_without_the_interpreters_lock() -> None:
    file = kernel.printed(CELLS["elman"](), torch.float32, False)
    (library,) = build.load(kernel.source(file), build.FORWARD)
    assert not isinstance(library, ctypes.PyDLL)  # a CDLL lets go of it around every call
