/* Sine and cosine of a float, right over its whole range, without branches.

   Included by real.h, where `real` is float. */
#pragma once
#include "real.h"

/* half_turns[k] is 2^k / pi modulo 2, between -1 and 1, rounded once: what a bit of weight 2^k adds
   to x / pi, whole turns left out. 105 is the largest power of two in a finite float whose last bit
   counts one. The table is checked against 216 binary digits of 2 / pi by the tests. */
static const double half_turns[106] = {
    0x1.45f306dc9c883p-2,  0x1.45f306dc9c883p-1,  -0x1.7419f246c6efbp-1, 0x1.17cc1b727220bp-1,
    -0x1.d067c91b1bbebp-1, 0x1.7cc1b727220a9p-3,  0x1.7cc1b727220a9p-2,  0x1.7cc1b727220a9p-1,
    -0x1.067c91b1bbeadp-1, 0x1.f306dc9c882a5p-1,  -0x1.9f246c6efab58p-5, -0x1.9f246c6efab58p-4,
    -0x1.9f246c6efab58p-3, -0x1.9f246c6efab58p-2, -0x1.9f246c6efab58p-1, 0x1.836e4e44152a0p-2,
    0x1.836e4e44152a0p-1,  -0x1.f246c6efab581p-2, -0x1.f246c6efab581p-1, 0x1.b727220a94fe1p-5,
    0x1.b727220a94fe1p-4,  0x1.b727220a94fe1p-3,  0x1.b727220a94fe1p-2,  0x1.b727220a94fe1p-1,
    -0x1.236377d5ac07bp-2, -0x1.236377d5ac07bp-1, 0x1.b9391054a7f0ap-1,  -0x1.1b1bbead603d9p-2,
    -0x1.1b1bbead603d9p-1, 0x1.c9c882a53f84fp-1,  -0x1.b1bbead603d8bp-3, -0x1.b1bbead603d8bp-2,
    -0x1.b1bbead603d8bp-1, 0x1.391054a7f09d6p-2,  0x1.391054a7f09d6p-1,  -0x1.8ddf56b01ec54p-1,
    0x1.c882a53f84eb0p-2,  0x1.c882a53f84eb0p-1,  -0x1.bbead603d8a83p-3, -0x1.bbead603d8a83p-2,
    -0x1.bbead603d8a83p-1, 0x1.1054a7f09d5f4p-2,  0x1.1054a7f09d5f4p-1,  -0x1.df56b01ec5417p-1,
    0x1.054a7f09d5f48p-3,  0x1.054a7f09d5f48p-2,  0x1.054a7f09d5f48p-1,  -0x1.f56b01ec54170p-1,
    0x1.529fc2757d1f5p-5,  0x1.529fc2757d1f5p-4,  0x1.529fc2757d1f5p-3,  0x1.529fc2757d1f5p-2,
    0x1.529fc2757d1f5p-1,  -0x1.5ac07b1505c16p-1, 0x1.4a7f09d5f47d5p-1,  -0x1.6b01ec5417056p-1,
    0x1.29fc2757d1f53p-1,  -0x1.ac07b1505c159p-1, 0x1.4fe13abe8fa9ap-2,  0x1.4fe13abe8fa9ap-1,
    -0x1.603d8a82e0acbp-1, 0x1.3f84eafa3ea6ap-1,  -0x1.80f62a0b82b2dp-1, 0x1.fc2757d1f534ep-2,
    0x1.fc2757d1f534ep-1,  -0x1.ec54170565912p-7, -0x1.ec54170565912p-6, -0x1.ec54170565912p-5,
    -0x1.ec54170565912p-4, -0x1.ec54170565912p-3, -0x1.ec54170565912p-2, -0x1.ec54170565912p-1,
    0x1.3abe8fa9a6ee0p-4,  0x1.3abe8fa9a6ee0p-3,  0x1.3abe8fa9a6ee0p-2,  0x1.3abe8fa9a6ee0p-1,
    -0x1.8a82e0acb223fp-1, 0x1.d5f47d4d37703p-2,  0x1.d5f47d4d37703p-1,  -0x1.505c1596447e5p-3,
    -0x1.505c1596447e5p-2, -0x1.505c1596447e5p-1, 0x1.5f47d4d377037p-1,  -0x1.4170565911f92p-1,
    0x1.7d1f534ddc0dbp-1,  -0x1.05c1596447e49p-1, 0x1.f47d4d377036ep-1,  -0x1.70565911f924fp-5,
    -0x1.70565911f924fp-4, -0x1.70565911f924fp-3, -0x1.70565911f924fp-2, -0x1.70565911f924fp-1,
    0x1.1f534ddc0db63p-1,  -0x1.c1596447e493bp-1, 0x1.f534ddc0db629p-3,  0x1.f534ddc0db629p-2,
    0x1.f534ddc0db629p-1,  -0x1.596447e493ad5p-5, -0x1.596447e493ad5p-4, -0x1.596447e493ad5p-3,
    -0x1.596447e493ad5p-2, -0x1.596447e493ad5p-1, 0x1.4d377036d8a56p-1,  -0x1.65911f924eb53p-1,
    0x1.34ddc0db6295ap-1,  -0x1.96447e493ad4dp-1};

/* |x| = m 2^k with m < 2^24, and m half_turns[k] is x / pi but for whole turns, to 2^-28 in double,
   whatever the size of x: no other path for large x, no branch, so the loop around it vectorises.
   Then sin(pi f) of the fraction f by a polynomial. NaN and Inf give NaN. */
static inline real r_turned(real x, double ahead) {
    union {
        real f;
        int32_t i;
    } a, b;
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
