"""The gradient layer by layer in a running training of a network without recurrence."""

import time
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad.flow.hooks import Hook
from steadygrad.flow.through_depth import DepthCurve, deep_layers, of_norms


class LiveDepth:
    """Sums up the gradient at the output of each layer, in the steps in which it is asked for.

    Nothing waits for the device before `curve` is asked for.

    Args:
        model: Any; its linear and convolutional layers are looked at.

    Attributes:
        is_on: Whether the next calls are looked at.
        calls: Calls of each layer in one forward pass, the most since `clear`.
        seconds: Time that was spent on this; the reader resets it to zero.

    Raises:
        ValueError: It has no such layer.
    """

    def __init__(self, model: nn.Module) -> None:
        self.is_on, self.seconds = False, 0.0
        self.calls: Counter[str] = Counter()
        self._since_backward: Counter[str] = Counter()
        self._squares: dict[str, Tensor | None] = {}
        layers = list(deep_layers(model))
        if not layers:
            raise ValueError(
                f"{type(model).__name__} holds nothing to watch: no recurrent layer, and no linear "
                "or convolutional one"
            )
        self._handles = [m.register_forward_hook(Hook(self._hook(name))) for name, m in layers]

    @property
    def has_seen(self) -> bool:
        """Whether a gradient has come back since `clear`."""
        return any(s is not None for s in self._squares.values())

    def curve(self) -> DepthCurve | None:
        """What reached each layer; None if that is one layer alone, or not finite."""
        sums = {name: s for name, s in self._squares.items() if s is not None}
        return of_norms({name: float(0.5 * s.log10()) for name, s in sums.items()})

    def clear(self) -> None:
        """Forget the step."""
        self._squares.clear()
        self.calls.clear()
        self._since_backward.clear()

    def close(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        self.clear()

    def _hook(self, name: str) -> Any:
        def see(module: nn.Module, args: Any, output: Any) -> None:
            is_asked = self.is_on and torch.is_grad_enabled()
            if is_asked and isinstance(output, Tensor) and output.requires_grad:
                self._since_backward[name] += 1
                self._squares.setdefault(name, None)  # in the order of the forward pass
                output.register_hook(keep)

        def keep(grad: Tensor) -> None:
            began = time.perf_counter()
            if self._since_backward:  # micro-batches of one step are forward passes of their own
                self.calls |= self._since_backward
                self._since_backward.clear()
            size = torch.linalg.vector_norm(grad.detach(), dtype=torch.float64).square()
            before = self._squares.get(name)
            self._squares[name] = size if before is None else before + size
            self.seconds += time.perf_counter() - began

        return see
