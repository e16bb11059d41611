"""The gradients of one step: their norms over all shards and devices, and how to scale them."""

from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from steadygrad.remedies.parameters import Parameters, Scope

FOREACH: Any = torch  # the operations on lists of tensors, which torch's own optimisers use
HALF = (torch.float16, torch.bfloat16)


@final
class Gradients:
    """The gradients there are between a backward pass and the optimiser's step.

    Nothing here waits for the device. Norms are those of the whole gradient: shards of a
    ``DTensor`` (FSDP2, tensor parallel) are summed over the processes that hold them, with one
    exchange for all parameters that are sharded alike. Under DDP gradients are whole already.

    Args:
        parameters: Those without a gradient are left out.
        is_scaled: Whether a gradient scaler is at work, which skips an overflow by itself.

    Attributes:
        parameters: All of them.
        rows: Indices of those that have a gradient.
        local: Per row the part of the gradient that this process holds; change it in place.
            Of a sparse gradient its values.
    """

    def __init__(self, parameters: Parameters, is_scaled: bool = False) -> None:
        self.parameters = parameters
        self.is_scaled = is_scaled
        self.rows = [i for i, p in enumerate(parameters) if p.grad is not None]
        self.is_complete = len(self.rows) == len(parameters)
        grads: list[Any] = [p.grad for p in parameters if p.grad is not None]
        self.local: list[Tensor] = grads
        self._shards: dict[tuple[Any, ...], list[int]] = {}
        if any(type(g) is not Tensor or g.is_sparse for g in grads):
            self.local = [self._part(row, g) for row, g in enumerate(grads)]

    def __len__(self) -> int:
        return len(self.local)

    @property
    def treated(self) -> list[nn.Parameter]:
        """The parameters that have a gradient, in the order of `local`."""
        return [self.parameters[row] for row in self.rows]

    def norms(self, norm_type: float = 2.0) -> Tensor:
        """Return the norm of each gradient, ``(N,)``, in single precision or better."""
        if not self.local:
            return torch.zeros(0, device=self.parameters.device)
        norms = per_device(self.local, lambda part: _norms(part, norm_type))
        for (mesh, dims), rows in self._shards.items():
            at = torch.tensor(rows, device=norms.device)
            norms[at] = whole_norms(norms[at], norm_type, mesh, dims).to(norms.dtype)
        return norms

    def combined(self, norms: Tensor, scope: Scope, norm_type: float = 2.0) -> Tensor:
        """Combine the norms ``(N,)`` of tensors into those of a scope, ``(K,)``; absent: 0."""
        if scope == "all":
            return torch.linalg.vector_norm(norms, norm_type).unsqueeze(0)
        count = len(self.parameters.labels(scope))
        reduce = "amax" if norm_type == float("inf") else "sum"
        # Squares in double precision, where there is any: in single they overflow from 1e19 on.
        powers = norms if norms.device.type == "mps" else norms.double()
        powers = powers if reduce == "amax" else powers.pow(norm_type)
        total = powers.new_zeros(count).scatter_reduce_(0, self.ids(scope), powers, reduce)
        return (total if reduce == "amax" else total.pow(1 / norm_type)).to(norms.dtype)

    def ids(self, scope: Scope) -> Tensor:
        """For each gradient the index of what it belongs to in ``parameters.labels(scope)``."""
        ids = self.parameters.ids(scope)
        return ids if self.is_complete else ids[self.rows]

    def scale_(self, factors: Tensor) -> None:
        """Multiply every gradient by one factor, or each by its own, ``(N,)``."""
        if not self.local:
            return
        if factors.dim() == 0:
            for device, at in _by_device(self.local).items():
                FOREACH._foreach_mul_(_take(self.local, at), factors.to(device))
            return
        for device, at in _by_device(self.local).items():
            own = _take(list(factors.to(device).unbind()), at)
            FOREACH._foreach_mul_(_take(self.local, at), own)

    def zero_where_(self, is_bad: Tensor) -> None:
        """Set every gradient to 0 if the scalar ``is_bad`` holds."""
        # Filled, not multiplied: 0 · NaN is NaN. No branch, so that nothing waits.
        for device, at in _by_device(self.local).items():
            flag = is_bad.to(device)
            for grad in _take(self.local, at):
                grad.masked_fill_(flag, 0.0)

    def _part(self, row: int, grad: Any) -> Tensor:
        """Return what this process holds of a gradient, and note how it is sharded."""
        if hasattr(grad, "to_local"):
            return self._shard(row, grad)
        if grad.is_sparse:  # entries of one index stand several times until they are summed
            grad = grad.coalesce()
            self.parameters[self.rows[row]].grad = grad
            return grad._values()
        return grad

    def _shard(self, row: int, grad: Any) -> Tensor:
        if any(p.is_partial() for p in grad.placements):  # a sum that is still to be taken
            from torch.distributed.tensor import Replicate

            places = [Replicate() if p.is_partial() else p for p in grad.placements]
            grad = grad.redistribute(placements=places)
            self.parameters[self.rows[row]].grad = grad
        dims = tuple(d for d, p in enumerate(grad.placements) if p.is_shard())
        if dims:
            self._shards.setdefault((grad.device_mesh, dims), []).append(row)
        return grad.to_local()


def per_device(tensors: Sequence[Tensor], of: Callable[[list[Tensor]], list[Tensor]]) -> Tensor:
    """Apply ``of`` to the tensors of each device and kind, and stack its scalars in order."""
    groups = _by_device(tensors, by_dtype=True)
    if len(groups) == 1:
        return torch.stack(of(list(tensors)))
    found: list[Any] = [None] * len(tensors)
    for at in groups.values():
        for i, value in zip(at, of([tensors[i] for i in at]), strict=True):
            found[i] = value
    dtype = max((v.dtype for v in found), key=lambda d: d.itemsize)
    return torch.stack([value.to(tensors[0].device, dtype) for value in found])


def whole_norms(norms: Tensor, norm_type: float, mesh: Any, dims: tuple[int, ...]) -> Tensor:
    """Combine the norms of shards over the mesh dimensions that they are sharded along."""
    from torch import distributed as dist

    is_max = norm_type == float("inf")
    powers = norms.double() if is_max else norms.double().pow(norm_type)
    for dim in dims:
        op = dist.ReduceOp.MAX if is_max else dist.ReduceOp.SUM
        dist.all_reduce(powers, op=op, group=mesh.get_group(dim))
    return powers if is_max else powers.pow(1 / norm_type)


def _norms(grads: list[Tensor], norm_type: float) -> list[Tensor]:
    # Sixteen bits would round the norm to three digits, and overflow at 65504.
    dtype = torch.float32 if grads[0].dtype in HALF else None
    return list(FOREACH._foreach_norm(grads, norm_type, dtype=dtype))


def _by_device(tensors: Sequence[Tensor], by_dtype: bool = False) -> dict[Any, list[int]]:
    kinds = [(t.device, t.dtype) if by_dtype else t.device for t in tensors]
    groups: dict[Any, list[int]] = {}
    for i, kind in enumerate(kinds):
        groups.setdefault(kind, []).append(i)
    return groups


def _take(tensors: list[Tensor], at: list[int]) -> list[Tensor]:
    return tensors if len(at) == len(tensors) else [tensors[i] for i in at]
