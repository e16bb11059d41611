"""What a back end is: something that runs a scan forward and backward, or says why it does not."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from torch import Tensor

from steadygrad.cells import Cell, State
from steadygrad.scan.backends import tape
from steadygrad.scan.call import ScanCall
from steadygrad.scan.weights import Weights


class BackendError(RuntimeError):
    """A back end was asked for by name and cannot do what is wanted."""


class BackendWarning(UserWarning):
    """``auto`` fell back to `eager` for a reason that the user may want to mend."""


@dataclass(frozen=True)
class Saved:
    """What a backward pass needs of the forward pass.

    Attributes:
        tensors: By name; between the two passes autograd holds them.
        note: Anything that is no tensor, such as the function that ran.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    note: Any = None


@dataclass(frozen=True)
class ForwardPass:
    """Result of a forward pass.

    Attributes:
        hidden: ``(N, P)``, h after every step, in memory order.
        final: The last state of each row, ``(B, ·)``.
        saved: For the backward pass; empty if nothing was to be kept.
    """

    hidden: Tensor
    final: State
    saved: Saved


@dataclass(frozen=True)
class OutputGradients:
    """Gradients that arrive from outside the recurrence.

    Attributes:
        hidden: ``(N, P)``, at h of every step.
        final: At the final state, each ``(B, ·)``; None where none arrives.
    """

    hidden: Tensor
    final: tuple[Tensor | None, ...]


@dataclass(frozen=True)
class Gradients:
    """Result of a backward pass. What was not wanted may be missing.

    Attributes:
        by_name: Of ``x`` and of the weights, by the names of `Weights`.
        per_unit: Of the per-unit parameters, in the order of ``cell.per_unit``.
        state: Of the state before the first step.
    """

    by_name: dict[str, Tensor]
    per_unit: tuple[Tensor, ...]
    state: tuple[Tensor, ...]

    def in_order(self, names: Sequence[str], needed: Sequence[bool]) -> tuple[Tensor | None, ...]:
        """One gradient for each tensor that needs one, in the order of the tensors."""
        several = {"state": iter(self.state), "unit": iter(self.per_unit)}
        placed: list[Tensor | None] = []
        for name, need in zip(names, needed, strict=True):
            own = several.get(name)
            value = self.by_name.get(name) if own is None else next(own, None)
            placed.append(value if need else None)
        return tuple(placed)


class Stepper(Protocol):
    """One layer advanced one time step at a time, its state held between calls.

    Attributes:
        state: What is held, one ``(B, ·)`` tensor per name in `Cell.states`; write into it.
    """

    state: State

    def run(self, x: Tensor) -> Tensor:
        """Advance by ``(B, I)`` or codes ``(B,)``; return h, valid until the next call."""
        ...


class Prepared(Protocol):
    """A forward pass of one layer in one direction, for one set of shapes."""

    def forward(self, tensors: Sequence[Tensor]) -> ForwardPass:
        """Run a call and keep what a backward pass needs; several threads may at the same time.

        Args:
            tensors: As of `ScanCall.split`, contiguous.
        """
        ...

    def run(
        self,
        x: Tensor,
        shape: tuple[int, ...],
        weights: Sequence[int],
        starts: Sequence[int],
        ends: Sequence[int],
    ) -> Tensor:
        """Run a call and keep nothing. All memory is contiguous.

        Args:
            x: Inputs, ``(N, I)`` or any other shape of as many values.
            shape: Of the result; as many values as ``(N, P)``.
            weights: Addresses, in the order of `Weights.flat`.
            starts: Addresses of the states before the first step.
            ends: Where the last states are to be written.

        Returns:
            h after every step.
        """
        ...


class Backend(ABC):
    """A way to run a scan.

    A subclass that `steadygrad.scan.backends` imports is registered by that. Every one is held to
    `eager` by the tests of ``tests/scan/backend_suite.py``.
    """

    name: ClassVar[str]
    rank: ClassVar[int] = 0
    """Of those that are able, ``auto`` takes the one of the highest rank."""

    def suits(self, call: ScanCall) -> bool:
        """Whether ``auto`` should think of this back end: what it is made for, cheaply told.

        If so, and it refuses nevertheless, ``auto`` warns of the reason.
        """
        return True

    @abstractmethod
    def refuses(self, call: ScanCall) -> str | None:
        """Why it cannot do a call, as the end of a sentence; None if it can."""

    @abstractmethod
    def forward(self, call: ScanCall, keep: bool) -> ForwardPass:
        """Run a call that is not refused.

        Args:
            call: What to run. Autograd records nothing.
            keep: Whether a backward pass may follow.
        """

    @abstractmethod
    def backward(
        self, call: ScanCall, saved: Saved, grads: OutputGradients, wanted: Set[str]
    ) -> Gradients:
        """Carry the gradient back, and report to ``call.on_tap``.

        Args:
            call: As in `forward`.
            saved: What `forward` saved.
            grads: What arrives from outside.
            wanted: Whose gradients are asked for: names of `Weights.flat`, ``x`` and ``state``.
        """

    def saved_shapes(self, call: ScanCall) -> Mapping[str, tuple[int, ...]] | None:
        """Shapes of what `forward` saves, in order; None if that is told by the forward pass alone.

        Sizes may be symbols and the layout unknown. Where it is None, the torch operators keep
        nothing, and run the forward pass once more before the backward pass.
        """
        return None

    def differentiable(self, call: ScanCall) -> tuple[Tensor, State]:
        """The same values as `forward` on autograd's tape, for derivatives of the gradient.

        Slow is fine here; what counts is that it can be differentiated as often as one likes.
        """
        return tape.replay(call)

    def prepared(self, call: ScanCall) -> Prepared | None:
        """`forward` for tensors of the shapes of ``call``, as often as one likes.

        None if there is nothing to be gained.
        """
        return None

    def stepper(self, cell: Cell, weights: Weights, batch: int) -> Stepper | None:
        """A faster way than `forward` to take single steps of ``batch`` rows, if there is one."""
        return None


RESETS = "it cannot reset the state within a sequence"
"""What a back end says that does not know `ScanCall.resets`."""
