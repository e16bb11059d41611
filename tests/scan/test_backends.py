"""Every back end, held to `eager`; and `eager` itself, held to autograd's tape."""

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from steadygrad.cells import CELLS, Cell, Elman
from steadygrad.nn import Recurrent
from steadygrad.scan import BACKENDS, LoopClip
from tests.helpers.few import FEW
from tests.helpers.marks import needs_compiler, needs_triton
from tests.helpers.small_cells import Normed
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
    name = "c"
    cells: ClassVar[list[Cell]] = [*ANY, CELLS["mingru"](), Normed()]


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
