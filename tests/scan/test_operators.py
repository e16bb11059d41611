"""The scan as torch operators: what torch traces, transforms and exports equals the plain call."""

import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.func import functional_call, grad, hessian, jacrev, jvp, vmap
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.flop_counter import FlopCounterMode

import steadygrad as sg
from steadygrad.cells import Cell, Gates, PerUnit, Recur, State
from steadygrad.scan import LoopClip
from steadygrad.scan.operators import kernels, schema

# torch's own functions call those that it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


@dataclass(frozen=True)
class Scaled(Cell):
    """A user's own cell, with an option."""

    name: ClassVar[str] = "scaled"
    gates: ClassVar[tuple[str, ...]] = ("candidate",)
    scale: float = 0.5

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        return (torch.tanh(x.candidate + recur.candidate(state[0])) * self.scale,)


class Resetting(sg.Recurrent):
    """Begins anew, at a learnt state, where the first feature says so."""

    def forward(
        self, input: Any, hx: Any = None, lengths: Any = None, resets: Any = None
    ) -> tuple[Any, Any]:
        return super().forward(input, hx, lengths, input.detach()[..., 0] > 0.3)


KINDS: dict[str, Callable[[], Any]] = {
    "lstm": lambda: sg.LSTM(3, 4, 2, bidirectional=True),
    "lstm projected": lambda: sg.LSTM(3, 4, proj_size=2),
    "gru": lambda: sg.GRU(3, 4),
    "eager": lambda: sg.RNN(3, 4, backend="eager"),
    "per unit": lambda: sg.Recurrent("lstm-peephole", 3, 4),
    "clipped": lambda: clipped(sg.GRU(3, 4)),
    "resets": lambda: Resetting("lstm", 3, 4, learn_initial_state=True, bidirectional=True),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def clipped(layer: Any) -> Any:
    layer.loop_clip = LoopClip(0.05)
    return layer


def loss(layer: Any, x: Tensor, weights: dict[str, Tensor] | None = None) -> Tensor:
    own = dict(layer.named_parameters()) if weights is None else weights
    output, last = functional_call(layer, own, (x,))
    parts = last if isinstance(last, tuple) else (last,)
    return output.sin().sum() + sum(p.cos().sum() for p in parts)


def plain_gradient(layer: Any, x: Tensor) -> dict[str, Tensor]:
    names, values = zip(*layer.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss(layer, x), values), strict=True))


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@each_kind
def test_transforms_of_functions_equal_plain_gradients(kind: str) -> None:
    layer = KINDS[kind]().double()
    weights = {name: value.detach() for name, value in layer.named_parameters()}
    x = torch.randn(5, 3, 3, dtype=torch.float64)
    expected = plain_gradient(layer, x)
    found = grad(lambda w: loss(layer, x, w))(weights)
    for name, value in expected.items():
        close(found[name], value)
    # Of each sample (shared weights), of each of several networks, and by rows of a Jacobian.
    each = vmap(grad(lambda w, row: loss(layer, row.unsqueeze(1), w)), (None, 1))(weights, x)
    nets = {name: torch.stack([value, value * 1.5]) for name, value in weights.items()}
    several = vmap(grad(lambda w: loss(layer, x, w)))(nets)
    with torch.no_grad():
        bigger = KINDS[kind]().double()
        for name, value in bigger.named_parameters():
            value.copy_(weights[name] * 1.5)
    for name in expected:
        samples = [plain_gradient(layer, x[:, i : i + 1])[name] for i in range(3)]
        close(each[name], torch.stack(samples))
        close(several[name][1], plain_gradient(bigger, x)[name])
    rows = jacrev(lambda v: layer(v)[0].sum((0, 1)))(x)
    for k, row in enumerate(rows):
        inner = x.clone().requires_grad_()
        (own,) = torch.autograd.grad(layer(inner)[0].sum((0, 1))[k], inner)
        close(row, own)


