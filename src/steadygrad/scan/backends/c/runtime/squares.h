/* Sums of squares of rows: what the taps write down at every step of the backward loop. */
#pragma once
#include "rescale.h"

/* Zeros, then ones: a load from within masks the part of a last vector that was summed before. */
static const real edge[2 * VL] = {[VL... 2 * VL - 1] = 1};
static __attribute__((noinline)) quad squares_of_few(const real* g0, const real* g1, const real* g2,
                                                     const real* g3, word n) {
    quad s = {0};
    for (word u = 0; u < n; u++) {
        const quad v = {g0[u], g1[u], g2[u], g3[u]};
        s += v * v;
    }
    return s;
}

/* Of four rows at once: a sum across one vector costs as much as across four. Where the last vector
   is not full, it begins earlier, and what has been summed already weighs nothing. */
INLINE quad squares(const real* g0, const real* g1, const real* g2, const real* g3, word n) {
#define SQUARE(s, g, w)                                                                            \
    {                                                                                              \
        const vec v = *(const vec*)(g)w;                                                           \
        s += v * v;                                                                                \
    }
    if (n < VL) return squares_of_few(g0, g1, g2, g3, n);
    vec a = {0}, b = {0}, c = {0}, d = {0};
    word u = 0;
    for (; u + VL <= n; u += VL) {
        SQUARE(a, g0 + u, ) SQUARE(b, g1 + u, ) SQUARE(c, g2 + u, ) SQUARE(d, g3 + u, )
    }
    if (u < n) {
        const vec w = *(const vec*)(edge + n - u);
        u = n - VL;
        SQUARE(a, g0 + u, *w) SQUARE(b, g1 + u, *w) SQUARE(c, g2 + u, *w) SQUARE(d, g3 + u, *w)
    }
    return across(a, b, c, d);
}

typedef __typeof__((quad){0} > 0) quads; /* -1 where so, else 0 */
INLINE int all_of(quads are) {
    word bits[sizeof(quads) / sizeof(word)], all = -1;
    memcpy(bits, &are, sizeof bits);
    for (int i = 0; i < (int)(sizeof bits / sizeof *bits); i++) all &= bits[i];
    return all == -1;
}

/* beyond, squares may have left their range */
#define MOST_SQUARES (BYTES == 4 ? (real)1e28 : (real)1e290)

/* The sum of one row in double. If values are not finite, how many, and whether the sum is NaN
   (or infinite): below zero, where no sum is. */
SHARED double careful_sum(const real* g, word n) {
    double sum = 0;
    word count = 0;
#pragma omp simd reduction(+ : sum)
    for (word u = 0; u < n; u++) sum += (double)g[u] * (double)g[u];
    if (sum <= 1.7e308) return sum;
    for (word u = 0; u < n; u++) count += !(g[u] - g[u] == 0);
    return count ? -(double)(2 * count + (sum != sum)) : sum;
}

/* Sums that are written already, of `rows` rows, formed anew where they are not to be trusted. */
ALONE record_carefully(word rows, const int count, const real* const* first, const word* lead,
                       const word* n, double* to) {
    for (int v = 0; v < count; v++)
        for (word i = 0; i < rows; i++, to++)
            if (!(*to > 1 / (double)MOST_SQUARES && *to < (double)MOST_SQUARES))
                *to = careful_sum(first[v] + i * lead[v], n[v]);
}

typedef double four __attribute__((vector_size(32), aligned(8), may_alias));

/* For each of `rows` rows a record of `count` sums: value v of row r is at first[v] + r * lead[v],
   of n[v] units; `even` if all are of the same. Of the first `fours` rows one value of four rows at
   a time, and their sums stand together, value by value; of the others four values at a time. */
INLINE void record_squares(word rows, word fours, const int count, const int even,
                           const real* const* first, const word* lead, const word* n,
                           double* record) {
    /* Sums in `real` are fast, and right unless a square leaves its range: then once more, in
       double. `fine` stays all ones as long as every sum is well inside; a NaN is not. */
    const quad most = (quad){0} + MOST_SQUARES, least = 1 / most;
    for (word i = 0; i < fours; i += 4) {
        double* const to = record + i * count;
        quads fine = least < most;
#pragma GCC unroll 8
        for (int v = 0; v < count; v++) {
            const word by = lead[v];
            const real* const g = first[v] + i * by;
            const quad sum = squares(g, g + by, g + 2 * by, g + 3 * by, n[v]);
            *(four*)(to + 4 * v) = __builtin_convertvector(sum, four);
            fine &= (sum > least) & (sum < most);
        }
        if (__builtin_expect(!all_of(fine), 0)) {
            const real* here[count];
            for (int v = 0; v < count; v++) here[v] = first[v] + i * lead[v];
            record_carefully(4, count, here, lead, n, to);
        }
    }
    for (word i = fours; i < rows; i++) {
        double* const to = record + i * count;
        const real* here[count];
        quads fine = least < most;
        for (int v = 0; v < count; v++) here[v] = first[v] + i * lead[v];
        for (int v = 0, more; v < count; v += more) {
            more = !even || v + 2 > count ? 1 : (v + 4 > count ? 2 : 4);
            const real* const* const g = here + v;
            const quad sum = squares(g[0], g[more > 1], g[more == 4 ? 2 : 0], g[more - 1], n[v]);
            const four wide = __builtin_convertvector(sum, four);
            if (more == 4) *(four*)(to + v) = wide;
            else
                for (int k = 0; k < more; k++) to[v + k] = wide[k];
            fine &= (sum > least) & (sum < most);
        }
        if (__builtin_expect(!all_of(fine), 0)) record_carefully(1, count, here, lead, n, to);
    }
}

/* whether any row was so far from one, a step ago, that it may have to be rescaled */
INLINE int may_need_rescaling(const double* record, const int count, const int states, word rows,
                              word fours) {
    int far = 0;
    for (word i = 0; i < rows; i++) {
        const int apart = i < fours ? 4 : 1;
        const double* const own = record + i / apart * apart * count + i % apart;
        double sum = 0;
        for (int k = 0; k < states; k++) sum += own[apart * k];
        far |= !(sum > 1e-18 && sum < 1e24);
    }
    return far;
}

SHARED void clear_share(int32_t* to, word n, word part, word parts) {
    memset(to + n * part / parts, 0, (n * (part + 1) / parts - n * part / parts) * sizeof *to);
}

SHARED void unscale(real* g, word n, int e) {
    if (e)
        for (word u = 0; u < n; u++) g[u] = times_power(g[u], -e);
}
