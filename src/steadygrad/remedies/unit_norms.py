"""Norms of the units of many weights; small tensors of one shape are processed together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from torch import Tensor, nn

from steadygrad.remedies.batches import FOREACH, HALF
from steadygrad.remedies.gradients import Gradients
from steadygrad.remedies.shards import local


@final
@dataclass(frozen=True)
class Alike:
    """Parameters whose gradients are processed by the same calls.

    A unit is a row of a matrix, a filter of a convolution, and a vector or scalar as a whole.

    Args:
        rows: Indices of the gradients; all of one shape, or a single one.
        weights: The parameters.
        shape: Shape of one gradient.
    """

    rows: tuple[int, ...]
    weights: tuple[nn.Parameter, ...]
    shape: tuple[int, ...]

    @cached_property
    def dims(self) -> tuple[int, ...]:
        """The dimensions of a gradient, or of a stack of several, within a unit."""
        ahead = (len(self.rows) > 1) + (len(self.shape) > 1)
        return tuple(range(ahead, (len(self.rows) > 1) + len(self.shape)))

    @cached_property
    def norms_shape(self) -> tuple[int, ...]:
        """Shape of the norms of a gradient, or of a stack of several."""
        whole = (len(self.rows), *self.shape) if len(self.rows) > 1 else self.shape
        return tuple(1 if dim in self.dims else size for dim, size in enumerate(whole))

    def norms_into(self, out: Tensor, gradients: Gradients, tensors: Sequence[Tensor]) -> None:
        """Write the norm of each unit of each tensor, over all its shards, into ``out``."""
        first, dims = tensors[0], self.dims
        own = first if len(tensors) == 1 else torch.stack(list(tensors))
        dtype = torch.float32 if own.dtype in HALF else None
        if self.rows[0] not in gradients.sharding and norm_type(own) == out.dtype:
            torch.linalg.vector_norm(own, 2, dims, keepdim=True, dtype=dtype, out=out)
            return
        norms = torch.linalg.vector_norm(own, 2, dims, keepdim=True, dtype=dtype)
        out.copy_(gradients.over_shards(self.rows[0], norms, has_rows=first.dim() > 1))

    def held(self, gradients: Gradients) -> Sequence[Tensor]:
        """The local part of the weights."""
        return tuple(map(local, self.weights)) if gradients.sharding else self.weights


@final
class Units:
    """All units of some parameters in one vector, so that one call treats all of them.

    Reused between steps: each parameter has its own views of the tensors.

    Args:
        gradients: Gradients of one device and one type, for all of ``parts``.
        parts: The parameters.

    Attributes:
        lengths: Norm of the gradient of each unit.
        weights: Norm of its weights.
        factors: Factor for its gradient.
    """

    def __init__(self, gradients: Gradients, parts: Sequence[Alike]) -> None:
        first = gradients.local[parts[0].rows[0]]
        shapes = [part.norms_shape for part in parts]
        size = sum(map(math.prod, shapes))
        empty = torch.empty(size, device=first.device, dtype=norm_type(first))
        self.lengths, self.weights, self.factors = (torch.empty_like(empty) for _ in range(3))
        self._cast = self.factors if first.dtype == empty.dtype else empty.to(first.dtype)
        lengths, weights, factors = (
            _views(whole, shapes) for whole in (self.lengths, self.weights, self._cast)
        )
        self._parts = tuple(zip(parts, lengths, weights, strict=True))
        self._rows = [row for part in parts for row in part.rows]
        self._factors = [
            factor
            for part, own in zip(parts, factors, strict=True)
            for factor in (own.unbind() if len(part.rows) > 1 else [own])
        ]

    def measure(self, gradients: Gradients) -> None:
        """Compute ``lengths`` and ``weights``."""
        for part, lengths, weights in self._parts:
            part.norms_into(weights, gradients, part.held(gradients))
            part.norms_into(lengths, gradients, [gradients.local[row] for row in part.rows])

    def scale_(self, gradients: Gradients) -> None:
        """Multiply the gradient of each unit by its factor."""
        if self._cast is not self.factors:
            self._cast.copy_(self.factors)
        FOREACH._foreach_mul_([gradients.local[row] for row in self._rows], self._factors)


def norm_type(tensor: Tensor) -> torch.dtype:
    """The type in which norms are computed; 16-bit values are summed in 32 bits."""
    return torch.float32 if tensor.dtype in HALF else tensor.dtype.to_real()


def _views(whole: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    parts = whole.split([math.prod(shape) for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def units_of(gradients: Gradients, treated: Sequence[bool]) -> list[Units]:
    """Gather the units of the treated parameters.

    Raises:
        TypeError: A gradient is sparse; its rows are not those of the weights.
    """
    known = gradients.parameters.known
    if gradients.is_complete and known.get("units of") is gradients.batches:
        return known["units"]
    found: list[Units] = []
    for batch in gradients.batches:
        rows = [row for row in batch.rows if treated[gradients.rows[row]]]
        # Stacks one by one, to stay in the cache; the large rest in one call.
        parts = [rows] if batch.is_stack else [[row] for row in rows]
        if rows:
            found.append(Units(gradients, [_alike(gradients, part) for part in parts]))
    known |= {"units of": gradients.batches, "units": found}
    return found


def _alike(gradients: Gradients, rows: Sequence[int]) -> Alike:
    weights = tuple(gradients.parameter(row) for row in rows)
    _refuse_sparse(gradients, rows, weights)
    return Alike(tuple(rows), weights, tuple(gradients.local[rows[0]].shape))


def _refuse_sparse(
    gradients: Gradients, rows: Sequence[int], weights: Sequence[nn.Parameter]
) -> None:
    for row, weight in zip(rows, weights, strict=True):
        if weight.grad is not None and weight.grad.is_sparse:
            name = gradients.parameters.names[gradients.rows[row]]
            raise TypeError(f"agc: the gradient of {name} is sparse, its weights are not")
