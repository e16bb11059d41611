"""The operations of a traced step, by names that every back end understands.

A name stands for all overloads in torch: ``a + b`` and ``a + 1`` are both ``add``. Other operations
are decomposed (`steadygrad.scan.ir.decompose`) or left to the eager back end, which runs any
operation.
"""

import operator

import torch
from torch import Tensor

aten = torch.ops.aten


class Unprintable(Exception):
    """A back end has no code for something in a traced step; the message names it."""


def to_real(value: Tensor, like: Tensor) -> Tensor:
    """A value, a condition perhaps, in the dtype of another."""
    return value.to(like.dtype)


POINTWISE: dict[object, str] = {
    aten.add.Tensor: "add",  # a + alpha * b
    aten.add.Scalar: "add",
    aten.sub.Tensor: "subtract",  # a - alpha * b
    aten.sub.Scalar: "subtract",
    aten.rsub.Tensor: "subtract_from",  # b - a
    aten.rsub.Scalar: "subtract_from",
    aten.mul.Tensor: "multiply",
    aten.mul.Scalar: "multiply",
    aten.div.Tensor: "divide",
    aten.div.Scalar: "divide",
    aten.div.Tensor_mode: "divide",  # with rounding_mode, "trunc" or "floor"
    aten.div.Scalar_mode: "divide",
    aten.neg.default: "negate",
    aten.reciprocal.default: "reciprocal",
    aten.sigmoid.default: "sigmoid",
    aten.tanh.default: "tanh",
    aten.exp.default: "exp",
    aten.exp2.default: "exp2",
    aten.log.default: "log",
    aten.log2.default: "log2",
    aten.log10.default: "log10",
    aten.log1p.default: "log1p",
    aten.expm1.default: "expm1",
    aten.sin.default: "sin",
    aten.cos.default: "cos",
    aten.tan.default: "tan",
    aten.asin.default: "asin",
    aten.acos.default: "acos",
    aten.atan.default: "atan",
    aten.atan2.default: "atan2",
    aten.sinh.default: "sinh",
    aten.cosh.default: "cosh",
    aten.asinh.default: "asinh",
    aten.acosh.default: "acosh",
    aten.atanh.default: "atanh",
    aten.erf.default: "erf",
    aten.erfc.default: "erfc",
    aten.hypot.default: "hypot",
    aten.copysign.Tensor: "copysign",
    aten.sqrt.default: "sqrt",
    aten.rsqrt.default: "rsqrt",
    aten.abs.default: "abs",
    aten.sgn.default: "sign",
    aten.sign.default: "sign",
    aten.floor.default: "floor",
    aten.ceil.default: "ceil",
    aten.trunc.default: "trunc",
    aten.round.default: "round",  # halves to even
    aten.fmod.Tensor: "fmod",  # the sign is that of a
    aten.fmod.Scalar: "fmod",
    aten.remainder.Tensor: "remainder",  # the sign is that of b
    aten.remainder.Scalar: "remainder",
    aten.relu.default: "relu",
    aten.maximum.default: "maximum",
    aten.minimum.default: "minimum",
    aten.clamp.default: "clamp",  # (a, low or None, high or None)
    aten.clamp.Tensor: "clamp",
    aten.clamp_min.default: "maximum",
    aten.clamp_min.Tensor: "maximum",
    aten.clamp_max.default: "minimum",
    aten.clamp_max.Tensor: "minimum",
    aten.pow.Tensor_Scalar: "power",
    aten.pow.Tensor_Tensor: "power",
    aten.pow.Scalar: "power",
    aten.sigmoid_backward.default: "sigmoid_backward",  # (gradient, output)
    aten.tanh_backward.default: "tanh_backward",  # (gradient, output)
    aten.threshold_backward.default: "threshold_backward",  # (gradient, input, threshold)
    aten.gt.Tensor: "greater",
    aten.gt.Scalar: "greater",
    aten.ge.Tensor: "greater_equal",
    aten.ge.Scalar: "greater_equal",
    aten.lt.Tensor: "less",
    aten.lt.Scalar: "less",
    aten.le.Tensor: "less_equal",
    aten.le.Scalar: "less_equal",
    aten.eq.Tensor: "equal",
    aten.eq.Scalar: "equal",
    aten.ne.Tensor: "not_equal",
    aten.ne.Scalar: "not_equal",
    aten.logical_and.default: "and",
    aten.logical_or.default: "or",
    aten.logical_xor.default: "xor",
    aten.logical_not.default: "not",
    # Bitwise, of conditions only: a trace holds no whole numbers.
    aten.bitwise_and.Tensor: "and",
    aten.bitwise_or.Tensor: "or",
    aten.bitwise_xor.Tensor: "xor",
    aten.bitwise_not.default: "not",
    aten.isnan.default: "is_nan",
    aten.isinf.default: "is_infinite",
    aten.where.self: "where",  # (condition, a, b)
    aten.masked_fill.Scalar: "masked_fill",  # (a, condition, b)
    aten.masked_fill.Tensor: "masked_fill",
    aten.detach.default: "copy",  # the first operand; other arguments are ignored
    aten.clone.default: "copy",
    aten.alias.default: "copy",
    to_real: "copy",
    aten.scalar_tensor.default: "copy",
    aten.expand.default: "copy",
    aten.unsqueeze.default: "copy",
    aten.squeeze.dim: "copy",
    aten.squeeze.dims: "copy",
    aten.zeros_like.default: "zero",
    aten.ones_like.default: "one",
    aten.full_like.default: "fill",  # (a, value)
}
"""Operations that act on every unit separately."""

SHAPES = frozenset(
    {aten.expand.default, aten.unsqueeze.default, aten.squeeze.dim, aten.squeeze.dims}
)
"""Of these, operations whose further arguments are axes and sizes."""

REDUCTIONS: dict[object, str] = {
    aten.sum.dim_IntList: "sum",
    aten.mean.dim: "mean",
    aten.amax.default: "max",
    aten.amin.default: "min",
}
"""Reductions; over the last axis, the units of a row."""

NUMBERS: dict[object, str] = {
    aten.sym_size.int: "size",
    operator.add: "add",
    operator.sub: "subtract",
    operator.mul: "multiply",
    operator.truediv: "divide",
    operator.neg: "negate",
    operator.pow: "power",
    torch.sym_float: "copy",
}
"""Arithmetic on sizes."""

KNOWN = frozenset({*POINTWISE, *REDUCTIONS, *NUMBERS})
"""All of the above."""
