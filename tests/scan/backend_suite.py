"""What every back end has to do as `eager` does it.

A back end's test class inherits from `BackendSuite`, says its name and lists cells.

Values are compared with a float64 run; for float32 see `tests.helpers.tolerance`.
"""

from dataclasses import replace
from itertools import product
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

from steadygrad.cells import Cell
from steadygrad.nn import Recurrent
from steadygrad.scan import BACKENDS, Layout, LoopClip, ScanCall, Tap, Weights, scan
from tests.helpers.tolerance import assert_as_near

I = 4
SHAPES = [(1, 3, 5), (7, 1, 5), (3, 2, 1), (4, 5, 33)]
"""T, B, H: one step, one row, one unit, and units that no vector divides."""
FORMS = ("dense", "packed", "resets", "codes", "no bias", "projected")
"""Of the calls. ``resets`` is packed, and begins anew within rows, at learnt states."""
CLIPS = [
    LoopClip(0.1, by, place)  # type: ignore[arg-type]
    for by in ("value", "norm")
    for place in ("recurrent", "total", "preactivation")
]
TAPPED = ("log10_norm", "log10_gate", "nonfinite", "present")


def layer_of(cell: Cell, hidden: int, form: str) -> Recurrent:
    torch.manual_seed(0)
    size = max(1, hidden // 2) if form == "projected" else 0
    layer = Recurrent(
        cell, I, hidden, 2, bidirectional=True, bias=form != "no bias", proj_size=size,
        dtype=torch.float64, learn_initial_state=form == "resets",
    )  # fmt: skip
    with torch.no_grad():
        for start in layer.initial_state(1) or ():
            start.uniform_()
    return layer


def input_of(steps: int, batch: int, form: str) -> Any:
    if form == "codes":
        return torch.randint(I, (steps, batch))
    if form in ("packed", "resets"):
        rows = [torch.randn(1 + i % steps, I, dtype=torch.float64) for i in range(batch)]
        return pack_sequence(rows, enforce_sorted=False)
    return torch.randn(steps, batch, I, dtype=torch.float64)


def outcome(layer: Recurrent, given: Any, dtype: torch.dtype, taped: bool = False) -> list[Tensor]:
    """Values and all gradients: of input, initial state and weights; all taken from float64."""
    layer = layer.to(dtype)
    packed = hasattr(given, "batch_sizes")
    data = given.data if packed else given
    if data.is_floating_point():
        data = data.detach().to(dtype).requires_grad_()
    source = given._replace(data=data) if packed else data
    generator = torch.Generator().manual_seed(1)
    batch = int(given.batch_sizes[0]) if packed else given.shape[1]
    count = layer.num_layers * layer.num_directions
    widths = [layer.output_size] + [layer.hidden_size] * (len(layer.cell.states) - 1)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype)

    start = [draw(count, batch, width).requires_grad_() for width in widths]
    flags = draw(len(data)) < 0.3
    resets = given._replace(data=flags) if layer.learn_initial_state else None
    hx = tuple(start) if len(start) > 1 else start[0]
    output, last = layer(source, hx, resets=resets)
    values = [output.data if packed else output, *(last if isinstance(last, tuple) else (last,))]
    loss = torch.stack([(v * draw(*v.shape)).sum() for v in values]).sum()
    inputs = [*([data] if data.is_floating_point() else []), *start, *layer.parameters()]
    grads = torch.autograd.grad(
        loss, inputs, create_graph=taped, allow_unused=True, materialize_grads=True
    )
    return [*values, *grads]


