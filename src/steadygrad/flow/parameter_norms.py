"""Norms of parameter gradients before and after clipping, and the size of updates."""

import time
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.utils.hooks import RemovableHandle

from steadygrad.flow.after_backward import after_backward
from steadygrad.flow.quantity import Quantity, declare

QUANTITIES: tuple[Quantity, ...] = (
    declare(
        Quantity(
            "grad_norm",
            "gradient",
            "Norm of the whole gradient, before and after it was bounded (clipped).",
            title="Gradient norm",
            is_log=True,
            label="before clipping",
        )
    ),
    declare(
        Quantity(
            "grad_norm_clipped",
            "gradient",
            "Norm of the whole gradient as the optimiser gets it.",
            is_log=True,
            beside="grad_norm",
            label="after clipping",
        )
    ),
    declare(
        Quantity(
            "clipped_share",
            "1",
            "Share of updates that hit the bound.",
            title="Clipped share",
            is_share=True,
        )
    ),
    declare(
        Quantity(
            "update_ratio",
            "1",
            "Size of a step of the optimiser relative to the weights.",
            title="Update ratio",
            is_log=True,
        )
    ),
)


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    r"""Global norm :math:`\sqrt{\sum_p |g_p|^2}` of the gradients there are, as a scalar tensor."""
    grads = [p.grad for p in parameters if p.grad is not None]
    return _norm(grads) if grads else torch.zeros(())


class GradientNorm:
    """`gradient_norm` of the same parameters at every step of a training.

    What has to be known of them, whether all are plain tensors of one kind, is found out once.

    Args:
        parameters: Of the optimiser.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        kinds = {(type(p.data), p.dtype, p.device) for p in self._parameters}
        self._is_plain = len(kinds) == 1 and next(iter(kinds))[0] is Tensor

    def __call__(self) -> Tensor:
        """The norm now."""
        grads = [g for p in self._parameters if (g := p.grad) is not None]
        if not grads:
            return torch.zeros(())
        if not self._is_plain or any(g.requires_grad or g.is_sparse for g in grads):
            return _norm(grads)
        norms = torch._foreach_norm(grads)  # pyright: ignore[reportPrivateImportUsage]
        return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))


@torch.no_grad()
def _norm(grads: list[Tensor]) -> Tensor:
    """What `get_total_norm` computes, without its sorting where there is nothing to sort."""
    first = grads[0]
    kind = type(first), first.dtype, first.device
    if kind[0] is Tensor and all((type(g), g.dtype, g.device) == kind for g in grads):
        return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))  # pyright: ignore[reportPrivateImportUsage]
    return get_total_norm(grads)


def weight_norm(parameters: Iterable[Tensor]) -> float:
    """Norm of all weights together."""
    with torch.no_grad():
        return float(get_total_norm([p.detach() for p in parameters]))


def update_ratio(
    before: Sequence[Tensor], after: Sequence[Tensor], start: float | None = None
) -> float:
    r"""Size of a step relative to the weights, :math:`|\Delta\theta| / |\theta|`.

    With ``start``, the norm of the weights when the training began, relative to the smaller of the
    two: weights that steps have blown up must not make the steps look small.

    About 1e-3 is usual; below 1e-5 hardly anything is learned, above 1e-1 little is kept.
    """
    with torch.no_grad():
        step = get_total_norm([a - b for a, b in zip(after, before, strict=True)])
        size = get_total_norm(list(before))
    if start:
        size = min(float(size), start)
    return float(step / size) if float(size) > 0 else float("nan")


def update_ratios(
    names: Sequence[str], before: Sequence[Tensor], after: Sequence[Tensor]
) -> dict[str, float]:
    """`update_ratio` of every parameter by itself: one group may stand still beside the others."""
    triples = zip(names, before, after, strict=True)
    return {name: update_ratio([old], [new]) for name, old, new in triples}


class NormBeforeClip:
    """The global gradient norm as the backward pass left it, before any clipping.

    Hooks on the parameters ask for a look at the end of the pass, where gradients that are reduced
    over processes are complete, too. They are there for the steps that are sampled alone: at every
    step, a call for each parameter would be what a short step pays most for.

    Args:
        parameters: The parameters of the optimiser.

    Attributes:
        seconds: Time that was spent on this; the reader resets it to zero.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.seconds = 0.0
        self._is_asked = False
        self._norm: Tensor | None = None
        self._parameters = [p for p in parameters if p.requires_grad]
        self._gradient_norm = GradientNorm(self._parameters)
        self._handles: list[RemovableHandle] = []

    @property
    def is_on(self) -> bool:
        """Whether the next steps are sampled."""
        return bool(self._handles)

    def turn(self, is_on: bool) -> None:
        """Sample the next steps, or do not."""
        if is_on and not self._handles:
            self._handles = [
                p.register_post_accumulate_grad_hook(self._complete) for p in self._parameters
            ]
        elif not is_on and self._handles:
            self.close()

    def _complete(self, parameter: Tensor) -> None:
        if not self._is_asked:
            self._is_asked = True
            after_backward(self._note)

    def _note(self) -> None:
        began = time.perf_counter()
        self._is_asked = False
        self._norm = self._gradient_norm()
        self.seconds += time.perf_counter() - began

    def take(self) -> Tensor | None:
        """The norm noted since the last call, then forget it; None if nothing was."""
        self._is_asked = False  # also after a backward pass that failed
        norm, self._norm = self._norm, None
        return norm

    def close(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
