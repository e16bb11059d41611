"""A look at the gradient inside layers whose loop is written in Python."""

from collections.abc import Callable

from torch import Tensor

StepGradient = Callable[[str, int, Tensor], None]
"""Receives the name of a state, the step at which it was made, and the gradient of the loss with
respect to it, all paths together. A layer that offers it has an attribute `on_step_gradient`."""


def offer(on: StepGradient | None, state: str, step: int, value: Tensor) -> None:
    """Let ``on`` see the gradient at ``value`` in the next backward pass."""
    if on is None or not value.requires_grad:
        return
    value.register_hook(lambda grad: on(state, step, grad.detach()))