@each_kind
def test_forward_mode_and_second_derivatives(kind: str) -> None:
    layer = KINDS[kind]().double().requires_grad_(False)
    x, tangent = torch.randn(2, 4, 1, 3, dtype=torch.float64)
    found = jvp(lambda v: layer(v)[0], (x,), (tangent,))[1]
    plain = layer if layer.loop_clip is None else KINDS["gru"]().double()
    if plain is not layer:
        plain.load_state_dict(layer.state_dict())
    step = 1e-6
    by_difference = (plain(x + step * tangent)[0] - plain(x - step * tangent)[0]) / (2 * step)
    torch.testing.assert_close(found, by_difference, rtol=1e-6, atol=1e-8)
    twice = grad(lambda v: grad(lambda u: loss(layer, u))(v).pow(2).sum())(x)
    inner = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(loss(layer, inner), inner, create_graph=True)
    (second,) = torch.autograd.grad(first.pow(2).sum(), inner)
    close(twice, second)
    if layer.loop_clip is None:  # under a clip the gradient is no derivative, so rows may differ
        forward_over_reverse = hessian(lambda v: loss(layer, v))(x)
        close(forward_over_reverse, jacrev(jacrev(lambda v: loss(layer, v)))(x))


@pytest.mark.parametrize("lengths", (None, [4, 2]))
def test_batches_of_gradients_go_through_a_plain_forward_pass(lengths: list[int] | None) -> None:
    layer = sg.LSTM(3, 4).double()
    x = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    output = layer(x, lengths=lengths)[0]
    many = torch.randn(3, *output.shape, dtype=torch.float64)
    sources = (x, *layer.parameters())
    one_by_one = [torch.autograd.grad(output, sources, g, retain_graph=True) for g in many]
    expected = [torch.stack(values) for values in zip(*one_by_one, strict=True)]
    old = torch.autograd.grad(output, sources, many, retain_graph=True, is_grads_batched=True)
    new = vmap(lambda g: torch.autograd.grad(output, sources, g, retain_graph=True))(many)
    for a, b, c in zip(old, new, expected, strict=True):
        close(a, c)
        close(b, c)


@pytest.mark.parametrize("is_warm", (False, True))
def test_fake_tensors_never_reach_a_kernel(is_warm: bool) -> None:
    if is_warm:
        sg.LSTM(3, 4)(torch.randn(5, 2, 3))
    with FakeTensorMode() as mode:
        layer = sg.LSTM(3, 4)
        output, (h, c) = layer(torch.randn(5, 2, 3), lengths=None)
        output.sum().backward()
        assert isinstance(output, FakeTensor) and output.shape == (5, 2, 4)
        assert h.shape == c.shape == (1, 2, 4)
        assert isinstance(layer.weight_hh_l0.grad, FakeTensor)
    real = sg.LSTM(3, 4)
    given = mode.from_tensor(torch.randn(5, 2, 3))
    with pytest.raises(Exception, match=r"[Ff]ake"):  # mixed with real weights: torch's words
        real(given)
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert isinstance(real(given)[0], FakeTensor)


def test_the_first_call_may_be_made_in_any_mode() -> None:
    """A cell is traced at its first call, in whatever mode the caller is."""
    cells = iter([Scaled(0.1), Scaled(0.2), Scaled(0.3), Scaled(0.4), Scaled(0.6)])
    x = torch.randn(5, 2, 3)

    def first_call() -> Tensor:
        layer = sg.Recurrent(next(cells), 3, 4, backend="eager")
        output = layer(x)[0]
        output.sum().backward()
        return output

    with torch.autograd.set_detect_anomaly(True):
        first_call()
    with FlopCounterMode(display=False) as counter:
        first_call()
    rows, forward = 10, 4 * 3 + 4 * 4
    assert counter.get_total_flops() == 2 * rows * (forward + 4 * 3 + 2 * 4 * 4)
    with torch.autocast("cpu", torch.bfloat16):
        first_call()
    with torch.device("meta"):
        assert not sg.Recurrent(next(cells), 3, 4, device="cpu")(x)[0].is_meta
    layer = sg.Recurrent(next(cells), 3, 4)
    assert grad(lambda v: layer(v)[0].sum())(x).shape == x.shape


