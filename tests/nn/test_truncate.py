"""Scans in pieces: truncated backpropagation through time, and recomputation."""

import gc
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import steadygrad as sg
from steadygrad.scan import LoopClip, Tap
from steadygrad.scan.backends.c import build
from tests.helpers.few import FEW

F64 = torch.float64
BACKENDS = ["eager"] + ["c"] * (build.compiler() is not None)
LONG = 400
"""Steps of which a checkpointed scan keeps few: pieces of 20."""
Run = Callable[[Tensor, Any], tuple[Tensor, Any]]


def parts(state: Any) -> tuple[Tensor, ...]:
    return state if isinstance(state, tuple) else (state,)


def plain(states: list[Tensor]) -> Any:
    """As a layer takes and gives them: a tuple only if there are several."""
    return tuple(states) if len(states) > 1 else states[0]


def detached(state: Any) -> Any:
    return plain([s.detach() for s in parts(state)])


def start(layer: sg.Recurrent, batch: int) -> Any:
    count = layer.num_layers * layer.num_directions
    shape = (count, batch, layer.hidden_size)
    return plain([torch.randn(shape, dtype=F64, requires_grad=True) for _ in layer.cell.states])


def weighted(values: list[Tensor]) -> Tensor:
    """A loss that reaches every element of every value, each with a weight of its own."""
    generator = torch.Generator().manual_seed(1)
    return torch.stack(
        [(v * torch.randn(v.shape, dtype=v.dtype, generator=generator)).sum() for v in values]
    ).sum()


def outcome(run: Run, x: Tensor, state: Any, layer: sg.Recurrent) -> tuple[list[Tensor], ...]:
    output, last = run(x, state)
    values = [output, *parts(last)]
    wanted = [x, *parts(state), *layer.parameters()]
    return values, list(torch.autograd.grad(weighted(values), wanted))


def in_chunks(layer: sg.Recurrent, k: int, first: int | None = None) -> Run:
    """The oracle: the loop that a user would write, ``first`` steps before the first cut."""

    def run(x: Tensor, state: Any) -> tuple[Tensor, Any]:
        outputs, begin = [], 0
        end = min(first or k, len(x))
        while begin < len(x):
            output, state = layer(x[begin:end], state if begin == 0 else detached(state))
            outputs.append(output)
            begin, end = end, min(end + k, len(x))
        return torch.cat(outputs), state

    return run


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("name", FEW)
def test_truncation_is_the_loop_with_detached_states(name: str, layers: int, backend: str) -> None:
    for steps, k in [(7, 3), (6, 2), (5, 1), (4, 9)]:
        layer = sg.Recurrent(name, 3, 4, layers, dtype=F64, backend=backend)
        x = torch.randn(steps, 2, 3, dtype=F64, requires_grad=True)
        state = start(layer, 2)
        wanted = outcome(in_chunks(layer, k), x, state, layer)
        layer.truncate = k
        torch.testing.assert_close(outcome(layer, x, state, layer), wanted)


def test_truncation_cuts_and_only_in_training() -> None:
    layer = sg.LSTM(3, 4, truncate=4, dtype=F64)
    x = torch.randn(9, 2, 3, dtype=F64, requires_grad=True)
    output, _ = layer(x)
    (grad,) = torch.autograd.grad(output[7].sum(), x)
    assert (grad[:4] == 0).all() and (grad[4:8] != 0).all() and (grad[8:] == 0).all()
    with torch.no_grad():
        torch.testing.assert_close(layer(x)[0], output.detach())


def row_by_row(layer: sg.Recurrent, k: int, rows: list[Tensor], state: Any) -> list[Tensor]:
    """The oracle of a packed batch in both directions: every row alone, each way a plain layer."""
    longest = max(len(row) for row in rows)
    finals: list[list[Tensor]] = []
    hidden = []
    for b, row in enumerate(rows):
        ways, last = [], []
        for reverse in (False, True):
            way = sg.Recurrent(layer.cell, 3, 4, dtype=F64)
            suffix = "_l0_reverse" if reverse else "_l0"
            own = {n: getattr(layer, n[:-3] + suffix) for n, _ in way.named_parameters()}
            first = plain([s[int(reverse) : int(reverse) + 1, b] for s in parts(state)])
            # cuts fall on the same time steps for the whole batch: they count from its first
            ahead = (longest - len(row)) % k if reverse else 0
            run = in_chunks(way, k, k - ahead)
            given = row.flip(0) if reverse else row
            output, final = calling(way, own, run, given, first)
            ways.append(output.flip(0) if reverse else output)
            last.append(torch.stack([f[0] for f in parts(final)]))
        hidden.append(torch.cat(ways, -1))
        finals.append(last)
    return [*hidden, *(torch.stack(w, 1) for w in zip(*finals, strict=True))]


