"""The input of a penalty: the model, the loss, and every call of a recurrent layer."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad.flow.capture import Call, Capture, recurrent_layers
from steadygrad.flow.output_gradients import output_gradients
from steadygrad.flow.replay import OutputGradient, rows_of
from steadygrad.flow.sources import is_reached
from steadygrad.flow.walk import Leg, walk
from steadygrad.remedies.recurrences import Recurrence, recurrences
from steadygrad.scan import Layout

MOST_CALLS = 256  # bounds the memory if no penalty is ever computed


@dataclass(frozen=True)
class Outputs:
    """The output of a recurrent layer in one call, with its graph.

    Attributes:
        layer: The module.
        rows: ``(N, D*P)``, time first.
        batch_sizes: Rows at each time step.
    """

    layer: nn.Module
    rows: Tensor
    batch_sizes: tuple[int, ...]

    @property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """Rows ``(M, D*P)`` with a predecessor in their sequence, and the predecessors."""
        rows = len(self.rows)
        later = self.rows[self.batch_sizes[0] :]
        if self.batch_sizes[-1] == self.batch_sizes[0]:
            return later, self.rows[: rows - self.batch_sizes[0]]
        offsets = Layout(self.batch_sizes).offsets
        counts = self.batch_sizes[1:]
        earlier = [self.rows[o : o + n] for o, n in zip(offsets, counts, strict=False)]
        return later, torch.cat(earlier)


@dataclass(frozen=True)
class Run:
    r"""One training step, between the forward pass and ``backward``.

    Attributes:
        model: The treated model.
        loss: The loss of this step, a scalar with its graph.
        calls: Calls of recurrent layers in training mode since the last step, oldest first, with
            their graphs; empty unless the remedy needs them (`Remedy.sees_calls`).
        step: Number of earlier penalties.
    """

    model: nn.Module
    loss: Tensor
    calls: tuple[Call, ...]
    step: int

    @property
    def recurrences(self) -> Iterator[Recurrence]:
        """Every recurrence in the model, called or not."""
        return recurrences(self.model)

    @property
    def outputs(self) -> tuple[Outputs, ...]:
        """The output of each call, time first, with its graph."""
        return tuple(map(_outputs, self.calls))

    @cached_property
    def output_gradients(self) -> tuple[OutputGradient, ...]:
        r"""For each call the gradients of the loss at its output and last states, or None.

        Contributions through later time steps are not included; see `legs`.
        """
        return tuple(output_gradients(self.loss, self.calls)[0])

    @cached_property
    def legs(self) -> tuple[tuple[str, Leg], ...]:
        r"""States and total gradients :math:`\partial L/\partial s_t`, per layer and direction.

        Computed by replaying each call outside autograd, with one more forward and backward pass.
        Calls on which the loss does not depend are left out. Each entry has the name of its call.
        """
        return tuple(
            (call.view.name(leg.key, call.name), leg)
            for call, grad in zip(self.calls, self.output_gradients, strict=True)
            if is_reached(grad)
            for leg in walk(call.view, rows_of(call, grad))
        )


def _outputs(call: Call) -> Outputs:
    arranged = call.arranged
    return Outputs(call.layer, arranged.rows(call.output), arranged.batch_sizes)


class TrainingCalls(Capture):
    """The calls of one training step, except those in evaluation mode."""

    is_linking = False  # each call is read separately

    @staticmethod
    def find(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        """Find the layers that have a view, through which penalties read them."""
        return recurrent_layers(model)

    def _hook(self, name: str) -> Any:
        caught = super()._hook(name)

        def in_training(layer: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
            if not layer.training:
                return
            if len(self.calls) >= MOST_CALLS:
                self.clear()
            caught(layer, args, kwargs, result)

        return in_training
