"""One call of a scan: cell, inputs, weights, state, layout, clip and tap."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steadygrad.cells import Cell, State
from steadygrad.scan.clips import LoopClip
from steadygrad.scan.layout import Layout
from steadygrad.scan.projection import is_codes, project
from steadygrad.scan.taps import OnTap
from steadygrad.scan.weights import Weights


@dataclass(frozen=True, eq=False)
class ScanCall:
    """One run of a cell over time, with everything that a back end needs.

    Attributes:
        cell: The recurrence.
        x: Inputs of all time steps, ``(N, I)``, rows in the order of `layout`; or whole numbers
            ``(N,)``, codes of symbols, for one-hot features.
        weights: Weights of this direction.
        state: State before the first step, one ``(B, ·)`` tensor per name in ``cell.states``.
        layout: Which rows take part at which time step, and the direction.
        resets: ``(T, B)`` bool: before step t the state of row b is set to its start. No back end
            does this yet, and each refuses it.
        clip: A bound on the gradient inside the backward loop.
        on_tap: Called in every backward pass with the norms of the gradient at each time step.
        backend: Name of a back end, or ``"auto"``; None for that in the variable
            ``STEADYGRAD_BACKEND``, by default ``"auto"``.
    """

    cell: Cell
    x: Tensor
    weights: Weights
    state: State
    layout: Layout
    resets: Tensor | None = None
    clip: LoopClip | None = None
    on_tap: OnTap | None = None
    backend: str | None = None

    @property
    def size(self) -> int:
        """Units, ``H``."""
        return self.weights.weight_ih.shape[0] // len(self.cell.gates)

    @property
    def width(self) -> int:
        """Features of h, ``P``; ``H`` without projection."""
        return self.state[0].shape[1]

    @property
    def is_coded(self) -> bool:
        """Whether the input is codes of symbols."""
        return is_codes(self.x)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the computation: that of the input, or of the weights for codes."""
        return (self.weights.weight_ih if self.is_coded else self.x).dtype

    @property
    def device(self) -> torch.device:
        """The device of the input."""
        return (self.weights.weight_ih if self.is_coded else self.x).device

    def projected(self) -> Tensor:
        """``W x + b_ih`` of all rows, ``(N, G*H)``."""
        return project(self.x, self.weights.weight_ih, self.weights.bias_ih)

    def per_step(self) -> dict[str, Tensor]:
        """Other values that the steps read; see `Weights.per_step`."""
        return self.weights.per_step(self.cell, self.layout)

    def split(self) -> "tuple[Frame, tuple[Tensor, ...]]":
        """The tensors, and a frame that rebuilds the call from them."""
        pairs = [("x", self.x), *self.weights.flat(), *(("state", s) for s in self.state)]
        names, tensors = zip(*pairs, strict=True)
        kept = (self.cell, self.layout, self.resets, self.clip, self.on_tap, self.backend)
        return Frame(*kept, names), tensors


@dataclass(frozen=True, eq=False)
class Frame:
    """A `ScanCall` without its tensors.

    Autograd must receive and return the tensors individually: only then do hooks on saved tensors
    (checkpointing, offloading) and the check for in-place changes see them. `resets` is not
    differentiated.

    Attributes:
        names: Name of each tensor: ``x`` first, ``state`` for each initial state last.
    """

    cell: Cell
    layout: Layout
    resets: Tensor | None
    clip: LoopClip | None
    on_tap: OnTap | None
    backend: str | None
    names: tuple[str, ...]

    def call(self, tensors: Sequence[Tensor]) -> ScanCall:
        """Undo `ScanCall.split`."""
        last = len(self.names) - len(self.cell.states)
        weights = Weights.from_flat(self.names[1:last], tensors[1:last])
        return ScanCall(
            self.cell,
            tensors[0],
            weights,
            tuple(tensors[last:]),
            self.layout,
            self.resets,
            self.clip,
            self.on_tap,
            self.backend,
        )
