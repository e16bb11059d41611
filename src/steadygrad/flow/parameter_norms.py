"""Norms of parameter gradients before and after clipping, and the size of updates."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from steadygrad.flow.after_backward import after_backward


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    r"""Global norm :math:`\sqrt{\sum_p |g_p|^2}` of the gradients there are, as a scalar tensor."""
    grads = [p.grad for p in parameters if p.grad is not None]
    return get_total_norm(grads) if grads else torch.zeros(())


def update_ratio(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    r"""Size of a step relative to the weights, :math:`|\Delta\theta| / |\theta|`.

    About 1e-3 is usual; below 1e-5 hardly anything is learned, above 1e-1 little is kept.
    """
    with torch.no_grad():
        step = get_total_norm([a - b for a, b in zip(after, before, strict=True)])
        size = get_total_norm(list(before))
    return float(step / size) if float(size) > 0 else float("nan")


def update_ratios(
    names: Sequence[str], before: Sequence[Tensor], after: Sequence[Tensor]
) -> dict[str, float]:
    """`update_ratio` of every parameter by itself: one group may stand still beside the others."""
    triples = zip(names, before, after, strict=True)
    return {name: update_ratio([old], [new]) for name, old, new in triples}


class NormBeforeClip:
    """The global gradient norm as the backward pass left it, before anybody clips.

    Hooks on the parameters note each norm when its gradient is complete. Switched on for the
    steps that are sampled; off, it costs one attribute look-up per parameter.

    Args:
        parameters: The parameters of the optimiser.
        is_spread: Whether gradients are reduced over processes at the end of the pass; they are
            complete only then.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], is_spread: bool = False) -> None:
        self.is_on = False
        self._is_spread = is_spread
        self._is_asked = False
        self._norms: dict[int, Tensor] = {}
        self._parameters = [p for p in parameters if p.requires_grad]
        self._handles = [
            p.register_post_accumulate_grad_hook(self._complete) for p in self._parameters
        ]

    def _complete(self, parameter: Tensor) -> None:
        if not self.is_on:
            return
        if not self._is_spread:
            self._note(parameter)
        elif not self._is_asked:
            self._is_asked = True
            after_backward(self._note_all)

    def _note(self, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self._norms[id(parameter)] = torch.linalg.vector_norm(parameter.grad)

    def _note_all(self) -> None:
        self._is_asked = False
        for parameter in self._parameters:
            self._note(parameter)

    def take(self) -> Tensor | None:
        """The norm noted since the last call, then forget it; None if nothing was."""
        self._is_asked = False  # also after a backward pass that failed
        if not self._norms:
            return None
        total = torch.linalg.vector_norm(torch.stack([n.float() for n in self._norms.values()]))
        self._norms = {}
        return total

    def close(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
