"""Tolerances between back ends, stated against a float64 run.

What float32 can hold depends on the processor: how wide its vectors are, whether it fuses a product
and a sum, in which order torch's library adds. A fixed 1e-5 is a guess that fails on the next
machine. How far plain torch operations in float32 are from float64, on the same inputs and the same
machine, is measured; a back end may be a few times as far.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from steadygrad.nn import Recurrent

FEW = 8.0
"""A back end's error is at most so many times that of eager.

Over many draws the two are alike, but one draw in a few thousand has had 4 to 7 times eager's, by
compiler and processor; what is wrong is off by thousands.
"""
ULPS = 4
"""And eager's counts as at least so many units in the last place: it may be exact by luck."""


def layer_in_float64(layer: nn.Module) -> Any:
    """The same layer, torch's or ours, in float64 and in plain torch operations."""
    exact = copy.deepcopy(layer).double()
    if isinstance(exact, Recurrent):
        exact.backend = "eager"
    return exact


def input_in_float64(given: Tensor | PackedSequence) -> Any:
    """The same input in float64; a leaf that requires a gradient if it did."""
    if isinstance(given, PackedSequence):
        return PackedSequence(input_in_float64(given.data), *given[1:])
    return given.detach().double().requires_grad_(given.requires_grad)


def in_double(
    outcome: Callable[[Any, Any], list[Tensor]], layer: nn.Module, given: Tensor | PackedSequence
) -> list[Tensor]:
    """``outcome(layer, given)`` of a float64 copy of both; the layer's own in float64 already."""
    return outcome(layer_in_float64(layer), input_in_float64(given))


def assert_as_near(
    ours: Sequence[Tensor | None],
    eager: Sequence[Tensor | None],
    exact: Sequence[Tensor | None],
    few: float = FEW,
) -> None:
    """Check that ``ours`` is about as near to ``exact`` as ``eager`` is.

    Errors are the largest of each tensor, in terms of the tensor's largest value. Of one small
    tensor eager's may be small by luck, so the root of the mean square over all tensors, values
    and gradients of one run, counts for each of them as well.

    Args:
        ours: Values of one run. In float64 they are held to `torch.testing.assert_close` alone.
        eager: The same, in the same dtype, by plain torch operations.
        exact: The same, in float64.
        few: How many times the error of eager is allowed.
    """
    assert len(ours) == len(eager) == len(exact)
    assert [o is None for o in ours] == [e is None for e in exact], "which tensors there are"
    rows = [
        (k, o, e, x)
        for k, (o, e, x) in enumerate(zip(ours, eager, exact, strict=True))
        if o is not None and e is not None and x is not None and x.numel()
    ]
    if all(o.dtype == torch.float64 for _, o, _, _ in rows):
        torch.testing.assert_close([o for _, o, _, _ in rows], [e for _, _, e, _ in rows])
        return
    scales = [_largest(x) for _, _, _, x in rows]
    theirs = [_error(e, x, _finite(e, x)) for _, _, e, x in rows]
    relative = torch.tensor(
        [t / s if s else 0.0 for t, s in zip(theirs, scales, strict=True)], dtype=torch.float64
    )
    common = relative.square().mean().sqrt().item() if len(rows) else 0.0
    for (k, o, e, x), scale, their in zip(rows, scales, theirs, strict=True):
        assert o.shape == e.shape and o.dtype == e.dtype, f"tensor {k}: {o.dtype} {tuple(o.shape)}"
        finite = _finite(e, x)
        same = (o == e) | (o == x) | (o.isnan() & (e.isnan() | x.isnan()))
        assert bool((same | finite).all()), f"tensor {k}: another value where eager's is not finite"
        floor = scale * max(common, ULPS * torch.finfo(o.dtype).eps)
        allowed = few * max(their, floor)
        our = _error(o, x, finite)
        assert our <= allowed, (
            f"tensor {k}, {tuple(o.shape)}, largest value {scale:.3g}: "
            f"error {our:.3g}, eager's {their:.3g}, allowed {allowed:.3g}"
        )


def largest_relative_error(found: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """The largest error of all tensors, each in terms of its own largest value."""
    pairs = [(f, x) for f, x in zip(found, exact, strict=True) if x.numel()]
    return max((_error(f, x, _finite(x, x)) / (_largest(x) or 1.0) for f, x in pairs), default=0.0)


def _largest(value: Tensor) -> float:
    finite = value[torch.isfinite(value)]
    return finite.abs().max().item() if finite.numel() else 0.0


def _finite(eager: Tensor, exact: Tensor) -> Tensor:
    """Where both are numbers: elsewhere there is no error to speak of, only another value."""
    return torch.isfinite(eager) & torch.isfinite(exact)


def _error(value: Tensor, exact: Tensor, where: Tensor) -> float:
    """The largest difference; infinite if ``value`` is not finite there."""
    gap = (value.detach().double() - exact.detach().double()).abs()[where]
    return gap.nan_to_num(nan=torch.inf).max().item() if gap.numel() else 0.0
