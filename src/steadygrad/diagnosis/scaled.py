"""Gradient scalers (mixed precision): by what the gradients of a step were multiplied."""

import sys
from functools import lru_cache
from types import CodeType
from typing import Any

import torch

SCALER = "grad_scaler.py"
DEPTH = 12  # frames between an optimiser's hook and the scaler that steps it, at most


class Scaling:
    """The gradient scaler of a training, given or found at its first step.

    Args:
        optimizer: The optimiser that it steps.
        scaler: The scaler, if it is known.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler | None
    ) -> None:
        self._optimizer, self.scaler = optimizer, scaler

    @property
    def scale(self) -> float:
        """What the gradients were multiplied by in the backward pass."""
        return 1.0 if self.scaler is None else float(self.scaler.get_scale())

    def look(self) -> bool:
        """Look who steps the optimiser, from within its hook; whether a new scaler was found."""
        if self.scaler is not None:
            return False
        self.scaler = _stepping()
        return self.scaler is not None

    @property
    def skips(self) -> bool:
        """Whether the optimiser itself will skip this step; a fused one is told to by a flag."""
        found: Any = getattr(self._optimizer, "found_inf", None)
        return found is not None and bool(found > 0)

    @property
    def left(self) -> float:
        """What the parameters' gradients are still multiplied by; a fused optimiser divides."""
        scale: Any = getattr(self._optimizer, "grad_scale", None)
        return 1.0 if scale is None else float(scale)


@lru_cache(maxsize=512)
def _is_scaler(code: CodeType) -> bool:
    return code.co_filename.endswith(SCALER)


def _stepping() -> torch.amp.GradScaler | None:
    frame = sys._getframe(1)
    for _ in range(DEPTH):
        if _is_scaler(frame.f_code):
            scaler = frame.f_locals.get("self")
            if isinstance(scaler, torch.amp.GradScaler):
                return scaler
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return None
