/* Scales and clips of the gradient that is carried back through time. */
#pragma once
#include "step_blocks.h"

/* A word that holds the bits of a double. */
static inline double as_double(word bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline int clamp_exponent(int e) {
    const int most = sizeof(real) == 4 ? 126 : 1022;
    return e > most ? most : (e < -most ? -most : e);
}

/* A number times a power of two, in two halves: one factor could itself leave the range. */
static inline real times_power(real x, int e) {
    const int h = e >> 1;
    return x * r_ldexp(1, clamp_exponent(h)) * r_ldexp(1, clamp_exponent(e - h));
}

/* Bring one row of the gradient, in all states, back into the range of its type.

   The backward loop is linear in the gradient, so a row may be multiplied by a power of two, which
   is exact, and divided again when it is read. What would be 1e-60 is carried as a number near one
   and an exponent. `now[0]` is the exponent of this row, `*factor` the power that undoes it; `look`
   says whether to measure the row. Whether it is scaled is returned. The same rule in torch is
   `scan/rescale.py`. */
SHARED int rescale(real* const* all, const word* widths, int states, word row, int look,
                   const real* outside, int32_t* now, real* factor) {
    int move = 0;
    if (look) {
        real top = 0;
        for (int k = 0; k < states; k++) {
            const real* const g = all[k] + row * widths[k];
#pragma omp simd reduction(max : top)
            for (word u = 0; u < widths[k]; u++) top = r_abs(g[u]) > top ? r_abs(g[u]) : top;
        }
        if (top > 0 && top <= (real)(sizeof(real) == 4 ? 3.4e38 : 1.7e308)) {
            int binary;
            (void)frexp((double)top, &binary);
            if (binary > 40 || binary < -40) move = -binary;
        }
    }
    if (now[0] + move > 0) { /* scaled up: brought back where something comes from outside */
        int enters = 0;
        for (word u = 0; u < widths[0]; u++) enters |= outside[u] != 0;
        if (enters) move = -now[0];
    }
    if (move) {
        for (int k = 0; k < states; k++)
            for (word u = 0; u < widths[k]; u++)
                all[k][row * widths[k] + u] = times_power(all[k][row * widths[k] + u], move);
        now[0] += move;
        *factor = times_power(1, -now[0]);
    }
    return now[0] != 0 || move != 0;
}

/* the gradient at the last state, from `at` on; none is zero */
SHARED void load_gradient(word n, const real* grad, word at, real* to) {
    if (grad) memcpy(to, grad + at, n * sizeof(real));
    else memset(to, 0, n * sizeof(real));
}

/* the gradient of a row that began anew at this step: added to that of the state it was set to, if
   that is wanted, and zero from here on */
static inline void end_row(word n, int e, real* g, real* to) {
    for (word u = 0; to && u < n; u++) to[u] += e ? times_power(g[u], -e) : g[u];
    memset(g, 0, n * sizeof(real));
}

/* Bound one row: by value (0), or by its norm. The sum is in double: in float the squares of what
   is above 1e19 are infinite, and the row would become zero. */
SHARED void clip(real* g, word n, word by, real bound) {
    if (by == 0) {
        for (word u = 0; u < n; u++) {
            const real v = g[u];
            g[u] = v > bound ? bound : (v < -bound ? -bound : v);
        }
        return;
    }
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (word u = 0; u < n; u++) sum += (double)g[u] * (double)g[u];
    if (!(sum <= (double)bound * (double)bound)) { /* a NaN goes in here and comes out */
        const real s = (real)((double)bound / sqrt(sum));
        for (word u = 0; u < n; u++) g[u] *= s;
    }
}
