"""A stream that learns: real-time recurrent learning equals backpropagation through time."""

import copy
import pickle
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import steadygrad as sg
from steadygrad import cells
from steadygrad.cells import Cell
from steadygrad.scan import LoopClip, is_elementwise

F64 = torch.float64
STEPS, BATCH, INPUTS, HIDDEN = 200, 2, 3, 5
NAMED: list[Cell] = [cells.IndRNN("tanh", 0.9), cells.LRU(), cells.MinGRU(), cells.RGLRU()]
OTHERS: list[Cell] = [
    cells.IndRNN(), cells.MinLSTM(), cells.ParaGRU(), cells.ParaLSTM(), cells.S4D(1),
    cells.UnICORNN(dt=0.05),
]  # fmt: skip


def made(cell: Cell | str, dtype: torch.dtype = F64, **options: Any) -> sg.Recurrent:
    torch.manual_seed(0)
    layer = sg.Recurrent(cell, INPUTS, HIDDEN, dtype=dtype, backend="eager", **options)
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(torch.empty_like(p).uniform_(-0.1, 0.1))
    return layer


def loss_of(h: Tensor, weight: Tensor) -> Tensor:
    return (h * weight + 0.5 * h.square()).sum()


def by_time(layer: sg.Recurrent, x: Tensor, weight: Tensor, state: Any = None) -> list[Tensor]:
    """Backpropagation through the whole sequence, by autograd's tape."""
    layer.zero_grad()
    out = layer(x, state)[0]
    return list(
        torch.autograd.grad(
            torch.stack([loss_of(h, w) for h, w in zip(out, weight, strict=True)]).sum(),
            [p for p in layer.parameters() if p.numel()],
        )
    )


def online(
    layer: sg.Recurrent, stream: sg.Stream, x: Tensor, weight: Tensor
) -> list[Tensor | None]:
    layer.zero_grad()
    for sample, w in zip(x, weight, strict=True):
        loss_of(stream.push(sample), w).backward()
    return [p.grad for p in layer.parameters() if p.numel()]


def data(dtype: torch.dtype = F64, steps: int = STEPS) -> tuple[Tensor, Tensor]:
    return torch.randn(steps, BATCH, INPUTS, dtype=dtype), torch.randn(
        steps, BATCH, HIDDEN, dtype=dtype
    )


def off(found: list[Any], exact: list[Tensor]) -> float:
    """The largest error of a tensor, relative to its norm."""
    pairs = zip(found, exact, strict=True)
    return max(float((ours - wanted).norm() / wanted.norm()) for ours, wanted in pairs)


@pytest.mark.parametrize("cell", NAMED, ids=repr)
def test_the_gradient_is_that_of_backpropagation_over_200_steps(cell: Cell) -> None:
    layer, (x, weight) = made(cell), data()
    exact = by_time(layer, x, weight)
    assert off(online(layer, sg.Stream(layer, learn="rtrl"), x, weight), exact) < 1e-10
    layer, x, weight = layer.float(), x.float(), weight.float()
    found = online(layer, sg.Stream(layer, learn="rtrl"), x, weight)
    # Against the exact gradient; and where float32 has less to give, no worse than it gives.
    assert off(found, exact) <= max(1e-6, 2 * off(by_time(layer, x, weight), exact))


@pytest.mark.parametrize("cell", OTHERS, ids=repr)
def test_so_it_is_for_every_elementwise_cell(cell: Cell) -> None:
    layer, (x, weight) = made(cell), data(steps=25)
    found = online(layer, sg.Stream(layer, learn="rtrl"), x, weight)
    assert off(found, by_time(layer, x, weight)) < 1e-10


def test_a_cell_whose_units_meet_is_not_elementwise() -> None:
    assert all(is_elementwise(cell) for cell in NAMED + OTHERS)
    # Through a product, and through a sum over units.
    assert not is_elementwise(cells.Elman()) and not is_elementwise(cells.S6(1))


def test_memory_does_not_grow_and_nothing_of_the_past_is_held() -> None:
    layer, (x, weight) = made("rg-lru"), data(steps=20)
    stream = sg.Stream(layer, learn="rtrl")
    held: list[Any] = []
    sizes = []
    for sample, w in zip(x, weight, strict=True):
        h = stream.push(sample)
        loss_of(h, w).backward()
        engine: Any = stream._engine
        kept = [*engine.sensitivities.by_weight, *engine.sensitivities.by_unit]
        held += [weakref.ref(t) for t in kept]
        sizes.append(sum(t.numel() for t in kept))
        del kept, h
    assert len(set(sizes)) == 1
    assert sizes[0] == BATCH * (3 * HIDDEN * (INPUTS + 1) + HIDDEN)  # a number a weight and row
    assert sum(r() is not None for r in held) == 2  # those of the last step


