"""Derivatives of the operators: kernels of their own on torch's Autograd key.

Not by `torch.library.register_autograd`: an operator that has its derivative from there fails under
`torch.func.grad`, gives tangents of zero under `torch.func.jvp` without a word, and is slower.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import maybe_current_level
from torch._functorch.autograd_function import (
    enable_single_level_autograd_function,  # pyright: ignore[reportPrivateImportUsage]
)
from torch.autograd import forward_ad
from torch.autograd.function import _SingleLevelFunction

from steadygrad.scan.backends import tape
from steadygrad.scan.operators.kernels import OPERATORS
from steadygrad.scan.operators.schema import LIBRARY, call_of, states_in

FIXED = 4  # arguments before the tensors


class _Forward(_SingleLevelFunction):
    """``scan_keep`` with its derivative, at one level of functional transforms."""

    @staticmethod
    def forward(
        ctx: Any, cell: str, names: str, reverse: bool, sizes: Tensor | None, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        # A Function's forward runs without gradients; the levels outside of this one need them, or
        # derivatives of derivatives come out wrong without an error.
        with (
            torch.enable_grad(),
            forward_ad._set_fwd_grad_enabled(True),
            torch._C._AutoDispatchBelowAutograd(),
        ):
            out = OPERATORS.scan_keep(cell, names, reverse, sizes, list(tensors))
        count = 1 + states_in(names)
        ctx.fixed = cell, names, reverse, len(tensors), sizes is not None
        ctx.set_materialize_grads(False)
        given = () if sizes is None else (sizes,)
        ctx.save_for_backward(*given, *tensors, out[0], *out[count:])
        ctx.mark_non_differentiable(*out[count:])
        return tuple(out)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        cell, names, reverse, count, is_ragged = ctx.fixed
        kept = list(ctx.saved_tensors)
        sizes = kept.pop(0) if is_ragged else None
        tensors, saved = kept[:count], kept[count:]
        needed = list(ctx.needs_input_grad[FIXED:])
        arriving = list(grads[: 1 + states_in(names)])
        found = iter(
            OPERATORS.scan_back(cell, names, reverse, sizes, tensors, saved, arriving, needed)
        )
        return (None,) * FIXED + tuple(next(found) if need else None for need in needed)


class _Backward(_SingleLevelFunction):
    """``scan_back`` with its derivative: `torch.func.grad` asks for it even if it is not used."""

    @staticmethod
    def forward(ctx: Any, back: "_Back", *live: Tensor) -> tuple[Tensor, ...]:
        with (
            torch.enable_grad(),
            forward_ad._set_fwd_grad_enabled(True),
            torch._C._AutoDispatchBelowAutograd(),
        ):
            found = back.kernel(live)
        ctx.back = back.without_saved()
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*live)
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[1:]
        found = tape.gradient(ctx.back.by_tape, ctx.saved_tensors, needed, grads)
        return None, *found


@dataclass(frozen=True)
class _Back:
    """The arguments of ``scan_back`` but for those that it can be differentiated by.

    Those are the tensors, and behind them the gradients that arrive, as many as there are.
    """

    cell: str
    names: str
    reverse: bool
    sizes: Tensor | None
    saved: list[Tensor]
    arrives: tuple[bool, ...]
    needed: list[bool]

    def without_saved(self) -> "_Back":
        return replace(self, saved=[])

    def parts(self, live: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor | None]]:
        """Tensors, and gradients in their places."""
        count = len(self.needed)
        given = iter(live[count:])
        return list(live[:count]), [next(given) if there else None for there in self.arrives]

    def kernel(self, live: Sequence[Tensor]) -> list[Tensor]:
        tensors, grads = self.parts(live)
        fixed = self.cell, self.names, self.reverse, self.sizes
        return OPERATORS.scan_back(*fixed, tensors, self.saved, grads, self.needed)

    def by_tape(self, *live: Tensor) -> list[Tensor]:
        """The same by torch's own operations, which have every kind of derivative."""
        tensors, grads = self.parts(live)
        fixed = self.cell, self.names, self.reverse, self.sizes
        found = tape.gradient(
            lambda *inputs: _replayed(*fixed, inputs), tensors, self.needed, grads
        )
        pairs = zip(found, tensors, self.needed, strict=True)
        return [torch.zeros_like(t) if g is None else g for g, t, need in pairs if need]