@each_kind
def test_torch_finds_nothing_wrong_with_the_operators(kind: str) -> None:
    layer = KINDS[kind]().double()
    x = torch.randn(
        5 * 3, 3, dtype=torch.float64, requires_grad=True
    )  # rows: 5 steps, 3 in a batch
    weights = layer.weights(0)
    width = layer.output_size
    state = [torch.randn(3, n, dtype=torch.float64) for n in (width, 4)[: len(layer.cell.states)]]
    pairs = [("x", x), *weights.flat(), *(("state", s.requires_grad_()) for s in state)]
    if layer.learn_initial_state:
        flags = torch.arange(15) % 4 == 1
        pairs[-2:-2] = [("resets", flags), *(("start", s) for s in layer.initial_state(0))]
    names, tensors = ",".join(n for n, _ in pairs), [t for _, t in pairs]
    text = schema.operator_text(layer.cell, layer.loop_clip, layer.backend)
    given = (text, names, False, None, tensors)
    for sizes in (None, torch.tensor([3, 2, 2, 1, 0])):
        torch.library.opcheck(torch.ops.steadygrad.scan.default, (*given[:3], sizes, tensors))
    with pytest.raises(ValueError, match="expected x of shape"):
        torch.ops.steadygrad.scan(text, names, False, None, [x.unsqueeze(1), *tensors[1:]])
    with torch.no_grad():
        kept = torch.ops.steadygrad.scan_keep(*given)
        torch.library.opcheck(
            torch.ops.steadygrad.scan_keep.default,
            given,
            test_utils=("test_schema", "test_faketensor"),
        )
        count = 1 + len(state)
        saved = [kept[0], *kept[count:]]
        grads = [torch.randn_like(g) for g in kept[:count]]
        needed = [name not in ("constant", "resets") for name in names.split(",")]
        torch.library.opcheck(
            torch.ops.steadygrad.scan_back.default,
            (*given, saved, grads, needed),
            test_utils=("test_schema", "test_faketensor"),
        )


class Model(torch.nn.Module):
    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer
        self.head = torch.nn.Linear(layer.output_size * layer.num_directions, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        output, last = self.layer(x)
        return self.head(output), last


@pytest.mark.slow
@pytest.mark.parametrize("kind", ("lstm", "eager", "per unit", "resets", "clipped"))
def test_one_graph_of_a_whole_model(kind: str) -> None:
    torch._dynamo.reset()
    model = Model(KINDS[kind]())
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=True)
    for shape in ((5, 3, 3), (7, 2, 3)):  # sizes are free: no second compilation may fail
        x = torch.randn(shape)
        gradients = []
        for run in (model, compiled):
            inner = x.clone().requires_grad_()
            sources = (inner, *model.parameters())
            output, _ = run(inner)
            gradients.append((output, *torch.autograd.grad(output.sin().sum(), sources)))
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b)


