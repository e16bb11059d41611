"""Functions of the C library for a real of either width, and those that torch defines otherwise."""

NAMES = (
    "exp2", "log2", "log10", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh",
    "atanh", "erf", "erfc", "floor", "ceil", "trunc", "rint",
)  # fmt: skip
OF_TWO = ("atan2", "hypot", "copysign", "fmod")

TORCH = r"""
/* the sign is that of the divisor */
static inline real r_remainder(real a, real b) {
    const real m = r_fmod(a, b);
    return m != 0 && (b < 0) != (m < 0) ? m + b : m;
}
static inline real r_floordiv(real a, real b) {
    if (b == 0) return a / b;
    const real q = (a - r_remainder(a, b)) / b;
    const real f = r_floor(q);
    return q - f > (real)0.5 ? f + 1 : f;
}
"""


def functions() -> str:
    """C text, to stand behind `steadygrad.scan.backends.c.runtime.preamble.preamble`."""
    one = [
        f"static inline real r_{n}(real x) {{ return sizeof(real) == 4 ? {n}f(x) : {n}(x); }}"
        for n in NAMES
    ]
    two = [
        f"static inline real r_{n}(real x, real y) "
        f"{{ return sizeof(real) == 4 ? {n}f(x, y) : {n}(x, y); }}"
        for n in OF_TWO
    ]
    return "\n".join([*one, *two]) + TORCH
