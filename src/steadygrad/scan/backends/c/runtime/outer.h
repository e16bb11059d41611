/* Sums over many rows, for the gradients of weights and biases: A^T B and column sums. */
#pragma once
#include "gemm.h"

/* A left factor transposed, count rows of n columns: panels of MR columns, the last one filled up
   with zeros, so that the sum needs no bounds; only where it is stored are rows counted. */
SHARED void pack_left(word count, word n, const real* a, word lead, real* to) {
    for (word j = 0; j + MR <= n; j += MR)
        for (word q = 0; q < count; q++)
            memcpy(to + j * count + q * MR, a + q * lead + j, MR * sizeof(real));
    const word j = n / MR * MR;
    if (j < n)
        for (word q = 0; q < count; q++)
            for (word i = 0; i < MR; i++)
                to[j * count + q * MR + i] = j + i < n ? a[q * lead + j + i] : 0;
}

/* A right factor whose rows stand anywhere. */
SHARED void pack_right(word count, word n, const real* const* rows, real* to) {
    for (word j = 0; j < n; j += NR)
        for (word q = 0; q < count; q++)
            if (j + NR <= n) memcpy(to + j * count + q * NR, rows[q] + j, NR * sizeof(real));
            else
                for (word c = 0; c < NR; c++)
                    to[j * count + q * NR + c] = j + c < n ? rows[q][j + c] : 0;
}

/* C[m, n] = A^T B (+ C) over `count` rows, both packed as above. */
SHARED void outer(word count, word m, word n, const real* a, const real* b, int add, target c) {
    for (word j = 0; j < n; j += NR) {
        word q = 0;
        do {
            /* In pieces, so that both panels stay in the first cache. */
            const word k = count - q < DEEP ? count - q : DEEP;
            for (word i = 0; i < m; i += MR)
                outer_tile(k, a + i * count + q * MR, 0, b + j * count + q * NR, 0, 0, q ? 1 : add,
                           c, i, j, n - j, m - i);
            q += DEEP;
        } while (q < count);
    }
}

/* to[u * step] = sum over rows of a[q, u] * rows[q][i] (+ itself); without rows, of a alone */
SHARED void weighted_sum(word count, word n, const real* a, word lead, const real* const* rows,
                         word i, real* to, word step, int add) {
    word u = 0;
    for (; u + 4 * VL <= n; u += 4 * VL) {
        vec s[4] = {{0}};
        for (word q = 0; q < count; q++) {
            const real f = rows ? rows[q][i] : 1;
            for (int v = 0; v < 4; v++) s[v] += f * *(const vec*)(a + q * lead + u + v * VL);
        }
        for (int w = 0; w < 4 * VL; w++)
            to[(u + w) * step] = s[w / VL][w % VL] + (add ? to[(u + w) * step] : 0);
    }
    for (; u < n; u++) {
        real s = 0;
        for (word q = 0; q < count; q++) s += (rows ? rows[q][i] : 1) * a[q * lead + u];
        to[u * step] = s + (add ? to[u * step] : 0);
    }
}
