"""One time step of one layer, compiled, with every buffer and argument word made once."""

import ctypes
from typing import final

import torch
from torch import Tensor

from steadygrad.cells import Cell
from steadygrad.scan.c import build, kernel
from steadygrad.scan.layout import Layout
from steadygrad.scan.weights import Weights


@final
class StepCall:
    """A layer's kernel called for sequences of length one, its state held between calls.

    The kernel reads the state at its beginning and writes it at its end, so that one buffer is
    both. The weights are copied: the kernel wants the recurrent ones transposed.

    Args:
        cell: The recurrence.
        weights: Weights of the layer.
        batch: Rows of every call, ``B``.
        exact: Whether the kernel calls the system's exp and tanh.

    Attributes:
        state: What is held, one ``(B, H)`` tensor per name in `Cell.states`; write into it.
    """

    def __init__(self, cell: Cell, weights: Weights, batch: int, exact: bool) -> None:
        # A buffer made under inference mode could never again be written outside of it.
        with torch.inference_mode(False), torch.no_grad():
            self._prepare(cell, weights, batch, exact)

    def _prepare(self, cell: Cell, weights: Weights, batch: int, exact: bool) -> None:
        matrix = weights.weight_ih.detach()
        size = matrix.shape[0] // len(cell.gates)
        file = kernel.printed(cell, matrix.dtype, exact)
        library = build.load(file.text)
        self._matrix = matrix.t().clone(memory_format=torch.contiguous_format)
        self._bias = _bias(weights.bias_ih, matrix)
        self._call = call = kernel.Call(file.forward, Layout((batch,)), size)
        self._projected = call.tensor("xp", matrix.new_empty(batch, matrix.shape[0]))
        self._hidden = call.tensor("hidden", matrix.new_empty(batch, size))
        call.tensor("saved", matrix.new_empty(0))
        self.state = tuple(matrix.new_zeros(batch, size) for _ in cell.states)
        for k, value in enumerate(self.state):
            call.tensor(f"s{k}", value)
            call.tensor(f"e{k}", value)
        recurrent = dict(zip(cell.recurrent, weights.weight_hh.detach().split(size), strict=True))
        biases = dict(
            zip(cell.recurrent, _bias(weights.bias_hh, weights.weight_hh).split(size), strict=True)
        )
        for i, item in enumerate(file.products):
            call.packed(f"r{i}", library, torch.cat([recurrent[g] for g in item.gates]).t())
            call.tensor(f"b{i}", torch.cat([biases[g] for g in item.gates]))
        for k, unit in enumerate(weights.per_unit):
            call.tensor(f"u{k}", unit.detach().clone())
        call.beside(file, weights)
        call.number("keep", 0)
        call.scratch(file.forward_rows, file.spills, size, self._projected)
        # The words stand in one array that never grows, so that its address holds.
        self._function = library.steadygrad_forward
        self._words = ctypes.c_void_p(call._words.buffer_info()[0])

    def run(self, x: Tensor) -> Tensor:
        """Advance by ``x``, ``(B, I)``; return h, ``(B, H)``, in a buffer the next call reuses."""
        torch.addmm(self._bias, x, self._matrix, out=self._projected)
        self._function(self._words)
        return self._hidden


def _bias(bias: Tensor | None, matrix: Tensor) -> Tensor:
    """A copy of the bias that goes with a weight matrix; zeros if there is none."""
    return matrix.new_zeros(matrix.shape[0]) if bias is None else bias.detach().clone()
