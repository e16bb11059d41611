"""A replay through the view equals the layer, for every cell and every option that changes it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import steadygrad as sg
from steadygrad import remedies
from steadygrad.cells import CELLS
from steadygrad.flow import Capture, Replay, linearise, rows_of
from steadygrad.nn import view
from steadygrad.nn.layer_view import Drive, Key
from steadygrad.scan import Layout, ScanCall, Weights, scan
from tests.helpers.few import FEW
from tests.helpers.small_cells import ODD

pytestmark = pytest.mark.usefixtures("any_backend")

F64 = torch.float64
T, B, I, H = 7, 3, 2, 4
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "two layers": {"num_layers": 2},
    "two ways": {"num_layers": 2, "bidirectional": True},
    "no bias": {"bias": False},
    "batch first": {"batch_first": True},
}
CALLS = ("dense", "state", "packed", "lengths", "codes", "alone")


def made(cell: Any, **options: Any) -> sg.Recurrent:
    torch.manual_seed(1)
    return sg.Recurrent(cell, I, H, dtype=F64, **options)


def only(state: tuple[Tensor, ...]) -> Any:
    """A state as layers take it: a tuple if it has several parts."""
    return state if len(state) > 1 else next(iter(state))


def arguments(layer: nn.Module, call: str) -> tuple[Any, ...]:
    """What the layer is called with, in float64."""
    torch.manual_seed(2)
    seen = view(layer)
    x = torch.randn(T, B, I, dtype=F64)
    wide = x.transpose(0, 1) if seen.batch_first else x
    rows = len(seen.keys)
    if call == "state":
        state = tuple(torch.randn(rows, B, w, dtype=F64).abs() for w in seen.widths)
        return wide, only(state)
    if call == "packed":
        lengths = torch.tensor([2, T, 4])
        return (pack_padded_sequence(wide, lengths, seen.batch_first, enforce_sorted=False),)
    if call == "lengths":
        return wide, None, torch.tensor([2, T, 4])
    if call == "codes":
        return (torch.randint(I, wide.shape[:2]),)
    return (x[:, 0],) if call == "alone" else (wide,)


def three(given: tuple[Any, ...]) -> tuple[Any, Any, Any]:
    """Input, state and lengths of a call."""
    return given + (None,) * (3 - len(given))  # pyright: ignore[reportReturnType]


def replayed(layer: nn.Module, given: tuple[Any, ...]) -> tuple[Any, tuple[Tensor, ...]]:
    """The call once more, by way of the view alone, laid out as the layer does it."""
    seen = view(layer)
    x, state, lengths = three(given)
    drive = seen.read(x, state, lengths, getattr(layer, "noise_seed", None))

    def step(
        key: Key, x: Tensor, weights: Weights, state: tuple[Tensor, ...], layout: Layout
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        return scan(ScanCall(seen.cell, x, weights, tuple(state), layout, backend="eager"))

    with torch.no_grad():
        hidden, ends = seen.run(drive, step)
    last = tuple(torch.stack(states) for states in zip(*ends.values(), strict=True))
    arranged = seen.arrange(x, lengths)
    return arranged.laid(hidden), arranged.handed(last)


def check(layer: nn.Module, call: str) -> None:
    given = arguments(layer, call)
    with torch.no_grad():
        output, last = layer(*given)
    again, ends = replayed(layer, given)
    if isinstance(output, PackedSequence):
        output, again = output.data, again.data
    torch.testing.assert_close(again, output, rtol=1e-12, atol=1e-12)
    last = last if isinstance(last, tuple) else (last,)
    for a, b in zip(ends, last, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        # All options of a few cells, the richest of each; the others read nothing of the cell.
        pytest.param(
            n, o, marks=[pytest.mark.slow] * (n not in FEW and o != "two ways"), id=f"{n}-{o}"
        )
        for n in CELLS
        for o in OPTIONS
    ],
)
def test_a_replay_through_the_view_is_the_layer(name: str, options: str) -> None:
    if (name, options) == ("lstm-chrono", "no bias"):
        return  # it starts at its biases, and says so
    layer = made(name, **OPTIONS[options], backend="eager")
    for call in CALLS:
        check(layer, call)


@pytest.mark.parametrize("cell", ODD, ids=lambda c: c.name)
def test_so_it_is_for_cells_with_odd_parts(cell: Any) -> None:
    for call in ("dense", "state", "packed"):
        check(made(cell, num_layers=2, bidirectional=True, backend="eager"), call)


@pytest.mark.parametrize("call", ["dense", "state", "packed", "alone"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_so_it_is_for_torchs_layers(kind: str, call: str) -> None:
    torch.manual_seed(0)
    projected = {"proj_size": 2} if kind == "LSTM" else {}
    for options in ({}, {"num_layers": 2, "bidirectional": True}, {"bias": False}, projected):
        check(getattr(nn, kind)(I, H, dtype=F64, **options), call)


@pytest.mark.parametrize("form", ["orthogonal", "quantised", "weight norm"])
def test_so_it_is_for_weights_that_are_computed(form: str) -> None:
    for layer in (made("gru", num_layers=2, backend="eager"), nn.LSTM(I, H, dtype=F64)):
        if form == "orthogonal":
            sg.nn.orthogonal_(layer)
        elif form == "quantised":
            sg.nn.quantise_(layer, "twn", norm="weight")
        else:
            nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")
        check(layer, "dense")


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell"])
def test_a_cell_of_torchs_is_a_layer_of_one_step(kind: str) -> None:
    torch.manual_seed(0)
    cell, x = getattr(nn, kind)(I, H, dtype=F64), torch.randn(B, I, dtype=F64)
    states = tuple(torch.randn(B, H, dtype=F64) for _ in view(cell).widths)
    hx = only(states)
    for given in ((x,), (x, hx), (x[0],)):
        last = cell(*given)
        again, ends = replayed(cell, given)
        last = last if isinstance(last, tuple) else (last,)
        torch.testing.assert_close(again, last[0], rtol=1e-12, atol=1e-12)
        for a, b in zip(ends, last, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_rows_and_back_are_each_others_inverse(call: str, batch_first: bool) -> None:
    layer = made("lstm", batch_first=batch_first)
    given = arguments(layer, call)
    x, _, lengths = three(given)
    arranged = view(layer).arrange(x, lengths)
    back = arranged.laid(arranged.rows(x))
    if lengths is None:
        torch.testing.assert_close(back.data, x.data, rtol=0, atol=0)
    else:
        wide = (back, x) if not batch_first else (back.transpose(0, 1), x.transpose(0, 1))
        for row, steps in enumerate(lengths):
            assert torch.equal(wide[0][:steps, row], wide[1][:steps, row])
            assert not wide[0][steps:, row].any()
    batch = (B,) if call != "alone" else ()
    states = (torch.randn(1, *batch, H), torch.randn(1, *batch, H))
    for a, b in zip(arranged.handed(arranged.states(states)), states, strict=True):
        assert torch.equal(a, b)


def test_a_state_of_another_shape_and_a_module_that_is_no_layer_are_refused() -> None:
    layer = made("lstm")
    with pytest.raises(ValueError, match="state must be h, c of shapes"):
        view(layer).read(torch.randn(T, B, I, dtype=F64), torch.zeros(1, B, H, dtype=F64))
    with pytest.raises(TypeError, match="got Linear"):
        view(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="has 1 layers"):
        linearise(layer, torch.randn(T, B, I, dtype=F64), index=1)


PENALTIES = [n for n, r in remedies.REMEDIES.items() if r.penalty is not remedies.Remedy.penalty]
NO_MATRIX = {name for name, cell in CELLS.items() if not cell().recurrent}


class Reader(nn.Module):
    def __init__(self, cell: str) -> None:
        super().__init__()
        self.layer = made(cell, num_layers=2)
        self.head = nn.Linear(H, 1, dtype=F64)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0]).mean()


@pytest.mark.parametrize("name", CELLS)
def test_every_penalty_runs_on_each_cell_or_refuses_it_by_name(name: str) -> None:
    for penalty in PENALTIES:
        model, x = Reader(name), torch.randn(T, B, I, dtype=F64)
        remedy = remedies.REMEDIES[penalty]()
        needs_matrix = penalty in ("omega", "soft-orthogonal", "recurrent-decay")
        if needs_matrix and name in NO_MATRIX:
            with pytest.raises(ValueError, match=f"{name} of layer has no recurrent matrix"):
                remedy.apply(model)
            continue
        applied = remedy.apply(model)
        value = applied.penalty(model(x))
        assert value.isfinite() and value.requires_grad, penalty
        value.backward()
        grads = [p.grad for p in model.layer.parameters() if p.grad is not None]
        assert grads and all(g.isfinite().all() for g in grads), penalty


@pytest.mark.parametrize("name", sorted(set(CELLS) - NO_MATRIX))
def test_omega_is_that_of_an_unrolled_loop(name: str) -> None:
    # The error of every step by autograd over a loop of one-step calls; its passage by the step
    # Jacobian. Noise is at its mean (evaluation), so that both loops are the same.
    layer = made(name, backend="eager")
    layer.eval()
    x, state, states = torch.randn(T, B, I, dtype=F64), None, []
    target = torch.randn(B, H, dtype=F64)
    seen = view(layer)
    state = seen.start(x, B)
    for x_t in x:
        leaf = tuple(s.clone() for s in state)
        states.append(leaf)
        _, end = layer(x_t[None], only(leaf))
        state = end if isinstance(end, tuple) else (end,)
    states.append(state)
    loss = (state[0][-1] * target).sum()
    flat = [s for step in states[1:] for s in step if s.requires_grad]
    found = iter(torch.autograd.grad(loss, flat, allow_unused=True))
    sizes = []
    for step in states[1:]:
        got = [next(found) if s.requires_grad else None for s in step]
        sizes.append(
            [torch.zeros_like(s) if g is None else g for s, g in zip(step, got, strict=True)]
        )
    jacobians = sg.flow.step_jacobians(layer, x)
    terms: list[Tensor] = []
    for t, error in enumerate(sizes):
        delta = torch.cat([e[-1] for e in error], 1)
        size = delta.square().sum(1)
        passed = torch.einsum("bi,bij->bj", delta, jacobians[t].detach()).square().sum(1)
        valid = size >= 1e-20
        terms.append((passed[valid] / size[valid] - 1).square())
    expected = torch.cat(terms).mean()
    model = nn.Sequential(layer)
    applied = remedies.Omega().apply(model)
    layer.train()
    if layer.cell.noise:  # what a call draws is not what the loop drew: take the mean of each
        layer.fixed_noise = list(layer.noise(0, 0, None))
    output = layer(x)[0]
    value = applied.penalty((output[-1] * target).sum())
    torch.testing.assert_close(value.detach(), expected.detach(), rtol=1e-8, atol=1e-10)


def test_the_drive_of_captured_calls_replays_in_every_arrangement() -> None:
    for call in CALLS:
        layer = made("lstm", num_layers=2, batch_first=True, backend="eager")
        given = arguments(layer, call)
        with Capture(layer) as capture:
            layer(*given)
            (seen,) = list(capture.calls)
        rows = rows_of(seen, (None, (None, None)))
        assert isinstance(rows, Drive)
        assert Replay(layer, rows).reproduces(seen, B) < 1e-12