def calling(way: Any, own: dict[str, Tensor], run: Run, x: Tensor, state: Any) -> Any:
    """Run ``way`` with weights that belong to another layer."""
    for name, value in own.items():
        delattr(way, name)
        setattr(way, name, value)
    return run(x, state)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["lstm", "gru-original"])
@pytest.mark.parametrize("k", [2, 3])
def test_truncation_of_packed_rows_in_both_directions(name: str, k: int, backend: str) -> None:
    layer = sg.Recurrent(name, 3, 4, bidirectional=True, dtype=F64, backend=backend)
    rows = [torch.randn(n, 3, dtype=F64, requires_grad=True) for n in (4, 7, 2, 7)]
    state = start(layer, 4)
    leaves = [*rows, *parts(state), *layer.parameters()]
    values = row_by_row(layer, k, rows, state)
    wanted = torch.autograd.grad(weighted(values), leaves)
    layer.truncate = k
    packed, last = layer(pack_sequence(rows, enforce_sorted=False), state)
    padded, lengths = torch.nn.utils.rnn.pad_packed_sequence(packed)
    ours = [padded[:n, b] for b, n in enumerate(lengths)]
    ours += [torch.stack([s[d] for s in parts(last)]) for d in (0, 1)]
    torch.testing.assert_close(ours, values)
    torch.testing.assert_close(torch.autograd.grad(weighted(ours), leaves), wanted)


@pytest.mark.parametrize("bad", [0, -3, 2.0, True, "4"], ids=repr)
def test_a_bad_truncation_is_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match="truncate: expected None or a whole number"):
        sg.LSTM(3, 4, truncate=bad)
    layer = sg.LSTM(3, 4)
    layer.truncate = bad
    with pytest.raises(ValueError, match="truncate: expected None or a whole number"):
        layer(torch.zeros(5, 2, 3))
    with pytest.raises(TypeError, match="checkpoint should be of type bool, got: int"):
        sg.LSTM(3, 4, checkpoint=1)  # type: ignore[arg-type]


