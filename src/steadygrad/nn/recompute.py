"""Checkpointing: keep the inputs of a part, compute it again in the backward pass."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Part = Callable[..., tuple[Tensor, ...]]


def in_one(whole: Tensor, parts: Sequence[Tensor], starts: Sequence[int]) -> Tensor:
    """``whole``, whose rows from each of ``starts`` on are ``parts``, in their place already."""
    result = _InOne.apply([whole], starts, *parts)
    assert isinstance(result, Tensor)
    return result


class _InOne(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, whole: list[Tensor], starts: Sequence[int], *parts: Tensor) -> Tensor:
        ctx.rows = [(start, len(part)) for start, part in zip(starts, parts, strict=True)]
        return whole[0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(grads[0].narrow(0, *rows) for rows in ctx.rows)


def recomputed(part: Part, place: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Call ``part`` and remember nothing but ``tensors``; same values, same gradients.

    Args:
        part: ``(*tensors) -> outputs``; draws no random numbers and has no state.
        place: Where its first output is put.
        *tensors: Everything it depends on that may need a gradient.
    """
    outputs = _Recomputed.apply(part, [place], *tensors)
    assert isinstance(outputs, tuple)
    return outputs


class _Recomputed(torch.autograd.Function):
    # Not torch.utils.checkpoint: what that keeps stands outside of the graph, where neither the
    # hooks on saved tensors nor the check against changes in place can see it.

    @staticmethod
    def forward(ctx: Any, part: Part, place: list[Tensor], *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.part = part
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        first, *rest = part(*tensors)
        # .data: for autograd no view of what the other pieces are written into.
        return place[0].copy_(first).data, *rest

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        again = torch.is_grad_enabled()  # the gradient itself is to be differentiated
        saved: tuple[Tensor, ...] = ctx.saved_tensors
        needed = ctx.needs_input_grad[2:]
        with torch.enable_grad():
            # One of them may be made from another, a state from the weights of the steps before:
            # the second run has to end here, so it starts from tensors of its own.
            tensors = tuple(
                t.view_as(t) if again else t.detach().requires_grad_(need)
                for t, need in zip(saved, needed, strict=True)
            )
            outputs = ctx.part(*tensors)
        reached = [
            (o, g) for o, g in zip(outputs, grads, strict=True) if g is not None and o.requires_grad
        ]
        found = iter(
            torch.autograd.grad(
                [o for o, _ in reached],
                [t for t, need in zip(tensors, needed, strict=True) if need],
                [g for _, g in reached],
                create_graph=again,
                allow_unused=True,
            )
        )
        return (None, None, *(next(found) if need else None for need in needed))
