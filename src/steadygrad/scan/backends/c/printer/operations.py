"""A line of C for every operation that a step may consist of, `steadygrad.scan.ir.operations`.

Operands are C expressions of type ``real``; so is what comes out, conditions as 0 or 1.
"""

import math
from collections.abc import Callable

from steadygrad.scan.ir.operations import Unprintable


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


FUNCTIONS = (
    "sigmoid", "tanh", "exp", "exp2", "log", "log2", "log10", "log1p", "expm1", "sin", "cos", "tan",
    "asin", "acos", "atan", "atan2", "sinh", "cosh", "asinh", "acosh", "atanh", "erf", "erfc",
    "hypot", "copysign", "sqrt", "abs", "sign", "floor", "ceil", "trunc", "fmod", "remainder",
)  # fmt: skip
"""Operations that are functions of the runtime, ``r_<name>``."""

Line = Callable[..., str]

LINES: dict[str, Line] = {
    "add": _scaled("+"),
    "subtract": _scaled("-"),
    "subtract_from": lambda a, b: f"({b} - {a})",
    "multiply": lambda a, b: f"({a} * {b})",
    "divide": _divided,
    "negate": lambda a: f"(-{a})",
    "reciprocal": lambda a: f"((real)1 / {a})",
    **{name: _call(name) for name in FUNCTIONS},
    "rsqrt": lambda a: f"((real)1 / r_sqrt({a}))",
    "round": _call("rint"),  # halves to even, as torch
    # A NaN passes, as in torch: a comparison with it is false.
    "relu": lambda a: f"({a} < 0 ? (real)0 : {a})",
    "maximum": _call("max"),
    "minimum": _call("min"),
    "clamp": _clamp,
    "power": _power,
    "sigmoid_backward": lambda g, y: f"({g} * (((real)1 - {y}) * {y}))",
    "tanh_backward": lambda g, y: f"({g} * ((real)1 - {y} * {y}))",
    "threshold_backward": lambda g, x, t: f"({x} <= {t} ? (real)0 : {g})",
    "greater": _test(">"),
    "greater_equal": _test(">="),
    "less": _test("<"),
    "less_equal": _test("<="),
    "equal": _test("=="),
    "not_equal": _test("!="),
    "and": lambda a, b: f"((real)({a} != 0 && {b} != 0))",
    "or": lambda a, b: f"((real)({a} != 0 || {b} != 0))",
    "xor": lambda a, b: f"((real)(({a} != 0) != ({b} != 0)))",
    "not": lambda a: f"((real)({a} == 0))",
    "is_nan": lambda a: f"((real)({a} != {a}))",
    "is_infinite": lambda a: f"((real)(r_abs({a}) == (real)INFINITY))",
    "where": lambda c, a, b: f"({c} != 0 ? {a} : {b})",
    "masked_fill": lambda a, c, b: f"({c} != 0 ? {b} : {a})",
    "copy": lambda a, *_: a,
    "zero": lambda *_: "((real)0)",
    "one": lambda *_: "((real)1)",
    "fill": lambda _, b: b,
}
"""Name of an operation -> C expression of its operands."""
