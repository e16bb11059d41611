"""What is done to the gradient between backward pass and optimiser step, and what is seen."""

import math
from collections.abc import Mapping
from typing import Any, final

from torch import nn

from steadygrad.diagnosis import Watch
from steadygrad.remedies import Remedy


@final
class Gradient:
    """The remedies on gradients, then the bound on the norm.

    Args:
        model: Whose gradients.
        clip: Bound on the norm; 0 clips nothing.
        remedies: Each may change gradients; those that do not, do nothing here.
        watch: Clips, measures the gradient through time, and writes that into the record itself.
    """

    def __init__(
        self, model: nn.Module, clip: float, remedies: tuple[Remedy, ...], watch: Watch
    ) -> None:
        self.parameters = list(model.parameters())
        self.bound = clip or math.inf
        self.remedies = remedies
        self.watch = watch
        self._norms: dict[str, float] = {}

    def clip(self) -> float:
        """Change the gradients in place, and return their norm before."""
        before = self._norm() if self.remedies else None
        for remedy in self.remedies:
            remedy.on_gradients([p for p in self.parameters if p.grad is not None])
        norm = float(self.watch.clip_(self.bound))
        first = norm if before is None else before
        self._norms = {"grad_norm": first, "grad_norm_clipped": min(norm, self.bound)}
        return first

    def norms(self) -> Mapping[str, float]:
        """Return the norm of this step before and after."""
        return self._norms

    def latest(self) -> Mapping[str, Any]:
        """Return all that is known of the gradient at present."""
        return self.watch.latest | self._norms

    def _norm(self) -> float:
        """Return the norm over all gradients together."""
        return math.hypot(*(float(p.grad.norm()) for p in self.parameters if p.grad is not None))