def test_a_stream_learns_from_where_its_state_was_set() -> None:
    layer, (x, weight) = made("lru"), data(steps=12)
    stream = sg.Stream(layer, learn="rtrl")
    for sample in x[:5]:
        stream.push(sample)
    state = stream.state
    stream.state = state  # from here on a constant
    found = online(layer, stream, x[5:], weight[5:])
    torch.testing.assert_close(found, by_time(layer, x[5:], weight[5:], state))
    stream.reset()
    torch.testing.assert_close(online(layer, stream, x, weight), by_time(layer, x, weight))


def test_it_goes_on_while_an_optimizer_steps() -> None:
    layer, (x, weight) = made("mingru"), data(steps=12)
    stream = sg.Stream(layer, learn="rtrl")
    optimizer = torch.optim.SGD(layer.parameters(), 0.05)
    h: Any = torch.zeros(1, BATCH, HIDDEN, dtype=F64)
    for sample, w in zip(x, weight, strict=True):
        with torch.no_grad():
            wanted, h = layer(sample[None], h)
        out = stream.push(sample)
        torch.testing.assert_close(out, wanted[0])
        optimizer.zero_grad()
        loss_of(out, w).backward()
        optimizer.step()
    again = pickle.loads(pickle.dumps(stream))  # with what it has learnt of the past
    torch.testing.assert_close(again.push(x[0]), stream.push(x[0]))
    ours, theirs = again._engine.sensitivities, stream._engine.sensitivities  # type: ignore[union-attr]
    torch.testing.assert_close(ours.by_weight, theirs.by_weight)
    assert copy.deepcopy(stream).push(x[0]).requires_grad


def test_codes_single_samples_no_bias_and_computed_weights() -> None:
    layer = made("ind-rnn", bias=False)
    codes = torch.randint(INPUTS, (9,))
    rows = nn.functional.one_hot(codes, INPUTS).to(F64)[:, None]
    weight = torch.randn(9, 1, HIDDEN, dtype=F64)
    wanted = by_time(layer, rows, weight)
    found = online(layer, sg.Stream(layer, learn="rtrl"), codes, weight[:, 0])
    torch.testing.assert_close(found, wanted)
    layer, (x, weight) = made("para-lstm"), data(steps=9)
    weight_norm(layer, "weight_ih_l0")
    found = online(layer, sg.Stream(layer, learn="rtrl"), x, weight)
    torch.testing.assert_close(found, by_time(layer, x, weight))


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (lambda: sg.Recurrent("lstm", 3, 4), "no unit sees another, such as .*; those of lstm do"),
        (lambda: nn.GRU(3, 4), "those of gru do"),
        (lambda: sg.Recurrent("s6", 3, 4), "those of s6 do"),
        (lambda: sg.Recurrent("mingru", 3, 4, 2), "exact for one layer, got 2"),
        (lambda: sg.Recurrent("mingru", 3, 4, bidirectional=True), "bidirectional"),
    ],
)
def test_what_it_cannot_do_exactly_it_refuses(layer: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        sg.Stream(layer(), learn="rtrl")


def test_a_clip_an_input_gradient_and_a_wrong_word_are_refused() -> None:
    layer, (x, _) = made("mingru"), data(steps=1)
    with pytest.raises(ValueError, match="learn='bptt' is no way to learn; expected 'rtrl'"):
        sg.Stream(layer, learn="bptt")  # type: ignore[arg-type]
    stream = sg.Stream(layer, learn="rtrl")
    with pytest.raises(ValueError, match=r"x that requires a gradient; use x.detach\(\)"):
        stream.push(x[0].requires_grad_())
    with pytest.raises(ValueError, match="expected no out, which could not carry"):
        stream.push(x[0].detach(), torch.empty(BATCH, HIDDEN, dtype=F64))
    with torch.no_grad():
        assert not stream.push(x[0].detach()).requires_grad
    layer.loop_clip = LoopClip(1.0)
    with pytest.raises(ValueError, match="no backward loop to clip"):
        sg.Stream(layer, learn="rtrl")
