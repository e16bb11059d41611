/* Matrix products whose right factor is read as it is stored.

   Putting a matrix into panels reads it, writes it and reads it again. For a step or two of few
   rows that is most of the work; here every row of the matrix is read once, as it lies. */
#pragma once
#include "gemm.h"

/* Whether panels cost more than they save: for a few rows in all, and for a few steps of one row. A
   dot product ends with sums across vectors, which weigh less the longer it is; so the more columns
   k the more steps. Measured on Zen 3 (AVX2): at H 128, 16 rows in one step are 0.91 of packed, 20
   steps of one row at H 256 0.85, 100 steps at H 64 1.10. */
INLINE int is_direct(word T, word B, word k) { return T * B <= 16 || (B == 1 && 4 * T <= k); }

SHARED void dot(word k, const real* a, const real* b, const real* start, real* to) {
    vec s = {0};
    word q = 0;
    for (; q + VL <= k; q += VL) s += *(const vec*)(a + q) * *(const vec*)(b + q);
    real t = 0;
    for (int v = 0; v < VL; v++) t += s[v];
    for (; q < k; q++) t += a[q] * b[q];
    *to = t + (start ? *start : 0);
}

/* Columns j to end of C[m, n] = A[m, k] B^T (+ start in every row), B (n, k) row by row. */
SHARED void dots(word m, word j, word end, word k, const real* a, word lead, const real* b,
                 const real* start, target c) {
    for (; j + SEVERAL <= end; j += SEVERAL) /* the rows of B stay in the first cache */
        for (word i = 0; i < m; i++)
            dots_of_several(k, a + i * lead, b + j * k, start ? start + j : 0, row_of(c, i) + j);
    for (; j < end; j++)
        for (word i = 0; i < m; i++)
            dot(k, a + i * lead, b + j * k, start ? start + j : 0, row_of(c, i) + j);
}

/* Columns j to end of C[m, n] = A[m, k] B (+ C), B (k, n) row by row. */
SHARED void sums(word m, word j, word end, word k, const real* a, word lead, const real* b, word n,
                 int add, target c) {
    for (word i = 0; i < m; i++) {
        const real* const left = a + i * lead;
        real* const to = row_of(c, i);
        word u = j;
        for (; u + 8 * VL <= end; u += 8 * VL) sums8(k, left, b + u, n, add, to + u);
        for (; u + 4 * VL <= end; u += 4 * VL) sums4(k, left, b + u, n, add, to + u);
        for (; u + VL <= end; u += VL) sums1(k, left, b + u, n, add, to + u);
        for (; u < end; u++) {
            real s = 0;
            for (word q = 0; q < k; q++) s += left[q] * b[q * n + u];
            to[u] = s + (add ? to[u] : 0);
        }
    }
}