class BackendSuite:
    """Inherited by a class for each back end."""

    name: ClassVar[str]
    cells: ClassVar[list[Cell]]
    forms: ClassVar[tuple[str, ...]] = FORMS
    clips: ClassVar[list[LoopClip]] = CLIPS

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "cell" in metafunc.fixturenames:
            metafunc.parametrize("cell", self.cells, ids=repr)

    @pytest.fixture(autouse=True)
    def _nothing_asked_from_outside(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("STEADYGRAD_BACKEND", raising=False)

    def forms_of(self, cell: Cell) -> tuple[str, ...]:
        """Of `forms` those that the cell has: many read h outside of products."""
        try:
            layer_of(cell, 4, "projected")
        except ValueError:
            return tuple(form for form in self.forms if form != "projected")
        return self.forms

    def wanted(self, layer: Recurrent, given: Any) -> list[Tensor]:
        """What is right, in float64."""
        layer.backend = "eager"
        return outcome(layer, given, torch.float64)

    def test_values_and_gradients_in_float64(self, cell: Cell) -> None:
        for form in self.forms_of(cell):
            for steps, batch, hidden in SHAPES if form == "dense" else SHAPES[-1:]:
                layer, x = layer_of(cell, hidden, form), input_of(steps, batch, form)
                wanted = self.wanted(layer, x)
                layer.backend = self.name
                for _ in range(2):  # the second call, too
                    found = outcome(layer, x, torch.float64)
                    torch.testing.assert_close(found, wanted)
                with torch.no_grad():  # nothing kept
                    free = layer(x)[0]
                kept = layer(x)[0]
                for one, other in zip(_tensors(free), _tensors(kept), strict=True):
                    torch.testing.assert_close(one, other)

    def test_errors_in_float32_are_those_of_eager(self, cell: Cell) -> None:
        for form in self.forms_of(cell):
            x = input_of(9, 5, form)
            exact = self.wanted(layer_of(cell, 33, form), x)
            layer = layer_of(cell, 33, form)
            layer.backend = "eager"
            eager = outcome(layer, x, torch.float32)
            layer = layer_of(cell, 33, form)
            layer.backend = self.name
            for _ in range(2):  # the second call, too
                assert_as_near(outcome(layer, x, torch.float32), eager, exact)

    def test_taps_and_clips(self, cell: Cell) -> None:
        for form, clip in product(("dense", "resets"), (None, *self.clips)):
            layer, x = layer_of(cell, 6, form), input_of(6, 3, form)
            layer.loop_clip = clip
            wanted = self.wanted(layer, x)
            taps: dict[str, dict[tuple[int, bool], Tap]] = {}
            for name in dict.fromkeys(("eager", self.name)):
                layer.backend = name
                into = taps[name] = {}
                layer.on_tap = lambda n, r, tap, into=into: into.__setitem__((n, r), tap)
                torch.testing.assert_close(outcome(layer, x, torch.float64), wanted)
            ours, theirs = taps[self.name], taps["eager"]
            assert ours.keys() == theirs.keys() and len(theirs) == 4
            for key, what in product(theirs, TAPPED):
                torch.testing.assert_close(getattr(ours[key], what), getattr(theirs[key], what))

    def test_the_gradient_of_the_gradient(self, cell: Cell) -> None:
        for form in ("dense", "resets"):
            layer, x = layer_of(cell, 3, form), input_of(4, 2, form)
            results = []
            for name in ("eager", self.name):
                layer.backend = name
                first = outcome(layer, x, torch.float64, taped=True)
                penalty = torch.stack([f.square().sum() for f in first]).sum()
                weights = list(layer.parameters())
                results.append(
                    torch.autograd.grad(penalty, weights, allow_unused=True, materialize_grads=True)
                )
            torch.testing.assert_close(results[1], results[0])

    def test_only_what_is_wanted_is_differentiated(self, cell: Cell) -> None:
        layer, x = layer_of(cell, 5, "dense"), input_of(6, 2, "dense")
        layer.backend = self.name
        for name, parameter in layer.named_parameters():
            parameter.requires_grad_(name.startswith("weight_ih"))
        layer(x)[0].sum().backward()
        for name, parameter in layer.named_parameters():
            assert (parameter.grad is not None) == parameter.requires_grad, name

    def test_tensors_of_any_strides(self, cell: Cell) -> None:
        call = call_of(cell, self.name)
        names, flat = zip(*call.weights.flat(), strict=True)
        other = replace(
            call,
            x=_strided(call.x),
            weights=Weights.from_flat(names, [_strided(t.detach()) for t in flat]),
            state=tuple(_strided(s) for s in call.state),
        )
        torch.testing.assert_close(scan(other), scan(call))

    def test_nothing_passes_a_reset(self, cell: Cell) -> None:
        # What lies before is not finite, and neither is its gradient.
        call = call_of(cell, self.name)
        call.x[:6] = torch.nan
        taps: list[Tap] = []
        zeros = tuple(torch.zeros_like(s) for s in call.state)
        two = Layout.dense(2, 3)
        results: list[Any] = []
        for part in (
            replace(call, resets=torch.arange(12) // 3 == 2),
            replace(call, x=call.x[6:], state=zeros, layout=two),
        ):
            x = part.x.clone().requires_grad_()
            hidden, final = scan(replace(part, x=x, on_tap=taps.append))
            total = hidden[-6:].sum() + torch.stack([f.sum() for f in final]).sum()
            (grad,) = torch.autograd.grad(total, x)
            results.append((hidden[-6:], *final, grad[-6:], taps[-1].log10_norm[:, -2:]))
        torch.testing.assert_close(results[0], results[1])
        assert torch.isneginf(taps[0].log10_norm[:, 1]).all()  # no gradient came that far

    def test_a_stepper_takes_the_steps_of_a_sequence(self, cell: Cell) -> None:
        call = call_of(cell, "eager")
        stepper = BACKENDS[self.name].stepper(cell, call.weights, 3)
        if stepper is None:
            pytest.skip(f"{self.name} has no stepper")
        with torch.no_grad():
            wanted, final = scan(call)
            for own, value in zip(stepper.state, call.state, strict=True):
                own.copy_(value)
            rows = torch.cat([stepper.run(part).clone() for part in call.x.split(3)])
        torch.testing.assert_close(rows, wanted)
        torch.testing.assert_close(stepper.state, final)


def call_of(cell: Cell, backend: str) -> ScanCall:
    """Four steps of three rows, in float64."""
    weights = layer_of(cell, 5, "dense").weights(0)
    x = torch.randn(12, I, dtype=torch.float64)
    state = tuple(torch.randn(3, 5, dtype=torch.float64) for _ in cell.states)
    return ScanCall(cell, x, weights, state, Layout.dense(4, 3), backend=backend)


def _tensors(output: Any) -> tuple[Tensor, ...]:
    return (output.data,) if hasattr(output, "batch_sizes") else (output,)


def _strided(value: Tensor) -> Tensor:
    """The same values, their last axis not together in memory."""
    return value.repeat_interleave(2, -1)[..., ::2]
