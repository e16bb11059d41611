"""A look inside layers whose loop over time is written in Python: the protocol they share."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from steadygrad.nn.arrangement import Arrangement

OnState = Callable[[str, int, Tensor], None]
"""Receives the name of a state, the step at which it was made, and the state with its graph."""
StepGradient = Callable[[str, int, Tensor], None]
"""Receives the name of a state, the step at which it was made, and the gradient of the loss with
respect to it, all paths together."""


class Looped(nn.Module):
    """A layer with a loop of its own, whose states can be seen as they are made.

    It is called as ``layer(input, state=None) -> (output, last state)``, or returns the output
    alone, and calls `offer` for every state of every step. That is all that a measurement needs: a
    copy of the layer is called once more with an observer in, and walked back from what the loss
    sent to its results. While there is an observer, a layer that would compute all steps at once
    takes them one after another.

    Attributes:
        on_state: Sees every state as it is made, or None.
    """

    states: ClassVar[tuple[str, ...]] = ("h",)
    """Names of the states, the one that is followed through time first. A layer of a stack adds its
    number: ``h_l1``."""
    mixes_rows: ClassVar[bool] = False
    """Whether a row's result depends on the others of its batch, so that all must be replayed."""
    is_streaming: ClassVar[bool] = False
    """Whether calls that hand their state on compute what one call over all their steps does, so
    that they can be measured as one."""
    is_ragged: ClassVar[bool] = False
    """Whether it takes ``lengths``, ``resets``, a packed input, and one without a batch."""
    batch_axis: ClassVar[int] = 1
    """The batch among the axes of a state as it is handed in and out."""
    batch_axis_of_step: ClassVar[int] = 0
    """The batch among the axes of a state as it is offered."""
    on_state: OnState | None = None

    def offer(self, state: str, step: int, value: Tensor) -> None:
        """Show a state to the observer, ``(B, ...)``."""
        if self.on_state is not None and value.requires_grad:
            self.on_state(state, step, value)

    @property
    def on_step_gradient(self) -> StepGradient | None:
        """Sees the gradient at every state in the next backward passes, or None."""
        return getattr(self.on_state, "on", None)

    @on_step_gradient.setter
    def on_step_gradient(self, on: StepGradient | None) -> None:
        self.on_state = None if on is None else _Hooked(on)

    @property
    def batch_axis_of_output(self) -> int:
        """The batch among the axes of an output."""
        return 0 if getattr(self, "batch_first", False) else 1

    @property
    def owner(self) -> nn.Module:
        """The module that has the weights."""
        return self

    def arranged(self, input: Tensor) -> Arrangement:
        """How a call lays out its rows."""
        return Arrangement.of(input, bool(getattr(self, "batch_first", False)))

    def entered(self, input: Tensor, grad: Tensor) -> Tensor:
        """``(T, B)``: at which steps a gradient at the output enters the recurrence."""
        arranged = self.arranged(input)
        found = (arranged.rows(grad).flatten(1) != 0).any(1)
        return found.view(len(arranged.batch_sizes), arranged.batch)

    def only(self, input: Tensor, grad: Tensor, step: int) -> Tensor:
        """The part of a gradient at the output that enters at one step."""
        return self.arranged(input).only(grad, step)

    def norms_at_input(self, grad: Tensor) -> Tensor | None:
        """``(T, B)``: log10 norm of a gradient at the input of each step.

        None where a step does not read one step of the input, or there is nothing to read.
        """
        arranged = self.arranged(grad)
        rows = arranged.rows(grad).flatten(1)
        if rows.shape[1] == 0:
            return None
        norms = torch.linalg.vector_norm(rows, dim=1).double().log10()
        return norms.view(len(arranged.batch_sizes), arranged.batch).cpu()

    def first_rows(self, value: Tensor, count: int) -> Tensor:
        """The first rows of the batch of an input, or of an output."""
        return self.arranged(value).first_rows(value, count)

    def restate(self, parts: Sequence[Tensor]) -> Any:
        """The initial state as the layer takes it, of its tensors; None for none."""
        if not parts:
            return None
        return parts[0] if len(parts) == 1 else tuple(parts)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"on_state": None}  # an observer belongs to its session


class _Hooked:
    """Registers a hook on every state."""

    def __init__(self, on: StepGradient) -> None:
        self.on = on

    def __call__(self, state: str, step: int, value: Tensor) -> None:
        value.register_hook(lambda grad: self.on(state, step, grad.detach()))
