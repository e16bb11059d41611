"""The operations that can be printed as C, one line each.

Operands are C expressions of type ``real``. Anything that is not here is for `eager`.
"""

import math
import operator
from collections.abc import Callable

import torch
from torch import Tensor

aten = torch.ops.aten


class Unprintable(Exception):
    """A traced step holds something that has no line in this table; the message names it."""


def to_real(value: Tensor, like: Tensor) -> Tensor:
    """A value, a condition perhaps, in the dtype of another."""
    return value.to(like.dtype)


def literal(value: object) -> str:
    """A Python number as a C constant of type real."""
    if not isinstance(value, int | float):
        raise Unprintable(f"a constant of type {type(value).__name__}")
    number = float(value)
    if math.isnan(number):
        return "((real)NAN)"
    if math.isinf(number):
        return "((real)INFINITY)" if number > 0 else "(-(real)INFINITY)"
    return f"((real){number!r})"


def _power(base: str, exponent: str) -> str:
    known = {
        literal(1.0): base,
        literal(2.0): f"({base} * {base})",
        literal(3.0): f"({base} * {base} * {base})",
        literal(0.5): f"r_sqrt({base})",
        literal(-1.0): f"((real)1 / {base})",
        literal(-0.5): f"((real)1 / r_sqrt({base}))",
    }
    return known.get(exponent, f"r_pow({base}, {exponent})")


def _scaled(sign: str) -> Callable[..., str]:
    def line(a: str, b: str, alpha: str = "") -> str:
        return f"({a} {sign} {b})" if not alpha else f"({a} {sign} {alpha} * {b})"

    return line


def _call(name: str) -> Callable[..., str]:
    return lambda *operands: f"r_{name}({', '.join(operands)})"


def _test(sign: str) -> Callable[..., str]:
    return lambda a, b: f"((real)({a} {sign} {b}))"


def _clamp(a: str, low: str | None = None, high: str | None = None) -> str:
    low_done = a if low is None else f"r_max({a}, {low})"
    return low_done if high is None else f"r_min({low_done}, {high})"


def _divided(a: str, b: str, rounding_mode: object = None) -> str:
    return {
        None: f"({a} / {b})",
        "trunc": f"r_trunc({a} / {b})",
        "floor": f"r_floordiv({a}, {b})",
    }[rounding_mode]


Line = Callable[..., str]

