"""The operators under `torch.func.vmap`: folded into the batch where all rows share the weights."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from steadygrad.scan.operators.kernels import OPERATORS
from steadygrad.scan.operators.schema import LIBRARY, names_of, states_in

Dim = int | None
OF_ROWS = ("x", "resets", "state")


def _folds(names: str, sizes: Tensor | None, dims: Sequence[Dim]) -> bool:
    """Whether a batch of calls is one call of a larger batch.

    The backward pass decides by the same arguments, and so alike.
    """
    own = names_of(names)
    return (
        sizes is None
        and not any(name.startswith("noise") for name in own)
        and all(dim is None or name in OF_ROWS for name, dim in zip(own, dims, strict=True))
        and any(dim is not None for dim in dims)
    )


def _in_front(value: Tensor, dim: Dim, count: int) -> Tensor:
    """``(V, ...)``."""
    return value.expand(count, *value.shape) if dim is None else value.movedim(dim, 0)


def _fold_rows(value: Tensor, dim: Dim, count: int, batch: int) -> Tensor:
    """``(V, T*B, ...)`` to ``(T*V*B, ...)``: rows of one time step stay together."""
    wide = _in_front(value, dim, count)
    steps = wide.shape[1] // batch
    wide = wide.reshape(count, steps, batch, *wide.shape[2:]).movedim(0, 1)
    return wide.reshape(steps * count * batch, *wide.shape[3:])


def _unfold_rows(value: Tensor, count: int, batch: int) -> Tensor:
    """The inverse of `_fold_rows`."""
    steps = value.shape[0] // (count * batch)
    wide = value.reshape(steps, count, batch, *value.shape[1:]).movedim(1, 0)
    return wide.reshape(count, steps * batch, *value.shape[1:])


def _fold_states(value: Tensor, dim: Dim, count: int) -> Tensor:
    wide = _in_front(value, dim, count)
    return wide.reshape(count * wide.shape[1], *wide.shape[2:])


def _unfold_states(value: Tensor, count: int) -> Tensor:
    return value.reshape(count, value.shape[0] // count, *value.shape[1:])


def _batch_of(state: Tensor, dim: Dim) -> int:
    """Rows of one of the calls."""
    return state.shape[0] if dim is None else state.movedim(dim, 0).shape[1]


def _folded(
    names: str, tensors: Sequence[Tensor], dims: Sequence[Dim], count: int, batch: int
) -> list[Tensor]:
    fold: dict[str, Callable[[Tensor, Dim], Tensor]] = {
        "x": lambda v, d: _fold_rows(v, d, count, batch),
        "resets": lambda v, d: _fold_rows(v, d, count, batch),
        "state": lambda v, d: _fold_states(v, d, count),
    }
    triples = zip(names_of(names), tensors, dims, strict=True)
    return [fold[name](value, dim) if name in fold else value for name, value, dim in triples]


def _forward(op: Any) -> Callable[..., Any]:
    def rule(
        info: Any,
        in_dims: Any,
        cell: str,
        names: str,
        reverse: bool,
        sizes: Tensor | None,
        tensors: list[Tensor],
    ) -> tuple[list[Tensor], list[Dim]]:
        count, dims = info.batch_size, _dims(in_dims[4], len(tensors))
        states = states_in(names)
        if not _folds(names, sizes, dims):
            calls = [
                op(cell, names, reverse, _one(sizes, in_dims[3], v), _each(tensors, dims, v))
                for v in range(count)
            ]
            stacked = [torch.stack(values) for values in zip(*calls, strict=True)]
            return stacked, [0] * len(stacked)
        batch = _batch_of(tensors[-1], dims[-1])
        folded = _folded(names, tensors, dims, count, batch)
        hidden, *rest = op(cell, names, reverse, None, folded)
        outputs = [
            _unfold_rows(hidden, count, batch),
            *(_unfold_states(s, count) for s in rest[:states]),
        ]
        # What was kept for the backward pass is handed on as it is, and belongs to all together.
        own: list[Dim] = [0] * len(outputs) + [None] * len(rest[states:])
        return outputs + list(rest[states:]), own

    return rule


def _backward(
    info: Any,
    in_dims: Any,
    cell: str,
    names: str,
    reverse: bool,
    sizes: Tensor | None,
    tensors: list[Tensor],
    saved: list[Tensor],
    grads: list[Tensor | None],
    needed: list[bool],
) -> tuple[list[Tensor], list[Dim]]:
    count, dims = info.batch_size, _dims(in_dims[4], len(tensors))
    saved_dims, grad_dims = _dims(in_dims[5], len(saved)), _dims(in_dims[6], len(grads))
    folds = _folds(names, sizes, dims)
    own = names_of(names)
    if folds and all(name in OF_ROWS for name, need in zip(own, needed, strict=True) if need):
        batch = _batch_of(tensors[-1], dims[-1])
        folded = _folded(names, tensors, dims, count, batch)
        kept = [_fold_rows(saved[0], saved_dims[0], count, batch), *saved[1:]] if saved else []
        hidden, *final = (
            None
            if g is None
            else (_fold_states if i else _fold_rows)(  # type: ignore[operator]
                g, d, count, *(() if i else (batch,))
            )
            for i, (g, d) in enumerate(zip(grads, grad_dims, strict=True))
        )
        found = OPERATORS.scan_back(
            cell, names, reverse, None, folded, kept, [hidden, *final], needed
        )
        asked = [name for name, need in zip(own, needed, strict=True) if need]
        return [
            _unfold_rows(g, count, batch) if name == "x" else _unfold_states(g, count)
            for name, g in zip(asked, found, strict=True)
        ], [0] * len(found)
    calls = [
        OPERATORS.scan_back(
            cell,
            names,
            reverse,
            _one(sizes, in_dims[3], v),
            _each(tensors, dims, v),
            # What a folded forward pass kept belongs to all calls: each computes its own again.
            [] if folds else _each(saved, saved_dims, v),
            [None if g is None else _one(g, d, v) for g, d in zip(grads, grad_dims, strict=True)],
            needed,
        )
        for v in range(count)
    ]
    stacked = [torch.stack(values) for values in zip(*calls, strict=True)]
    return stacked, [0] * len(stacked)


def _dims(given: Any, count: int) -> list[Dim]:
    """The batched dimension of each tensor of a list; torch says None for a list without any."""
    return [None] * count if given is None else list(given)


def _one(value: Any, dim: Dim, index: int) -> Any:
    return value if dim is None or value is None else value.select(dim, index)


def _each(values: Sequence[Tensor], dims: Sequence[Dim], index: int) -> list[Tensor]:
    return [_one(v, d, index) for v, d in zip(values, dims, strict=True)]


torch.library.register_vmap("steadygrad::scan", _forward(OPERATORS.scan), lib=LIBRARY)
torch.library.register_vmap("steadygrad::scan_keep", _forward(OPERATORS.scan_keep), lib=LIBRARY)
torch.library.register_vmap("steadygrad::scan_back", _backward, lib=LIBRARY)


def _legacy_back(
    cell: str,
    names: str,
    reverse: bool,
    sizes: Tensor | None,
    tensors: list[Tensor],
    saved: list[Tensor],
    grads: list[Tensor | None],
    needed: list[bool],
) -> list[Tensor]:
    """``torch.autograd.grad(..., is_grads_batched=True)``, a vmap of its own: a loop."""
    level = torch._C._vmapmode_increment_nesting() - 1
    torch._C._vmapmode_decrement_nesting()
    # Of a gradient that is not batched torch makes as many copies as it is told: here one.
    # The functions of this name in torch._C._functorch are for other wrappers: they never end here.
    core: Any = torch
    front = [None if g is None else core._remove_batch_dim(g, level, 1, 0) for g in grads]
    count = max(len(g) for g in front if g is not None)
    calls = [
        OPERATORS.scan_back(
            cell,
            names,
            reverse,
            sizes,
            tensors,
            saved,
            [None if g is None else g[min(v, len(g) - 1)] for g in front],
            needed,
        )
        for v in range(count)
    ]
    return [core._add_batch_dim(torch.stack(v), 0, level) for v in zip(*calls, strict=True)]


LIBRARY.impl("scan_back", _legacy_back, "Batched")
