"""Whether the backward passes of a training begin without gradients."""

from collections.abc import Iterable

import torch
from torch import Tensor

CLEAN = 3  # steps that began without gradients, after which it is not looked at any more


class KeptGradients:
    """Counts steps whose backward passes all begin with gradients of the step before.

    One small parameter is enough; after `CLEAN` steps in order its hook is taken off.

    Args:
        parameters: Of which one is looked at: the smallest.

    Attributes:
        row: Such steps in a row, up to now.
        cleared: Steps in a row at which what a backward pass gave was gone before the step.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.row = self.cleared = self._clean = 0
        self._is_fresh = self._went_back = self._gave = False
        able = [p for p in parameters if p.requires_grad and p.is_leaf]
        self._parameter = min(able, key=lambda p: p.numel(), default=None)
        self._handle = None
        if self._parameter is not None:
            self._handle = self._parameter.register_hook(self._see)

    @property
    def is_over(self) -> bool:
        """Whether it is known that steps begin without gradients; nothing is looked at then."""
        return self._handle is None

    def close(self) -> None:
        """Take the hook off."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def end_step(self) -> None:
        """Take what the backward passes of this step began with."""
        if self._handle is None or not self._went_back:
            return
        assert self._parameter is not None
        is_gone = self._gave and not is_there(self._parameter.grad)
        self.cleared = self.cleared + 1 if is_gone else 0
        self.row = 0 if self._is_fresh else self.row + 1
        self._clean = self._clean + 1 if self._is_fresh else 0
        self._is_fresh = self._went_back = self._gave = False
        if self._clean >= CLEAN:
            self.close()

    def _see(self, given: Tensor) -> None:
        # Before it is added: .grad is still what was there when this backward pass began.
        assert self._parameter is not None
        grad = self._parameter.grad
        self._went_back = True
        self._gave = self._gave or is_there(given)
        if not self._is_fresh:
            self._is_fresh = not is_there(grad)


def is_there(gradient: Tensor | None) -> bool:
    """Whether a gradient is there, and not zero everywhere."""
    return gradient is not None and bool(torch.any(gradient != 0))
