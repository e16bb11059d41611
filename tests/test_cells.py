"""Properties every cell must have; a new cell is tested by existing."""

import pkgutil
from dataclasses import fields
from typing import get_args

import pytest
import torch
from torch import Tensor

from steadygrad import cells
from steadygrad.cells import CELLS, Cell, Elman, Named
from steadygrad.nn import Recurrent
from steadygrad.scan import trace

T, B, I, H = 7, 3, 4, 5  # all different, so that no axis can pass for another


def variants() -> list[Cell]:
    """Every cell with every choice of its options, one at a time."""
    found: list[Cell] = []
    for kind in CELLS.values():
        found.append(kind())
        for option in fields(kind):  # type: ignore[arg-type]
            choices = get_args(option.type)
            found += [kind(**{option.name: c}) for c in choices if c != option.default]
    return found


@pytest.fixture(params=variants(), ids=repr)
def cell(request: pytest.FixtureRequest) -> Cell:
    return request.param


@pytest.fixture
def layer(cell: Cell) -> Recurrent:
    torch.manual_seed(0)
    return Recurrent(cell, I, H, dtype=torch.float64).eval()  # noise is its mean


@pytest.fixture
def x() -> Tensor:
    return torch.randn(T, B, I, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_no_cell_is_left_out() -> None:
    files = {m.name for m in pkgutil.iter_modules(cells.__path__)} - {"base"}
    assert files == {c.__module__.rpartition(".")[2] for c in CELLS.values()}


def test_names_are_right_for_a_command_line() -> None:
    assert all(n == n.lower() and " " not in n for n in CELLS)
    assert len(CELLS) == len({c.__name__ for c in CELLS.values()})


def test_every_cell_cites_its_source_and_says_what_its_gradient_does(cell: Cell) -> None:
    text = type(cell).__doc__ or ""
    assert "References:" in text and "gradient" in text and ".. math::" in text


@pytest.mark.parametrize("cut", [1, T // 2, T - 1])
def test_cutting_time_and_carrying_the_state_changes_nothing(
    layer: Recurrent, x: Tensor, cut: int
) -> None:
    whole, last = layer(x)
    head, carried = layer(x[:cut])
    tail, last_cut = layer(x[cut:], carried)
    torch.testing.assert_close(torch.cat([head, tail]), whole)
    torch.testing.assert_close(last_cut, last)


def test_the_past_does_not_see_the_future(layer: Recurrent, x: Tensor) -> None:
    x.requires_grad_()
    layer(x)[0][2].sum().backward()
    assert x.grad is not None
    assert (x.grad[:3].abs().sum((1, 2)) > 0).all()
    assert x.grad[3:].abs().sum() == 0


def test_rows_do_not_mix(layer: Recurrent, x: Tensor) -> None:
    torch.testing.assert_close(layer(x[:, 1:2])[0], layer(x)[0][:, 1:2])


def test_a_step_of_the_cell_is_a_step_of_the_layer(layer: Recurrent, x: Tensor) -> None:
    cell, weights = layer.cell, layer.weights(0)
    assert weights.bias_ih is not None and weights.bias_hh is not None
    state = tuple(x.new_zeros(B, H) for _ in cell.states)
    blocks = dict(
        zip(
            cell.recurrent,
            zip(weights.weight_hh.split(H), weights.bias_hh.split(H), strict=True),
            strict=True,
        )
    )
    recur = {g: (lambda v, m=m, b=b: v @ m.t() + b) for g, (m, b) in blocks.items()}
    outputs = []
    for x_t in x:
        pre = (x_t @ weights.weight_ih.t() + weights.bias_ih).split(H, 1)
        gates = dict(zip(cell.gates, pre, strict=True))
        gates |= {n: x.new_full((B, H), noise.mean) for n, noise in cell.noise.items()}
        unit = dict(zip(cell.per_unit, weights.per_unit, strict=True)) | dict(weights.constants)
        state = cell.step(Named("x", gates), Named("r", recur), state, Named("u", unit))
        outputs.append(state[0])
    torch.testing.assert_close(torch.stack(outputs), layer(x)[0])


def test_gradients_agree_with_finite_differences(layer: Recurrent, x: Tensor) -> None:
    names = [n for n, _ in layer.named_parameters()]
    values = [p.detach().clone().requires_grad_() for _, p in layer.named_parameters()]
    state = [
        torch.randn(1, B, H, dtype=torch.float64, requires_grad=True) for _ in layer.cell.states
    ]

    def run(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        hx = rest[: len(state)] if len(state) > 1 else rest[0]
        weights = dict(zip(names, rest[len(state) :], strict=True))
        output, last = torch.func.functional_call(layer, weights, (x, hx))
        return output, *(last if isinstance(last, tuple) else (last,))

    inputs = (x[:4].clone().requires_grad_(), *state, *values)
    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs, atol=1e-4)


def test_the_second_backward_pass_repeats_the_first(layer: Recurrent, x: Tensor) -> None:
    output = layer(x.requires_grad_())[0].sum()
    first = torch.autograd.grad(output, x, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(output, x), first, rtol=0, atol=0)


def test_the_written_out_gradient_is_that_of_the_tape(layer: Recurrent, x: Tensor) -> None:
    inputs = [x.requires_grad_(), *layer.parameters()]
    weight = torch.randn(T, B, H, dtype=torch.float64)
    output = (layer(x)[0] * weight).sum()
    written = torch.autograd.grad(output, inputs, retain_graph=True)
    taped = torch.autograd.grad(output, inputs, create_graph=True)
    torch.testing.assert_close(written, taped)


def test_every_gate_has_an_activation_to_look_at(cell: Cell) -> None:
    assert set(trace(cell).activations) == set(cell.gates)


def test_an_option_changes_the_result(x: Tensor) -> None:
    outputs = []
    for name in ("tanh", "relu", "sigmoid"):
        torch.manual_seed(0)
        outputs.append(Recurrent(Elman(name), I, H, dtype=torch.float64)(x)[0])  # type: ignore[arg-type]
    assert not torch.allclose(outputs[0], outputs[1])
    assert not torch.allclose(outputs[0], outputs[2])


def test_a_wrong_gate_name_is_answered_with_the_right_ones() -> None:
    with pytest.raises(AttributeError, match="no gate named 'forgot'; there are: input, forget"):
        Named("gate", {"input": 1, "forget": 2}).forgot  # noqa: B018
