"""The drop-in layers against torch.nn over random programs: strides, aliases, chains, changes.

A program makes views of leaves, calls one layer once or more, hands states and outputs on, may
change something in place, and differentiates, once or twice. It runs on torch's layer in float64
for the truth, on torch's layer, and on ours. Where torch's raises, ours has to; where ours raises
alone, it must be because of a change in place; else values and derivatives are equal.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import steadygrad as sg
from steadygrad.scan.backends.c import build, threads
from tests.helpers.tolerance import assert_as_near

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
F32, F64 = torch.float32, torch.float64
OURS: dict[str, Any] = {"RNN": sg.RNN, "LSTM": sg.LSTM, "GRU": sg.GRU}
THEIRS: dict[str, Any] = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}
FORMS = (
    *("plain", "permuted", "stepped", "narrowed", "expanded", "flipped"),
    *("made", "negated", "windows", "shared"),
)
CHANGED = ("x", "state", "weight", "output", "last")


@dataclass(frozen=True)
class Program:
    """What is done, the same on every layer."""

    seed: int
    kind: str
    options: dict[str, Any]
    dtype: torch.dtype
    rows: str  # batched, unbatched, packed
    steps: int
    batch: int
    x: str
    state: tuple[str, ...]  # a form for each state; empty for none
    same: bool  # one tensor for all states
    from_weights: bool  # the state is made from the weights
    links: tuple[tuple[str, str], ...]  # from which state and input each later call starts
    change: tuple[str, str, int] | None  # what is changed, how, and after which call
    second: bool
    frozen: tuple[str, ...]
    ours: dict[str, Any] = field(default_factory=dict)
    threads: int = 1


def program(seed: int) -> Program:
    draw = random.Random(seed)
    kind = draw.choice(list(OURS))
    hidden = draw.choice([1, 3, 4, 7])
    options: dict[str, Any] = {
        "input_size": draw.choice([1, 2, hidden, hidden]),
        "hidden_size": hidden,
        "num_layers": draw.choice([1, 1, 2, 3]),
        "bias": draw.random() < 0.8,
        "batch_first": draw.random() < 0.4,
        "bidirectional": draw.random() < 0.35,
    }
    if kind == "RNN":
        options["nonlinearity"] = draw.choice(["tanh", "relu"])
    if kind == "LSTM" and hidden > 1 and draw.random() < 0.3:
        options["proj_size"] = draw.randint(1, hidden - 1)
    rows = draw.choice(["batched", "batched", "unbatched", "packed"])
    count = 2 if kind == "LSTM" else 1
    links = tuple(
        (
            draw.choice(["last", "last", "detached", "halved", "rolled", "none", "first"]),
            draw.choice(["same", "scaled", "output"]),
        )
        for _ in range(draw.choice([0, 0, 1, 2]))
    )
    change = None
    if draw.random() < 0.3:
        how = draw.choice(["no_grad", "detach", "recorded"])
        change = draw.choice(CHANGED), how, draw.randint(0, len(links))
    ours: dict[str, Any] = {
        "backend": draw.choice(["eager", "c"] if build.compiler() else ["eager"])
    }
    if draw.random() < 0.25:
        ours["checkpoint"] = True
    if rows == "batched" and draw.random() < 0.2:
        ours["truncate"] = draw.choice([1, 2, 3, 50])
    names = ("weight_ih_l0", "weight_hh_l0", *(("bias_hh_l0",) if options["bias"] else ()))
    return Program(
        seed,
        kind,
        options,
        draw.choice([F64, F64, F64, F32]),
        rows,
        draw.choice([1, 2, 5, 9]),
        draw.choice([1, 2, 4, 5]),
        draw.choice(FORMS),
        tuple(draw.choice(FORMS) for _ in range(count)) if draw.random() < 0.75 else (),
        draw.random() < 0.15 and "proj_size" not in options,
        draw.random() < 0.2,
        links,
        change,
        draw.random() < 0.5,
        tuple(n for n in names if draw.random() < 0.08),
        ours,
        draw.choice([1, 2]),
    )


class Stage:
    """The tensors of one run: leaves that are differentiated to, and views of them."""

    def __init__(self, seed: int, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.generator = torch.Generator().manual_seed(seed)
        self.leaves: list[Tensor] = []
        self.pool: Tensor | None = None

    def randn(self, *shape: int) -> Tensor:
        return torch.randn(shape, dtype=F64, generator=self.generator).to(self.dtype)

    def leaf(self, *shape: int) -> Tensor:
        made = self.randn(*shape).requires_grad_()
        self.leaves.append(made)
        return made

    def tensor(self, form: str, shape: tuple[int, ...]) -> Tensor:
        """A tensor of ``shape``, as a user may come by it."""
        back = range(len(shape) - 1, -1, -1)
        match form:
            case "permuted":
                return self.leaf(*(shape[a] for a in back)).permute(*back)
            case "stepped":
                return self.leaf(2 * shape[0], *shape[1:])[::2]
            case "narrowed":
                return self.leaf(*shape[:-1], shape[-1] + 3).narrow(-1, 2, shape[-1])
            case "expanded":
                return self.leaf(*shape[:-2], 1, shape[-1]).expand(shape)
            case "flipped":
                return self.leaf(*shape).flip(0)
            case "made":
                return self.leaf(*shape).tanh() * 2
            case "negated":  # a view whose sign is a bit of the tensor, not of its memory
                part = self.leaf(*shape)
                return torch.complex(part, part).conj().imag
            case "windows":  # which overlap in memory
                ahead, n, width = shape[:-2], shape[-2], shape[-1]
                return self.leaf(*ahead, n + width - 1).unfold(-1, width, 1)
            case "shared":  # everything from the beginning of one piece of memory
                if self.pool is None:
                    self.pool = self.leaf(2000)
                count = torch.Size(shape).numel()
                return self.pool[:count].view(shape)
        return self.leaf(*shape)


@dataclass
class Outcome:
    """What a run gave; ``error`` instead where it raised."""

    values: list[Tensor] = field(default_factory=list)
    first: list[Tensor | None] = field(default_factory=list)
    second: list[Tensor | None] = field(default_factory=list)
    error: RuntimeError | None = None


class Truncated(nn.Module):
    """torch's layer with the gradient cut every so many steps: layer by layer, piece by piece."""

    def __init__(self, whole: Any, cut: int) -> None:
        super().__init__()
        self.whole, self.cut = whole, cut

    def forward(self, x: Tensor, hx: Any = None) -> tuple[Tensor, Any]:
        whole = self.whole
        x = x.transpose(0, 1) if whole.batch_first else x
        many = isinstance(whole, nn.LSTM)
        finals: list[tuple[Tensor, ...]] = []
        for layer in range(whole.num_layers):
            outputs = []
            for suffix in ["", "_reverse"][: 1 + whole.bidirectional]:
                part = self._part(layer, suffix)
                state: Any = None
                if hx is not None:
                    k = len(finals)
                    state = tuple(s[k : k + 1] for s in hx) if many else hx[k : k + 1]
                pieces = []
                for piece in (x.flip(0) if suffix else x).split(self.cut):
                    if pieces:
                        state = tuple(s.detach() for s in state) if many else state.detach()
                    out, state = part(piece, state)
                    pieces.append(out)
                joined = torch.cat(pieces)
                outputs.append(joined.flip(0) if suffix else joined)
                finals.append(state if many else (state,))
            x = torch.cat(outputs, -1)
        last = tuple(torch.cat(s) for s in zip(*finals, strict=True))
        return (x.transpose(0, 1) if whole.batch_first else x), (last if many else last[0])

    def _part(self, layer: int, suffix: str) -> nn.Module:
        whole = self.whole
        names = {n: p for n, p in whole.named_parameters() if n.endswith(f"_l{layer}{suffix}")}
        kind = {"nonlinearity": whole.nonlinearity} if isinstance(whole, nn.RNN) else {}
        width = names[f"weight_ih_l{layer}{suffix}"].shape[1]
        sizes = {"proj_size": whole.proj_size} if whole.proj_size else {}
        part = type(whole)(width, whole.hidden_size, bias=whole.bias, **kind, **sizes)
        for name, parameter in names.items():
            setattr(part, name.partition("_l")[0] + "_l0", parameter)
        return part


