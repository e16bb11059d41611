"""Calls of recurrent layers in a running training: the latest ones, with their gradients."""

from typing import Any

from torch import Tensor, nn

from steadygrad.flow.capture import Capture
from steadygrad.flow.replay import OutputGradient

MOST_CALLS = 64  # kept at once: a bound on memory if forward passes come without backward ones


class LiveCapture(Capture):
    """A `Capture` for training loops that it does not control.

    It holds the calls since the last backward pass began, detached, and the gradients that
    arrived at their results. Nothing keeps an autograd graph alive.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self._gradients: list[dict[int, Tensor]] = []
        self._went_back = False

    @property
    def gradients(self) -> list[OutputGradient]:
        """Per call, the gradients at its output and final states; None where none arrived."""
        return [
            (found.get(0), tuple(found.get(i + 1) for i in range(len(call.last))))
            for call, found in zip(self.calls, self._gradients, strict=True)
        ]

    def clear(self) -> None:
        super().clear()
        self._gradients = []
        self._went_back = False

    def _hook(self, name: str) -> Any:
        caught = super()._hook(name)

        def live(layer: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
            # The first forward call after a backward pass begins a new micro-batch.
            if self._went_back or len(self.calls) >= MOST_CALLS:
                self.clear()
            count = len(self.calls)
            caught(layer, args, kwargs, result)
            if len(self.calls) == count:
                return
            call = self.calls[-1]
            found: dict[int, Tensor] = {}
            self._gradients.append(found)
            for index, value in enumerate((call.output, *call.last)):
                if value.requires_grad:
                    value.register_hook(self._keeper(found, index))
            self.calls[-1] = call.detached()

        return live

    def _keeper(self, found: dict[int, Tensor], index: int) -> Any:
        def keep(grad: Tensor) -> None:
            found[index] = grad
            self._went_back = True

        return keep
