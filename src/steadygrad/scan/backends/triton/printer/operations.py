"""A Triton expression for every operation of `steadygrad.scan.ir.operations`.

Operands are names of blocks of the computation's dtype ``DT``, or literals; so is what comes out,
conditions as 0 or 1. A comparison with a NaN is false, and `tl.maximum` would drop it: maxima are
written so that a NaN passes, as in torch.
"""

import math
from collections.abc import Callable

from steadygrad.scan.ir.operations import Unprintable

Line = Callable[..., str]


def literal(value: object) -> str:
    """A Python number as it stands in a kernel; it takes the dtype of the block it meets."""
    if not isinstance(value, int | float):
        raise Unprintable(f"a constant of type {type(value).__name__}")
    number = float(value)
    if math.isnan(number):
        return 'float("nan")'
    if math.isinf(number):
        return 'float("inf")' if number > 0 else 'float("-inf")'
    return repr(number)


def is_literal(text: str) -> bool:
    """Whether a text is what `literal` makes."""
    try:
        float(text.removeprefix('float("').removesuffix('")'))
    except ValueError:
        return False
    return text not in ("nan", "inf")  # names


def block(operand: str) -> str:
    """An operand as a block: a literal alone would be of float32, or of no dtype at all."""
    return f"tl.full((1, 1), {operand}, DT)" if is_literal(operand) else operand


def _call(module: str, name: str) -> Line:
    return lambda *operands: f"{module}.{name}({', '.join(map(block, operands))})"


def _scaled(sign: str) -> Line:
    def line(a: str, b: str, alpha: str = "") -> str:
        second = f"{alpha} * {b}" if alpha else b
        return f"{block(a)} {sign} {second}"

    return line


def _test(sign: str) -> Line:
    return lambda a, b: f"({block(a)} {sign} {b}).to(DT)"


def _extreme(sign: str) -> Line:
    # A NaN in a is taken, and one in b too: the comparison with it is false.
    def line(a: str, b: str) -> str:
        a = block(a)
        return f"tl.where(({a} {sign} {b}) | ({a} != {a}), {a}, {b})"

    return line


def _clamp(a: str, low: str | None = None, high: str | None = None) -> str:
    done = block(a)
    if low is not None:
        done = f"tl.where({done} < {low}, {low}, {done})"
    return done if high is None else f"least({done}, {block(high)})"


def _divided(a: str, b: str, rounding_mode: object = None) -> str:
    a, b = block(a), block(b)
    return {
        None: f"{a} / {b}",
        "trunc": f"libdevice.trunc({a} / {b})",
        "floor": f"floor_divide({a}, {b})",
    }[rounding_mode]


def _power(base: str, exponent: str) -> str:
    base = block(base)
    known = {
        "1.0": base,
        "2.0": f"{base} * {base}",
        "3.0": f"{base} * {base} * {base}",
        "0.5": f"tl.sqrt({base})",
        "-1.0": f"1.0 / {base}",
        "-0.5": f"1.0 / tl.sqrt({base})",
    }
    return known.get(exponent, f"libdevice.pow({base}, {block(exponent)})")


def _sign(a: str) -> str:
    a = block(a)
    return f"(({a} > 0).to(DT) - ({a} < 0).to(DT))"


LANGUAGE = (
    "exp", "exp2", "log", "log2", "sin", "cos", "erf", "sqrt", "rsqrt", "abs", "floor", "ceil",
)  # fmt: skip
"""Operations that are functions of Triton's language."""
LIBRARY = (
    "tanh", "log10", "log1p", "expm1", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh",
    "asinh", "acosh", "atanh", "erfc", "hypot", "copysign", "trunc", "fmod",
)  # fmt: skip
"""Operations that are functions of the device's library, by the same names."""

LINES: dict[str, Line] = {
    "add": _scaled("+"),
    "subtract": _scaled("-"),
    "subtract_from": lambda a, b: f"{block(b)} - {a}",
    "multiply": lambda a, b: f"{block(a)} * {b}",
    "divide": _divided,
    "negate": lambda a: f"-{block(a)}",
    "reciprocal": lambda a: f"1.0 / {block(a)}",
    **{name: _call("tl", name) for name in LANGUAGE},
    **{name: _call("libdevice", name) for name in LIBRARY},
    "sigmoid": lambda a: f"1.0 / (1.0 + tl.exp(-{block(a)}))",
    "round": _call("libdevice", "rint"),  # halves to even, as torch
    "remainder": lambda a, b: f"remainder({block(a)}, {block(b)})",
    "sign": _sign,
    "relu": lambda a: f"tl.where({block(a)} < 0, 0.0, {a})",
    "maximum": _extreme(">"),
    "minimum": _extreme("<"),
    "clamp": _clamp,
    "power": _power,
    "sigmoid_backward": lambda g, y: f"{block(g)} * ((1.0 - {y}) * {y})",
    "tanh_backward": lambda g, y: f"{block(g)} * (1.0 - {y} * {y})",
    "threshold_backward": lambda g, x, t: f"tl.where({block(x)} <= {t}, 0.0, {block(g)})",
    "greater": _test(">"),
    "greater_equal": _test(">="),
    "less": _test("<"),
    "less_equal": _test("<="),
    "equal": _test("=="),
    "not_equal": _test("!="),
    "and": lambda a, b: f"(({block(a)} != 0) & ({block(b)} != 0)).to(DT)",
    "or": lambda a, b: f"(({block(a)} != 0) | ({block(b)} != 0)).to(DT)",
    "xor": lambda a, b: f"(({block(a)} != 0) != ({block(b)} != 0)).to(DT)",
    "not": lambda a: f"({block(a)} == 0).to(DT)",
    "is_nan": lambda a: f"({block(a)} != {a}).to(DT)",
    "is_infinite": lambda a: f'(tl.abs({block(a)}) == float("inf")).to(DT)',
    "where": lambda c, a, b: f"tl.where({block(c)} != 0, {block(a)}, {block(b)})",
    "masked_fill": lambda a, c, b: f"tl.where({block(c)} != 0, {block(b)}, {block(a)})",
    "copy": lambda a, *_: block(a),
    "zero": lambda *_: block("0.0"),
    "one": lambda *_: block("1.0"),
    "fill": lambda _, b: block(b),
}
"""Name of an operation -> Triton expression of its operands."""

REDUCED: dict[str, Callable[[str, int], str]] = {
    "sum": lambda a, size: f"tl.sum(tl.where(m, {a}, 0.0), 1, keep_dims=True)",
    "mean": lambda a, size: f"tl.sum(tl.where(m, {a}, 0.0), 1, keep_dims=True) / {size}.0",
    "max": lambda a, size: f"largest_of({a}, m)",
    "min": lambda a, size: f"-largest_of(-{a}, m)",
}
"""Name of a reduction over the units of each row -> expression, under the mask ``m``."""
