"""One time step of one layer, compiled, with every buffer and argument word made once."""

from typing import final

import torch
from torch import Tensor

from steadygrad.cells import Cell
from steadygrad.scan.backends.c import kernel
from steadygrad.scan.backends.c.call import KernelCall, readable
from steadygrad.scan.layout import Layout
from steadygrad.scan.weights import Weights

PACK, PACKED = 2, 1
"""What a forward kernel is told of its weights: put them into panels and leave them there, or that
they stand there. A call of its own, 0, may read them as they are stored."""


@final
class StepCall:
    """A layer's kernel called for sequences of length one, its state kept between calls.

    The kernel reads the state at its beginning and writes it at its end, so that one buffer is
    both. The weights are copied: the kernel wants the recurrent ones transposed.

    Args:
        cell: The recurrence.
        weights: Weights of the layer.
        batch: Rows of every call, ``B``.

    Attributes:
        state: What is held, one ``(B, H)`` tensor per name in `Cell.states`; write into it.
    """

    def __init__(self, cell: Cell, weights: Weights, batch: int) -> None:
        # A buffer made under inference mode could never again be written outside of it.
        with torch.inference_mode(False), torch.no_grad():
            self._prepare(cell, weights, batch)

    def _prepare(self, cell: Cell, weights: Weights, batch: int) -> None:
        matrix = weights.weight_ih.detach()
        gates = len(cell.gates)
        size = matrix.shape[0] // gates
        projection = weights.weight_hr
        loaded = kernel.loaded(cell, matrix.dtype, kernel.exact(), projection is not None)
        file = loaded.file
        width = size if projection is None else projection.shape[0]
        self._call = call = KernelCall(
            loaded.forward, Layout((batch,)), matrix.shape[1], size, gates, width
        )
        if projection is not None:
            call.tensor("hr", projection.detach().clone())
        self._weight = call.tensor("w", matrix.clone(memory_format=torch.contiguous_format))
        self._bias = call.tensor("bias", _bias(weights.bias_ih, matrix))
        self._picked = call.tensor("xp", matrix.new_empty(batch, gates * size))
        self._columns: Tensor | None = None
        self._reads_features = False
        self._hidden = call.tensor("hidden", matrix.new_empty(batch, width))
        widths = [width] + [size] * (len(cell.states) - 1)
        self.state = tuple(matrix.new_zeros(batch, width) for width in widths)
        for k, value in enumerate(self.state):
            call.tensor(f"s{k}", value)
            call.tensor(f"e{k}", value)
        recurrent, biases = weights.weight_hh.detach(), _bias(weights.bias_hh, weights.weight_hh)
        call.stacked("r", recurrent.clone(), file, cell, size)
        call.stacked("b", biases, file, cell, size)
        for k, unit in enumerate(weights.per_unit):
            call.tensor(f"u{k}", unit.detach().clone())
        call.beside(file, weights)
        call.own_scratch(matrix)
        self._function, self._address = loaded.forward.run, call.address
        self._words, self._x, self._packed = call.words, call.index["x"], call.index["packed"]
        self._words[self._packed] = PACK

    def run(self, x: Tensor) -> Tensor:
        """Advance by ``x``, ``(B, I)`` or codes ``(B,)``; return h, ``(B, H)``.

        In a buffer that the next call writes to again.

        Raises:
            IndexError, RuntimeError: There is no such code; the state is as it was.
        """
        if x.is_floating_point():
            x = readable(x)
            if not self._reads_features:  # W is packed with what it is multiplied with
                self._reads_features, self._words[self._packed] = True, PACK
            self._words[self._x] = x.data_ptr()
        else:
            self._pick(x)
            self._words[self._x] = 0
        self._function(self._address)
        self._words[self._packed] = PACKED  # the weights stay: packed by the first step
        return self._hidden

    def _pick(self, codes: Tensor) -> None:
        """For each code the column of W that its one-hot features would pick, the bias added."""
        if self._columns is None:
            self._columns = self._weight.t() + self._bias
        torch.index_select(self._columns, 0, codes.long(), out=self._picked)


def _bias(bias: Tensor | None, matrix: Tensor) -> Tensor:
    """A copy of the bias that goes with a weight matrix; zeros if there is none."""
    return matrix.new_zeros(matrix.shape[0]) if bias is None else bias.detach().clone()
