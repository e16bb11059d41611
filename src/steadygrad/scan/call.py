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
        resets: ``(N,)`` bool, in the order of `layout`, or None: before such a step the state of
            its row is set to `start`. No gradient passes to the steps before.
        start: The state that a reset sets, one ``(·,)`` tensor per name in ``cell.states``; None
            for zeros.
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
    start: State | None = None
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

    def reset_state(self) -> State:
        """What a reset sets, one ``(·,)`` tensor a state."""
        return self.start or tuple(s.new_zeros(s.shape[1:]) for s in self.state)

    def split(self) -> "tuple[Frame, tuple[Tensor, ...]]":
        """The tensors, and all the rest, which puts them together again."""
        pairs = [("x", self.x), *self.weights.flat()]
        if self.resets is not None:
            pairs += [("resets", self.resets), *(("start", s) for s in self.start or ())]
        pairs += [("state", s) for s in self.state]
        names, tensors = zip(*pairs, strict=True)
        kept = (self.cell, self.layout, self.clip, self.on_tap, self.backend)
        return Frame(*kept, names), tensors


@dataclass(frozen=True, eq=False)
class Frame:
    """A `ScanCall` without its tensors.

    Autograd has to be given the tensors one by one, and hands them back one by one: only what goes
    through its hands is seen by hooks on saved tensors (checkpointing, offloading) and by the check
    against changes in place.

    Attributes:
        names: What each tensor is: ``x`` first, then the weights, ``resets`` and ``start`` where
            there are any, and ``state`` for each initial state last.
    """

    cell: Cell
    layout: Layout
    clip: LoopClip | None
    on_tap: OnTap | None
    backend: str | None
    names: tuple[str, ...]

    def call(self, tensors: Sequence[Tensor]) -> ScanCall:
        """Undo `ScanCall.split`."""
        last = len(self.names) - len(self.cell.states)
        resets, start, end = None, None, last
        if "resets" in self.names:
            end = self.names.index("resets")
            resets, start = tensors[end], tuple(tensors[end + 1 : last]) or None
        weights = Weights.from_flat(self.names[1:end], tensors[1:end])
        return ScanCall(
            self.cell,
            tensors[0],
            weights,
            tuple(tensors[last:]),
            self.layout,
            resets,
            start,
            self.clip,
            self.on_tap,
            self.backend,
        )
