"""The operations that can be printed as C, one line each.

Operands are C expressions of type ``real``. Anything that is not here is for `eager`.
"""

import math
from collections.abc import Callable

import torch

aten = torch.ops.aten


class Unprintable(Exception):
    """A traced step holds something that has no line in this table; the message names it."""


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
    aten.neg.default: lambda a: f"(-{a})",
    aten.reciprocal.default: lambda a: f"((real)1 / {a})",
    aten.sigmoid.default: lambda a: f"r_sigmoid({a})",
    aten.tanh.default: lambda a: f"r_tanh({a})",
    aten.exp.default: lambda a: f"r_exp({a})",
    aten.log.default: lambda a: f"r_log({a})",
    aten.log1p.default: lambda a: f"r_log1p({a})",
    aten.expm1.default: lambda a: f"r_expm1({a})",
    aten.sin.default: lambda a: f"r_sin({a})",
    aten.cos.default: lambda a: f"r_cos({a})",
    aten.sqrt.default: lambda a: f"r_sqrt({a})",
    aten.rsqrt.default: lambda a: f"((real)1 / r_sqrt({a}))",
    aten.abs.default: lambda a: f"r_abs({a})",
    aten.sgn.default: lambda a: f"r_sign({a})",
    aten.sign.default: lambda a: f"r_sign({a})",
    # A NaN passes, as in torch: a comparison with it is false.
    aten.relu.default: lambda a: f"({a} < 0 ? (real)0 : {a})",
    aten.maximum.default: lambda a, b: f"r_max({a}, {b})",
    aten.minimum.default: lambda a, b: f"r_min({a}, {b})",
    aten.pow.Tensor_Scalar: _power,
    aten.sigmoid_backward.default: lambda g, y: f"({g} * (((real)1 - {y}) * {y}))",
    aten.tanh_backward.default: lambda g, y: f"({g} * ((real)1 - {y} * {y}))",
    aten.threshold_backward.default: lambda g, x, t: f"({x} <= {t} ? (real)0 : {g})",
    aten.gt.Tensor: lambda a, b: f"((real)({a} > {b}))",
    aten.gt.Scalar: lambda a, b: f"((real)({a} > {b}))",
    aten.ge.Tensor: lambda a, b: f"((real)({a} >= {b}))",
    aten.ge.Scalar: lambda a, b: f"((real)({a} >= {b}))",
    aten.lt.Tensor: lambda a, b: f"((real)({a} < {b}))",
    aten.lt.Scalar: lambda a, b: f"((real)({a} < {b}))",
    aten.le.Tensor: lambda a, b: f"((real)({a} <= {b}))",
    aten.le.Scalar: lambda a, b: f"((real)({a} <= {b}))",
    aten.eq.Tensor: lambda a, b: f"((real)({a} == {b}))",
    aten.eq.Scalar: lambda a, b: f"((real)({a} == {b}))",
    aten.where.self: lambda c, a, b: f"({c} != 0 ? {a} : {b})",
    aten.masked_fill.Scalar: lambda a, c, b: f"({c} != 0 ? {b} : {a})",
    aten.detach.default: lambda a: a,
    aten.clone.default: lambda a: a,
    aten.alias.default: lambda a: a,
    aten.zeros_like.default: lambda a: "((real)0)",
    aten.ones_like.default: lambda a: "((real)1)",
    aten.scalar_tensor.default: lambda a: a,
    aten.expand.default: lambda a, *size: a,
}
"""Target -> C expression of the operands."""

REDUCTIONS: dict[object, str] = {aten.sum.dim_IntList: "sum", aten.mean.dim: "mean"}
"""Reductions over the last axis, kept as an axis of size one."""

SIZE = aten.sym_size.int
