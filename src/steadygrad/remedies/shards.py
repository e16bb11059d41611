"""Sharded gradients: DTensors, as made by FSDP2 and tensor parallelism."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor

Sharding = tuple[Any, tuple[int | None, ...]]
"""The mesh, and for each mesh dimension the tensor dimension sharded along it, or None."""


def summed(grad: Any) -> Any:
    """Reduce pending sums of a DTensor; return other tensors unchanged."""
    if not any(place.is_partial() for place in grad.placements):
        return grad
    from torch.distributed.tensor import Replicate

    places = [Replicate() if place.is_partial() else place for place in grad.placements]
    return grad.redistribute(placements=places)


def sharding_of(grad: Any) -> Sharding | None:
    """Return how a DTensor is sharded; None if each process holds all of it."""
    split = tuple(place.dim if place.is_shard() else None for place in grad.placements)
    return None if all(s is None for s in split) else (grad.device_mesh, split)


def whole_norms(norms: Tensor, norm_type: float, mesh: Any, is_split: tuple[bool, ...]) -> Tensor:
    """Combine the norms of shards over the mesh dimensions that shard them."""
    from torch import distributed as dist

    is_max = norm_type == float("inf")
    powers = norms.double() if is_max else norms.double().pow(norm_type)
    for dim in (d for d, holds in enumerate(is_split) if holds):
        op = dist.ReduceOp.MAX if is_max else dist.ReduceOp.SUM
        dist.all_reduce(powers, op=op, group=mesh.get_group(dim))
    return (powers if is_max else powers.pow(1 / norm_type)).to(norms.dtype)


def anywhere(largest: Tensor, shardings: Iterable[Sharding]) -> Tensor:
    """Return the largest value over all processes that share the tensors."""
    for mesh, split in dict(shardings).items():
        largest = whole_norms(largest, float("inf"), mesh, (True,) * len(split))
    return largest


def local(tensor: Any) -> Tensor:
    """Return the local part of a tensor."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor
