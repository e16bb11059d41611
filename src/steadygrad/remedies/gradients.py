"""The gradients of one step: norms over all shards and devices, and in-place changes."""

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, nn

from steadygrad.remedies.batches import FOREACH, Batch, batches_of
from steadygrad.remedies.parameters import Parameters, Scope
from steadygrad.remedies.shards import Sharding, sharding_of, summed, whole_norms

HOST = ("cpu",)  # on these, reading a value needs no synchronisation


@final
class Gradients:
    """The gradients between a backward pass and the optimiser's step.

    Nothing here synchronises with the device. Norms are those of the full gradient: shards of a
    ``DTensor`` (FSDP2, tensor parallel) are summed over their processes, with one exchange for all
    parameters of one sharding. Under DDP gradients are full already.

    Args:
        parameters: Parameters; those without a gradient are skipped.
        is_scaled: Whether a gradient scaler is used, which itself skips steps that overflow.

    Attributes:
        parameters: All parameters.
        rows: Indices of those that have a gradient.
        local: For each row the local part of the gradient, changed in place; for a sparse
            gradient its values.
        sharding: How a row is split over processes, for sharded ones.
        batches: Groups of rows that one call can treat.
    """

    def __init__(self, parameters: Parameters, is_scaled: bool = False) -> None:
        self.parameters = parameters
        self.is_scaled = is_scaled
        grads: list[Any] = [p.grad for p in parameters]
        self.rows = [row for row, grad in enumerate(grads) if grad is not None]
        self.is_complete = len(self.rows) == len(grads)
        self.local: list[Tensor] = grads if self.is_complete else [grads[row] for row in self.rows]
        self.sharding: dict[int, Sharding] = {}
        self._has_new_shapes = False
        if set(map(type, self.local)) - {Tensor} or any(g.is_sparse for g in self.local):
            self.local = [self._part(row, g) for row, g in enumerate(self.local)]
        self.batches, self._order = self._divide()

    def __len__(self) -> int:
        return len(self.local)

    def parameter(self, row: int) -> nn.Parameter:
        """The parameter whose gradient is ``local[row]``."""
        return self.parameters[self.rows[row]]

    def norms(self, norm_type: float = 2.0) -> Tensor:
        """Return the norm of each gradient, ``(N,)``, in single precision or better."""
        device = self.parameters.device
        if not self.local:
            return torch.zeros(0, device=device)
        parts = [batch.norms(self.local, norm_type).to(device) for batch in self.batches]
        # torch.cat promotes to the wider type
        norms = parts[0] if len(parts) == 1 else torch.cat(parts)
        norms = norms if self._order is None else norms[self._order]
        alike: dict[Any, list[int]] = {}
        for row, (mesh, split) in self.sharding.items():
            alike.setdefault((mesh, tuple(s is not None for s in split)), []).append(row)
        for (mesh, is_split), rows in alike.items():
            at = torch.tensor(rows, device=device)
            norms[at] = whole_norms(norms[at], norm_type, mesh, is_split)
        return norms

    def combined(self, norms: Tensor, scope: Scope, norm_type: float = 2.0) -> Tensor:
        """Combine the norms ``(N,)`` of tensors into those of a scope, ``(K,)``; absent: 0."""
        if scope == "all":
            return torch.linalg.vector_norm(norms, norm_type).unsqueeze(0)
        if scope == "parameter" and self.is_complete:
            return norms
        count = len(self.parameters.labels(scope))
        is_max = norm_type == float("inf")
        # Squares in double precision where supported: in single they overflow from 1e19 on.
        powers = norms if norms.device.type == "mps" else norms.double()
        powers = powers if is_max else powers.pow(norm_type)
        ids = self.parameters.ids(scope)
        ids = ids if self.is_complete else ids[self.rows]
        total = powers.new_zeros(count)
        total = total.scatter_reduce_(0, ids, powers, "amax" if is_max else "sum")
        return (total if is_max else total.pow(1 / norm_type)).to(norms.dtype)

    def scale_(self, factors: Tensor, scope: Scope) -> None:
        """Multiply the gradients of each part of ``scope`` by its factor, ``(K,)``."""
        ids = self.parameters.host_ids(scope)
        each: dict[torch.device, tuple[Tensor, ...]] = {}
        for batch in self.batches:
            own = batch.take(self.local)
            device = own[0].device
            # once per device, because unbind costs as much as all products
            if device not in each:
                each[device] = factors.to(device).unbind()
            here = each[device]
            if scope == "all":
                FOREACH._foreach_mul_(own, here[0])
            else:
                FOREACH._foreach_mul_(own, [here[ids[self.rows[row]]] for row in batch.rows])

    def change_(self, in_place: Callable[[Tensor], object]) -> None:
        """Apply an elementwise in-place operation to all gradients."""
        for batch in self.batches:
            batch.change_(self.local, in_place)

    def zero_where_(self, is_bad: Tensor) -> None:
        """Set every gradient to 0 if the scalar ``is_bad`` holds."""
        if is_on_host(is_bad):
            if is_bad:
                FOREACH._foreach_zero_(self.local)
            return
        # Filled, not multiplied, as 0 · NaN is NaN; without a branch, which would synchronise.
        self.change_(lambda grad: grad.masked_fill_(is_bad.to(grad.device), 0.0))

    def over_shards(self, row: int, norms: Tensor, has_rows: bool) -> Tensor:
        """Complete the norms of the units (rows or whole) of one gradient over its shards."""
        if row not in self.sharding:
            return norms
        mesh, split = self.sharding[row]
        # Sharded along its rows: each row is complete in one process.
        is_split = tuple(s is not None and not (has_rows and s == 0) for s in split)
        return whole_norms(norms, 2.0, mesh, is_split)

    def _part(self, row: int, grad: Any) -> Tensor:
        """Return the local part of a gradient, and note its sharding."""
        parameter = self.parameter(row)
        if hasattr(grad, "to_local"):
            parameter.grad = grad = summed(grad)
            sharding = sharding_of(grad)
            if sharding is not None:
                self.sharding[row] = sharding
            return grad.to_local()
        if grad.is_sparse:  # an uncoalesced gradient may have several entries per index
            parameter.grad = grad = grad.coalesce()
            self._has_new_shapes = True  # its size varies with the rows used
            return grad._values()
        return grad

    def _divide(self) -> tuple[tuple[Batch, ...], Tensor | None]:
        """Divide the rows into batches; cached while all gradients are present."""
        # Types are checked each time: a model may be moved or converted.
        key = ({g.dtype for g in self.local}, {g.device for g in self.local}, self.is_complete)
        known = self.parameters.known
        if not self.is_complete or self._has_new_shapes or known.get("kinds") != key:
            batches = batches_of(self.local, self.sharding.get)
            rows = [row for batch in batches for row in batch.rows]
            order = None
            if rows != sorted(rows):
                order = torch.tensor(rows, device=self.parameters.device).argsort()
            known |= {"kinds": key, "batches": batches, "order": order}
        return known["batches"], known["order"]


def is_on_host(tensor: Tensor) -> bool:
    """Whether a value of ``tensor`` can be read without waiting for a device."""
    return tensor.device.type in HOST
