"""Norms of the units of many weights: small tensors of one shape are taken together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from steadygrad.remedies.batches import FOREACH, HALF
from steadygrad.remedies.gradients import Gradients
from steadygrad.remedies.shards import local


@final
@dataclass(frozen=True)
class Alike:
    """Parameters whose gradients are treated by the same calls.

    A unit is a row of a matrix, a filter of a convolution, and a vector or scalar as a whole.

    Args:
        rows: Which gradients; all of one shape, or a single one.
        weights: The parameters.
    """

    rows: tuple[int, ...]
    weights: tuple[nn.Parameter, ...]

    def norms(self, gradients: Gradients, tensors: Sequence[Tensor]) -> Tensor:
        """Norm of each unit of each tensor, over all its shards, ``(n, units, 1, ...)``."""
        stack = torch.stack(list(tensors)) if len(tensors) > 1 else tensors[0].unsqueeze(0)
        stack = stack.unsqueeze(-1) if stack.dim() == 1 else stack
        dims = tuple(range(2, stack.dim())) or (1,)
        dtype = torch.float32 if stack.dtype in HALF else None
        norms = torch.linalg.vector_norm(stack, dim=dims, keepdim=True, dtype=dtype)
        return gradients.over_shards(self.rows[0], norms, has_rows=stack.dim() > 2)

    def scale_(self, grads: list[Tensor], factors: Tensor) -> None:
        """Multiply each unit of each gradient by its factor."""
        factors = factors.squeeze(-1) if grads[0].dim() == 0 else factors
        FOREACH._foreach_mul_(grads, list(factors.to(grads[0]).unbind()))

    def held(self, gradients: Gradients) -> Sequence[Tensor]:
        """What this process holds of the weights."""
        return tuple(map(local, self.weights)) if gradients.sharding else self.weights


def alike(gradients: Gradients, treated: Sequence[bool]) -> list[Alike]:
    """Divide the gradients of the parameters that are treated into those that are alike.

    Raises:
        TypeError: A gradient is sparse; its rows are not those of the weights.
    """
    known = gradients.parameters.known
    if gradients.is_complete and known.get("alike of") is gradients.batches:
        return known["alike"]
    found: list[Alike] = []
    for batch in gradients.batches:
        rows = [row for row in batch.rows if treated[gradients.rows[row]]]
        for part in [rows] if batch.is_stack else [[row] for row in rows]:
            if part:
                weights = tuple(gradients.parameter(row) for row in part)
                _refuse_sparse(gradients, part, weights)
                found.append(Alike(tuple(part), weights))
    known |= {"alike of": gradients.batches, "alike": found}
    return found


def _refuse_sparse(
    gradients: Gradients, rows: Sequence[int], weights: Sequence[nn.Parameter]
) -> None:
    for row, weight in zip(rows, weights, strict=True):
        if weight.grad is not None and weight.grad.is_sparse:
            name = gradients.parameters.names[gradients.rows[row]]
            raise TypeError(f"agc: the gradient of {name} is sparse, its weights are not")