def test_options_are_shown() -> None:
    assert repr(sg.LSTM(3, 4, truncate=5, checkpoint=True)) == (
        "LSTM(3, 4, truncate=5, checkpoint=True)"
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("truncate", [None, 4])
@pytest.mark.parametrize("name", FEW)
def test_a_checkpointed_scan_has_the_same_gradients(
    name: str, truncate: int | None, backend: str
) -> None:
    layer = sg.Recurrent(
        name, 3, 4, 2, bidirectional=True, dtype=F64, backend=backend, truncate=truncate
    )
    layer.loop_clip = LoopClip(0.5, "value", "recurrent")
    rows = [torch.randn(n, 3, dtype=F64) for n in (11, 4, 7)]
    dense = torch.randn(10, 3, 3, dtype=F64)
    for given in (pack_sequence(rows, enforce_sorted=False), dense):
        seen = []
        for checkpoint in (False, True, True):
            layer.checkpoint = checkpoint
            torch.manual_seed(0)
            state = start(layer, 3)
            output, last = layer(given, state)
            output = output.data if isinstance(output, PackedSequence) else output
            values = [output, *parts(last)]
            leaves = [*parts(state), *layer.parameters()]
            seen.append((values, torch.autograd.grad(weighted(values), leaves)))
        torch.testing.assert_close(seen[1], seen[0])
        torch.testing.assert_close(seen[2], seen[0])


def test_a_checkpointed_scan_can_be_differentiated_twice() -> None:
    seen = []
    for checkpoint in (False, True):
        torch.manual_seed(0)
        layer = sg.GRU(3, 4, dtype=F64, checkpoint=checkpoint)
        x = torch.randn(9, 2, 3, dtype=F64, requires_grad=True)
        (grad,) = torch.autograd.grad(layer(x)[0].square().sum(), x, create_graph=True)
        leaves = [x, *layer.parameters()]
        seen.append(torch.autograd.grad(grad.square().sum(), leaves))
    torch.testing.assert_close(seen[1], seen[0])


def kept(checkpoint: bool, backend: str, kind: str) -> tuple[int, int]:
    """Bytes that a forward pass leaves for the backward pass, and the most rows at once in it.

    Beside the input and the output; in the graph (seen by hooks) and in Python objects, where
    recomputation might keep its arguments.
    """
    layer = sg.Recurrent(kind, 4, 8, backend=backend, checkpoint=checkpoint)
    x = torch.randn(LONG, 2, 4, requires_grad=True)
    layer(x[:3])  # what is made once is made now
    gc.collect()
    before = {v.untyped_storage().data_ptr() for v in tensors()}
    found: dict[int, int] = {}
    rows: list[int] = []

    def note(value: Tensor) -> Tensor:
        rows.append(len(value) if value.dim() else 0)
        found[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
        output, last = layer(x)
    for value in tensors():
        note(value)
    for known in (x, output, *parts(last)):
        found.pop(known.untyped_storage().data_ptr(), None)
    size = sum(nbytes for where, nbytes in found.items() if where not in before)
    loss = weighted([output, *parts(last)])
    rows.clear()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
        loss.backward()
    return size, max(rows, default=0)


def tensors() -> list[Tensor]:
    return [v for v in gc.get_objects() if type(v) in (Tensor, torch.nn.Parameter)]


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["lstm", "elman", "gru"])
def test_a_checkpointed_scan_keeps_a_fifth_at_most(kind: str, backend: str) -> None:
    (whole, _), (few, rows) = (kept(checkpoint, backend, kind) for checkpoint in (False, True))
    assert few > 0 and whole > LONG * 2 * 8 * 4  # both were really counted
    assert few <= whole / 5, f"{few} of {whole} bytes"
    assert 0 < rows <= 2 * math.isqrt(LONG), "what is computed again is one short piece at a time"


def tapped(layer: sg.Recurrent) -> list[tuple[int, bool, Tap]]:
    taps: list[tuple[int, bool, Tap]] = []
    layer.on_tap = lambda index, reverse, tap: taps.append((index, reverse, tap))
    return taps


@pytest.mark.parametrize("backend", BACKENDS)
def test_taps_of_pieces_are_joined_to_one_a_scan(backend: str) -> None:
    layer = sg.LSTM(3, 4, 2, bidirectional=True, dtype=F64, backend=backend)
    rows = [torch.randn(n, 3, dtype=F64) for n in (11, 4, 7)]
    seen = []
    for checkpoint in (False, True):
        layer.checkpoint = checkpoint
        for given in (pack_sequence(rows, enforce_sorted=False), torch.randn(9, 2, 3, dtype=F64)):
            torch.manual_seed(0)
            given = given if isinstance(given, PackedSequence) else torch.randn(9, 2, 3, dtype=F64)
            taps = tapped(layer)
            output = layer(given)[0]
            output = output.data if isinstance(output, PackedSequence) else output
            weighted([output]).backward()
            assert len(taps) == 4
            seen.append(sorted(taps, key=lambda item: item[:2]))
    for whole, joined in zip(seen[:2], seen[2:], strict=True):
        for (i, r, a), (j, s, b) in zip(whole, joined, strict=True):
            assert (i, r) == (j, s) and (a.states, a.gates) == (b.states, b.gates)
            assert a.reverse == b.reverse == r
            for field in ("log10_norm", "log10_gate", "nonfinite", "present"):
                torch.testing.assert_close(getattr(b, field), getattr(a, field))


def test_a_truncated_tap_is_zero_where_no_gradient_comes() -> None:
    layer = sg.GRU(3, 4, truncate=4, dtype=F64)
    taps = tapped(layer)
    x = torch.randn(10, 2, 3, dtype=F64)
    for loss in (lambda out, _: out[9].sum(), lambda _, last: last.sum()):
        taps.clear()
        loss(*layer(x)).backward()
        ((_, _, tap),) = taps
        curve = tap.log10_over_batch()
        assert (curve[:8] == -math.inf).all() and torch.isfinite(curve[8:]).all()
        assert (tap.nonfinite == 0).all() and tap.present.all()


def test_a_second_pass_over_one_graph_forgets_the_first() -> None:
    layer = sg.GRU(3, 4, truncate=4, dtype=F64)
    taps = tapped(layer)
    output, last = layer(torch.randn(10, 2, 3, dtype=F64))
    output.sum().backward(retain_graph=True)
    last.sum().backward()
    first, second = (tap.log10_over_batch() for _, _, tap in taps)
    assert torch.isfinite(first).all() and (second[:8] == -math.inf).all()


@pytest.mark.parametrize("reverse", [False, True])
def test_a_checkpointed_output_may_be_changed_in_place(reverse: bool) -> None:
    torch.manual_seed(0)
    layer = sg.GRU(3, 4, dtype=F64, bidirectional=reverse)
    x = torch.randn(17, 2, 3, dtype=F64)
    found = []
    for checkpoint in (False, True):
        layer.checkpoint = checkpoint
        layer.zero_grad()
        output = layer(x)[0]
        output = output if checkpoint else output.clone()  # without, it is what is kept
        output.mul_(torch.arange(17, dtype=F64)[:, None, None])
        output.square().sum().backward()
        found.append([p.grad for p in layer.parameters()])
    torch.testing.assert_close(*found)