CUT: dict[str, Callable[[], Any]] = {
    "truncate": lambda: sg.GRU(3, 4, 2, bidirectional=True, truncate=2, batch_first=True),
    "checkpoint": lambda: sg.LSTM(3, 4, bidirectional=True, checkpoint=True),
    "both": lambda: sg.RNN(3, 4, truncate=3, checkpoint=True),
    "burn-in and noise": lambda: sg.Recurrent("zoneout-lstm", 3, 4, burn_in=2, truncate=2).eval(),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", CUT)
@pytest.mark.parametrize("lengths", (None, [3, 7, 1]))
def test_pieces_and_lengths_are_in_the_graph(kind: str, lengths: list[int] | None) -> None:
    torch._dynamo.reset()
    layer = CUT[kind]()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    long = None if lengths is None else torch.tensor(lengths)
    for steps in (7, 9):
        x = torch.randn((3, steps, 3) if layer.batch_first else (steps, 3, 3))
        resets = torch.rand(x.shape[:2]) < 0.2
        found = []
        for run in (layer, compiled):
            inner = x.clone().requires_grad_()
            output, last = run(inner, None, long, resets)
            parts = last if isinstance(last, tuple) else (last,)
            value = output.sin().sum() + sum((p * p).sum() for p in parts)
            found.append(
                (output, *parts, *torch.autograd.grad(value, [inner, *layer.parameters()]))
            )
        torch.testing.assert_close(*found)
    if long is not None:
        for wrong in (long - 1, long + 9):
            with pytest.raises(RuntimeError, match="lengths have to be from 1 to the steps"):
                compiled(x, None, wrong, resets)


@pytest.mark.slow
def test_a_checkpoint_in_a_graph_keeps_little() -> None:
    def kept(run: Any) -> int:
        sizes: dict[int, int] = {}

        def pack(value: Tensor) -> Tensor:
            memory = value.untyped_storage()
            sizes[memory.data_ptr()] = memory.nbytes()
            return value

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            output = run(torch.randn(100, 4, 4))[0]
        output.sum().backward()
        return sum(sizes.values())

    torch._dynamo.reset()
    layers = [sg.LSTM(4, 32, checkpoint=on) for on in (False, True)]
    whole, few = (kept(torch.compile(m, fullgraph=True, backend="aot_eager")) for m in layers)
    assert few < whole / 5


@pytest.mark.parametrize("kind", ("lstm", "eager", "per unit", "resets"))
@pytest.mark.parametrize("sizes", ([3, 2, 2, 0], [2, 1, 0, 0], [0, 0, 0, 0]))
def test_a_padded_batch_is_its_rows(kind: str, sizes: list[int]) -> None:
    """Rows that take part at no step keep their state; padding is never read."""
    steps, batch = len(sizes), 3
    layer = KINDS[kind]().double()
    text, rows = schema.operator_text(layer.cell, None, layer.backend), max(sizes)
    pairs = layer.weights(0).flat()
    weights = [value.detach().requires_grad_() for _, value in pairs]
    is_there = (torch.arange(batch) < torch.tensor(sizes)[:, None]).flatten()
    x = torch.randn(steps * batch, 3, dtype=torch.float64)
    x[~is_there] = torch.nan
    x.requires_grad_()
    widths = [layer.output_size, 4][: len(layer.cell.states)]
    state = [torch.randn(batch, n, dtype=torch.float64, requires_grad=True) for n in widths]
    names = ",".join(["x", *(n for n, _ in pairs), *["state"] * len(state)])

    def run(x: Tensor, sizes: list[int], state: list[Tensor]) -> list[Tensor]:
        given = [x, *weights, *state]
        return torch.ops.steadygrad.scan(text, names, False, torch.tensor(sizes), given)

    hidden, *last = run(x, sizes, state)
    assert not hidden[~is_there].any()
    packed = [hidden.detach()[:0], *(s[:0] for s in state)]
    if rows:
        packed = run(x[is_there], [n for n in sizes if n], [s[:rows] for s in state])
    wanted = [torch.cat([p, s[rows:]]) for p, s in zip(packed[1:], state, strict=True)]
    torch.testing.assert_close([hidden[is_there], *last], [packed[0], *wanted], rtol=0, atol=0)
    sources, gradients = [x, *weights, *state], []
    for output, final in ((hidden[is_there], last), (packed[0], wanted)):
        value = output.sin().sum() + sum((f * f).sum() for f in final)
        gradients.append(
            torch.autograd.grad(value, sources, allow_unused=True, materialize_grads=True)
        )
    torch.testing.assert_close(*gradients)


@pytest.mark.slow
def test_inductor_calls_the_kernel() -> None:
    torch._dynamo.reset()
    model = Model(KINDS["gru"]())
    x = torch.randn(5, 3, 3)
    compiled = torch.compile(model, fullgraph=True)
    torch.testing.assert_close(compiled(x)[0], model(x)[0])
    compiled(x)[0].sum().backward()
    assert model.layer.weight_hh_l0.grad is not None


def exported(model: torch.nn.Module, x: Tensor) -> torch.export.ExportedProgram:
    steps, batch = torch.export.Dim("steps", min=2), torch.export.Dim("batch", min=2)
    return torch.export.export(model.eval(), (x,), dynamic_shapes=({0: steps, 1: batch},))


def test_a_model_is_exported_with_free_sizes() -> None:
    model, x = Model(KINDS["lstm"]()), torch.randn(5, 3, 3)
    program = exported(model, x)
    called = [str(n.target) for n in program.graph.nodes if n.op == "call_function"]
    assert called.count("steadygrad.scan.default") == 4  # two layers, two directions
    other = torch.randn(8, 2, 3)
    torch.testing.assert_close(program.module()(other)[0], model(other)[0])


@pytest.mark.slow
def test_an_export_is_loaded_in_another_process() -> None:
    model, x = Model(sg.Recurrent(sg.cells.LEM(dt=0.5), 3, 4)), torch.randn(5, 3, 3)
    program = exported(model, x)
    file = io.BytesIO()
    torch.export.save(program, file)
    code = (
        "import sys, io, torch, steadygrad.scan\n"
        "program = torch.export.load(io.BytesIO(sys.stdin.buffer.read()))\n"
        "torch.manual_seed(3)\n"
        "print(float(program.module()(torch.randn(8, 2, 3))[0].double().sum()))\n"
    )
    run = [sys.executable, "-W", "ignore", "-c", code]
    told = subprocess.run(run, input=file.getvalue(), capture_output=True, check=True)
    torch.manual_seed(3)
    expected = float(model(torch.randn(8, 2, 3))[0].detach().double().sum())
    assert float(told.stdout) == pytest.approx(expected, abs=1e-5)


def test_a_cell_that_no_other_process_can_make_is_not_exported() -> None:
    @dataclass(frozen=True)
    class Inner(Scaled):
        pass

    model, x = Model(sg.Recurrent(Inner(), 3, 4)), torch.randn(5, 3, 3)
    assert model(x)[0].shape == (5, 3, 2)
    with pytest.raises(Exception, match="has to stand at the top of a module"):
        exported(model, x)


@pytest.mark.parametrize(
    "options", [{"checkpoint": True}, {"truncate": 2}, {"burn_in": 2}], ids=str
)
def test_one_graph_without_gradients_of_a_layer_that_cuts_its_steps(
    options: dict[str, Any],
) -> None:
    layer, x = sg.LSTM(3, 4, **options), torch.randn(6, 2, 3)
    torch._dynamo.reset()
    compiled: Any = torch.compile(layer, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(x)[0], layer(x)[0])


class Packing(torch.nn.Module):
    """Packs its rows, with flags, and begins at a state of each row's own."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, lengths: Tensor, flags: Tensor) -> tuple[Tensor, ...]:
        packed, resets = (
            pack_padded_sequence(v, lengths, batch_first=True, enforce_sorted=False)
            for v in (x, flags)
        )
        start = x.new_zeros(2, 1, 4) + x[:, 0, 0, None]
        output, last = self.layer(packed, start, resets=resets)
        return *pad_packed_sequence(output, batch_first=True), last


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_trace_of_jit_takes_packed_rows_of_other_lengths() -> None:
    model = Packing(sg.GRU(3, 4, bidirectional=True, batch_first=True)).eval()

    def given(lengths: list[int]) -> tuple[Tensor, ...]:
        shape = len(lengths), max(lengths)
        return torch.randn(*shape, 3), torch.tensor(lengths), torch.rand(shape) < 0.3

    traced: Any = torch.jit.trace(model, given([2, 5, 3]), check_trace=False)
    for lengths in ([2, 5, 3], [5, 4, 1], [7, 1, 3, 2]):  # the second has as many rows in all
        inputs = given(lengths)
        for found, expected in zip(traced(*inputs), model(*inputs), strict=True):
            torch.testing.assert_close(found, expected)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_trace_of_a_loop_over_steps_takes_no_others_in_silence() -> None:
    for layer in (sg.nn.DeltaNet(3, 4), sg.nn.GLA(3, 4), sg.nn.Dilated("gru", 3, 4)):
        traced: Any = torch.jit.trace(layer, (torch.randn(5, 2, 3),), check_trace=False)
        x = torch.randn(5, 2, 3)
        torch.testing.assert_close(traced(x)[0], layer(x)[0])
        for steps, rows in ((9, 2), (3, 2), (2, 5), (5, 3)):
            with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
                traced(torch.randn(steps, rows, 3))


@pytest.mark.filterwarnings("ignore:Converting a tensor to a Python boolean")
@pytest.mark.parametrize("options", [{}, {"checkpoint": True}, {"burn_in": 2}], ids=str)
def test_a_trace_of_jit_takes_other_sizes(options: dict[str, Any]) -> None:
    layer = sg.LSTM(3, 4, **options)
    traced: Any = torch.jit.trace(layer, (torch.randn(5, 2, 3),))
    other = torch.randn(7, 3, 3)
    torch.testing.assert_close(traced(other)[0], layer(other)[0])


def test_texts_of_cells_are_read_back() -> None:
    clip = LoopClip(0.5, "value", "total")
    for given in ((sg.cells.LEM(0.5), None, None), (Scaled(0.3), clip, "eager")):
        text = schema.operator_text(*given)
        schema._known.clear()  # as in another process
        assert schema.read(text) == given and schema.is_portable(text)


def test_kernels_hand_out_memory_of_their_own() -> None:
    base = torch.randn(4, 4)
    outputs = kernels._own([base, base[:2], base.t()], [base])
    assert len({t.data_ptr() for t in (base, *outputs)}) == 4
    assert all(t.is_contiguous() for t in outputs)
