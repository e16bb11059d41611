"""Process many gradients at once: stack small ones of one shape, take large ones as a list."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

FOREACH: Any = torch  # operations on lists of tensors, as in torch's own optimisers
HALF = (torch.float16, torch.bfloat16)
SMALL = 1 << 14  # most entries for which stacking is cheaper than an operation per tensor
MOST = 1 << 18  # most entries of one stack, so that it fits into the cache
WIDE = 64  # entries from which a norm is computed in parts


@final
@dataclass(frozen=True)
class Batch:
    """Gradients that are processed by the same calls.

    Args:
        rows: Their indices.
        is_stack: Whether all are small and of one shape: then they are copied into one tensor,
            which on the CPU takes a fifth of the time of separate operations.
    """

    rows: tuple[int, ...]
    is_stack: bool

    def take(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Select its members from ``tensors``."""
        return [tensors[row] for row in self.rows]

    def norms(self, grads: Sequence[Tensor], norm_type: float) -> Tensor:
        """Norms of its gradients, ``(n,)``; 16-bit values are summed in 32 bits."""
        # In 16 bits the norm would be rounded to three digits, and overflow at 65504.
        dtype = torch.float32 if grads[self.rows[0]].dtype in HALF else None
        own = self.take(grads)
        if self.is_stack:
            stack = torch.stack(own).view(len(own), -1)
            if norm_type == float("inf"):
                return stack.abs().amax(1).to(dtype or stack.dtype)
            return torch.linalg.vector_norm(stack, norm_type, dim=1, dtype=dtype)
        if norm_type == float("inf"):
            return torch.stack([_largest(grad) for grad in own]).to(dtype or own[0].dtype)
        if norm_type == 2 and own[0].device.type == "cpu" and dtype is None:
            # The norm of norms of parts: half the time of one long sum, and more accurate.
            own = [torch.linalg.vector_norm(g, norm_type, -1) if _is_wide(g) else g for g in own]
        return torch.stack(FOREACH._foreach_norm(own, norm_type, dtype=dtype))

    def change_(self, grads: Sequence[Tensor], in_place: Callable[[Tensor], object]) -> None:
        """Apply an elementwise in-place operation."""
        own = self.take(grads)
        if self.is_stack:
            stack = torch.stack(own)
            in_place(stack)
            FOREACH._foreach_copy_(own, list(stack.unbind()))
            return
        for grad in own:
            in_place(grad)


def batches_of(grads: Sequence[Tensor], apart: Callable[[int], object]) -> tuple[Batch, ...]:
    """Divide gradients into batches; those with different ``apart`` are not stacked together."""
    large: dict[Any, list[int]] = {}
    small: dict[Any, list[int]] = {}
    for row, grad in enumerate(grads):
        kind = (grad.device, grad.dtype)
        if 0 < grad.numel() <= SMALL:
            small.setdefault((*kind, grad.shape, apart(row)), []).append(row)
        else:
            large.setdefault(kind, []).append(row)
    for key, rows in list(small.items()):
        if len(rows) == 1:
            large.setdefault(key[:2], []).extend(small.pop(key))
    stacks = [Batch(part, True) for rows in small.values() for part in _parts(rows, grads)]
    return (*stacks, *(Batch(tuple(rows), False) for rows in large.values()))


def _parts(rows: list[int], grads: Sequence[Tensor]) -> Iterable[tuple[int, ...]]:
    count = max(1, MOST // grads[rows[0]].numel())
    return (tuple(rows[start : start + count]) for start in range(0, len(rows), count))


def _is_wide(grad: Tensor) -> bool:
    return grad.dim() > 1 and grad.shape[-1] >= WIDE and grad.is_contiguous()


def _largest(grad: Tensor) -> Tensor:
    # Five times as fast as the norm of order infinity, and also propagates NaN.
    if grad.numel() == 0:
        return grad.new_zeros(())
    low, high = (grad.abs() if grad.is_complex() else grad).aminmax()
    return torch.maximum(high, -low)
