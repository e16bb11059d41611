"""Resets within a sequence, learnt initial states, and steps that only warm up."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import steadygrad as sg
from steadygrad.nn import Recurrent, Stream
from steadygrad.scan import Tap
from tests.helpers.marks import needs_compiler

pytestmark = pytest.mark.usefixtures("any_backend")

T, B, I, H = 9, 4, 3, 5
LENGTHS = torch.tensor([9, 3, 1, 6])
BACKENDS_OF = {"lstm": ("eager", "c"), "gru": ("eager", "c"), "s4d": ("eager", "c", "parallel")}
CASES = [
    pytest.param(cell, name, marks=needs_compiler if name == "c" else ())
    for cell, names in BACKENDS_OF.items()
    for name in names
]


def made(cell: str, backend: str | None = None, **options: Any) -> Recurrent:
    torch.manual_seed(0)
    layer = Recurrent(cell, I, H, 2, dtype=torch.float64, backend=backend, **options)
    with torch.no_grad():
        for key in range(2):
            for start in layer.initial_state(key) or ():
                start.uniform_()
    return layer


def masked() -> Tensor:
    resets = torch.rand(T, B, generator=torch.Generator().manual_seed(4)) < 0.35
    resets[0] = torch.tensor([True, False, False, False])
    return resets


def states(layer: Recurrent) -> list[Tensor]:
    rows = layer.num_layers * layer.num_directions
    return [torch.rand(rows, B, H, dtype=torch.float64).requires_grad_() for _ in layer.cell.states]


def as_hx(state: list[Tensor]) -> Any:
    return tuple(state) if len(state) > 1 else state[0]


def apart(
    layer: Recurrent, x: Tensor, state: list[Tensor] | None, resets: Tensor, lengths: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """The same by one call of the layer for each segment of each row."""
    ways, layers = layer.num_directions, layer.num_layers
    keys = [(k, way) for k in range(layers) for way in (False, True)[:ways]]
    learnt = [layer.initial_state(*key) for key in keys]
    rows, ends = [], []
    for b, length in enumerate(lengths.tolist()):
        cuts = [0, *(t for t in range(1, length) if resets[t, b]), length]
        outputs, lasts = [], []
        for first, last in itertools.pairwise(cuts):
            given = []
            for s in range(len(layer.cell.states)):
                parts = []
                for key, (_, way) in enumerate(keys):
                    enters = last == length if way else first == 0 and not resets[0, b]
                    zero = x.new_zeros(H)
                    begun = (learnt[key] or (zero,) * 9)[s]
                    parts.append(state[s][key, b] if state and enters else begun)
                given.append(torch.stack(parts)[:, None])
            output, end = layer(x[first:last, b : b + 1], as_hx(given))
            outputs.append(output)
            lasts.append(end if isinstance(end, tuple) else (end,))
        beyond = x.new_zeros(T - length, 1, H * ways)
        rows.append(torch.cat([*outputs, beyond]))
        ends.append(
            [
                torch.stack([lasts[0 if way else -1][s][k] for k, (_, way) in enumerate(keys)])
                for s in range(len(layer.cell.states))
            ]
        )
    return torch.cat(rows, 1), [torch.cat(parts, 1) for parts in zip(*ends, strict=True)]


def everything(layer: Recurrent, x: Tensor, state: list[Tensor], result: Any) -> list[Tensor]:
    """Values, and the gradients of all there is."""
    output, last = result
    values = [output, *([last] if isinstance(last, Tensor) else last)]
    generator = torch.Generator().manual_seed(1)
    weights = [torch.rand(v.shape, generator=generator, dtype=v.dtype) for v in values]
    loss = torch.stack([(v * w).sum() for v, w in zip(values, weights, strict=True)]).sum()
    inputs = [x, *state, *layer.parameters()]
    return [*values, *torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)]


@pytest.mark.parametrize("form", ["dense", "batch first", "lengths", "packed", "no state"])
@pytest.mark.parametrize(("cell", "backend"), CASES)
def test_it_is_a_call_for_each_segment(cell: str, backend: str, form: str) -> None:
    layer = made(cell, backend, bidirectional=True, learn_initial_state=form != "dense")
    x = torch.randn(T, B, I, dtype=torch.float64).requires_grad_()
    resets, state = masked(), [] if form == "no state" else states(layer)
    lengths = LENGTHS if form in ("lengths", "packed") else torch.full((B,), T)
    hx = as_hx(state) if state else None
    if form == "packed":
        packed, flags = (
            pack_padded_sequence(v, lengths, enforce_sorted=False) for v in (x, resets)
        )
        output, last = layer(packed, hx, resets=flags)
        result = pad_packed_sequence(output)[0], last
    elif form == "batch first":
        layer.batch_first = True
        output, last = layer(x.transpose(0, 1), hx, resets=resets.t())
        result = output.transpose(0, 1), last
        layer.batch_first = False
    else:
        result = layer(x, hx, lengths if form == "lengths" else None, resets)
    found = everything(layer, x, state, result)
    wanted = everything(layer, x, state, apart(layer, x, state, resets, lengths))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("option", ["checkpoint", "truncate", "burn_in"])
def test_a_scan_in_pieces_resets_alike(option: str) -> None:
    """Pieces are those of the sequence, whatever its segments."""
    layer = made("lstm", learn_initial_state=True)
    x = torch.randn(T, B, I, dtype=torch.float64).requires_grad_()
    resets, state = masked(), states(layer)
    borders = {"checkpoint": [0, T], "truncate": [0, 4, 8, T], "burn_in": [0, 4, T]}[option]
    outputs, hx = [], as_hx(state)
    for begin, end in itertools.pairwise(borders):
        output, hx = layer(x[begin:end], hx, resets=resets[begin:end])
        outputs.append(output)
        if end < T:  # handed on by value
            hx = tuple(s.detach() for s in hx)
            outputs[-1] = output.detach() if option == "burn_in" else output
    setattr(layer, option, option == "checkpoint" or 4)
    found = everything(layer, x, state, layer(x, as_hx(state), resets=resets))
    wanted = everything(layer, x, state, (torch.cat(outputs), hx))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("backend", ["eager", pytest.param("c", marks=needs_compiler)])
def test_a_small_gradient_is_seen_behind_a_large_one(backend: str) -> None:
    """In float32, where the scale of a gradient that is gone would flush it to zero."""
    norms = []
    for dtype in (torch.float32, torch.float64):
        layer = Recurrent("elman", 1, 1, bias=False, backend=backend, dtype=dtype)
        taps: list[Tap] = []
        layer.on_tap = lambda _, __, tap, taps=taps: taps.append(tap)
        with torch.no_grad():
            torch.nn.init.constant_(layer.get_parameter("weight_hh_l0"), 100.0)
        resets = torch.zeros(40, 1, dtype=torch.bool)
        resets[5] = True
        output, _ = layer(torch.zeros(40, 1, 1, dtype=dtype), resets=resets)
        arriving = torch.zeros_like(output)
        arriving[39], arriving[4] = 1, 1e-30
        output.backward(arriving)
        norms.append(taps[0].log10_norm)
    assert norms[1].max() > 60 and norms[1].min() < -25
    torch.testing.assert_close(norms[0], norms[1], rtol=0, atol=1e-4)


def test_a_profiler_shows_the_cell_the_layer_and_the_direction() -> None:
    layer = Recurrent("gru", I, H, 2, bidirectional=True)
    with torch.profiler.profile() as profile:
        layer(torch.randn(T, B, I))
    names = {event.key for event in profile.key_averages()}
    assert {"steadygrad gru l0", "steadygrad gru l1_reverse"} <= names


def test_learnt_initial_states_are_parameters_like_others() -> None:
    layer = sg.LSTM(I, H, proj_size=2, learn_initial_state=True)
    own = {n: tuple(p.shape) for n, p in layer.named_parameters() if "0_l" in n}
    start = layer.initial_state(0)
    assert start is not None
    h, c = start
    assert own == {"h0_l0": (2,), "c0_l0": (H,)} and not h.any()
    assert sorted(nn.LSTM(I, H, proj_size=2).state_dict()) == sorted(
        sg.LSTM(I, H, proj_size=2).state_dict()
    )
    with pytest.raises(ValueError, match="no learnt initial state"):
        layer.to_torch()
    nn.init.uniform_(c)
    x = torch.randn(T, B, I)
    wanted = layer(x)[0]
    given = (h.expand(1, B, -1), c.expand(1, B, -1))
    torch.testing.assert_close(layer(x, given)[0], wanted)
    unbatched = layer(x[:, 0])[0]
    torch.testing.assert_close(unbatched, wanted[:, 0])
    again = sg.LSTM(I, H, proj_size=2, learn_initial_state=True)
    again.load_state_dict(layer.state_dict())
    torch.testing.assert_close(again(x)[0], wanted)


def test_a_stream_begins_at_the_learnt_state() -> None:
    layer = Recurrent("gru", I, H, 2, learn_initial_state=True)
    nn.init.uniform_(layer.get_parameter("h0_l1"))
    x, stream = torch.randn(T, I), Stream(layer)
    for _ in range(2):
        pushed = torch.stack([stream.push(sample) for sample in x])
        torch.testing.assert_close(pushed, layer(x)[0])
        stream.reset()


def test_what_is_returned_may_be_changed_in_place() -> None:
    layer, x = sg.GRU(I, H, 2), torch.randn(T, B, I)
    torch.autograd.grad(layer(x)[0].sum(), list(layer.parameters()))
    changed = layer(x)[0].mul_(3)
    found = torch.autograd.grad(changed.sum(), list(layer.parameters()))
    wanted = torch.autograd.grad(3 * layer(x)[0].sum(), list(layer.parameters()))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (torch.zeros(T, B), "expected resets of torch.bool"),
        (torch.zeros(B, T, dtype=torch.bool), r"shape \(9, 4\)"),
        ([True] * T, "got list"),
    ],
)
def test_what_are_no_resets_is_refused(given: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        sg.LSTM(I, H)(torch.randn(T, B, I), resets=given)


def test_options_that_do_not_go_together_are_refused() -> None:
    layer = sg.LSTM(I, H, burn_in=3)
    with pytest.raises(ValueError, match="longer than the 3 steps"):
        layer(torch.randn(3, B, I))
    with torch.no_grad():
        layer(torch.randn(3, B, I))
    with pytest.raises(ValueError, match="0 for a bidirectional layer"):
        sg.LSTM(I, H, bidirectional=True, burn_in=3)
    with pytest.raises(ValueError, match="at least 0"):
        sg.GRU(I, H, burn_in=-1)
    packed = pack_padded_sequence(torch.randn(T, B, I), LENGTHS, enforce_sorted=False)
    with pytest.raises(ValueError, match="packed in the same way"):
        sg.GRU(I, H)(packed, resets=torch.zeros(T, B, dtype=torch.bool))
