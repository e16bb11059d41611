"""Every back end, held to `eager`; and `eager` itself, held to autograd's tape."""

import copy
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import steadygrad.nn as sg
from steadygrad.cells import CELLS, Cell, Elman
from steadygrad.nn import Recurrent
from steadygrad.scan import BACKENDS, LoopClip
from tests.helpers.few import FEW
from tests.helpers.marks import needs_compiler, needs_triton
from tests.helpers.small_cells import Normed
from tests.helpers.tolerance import assert_as_near
from tests.scan.backend_suite import BackendSuite, outcome

ANY: list[Cell] = [*(CELLS[name]() for name in FEW), Elman("relu")]


def is_linear(kind: type[Cell]) -> bool:
    """Whether a cell says that all its steps can be computed at once."""
    return kind.linear is not Cell.linear


class TestEager(BackendSuite):
    name = "eager"
    cells: ClassVar[list[Cell]] = [*ANY, CELLS["mingru"]()]

    def wanted(self, layer: Recurrent, given: Any) -> list[Tensor]:
        layer.backend = "eager"
        return outcome(layer, given, torch.float64, taped=True)


@needs_compiler
@pytest.mark.usefixtures("shipped_builds")
class TestC(BackendSuite):
    """Kernels as they are built for users, which most other tests leave unoptimised."""

    name = "c"
    cells: ClassVar[list[Cell]] = [*ANY, CELLS["mingru"](), Normed()]
    more: ClassVar[list[Cell]] = [
        CELLS[name]() for name in ("lstm-peephole", "elman-layer-norm", "rg-lru")
    ]
    """Held to `eager` in values, gradients and errors alone: their kernels are slow to build, so by
    `make test-slow` alone."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "cell" in metafunc.fixturenames:
            held = metafunc.function.__name__ in (
                "test_values_and_gradients_in_float64",
                "test_errors_in_float32_are_those_of_eager",
            )
            more = [pytest.param(c, marks=pytest.mark.slow) for c in self.more if held]
            metafunc.parametrize("cell", [*self.cells, *more], ids=repr)


@needs_compiler
@pytest.mark.usefixtures("shipped_builds")
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_drop_in_layers_are_torchs_whatever_the_vectors_leave_over(kind: str) -> None:
    """Units and rows around the widths of vectors, and of the tiles of them, of any processor."""
    for hidden, rows in ((1, 2), (3, 1), (7, 3), (8, 5), (9, 4), (15, 8), (17, 9), (33, 17)):
        theirs = getattr(nn, kind)(5, hidden, 2, bidirectional=True)
        ours = getattr(sg, kind)(5, hidden, 2, bidirectional=True, backend="c")
        ours.load_state_dict(theirs.state_dict())
        exact = copy.deepcopy(theirs).double()
        x = torch.randn(6, rows, 5)

        def found(layer: nn.Module, x: Tensor) -> list[Tensor]:
            x = x.clone().requires_grad_()
            output, last = layer(x)
            values = [output, *(last if isinstance(last, tuple) else (last,))]
            loss = torch.stack([v.square().sum() for v in values]).sum()
            return [*values, *torch.autograd.grad(loss, [x, *layer.parameters()])]

        wanted, truth = found(theirs, x), found(exact, x.double())
        for _ in range(2):
            assert_as_near(found(ours, x), wanted, truth)
        torch.testing.assert_close(found(copy.deepcopy(ours).double(), x.double()), truth)


@pytest.mark.slow  # in Triton's interpreter; tests.scan.test_triton has a few of them by default
@needs_triton
class TestTriton(BackendSuite):
    name = "triton"
    cells: ClassVar[list[Cell]] = [CELLS["lstm"](), CELLS["gru-original"](), Normed()]


class TestParallel(BackendSuite):
    name = "parallel"
    cells: ClassVar[list[Cell]] = [kind() for kind in CELLS.values() if is_linear(kind)]
    forms: ClassVar[tuple[str, ...]] = ("dense", "packed", "resets", "codes", "no bias")
    clips: ClassVar[list[LoopClip]] = []


def test_every_back_end_is_held_to_eager() -> None:
    assert {suite.name for suite in BackendSuite.__subclasses__()} == set(BACKENDS)
