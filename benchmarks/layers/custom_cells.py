"""Cells that torch does not have: against a Python loop under autograd, and that loop compiled."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

import steadygrad as sg
from benchmarks.layers.against_torch import trained
from benchmarks.layers.timing import pairs, timed
from steadygrad.cells import CELLS, Cell, Gates, Named, PerUnit, Recur, State

WANTED = ("lstm-peephole", "gru-original", "lstm-layer-norm", "slstm")


@final
@dataclass(frozen=True)
class Leaky(Cell):
    r"""Written here: :math:`c_t = f c_{t-1} + (1 - f) \tanh(z)`, :math:`h_t = o\, \sin(c_t)`."""

    name: ClassVar[str] = "written here"
    gates: ClassVar[tuple[str, ...]] = ("forget", "candidate", "output")
    states: ClassVar[tuple[str, ...]] = ("h", "c")

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        h, c = state
        f = torch.sigmoid(x.forget + recur.forget(h))
        c = f * c + (1 - f) * torch.tanh(x.candidate + recur.candidate(h))
        return torch.sigmoid(x.output + recur.output(h)) * torch.sin(c), c


class Loop(nn.Module):
    """A cell as a Python loop under autograd, the way a custom cell is usually written.

    Compiled is the step: T calls of it make the loop. The whole loop unrolled at T = 100 takes
    minutes to compile, and again for every length.
    """

    def __init__(self, layer: sg.Recurrent, compiled: bool = False) -> None:
        super().__init__()
        self.layer, cell, size = layer, layer.cell, layer.hidden_size
        names = list(cell.per_unit)

        def step(x_t: Tensor, r: Tensor, b: Tensor, units: list[Tensor], state: State) -> State:
            blocks = dict(zip(cell.recurrent, zip(r.split(size), b.split(size)), strict=True))  # noqa: B905
            gates = dict(zip(cell.gates, x_t.split(size, 1), strict=True))
            recur = {
                g: (lambda v, m=m, b=b: nn.functional.linear(v, m, b))
                for g, (m, b) in blocks.items()
            }
            unit = Named("unit", dict(zip(names, units, strict=True)))
            return cell.step(Named("gate", gates), Named("product", recur), state, unit)

        self.step: Callable[..., Any] = torch.compile(step, dynamic=False) if compiled else step

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        w = self.layer.weights(0)
        state = tuple(
            x.new_zeros(x.shape[1], self.layer.hidden_size) for _ in self.layer.cell.states
        )
        outputs = []
        for x_t in nn.functional.linear(x, w.weight_ih, w.bias_ih):
            state = self.step(x_t, w.weight_hh, w.bias_hh, list(w.per_unit), state)
            outputs.append(state[0])
        return torch.stack(outputs), state


def cells() -> list[Cell]:
    """The five, or as many as there are."""
    return [CELLS[name]() for name in WANTED if name in CELLS] + [Leaky()]


def against_loop(cell: Cell, rounds: int) -> dict[str, Any]:
    """One cell at T 100, B 16, I = H = 128."""
    layer = sg.Recurrent(cell, 128, 128)
    x = torch.randn(100, 16, 128, requires_grad=True)
    ours = trained(layer, x)
    result: dict[str, Any] = {
        "cell": cell.name,
        "loop": pairs(ours, trained(Loop(layer), x), rounds),
        "compiled": None,
        "compile_s": None,
    }
    torch.compiler.reset()  # or the limit of recompilations leaves later cells uncompiled
    try:
        began = time.perf_counter()
        peer = trained(Loop(layer, compiled=True), x)
        _ = timed(peer)
        result["compile_s"] = time.perf_counter() - began
        result["compiled"] = pairs(ours, peer, rounds)
    except Exception as error:  # what a compiler refuses is told, not hidden
        result["refused"] = f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
    return result
