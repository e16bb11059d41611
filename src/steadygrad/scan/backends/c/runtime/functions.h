/* Functions of the C library for a real of either width, and those that torch defines otherwise. */
#pragma once
#include "real.h"

#define OF_ONE(name)                                                                               \
    static inline real r_##name(real x) { return BYTES == 4 ? name##f(x) : name(x); }
#define OF_TWO(name)                                                                               \
    static inline real r_##name(real x, real y) { return BYTES == 4 ? name##f(x, y) : name(x, y); }
OF_ONE(exp2)
OF_ONE(log2)
OF_ONE(log10)
OF_ONE(tan)
OF_ONE(asin)
OF_ONE(acos)
OF_ONE(atan)
OF_ONE(sinh)
OF_ONE(cosh)
OF_ONE(asinh)
OF_ONE(acosh)
OF_ONE(atanh)
OF_ONE(erf)
OF_ONE(erfc)
OF_ONE(floor)
OF_ONE(ceil)
OF_ONE(trunc)
OF_ONE(rint)
OF_TWO(atan2)
OF_TWO(hypot)
OF_TWO(copysign)
OF_TWO(fmod)

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
