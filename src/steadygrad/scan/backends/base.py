"""The interface of a back end, which runs a scan forward and backward."""

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
    """A back end was requested by name and cannot run a call."""


class BackendWarning(UserWarning):
    """``auto`` fell back to `eager` for a reason that the user may be able to fix."""


@dataclass(frozen=True)
class Saved:
    """Values of the forward pass for the backward pass.

    Attributes:
        tensors: Tensors by name, held by autograd between the two passes.
        note: Anything else, such as the function that ran.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    note: Any = None


@dataclass(frozen=True)
class ForwardPass:
    """Result of a forward pass.

    Attributes:
        hidden: ``(N, P)``, h after every step, in memory order.
        final: The last state of each row, ``(B, ·)``.
        saved: Values for the backward pass; empty if none follows.
    """

    hidden: Tensor
    final: State
    saved: Saved


@dataclass(frozen=True)
class OutputGradients:
    """Gradients that arrive from outside the recurrence.

    Attributes:
        hidden: ``(N, P)``, gradient at h of every step.
        final: Gradient at each final state, ``(B, ·)``, or None.
    """

    hidden: Tensor
    final: tuple[Tensor | None, ...]


@dataclass(frozen=True)
class Gradients:
    """Result of a backward pass. Gradients that were not requested may be missing.

    Attributes:
        by_name: Of ``x`` and of the weights, by the names of `Weights`.
        per_unit: Of the per-unit parameters, in the order of ``cell.per_unit``.
        state: Of the state before the first step.
        start: Of the state that resets set, summed over all of them.
    """

    by_name: dict[str, Tensor]
    per_unit: tuple[Tensor, ...]
    state: tuple[Tensor, ...]
    start: tuple[Tensor, ...] = ()

    def in_order(self, names: Sequence[str], needed: Sequence[bool]) -> tuple[Tensor | None, ...]:
        """One gradient for each tensor that needs one, in the order of the tensors."""
        several = {
            "state": iter(self.state),
            "start": iter(self.start),
            "unit": iter(self.per_unit),
        }
        placed: list[Tensor | None] = []
        for name, need in zip(names, needed, strict=True):
            own = several.get(name)
            value = self.by_name.get(name) if own is None else next(own, None)
            placed.append(value if need else None)
        return tuple(placed)


class Stepper(Protocol):
    """Advances one layer by single time steps, keeping its state between calls.

    Attributes:
        state: One ``(B, ·)`` tensor per name in `Cell.states`; set it in place.
    """

    state: State

    def run(self, x: Tensor) -> Tensor:
        """Advance by ``(B, I)`` or codes ``(B,)``; return h, valid until the next call."""
        ...


class Prepared(Protocol):
    """One layer in one direction, for one set of shapes; several threads may run it at once.

    Attributes:
        saved_names: Names of what `forward` saves, ``hidden`` among them, as in `Saved`.
        note: As `Saved.note`.
    """

    saved_names: tuple[str, ...]
    note: object

    def forward(
        self, tensors: Sequence[Tensor], shape: tuple[int, ...], ends: Sequence[tuple[int, ...]]
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Run a call and keep what a backward pass needs.

        Args:
            tensors: As of `ScanCall.split`, contiguous; of the input and the states only the
                number of values matters, not the shape.
            shape: Of h after every step; as many values as ``(N, P)``.
            ends: Of each last state; as many values as ``(B, ·)``.

        Returns:
            h and the last states; and what is saved.
        """
        ...

    def backward(
        self, kept: Sequence[Tensor], grads: Sequence[Tensor | None], needed: Sequence[bool]
    ) -> tuple[Tensor | None, ...] | None:
        """Gradients of the tensors of `forward`; None if `Backend.backward` has to be asked.

        Args:
            kept: The tensors, and behind them what was saved.
            grads: What arrives at h and at the last states.
            needed: Which of the tensors need a gradient.
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
    """A back end.

    Importing a subclass in `steadygrad.scan.backends` registers it. The tests of
    ``tests/scan/backend_suite.py`` compare every back end with `eager`.
    """

    name: ClassVar[str]
    rank: ClassVar[int] = 0
    """``auto`` takes the back end of the highest rank that can run a call."""

    def suits(self, call: ScanCall) -> bool:
        """Whether ``auto`` should consider this back end, by a cheap check.

        If it should, but the back end refuses the call, ``auto`` warns with the reason.
        """
        return True

    @abstractmethod
    def refuses(self, call: ScanCall) -> str | None:
        """Why it cannot run a call, as the end of a sentence; None if it can."""

    @abstractmethod
    def forward(self, call: ScanCall, keep: bool) -> ForwardPass:
        """Run a call that is not refused.

        Args:
            call: The call. Autograd is off.
            keep: Whether a backward pass may follow.
        """

    @abstractmethod
    def backward(
        self, call: ScanCall, saved: Saved, grads: OutputGradients, wanted: Set[str]
    ) -> Gradients:
        """Run the backward pass, and report to ``call.on_tap``.

        Args:
            call: As in `forward`.
            saved: What `forward` saved.
            grads: What arrives from outside.
            wanted: Whose gradients are asked for: names of `Weights.flat`, ``x``, ``start`` and
                ``state``.
        """

    def saved_shapes(self, call: ScanCall) -> Mapping[str, tuple[int, ...]] | None:
        """Shapes of the tensors that `forward` saves, in order; None if they depend on its run.

        Sizes may be symbols and the layout unknown. If it is None, the torch operators save
        nothing, and repeat the forward pass before the backward pass.
        """
        return None

    def differentiable(self, call: ScanCall) -> tuple[Tensor, State]:
        """The same values as `forward` on autograd's tape, for derivatives of the gradient.

        It may be slow, but must be differentiable any number of times.
        """
        return tape.replay(call)

    def prepared(self, call: ScanCall) -> Prepared | None:
        """`forward` for tensors of the shapes of ``call``, as often as one likes.

        None if there is nothing to be gained.
        """
        return None

    def stepper(self, cell: Cell, weights: Weights, batch: int) -> Stepper | None:
        """A faster way than `forward` to run single steps of ``batch`` rows, if there is one."""
        return None