POINTWISE: dict[object, Line] = {
    aten.add.Tensor: _scaled("+"),
    aten.add.Scalar: _scaled("+"),
    aten.sub.Tensor: _scaled("-"),
    aten.sub.Scalar: _scaled("-"),
    aten.rsub.Scalar: lambda a, b: f"({b} - {a})",
    aten.rsub.Tensor: lambda a, b: f"({b} - {a})",
    aten.mul.Tensor: lambda a, b: f"({a} * {b})",
    aten.mul.Scalar: lambda a, b: f"({a} * {b})",
    aten.div.Tensor: lambda a, b: f"({a} / {b})",
    aten.div.Scalar: lambda a, b: f"({a} / {b})",
    aten.div.Tensor_mode: _divided,
    aten.div.Scalar_mode: _divided,
    aten.neg.default: lambda a: f"(-{a})",
    aten.reciprocal.default: lambda a: f"((real)1 / {a})",
    aten.sigmoid.default: _call("sigmoid"),
    aten.tanh.default: _call("tanh"),
    aten.exp.default: _call("exp"),
    aten.exp2.default: _call("exp2"),
    aten.log.default: _call("log"),
    aten.log2.default: _call("log2"),
    aten.log10.default: _call("log10"),
    aten.log1p.default: _call("log1p"),
    aten.expm1.default: _call("expm1"),
    aten.sin.default: _call("sin"),
    aten.cos.default: _call("cos"),
    aten.tan.default: _call("tan"),
    aten.asin.default: _call("asin"),
    aten.acos.default: _call("acos"),
    aten.atan.default: _call("atan"),
    aten.atan2.default: _call("atan2"),
    aten.sinh.default: _call("sinh"),
    aten.cosh.default: _call("cosh"),
    aten.asinh.default: _call("asinh"),
    aten.acosh.default: _call("acosh"),
    aten.atanh.default: _call("atanh"),
    aten.erf.default: _call("erf"),
    aten.erfc.default: _call("erfc"),
    aten.hypot.default: _call("hypot"),
    aten.copysign.Tensor: _call("copysign"),
    aten.sqrt.default: _call("sqrt"),
    aten.rsqrt.default: lambda a: f"((real)1 / r_sqrt({a}))",
    aten.abs.default: _call("abs"),
    aten.sgn.default: _call("sign"),
    aten.sign.default: _call("sign"),
    aten.floor.default: _call("floor"),
    aten.ceil.default: _call("ceil"),
    aten.trunc.default: _call("trunc"),
    aten.round.default: _call("rint"),  # halves to even, as torch
    aten.fmod.Tensor: _call("fmod"),
    aten.fmod.Scalar: _call("fmod"),
    aten.remainder.Tensor: _call("remainder"),
    aten.remainder.Scalar: _call("remainder"),
    # A NaN passes, as in torch: a comparison with it is false.
    aten.relu.default: lambda a: f"({a} < 0 ? (real)0 : {a})",
    aten.maximum.default: _call("max"),
    aten.minimum.default: _call("min"),
    aten.clamp.default: _clamp,
    aten.clamp.Tensor: _clamp,
    aten.clamp_min.default: _clamp,
    aten.clamp_min.Tensor: _clamp,
    aten.clamp_max.default: _call("min"),
    aten.clamp_max.Tensor: _call("min"),
    aten.pow.Tensor_Scalar: _power,
    aten.pow.Tensor_Tensor: _call("pow"),
    aten.pow.Scalar: _call("pow"),
    aten.sigmoid_backward.default: lambda g, y: f"({g} * (((real)1 - {y}) * {y}))",
    aten.tanh_backward.default: lambda g, y: f"({g} * ((real)1 - {y} * {y}))",
    aten.threshold_backward.default: lambda g, x, t: f"({x} <= {t} ? (real)0 : {g})",
    aten.gt.Tensor: _test(">"),
    aten.gt.Scalar: _test(">"),
    aten.ge.Tensor: _test(">="),
    aten.ge.Scalar: _test(">="),
    aten.lt.Tensor: _test("<"),
    aten.lt.Scalar: _test("<"),
    aten.le.Tensor: _test("<="),
    aten.le.Scalar: _test("<="),
    aten.eq.Tensor: _test("=="),
    aten.eq.Scalar: _test("=="),
    aten.ne.Tensor: _test("!="),
    aten.ne.Scalar: _test("!="),
    aten.logical_and.default: lambda a, b: f"((real)({a} != 0 && {b} != 0))",
    aten.logical_or.default: lambda a, b: f"((real)({a} != 0 || {b} != 0))",
    aten.logical_xor.default: lambda a, b: f"((real)(({a} != 0) != ({b} != 0)))",
    aten.logical_not.default: lambda a: f"((real)({a} == 0))",
    # Of conditions only: a trace holds no whole numbers.
    aten.bitwise_and.Tensor: lambda a, b: f"((real)({a} != 0 && {b} != 0))",
    aten.bitwise_or.Tensor: lambda a, b: f"((real)({a} != 0 || {b} != 0))",
    aten.bitwise_xor.Tensor: lambda a, b: f"((real)(({a} != 0) != ({b} != 0)))",
    aten.bitwise_not.default: lambda a: f"((real)({a} == 0))",
    aten.isnan.default: lambda a: f"((real)({a} != {a}))",
    aten.isinf.default: lambda a: f"((real)(r_abs({a}) == (real)INFINITY))",
    aten.where.self: lambda c, a, b: f"({c} != 0 ? {a} : {b})",
    aten.masked_fill.Scalar: lambda a, c, b: f"({c} != 0 ? {b} : {a})",
    aten.masked_fill.Tensor: lambda a, c, b: f"({c} != 0 ? {b} : {a})",
    aten.detach.default: lambda a: a,
    aten.clone.default: lambda a: a,
    aten.alias.default: lambda a: a,
    to_real: lambda a, like: a,
    aten.zeros_like.default: lambda a: "((real)0)",
    aten.ones_like.default: lambda a: "((real)1)",
    aten.full_like.default: lambda a, b: b,
    aten.scalar_tensor.default: lambda a: a,
    aten.expand.default: lambda a: a,
    aten.unsqueeze.default: lambda a: a,
    aten.squeeze.dim: lambda a: a,
    aten.squeeze.dims: lambda a: a,
}
"""Target -> C expression of the operands."""

SHAPES = (
    aten.expand.default,
    aten.unsqueeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
)
"""Operations whose further arguments are axes and sizes."""

REDUCTIONS: dict[object, str] = {
    aten.sum.dim_IntList: "sum",
    aten.mean.dim: "mean",
    aten.amax.default: "max",
    aten.amin.default: "min",
}
"""Reductions over the last axis."""

NUMBERS: dict[object, Line] = {
    aten.sym_size.int: lambda *_: "((real)H)",
    operator.add: _scaled("+"),
    operator.sub: _scaled("-"),
    operator.mul: lambda a, b: f"({a} * {b})",
    operator.truediv: lambda a, b: f"({a} / {b})",
    operator.neg: lambda a: f"(-{a})",
    operator.pow: _power,
    torch.sym_float: lambda a: a,
}
"""Arithmetic on sizes."""

KNOWN = {*POINTWISE, *REDUCTIONS, *NUMBERS}