def _applied(function: type[_SingleLevelFunction], *args: Any) -> list[Tensor]:
    if maybe_current_level() is None:
        return list(function.apply(*args))  # type: ignore[arg-type]
    # torch refuses such a function within a transform, unless it is allowed.
    with enable_single_level_autograd_function():
        return list(function.apply(*args))  # type: ignore[arg-type]


def _has_tangent(tensors: Sequence[Tensor | None]) -> bool:
    return forward_ad._current_level >= 0 and any(
        forward_ad.unpack_dual(t).tangent is not None for t in tensors if t is not None
    )


def _needs_grad(tensors: Sequence[Tensor | None]) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def _replayed(
    cell: str, names: str, reverse: bool, sizes: Tensor | None, tensors: Sequence[Tensor]
) -> list[Tensor]:
    """The outputs by torch's own operations, which have every kind of derivative."""
    call, padding = call_of(cell, names, reverse, sizes, tensors)
    first = tensors[len(tensors) - len(call.state) :]
    if padding is not None and not padding.batch:
        hidden = call.weights.weight_ih.new_zeros(padding.total, call.width)
        return [hidden, *(s.clone() for s in first)]
    hidden, final = tape.replay(call)
    if padding is not None:
        hidden = padding.spread(hidden)
        final = [padding.after(a, b) for a, b in zip(final, first, strict=True)]
    # A last state may be the very tensor that came in, or a row of the hidden states.
    return [hidden, *(f.clone() for f in final)]


def _scan(
    cell: str, names: str, reverse: bool, sizes: Tensor | None, tensors: list[Tensor]
) -> list[Tensor]:
    if _has_tangent(tensors):
        return _replayed(cell, names, reverse, sizes, tensors)
    if _needs_grad(tensors):
        return _applied(_Forward, cell, names, reverse, sizes, *tensors)[: 1 + states_in(names)]
    with torch._C._AutoDispatchBelowAutograd():
        return OPERATORS.scan(cell, names, reverse, sizes, tensors)


def _scan_keep(
    cell: str, names: str, reverse: bool, sizes: Tensor | None, tensors: list[Tensor]
) -> list[Tensor]:
    if _has_tangent(tensors):
        plain = [forward_ad.unpack_dual(t).primal for t in tensors]
        with torch.no_grad():
            kept = OPERATORS.scan_keep(cell, names, reverse, sizes, plain)
        outputs = _replayed(cell, names, reverse, sizes, tensors)
        return outputs + list(kept[len(outputs) :])
    if _needs_grad(tensors):
        return _applied(_Forward, cell, names, reverse, sizes, *tensors)
    with torch._C._AutoDispatchBelowAutograd():
        return OPERATORS.scan_keep(cell, names, reverse, sizes, tensors)


def _scan_back(
    cell: str,
    names: str,
    reverse: bool,
    sizes: Tensor | None,
    tensors: list[Tensor],
    saved: list[Tensor],
    grads: list[Tensor | None],
    needed: list[bool],
) -> list[Tensor]:
    arrives = tuple(g is not None for g in grads)
    back = _Back(cell, names, reverse, sizes, saved, arrives, needed)
    live = [*tensors, *(g for g in grads if g is not None)]
    if _has_tangent(live):
        return back.by_tape(*live)
    if _needs_grad(live):
        return _applied(_Backward, back, *live)
    with torch._C._AutoDispatchBelowAutograd():
        return back.kernel(live)


for _name, _kernel in (("scan", _scan), ("scan_keep", _scan_keep), ("scan_back", _scan_back)):
    LIBRARY.impl(_name, _kernel, "Autograd")
