"""What is done to the gradient between backward pass and optimiser step, and what is seen."""

import math
from collections.abc import Mapping
from typing import Any, Protocol, final

from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from steadygrad.remedies import Remedy


class Watching(Protocol):
    """The part of a watch that the loop leans on."""

    latest: dict[str, Any]

    def clip_(self, max_norm: float) -> Tensor:
        """Clip, and return the norm before."""
        ...


@final
class Gradient:
    """The remedies on gradients, then the bound on the norm; measured by a watch if there is one.

    Args:
        model: Whose gradients.
        clip: Bound on the norm; 0 clips nothing.
        remedies: Each may change gradients; those that do not, do nothing here.
        watch: Measures the gradient through time and writes it into the record itself.
    """

    def __init__(
        self,
        model: nn.Module,
        clip: float,
        remedies: tuple[Remedy, ...] = (),
        watch: Watching | None = None,
    ) -> None:
        self.parameters = list(model.parameters())
        self.bound = clip or math.inf
        self.remedies = remedies
        self.watch = watch
        self._seen: dict[str, float] = {}

    def clip(self) -> float:
        """Change the gradients in place, and return their norm before."""
        before = _norm(self.parameters) if self.remedies else None
        for remedy in self.remedies:
            remedy.on_gradients([p for p in self.parameters if p.grad is not None])
        norm = self._bound()
        first = norm if before is None else before
        after = min(norm, self.bound)
        self._seen = {
            "grad_norm": first,
            "grad_norm_clipped": after,
            "clipped_share": float(after < first * (1 - 1e-6)),
        }
        return first

    def scalars(self) -> dict[str, float]:
        """Return what the record should hold of this step, unless the watch writes it."""
        return {} if self.watch is not None else dict(self._seen)

    def latest(self) -> Mapping[str, Any]:
        """Return all that is known of the gradient at present."""
        return self._seen | (self.watch.latest if self.watch is not None else {})

    def _bound(self) -> float:
        """Clip to the bound, and return the norm before."""
        if math.isinf(self.bound):
            return _norm(self.parameters)
        if self.watch is not None:
            return float(self.watch.clip_(self.bound))
        return float(clip_grad_norm_(self.parameters, self.bound))


def _norm(parameters: list[nn.Parameter]) -> float:
    """Return the norm over all gradients together."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    return math.hypot(*(float(g.norm()) for g in gradients))