def play(p: Program, layer: nn.Module, dtype: torch.dtype) -> Outcome:
    """Run the program on a layer; its parameters are leaves, too."""
    outcome = Outcome()
    try:
        _play(p, layer, Stage(p.seed, dtype), outcome)
    except RuntimeError as error:
        outcome.error = error
    return outcome


def _play(p: Program, layer: nn.Module, stage: Stage, outcome: Outcome) -> None:
    options = p.options
    features, directions = options["input_size"], 1 + options["bidirectional"]
    leading = (p.batch, p.steps) if options["batch_first"] else (p.steps, p.batch)
    shape = (p.steps, features) if p.rows == "unbatched" else (*leading, features)
    x = stage.tensor(p.x, shape)
    state = _state(p, layer, stage, directions)
    lengths = [stage_length % p.steps + 1 for stage_length in range(p.seed, p.seed + p.batch)]

    def call(data: Tensor, hx: list[Tensor] | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        given: Any = data
        if p.rows == "packed":
            given = pack_padded_sequence(data, lengths, options["batch_first"], False)
            if p.seed % 2:  # its data need not be contiguous either
                columns = given.data.t().contiguous().t()
                given = PackedSequence(columns, *given[1:])
        start: Any = None if hx is None else tuple(hx) if len(hx) > 1 else hx[0]
        output, last = layer(given, start)
        output = output.data if isinstance(output, PackedSequence) else output
        return output, last if isinstance(last, tuple) else (last,)

    def changed(after: int, output: Tensor, last: tuple[Tensor, ...]) -> None:
        if p.change is None or p.change[2] != after:
            return
        what, how, _ = p.change
        weight: Any = layer.get_parameter(weight_name(layer))
        target = {"x": x, "output": output, "last": last[-1], "weight": weight}.get(what)
        target = (state[0] if state else x) if target is None else target
        if how == "detach":
            target.detach().mul_(1.25)
        elif how == "recorded" and not (target.is_leaf and target.requires_grad):
            target.mul_(1.25)
        else:
            with torch.no_grad():
                target.mul_(1.25)

    output, last = call(x, state)
    values = [output, *last]
    changed(0, output, last)
    for number, (which, source) in enumerate(p.links, 1):
        hx: list[Tensor] | None = list(last)
        if which == "detached":
            hx = [s.detach() for s in last]
        elif which == "halved":
            hx = [s * 0.5 for s in last]
        elif which == "rolled":
            hx = [s.roll(1, -1).transpose(-1, -2).contiguous().transpose(-1, -2) for s in last]
        elif which == "first":
            hx = state
        elif which == "none":
            hx = None
        data = x * 0.5 if source == "scaled" else x
        if source == "output" and p.rows != "packed" and output.shape == x.shape:
            data = output
        output, last = call(data, hx)
        values += [output, *last]
        changed(number, output, last)
    outcome.values = [v.detach().clone() for v in values]
    mixture = torch.Generator().manual_seed(p.seed + 1)
    loss = stage.randn(1).sum() * 0
    for k, value in enumerate(values):
        weight = torch.randn(value.shape, dtype=F64, generator=mixture).to(value.dtype)
        if (p.seed + k) % 3 or k == 0:  # not all of them enter the loss
            loss = loss + (value * weight).sum() + 0.3 * value.square().sum()
    wanted = [*stage.leaves, *(q for q in layer.parameters() if q.requires_grad)]
    if not loss.requires_grad:
        return
    first = torch.autograd.grad(
        loss, wanted, create_graph=p.second, retain_graph=True, allow_unused=True
    )
    outcome.first = [None if g is None else g.detach().clone() for g in first]
    again = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
    outcome.first += [None if g is None else g.detach().clone() for g in again]
    if p.second:
        terms = [g.square().sum() for g in first if g is not None and g.requires_grad]
        if terms:
            penalty = torch.stack(terms).sum()
            second = torch.autograd.grad(penalty, wanted, allow_unused=True)
            outcome.second = [None if g is None else g.detach().clone() for g in second]


def weight_name(layer: nn.Module) -> str:
    return "whole.weight_hh_l0" if isinstance(layer, Truncated) else "weight_hh_l0"


def _state(p: Program, layer: nn.Module, stage: Stage, directions: int) -> list[Tensor] | None:
    if not p.state:
        return None
    rows = p.options["num_layers"] * directions
    batch = () if p.rows == "unbatched" else (p.batch,)
    hidden = p.options["hidden_size"]
    widths = [p.options.get("proj_size") or hidden, hidden]
    made = [
        stage.tensor(form, (rows, *batch, width))
        for form, width in zip(p.state, widths, strict=False)
    ]
    if p.same:
        made = made[:1] * len(made)
    if p.from_weights:
        made = [m + layer.get_parameter(weight_name(layer)).mean() for m in made]
    return made


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """So many threads in kernels, though the calls are too small to gain by it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with mock.patch.object(threads, "SMALL", 0 if count > 1 else threads.SMALL):
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def without_onednn() -> Iterator[None]:
    before = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = False
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = before


def build_layers(p: Program) -> Callable[[str], nn.Module]:
    """Layers of the same weights, made anew at each call: a program may change them."""
    torch.manual_seed(p.seed)
    source = THEIRS[p.kind](**p.options, dtype=F64)

    def make(which: str) -> nn.Module:
        dtype = F64 if which == "truth" else p.dtype
        kind, extra = (OURS, p.ours) if which == "ours" else (THEIRS, {})
        layer = kind[p.kind](**p.options, dtype=dtype, **extra)
        layer.load_state_dict(source.state_dict())
        for name in p.frozen:
            layer.get_parameter(name).requires_grad_(False)
        cut = p.ours.get("truncate")
        return Truncated(layer, cut) if cut and which != "ours" else layer

    return make


def check(p: Program) -> None:
    make = build_layers(p)
    truth = play(p, make("truth"), F64)
    theirs = truth if p.dtype == F64 else play(p, make("theirs"), p.dtype)
    with on_threads(p.threads):
        ours = play(p, make("ours"), p.dtype)
    if theirs.error is not None and truth.error is None and "inplace" not in str(theirs.error):
        # oneDNN's float32 LSTM has no second derivative: torch raises for that, and we need not.
        with without_onednn():
            theirs = play(p, make("theirs"), p.dtype)
    if theirs.error is not None:
        assert ours.error is not None, f"torch raised, we did not: {theirs.error}"
        return
    if ours.error is not None:
        assert p.change is not None and "inplace" in str(ours.error), ours.error
        return
    if truth.error is not None:  # float32 saves what float64 does not, or the other way round
        return
    for what in ("values", "first", "second"):
        assert_as_near(getattr(ours, what), getattr(theirs, what), getattr(truth, what))


def check_all(seeds: range) -> None:
    wrong = []
    for seed in seeds:
        p = program(seed)
        try:
            check(p)
        except (AssertionError, RuntimeError) as error:
            wrong.append(f"{p}\n    {type(error).__name__}: {error}")
    assert not wrong, f"{len(wrong)} of {len(seeds)}:\n" + "\n".join(wrong[:5])


EACH = 20


@pytest.mark.parametrize("begin", range(0, 60, EACH))
def test_random_programs(begin: int) -> None:
    check_all(range(begin, begin + EACH))


@pytest.mark.slow
@pytest.mark.parametrize("begin", range(1000, 7000, 500))
def test_thousands_of_random_programs(begin: int) -> None:
    check_all(range(begin, begin + 500))
