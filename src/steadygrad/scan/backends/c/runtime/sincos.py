"""Vectorised sine and cosine of a float, right over its whole range."""

TWO_OVER_PI = 0xA2F9836E4E441529FC2757D1F534DDC0DB6295993C439041FE5163
BITS = 216
"""Of the fraction of 2 / pi above: as many as the largest float needs, and 50 more."""
LARGEST = 105
"""Exponent of two above that of 2^23 at which a float is no longer finite."""


def half_turns(k: int) -> float:
    r""":math:`2^k / \pi` modulo 2, between -1 and 1, rounded once."""
    bits = (TWO_OVER_PI << k) % (1 << BITS + 2)
    return (bits - (1 << BITS + 2) if bits >> BITS + 1 else bits) / (1 << BITS + 1)


FUNCTIONS = r"""
/* |x| = m 2^k with m < 2^24, and m half_turns[k] is x / pi but for whole turns, to 2^-28 in double,
   whatever the size of x: no other path for large x, no branch, so the loop around it vectorises.
   Then sin(pi f) of the fraction f by a polynomial. NaN and Inf give NaN. */
static inline real r_turned(real x, double ahead) {
    union { real f; int32_t i; } a, b;
    a.f = x;
    int32_t k = ((a.i >> 23) & 255) - 150;
    k = k > 0 ? k : 0;
    b.i = (127 - k) << 23;
    const double t = (double)(x * b.f) * half_turns[k] + ahead;
    const double n = __builtin_rint(t);
    const double odd = __builtin_fabs(n - 2.0 * __builtin_rint(0.5 * n));
    const real f = (real)((t - n) * (1.0 - 2.0 * odd));
    const real s = f * f;
    real p = 7.75603866e-2f;
    p = p * s - 5.98242126e-1f;
    p = p * s + 2.55006973f;
    p = p * s - 5.16770968f;
    p = p * s + 3.14159264f;
    return p * f;
}
static inline real r_sin(real x) { return r_turned(x, 0.0); }
static inline real r_cos(real x) { return r_turned(x, 0.5); }
"""


def circle() -> str:
    """C text of ``r_sin`` and ``r_cos``, to stand where ``real`` is a float."""
    table = ", ".join(half_turns(k).hex() for k in range(LARGEST + 1))
    return f"static const double half_turns[{LARGEST + 1}] = {{{table}}};\n{FUNCTIONS}"
