/* exp, sigmoid, tanh and log1p of a float, without branches: the loop around them vectorises.

   Each has a relative error below 4e-7 and lets NaN and infinity come out where torch has them.
   Included by real.h, where `real` is float. */
#pragma once
#include "real.h"

/* exp: x = n ln 2 + r, exp(r) by a polynomial, 2^n by the exponent bits, in two halves so that
   the result may be subnormal or infinite. Adding 1.5 2^23 rounds to n and leaves it in the last
   bits. Comparisons let a NaN pass, whose bits may be anything: the polynomial carries it on. */
#define SHIFT 12582912.0f
typedef union {
    real f;
    uint32_t i;
} both;
/* exp(r), and n in the last bits of `t` */
static inline real r_power(real x, both* t) {
    t->f = x * 1.44269504f + SHIFT;
    const real n = t->f - SHIFT;
    real r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    real p = 1.38145402e-3f;
    p = p * r + 8.36874511e-3f;
    p = p * r + 4.16683908e-2f;
    p = p * r + 1.66665204e-1f;
    p = p * r + 4.99999934e-1f;
    p = p * r + 1.0f;
    return p * r + 1.0f;
}
static inline real r_exp(real x) {
    real y = x > 89.0f ? 89.0f : x;
    y = y < -104.0f ? -104.0f : y;
    both t, a, b;
    const real p = r_power(y, &t);
    const int32_t k = (int32_t)(t.i - 0x4b400000u), h = k >> 1;
    a.i = (uint32_t)(h + 127) << 23;
    b.i = (uint32_t)(k - h + 127) << 23;
    return p * a.f * b.f;
}
/* With exp(-x) as exp(r) 2^(n - 1) 2, whose exponent needs no halves: what is subnormal is lost
   beside the one that is added to it. */
static inline real r_sigmoid(real x) {
    real y = x < -89.0f ? -89.0f : x;
    y = y > 60.0f ? 60.0f : y;
    both t, a;
    const real p = r_power(-y, &t);
    a.i = (t.i + 126u) << 23;
    return 1.0f / (1.0f + p * a.f * 2.0f);
}
/* tanh: x P(x^2) / Q(x^2), fitted to |x| <= 8.2; above 8.1 it is 1, and up to there
   never beyond. Error below 4e-7. */
static inline real r_tanh(real x) {
    const real s = x * x;
    real p = -1.40625617e-11f;
    p = p * s + 3.29797373e-8f;
    p = p * s + 2.89740607e-5f;
    p = p * s + 3.91553681e-3f;
    p = p * s + 1.37174310e-1f;
    p = p * s + 1.0f;
    real q = 1.35577571e-6f;
    q = q * s + 4.02233750e-4f;
    q = q * s + 2.74180910e-2f;
    q = q * s + 4.70507639e-1f;
    q = q * s + 1.0f;
    const real t = x * p / q;
    return x > 8.1f ? 1.0f : (x < -8.1f ? -1.0f : t);
}
/* log1p: u = 1 + x = 2^e m, log(m) by a polynomial, c is what the rounding of 1 + x lost.
   A NaN passes through c. */
static inline real r_log1p(real x) {
    union {
        real f;
        uint32_t i;
    } a, b;
    a.f = 1.0f + x;
    const real u = a.f, c = (x - (u - 1.0f)) / u;
    const int32_t k = (int32_t)(a.i - 0x3f3504f3u) >> 23;
    b.i = a.i - ((uint32_t)k << 23);
    const real r = b.f - 1.0f, s = r * r, e = (real)k;
    real p = 7.0376836292e-2f;
    p = p * r - 1.1514610310e-1f;
    p = p * r + 1.1676998740e-1f;
    p = p * r - 1.2420140846e-1f;
    p = p * r + 1.4249322787e-1f;
    p = p * r - 1.6668057665e-1f;
    p = p * r + 2.0000714765e-1f;
    p = p * r - 2.4999993993e-1f;
    p = p * r + 3.3333331174e-1f;
    real y = r * s * p - e * 2.12194440e-4f;
    y = r + (y - 0.5f * s + c) + e * 0.693359375f;
    y = u < 0.0f ? NAN : y;
    y = u == 0.0f ? -INFINITY : y;
    return u == INFINITY ? INFINITY : y;
}
