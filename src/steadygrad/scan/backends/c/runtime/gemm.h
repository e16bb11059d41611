/* Matrix products with a packed right factor.

   All products of a layer are done here, not by a library: rows of a few time steps at once while
   they are in the cache, without a pass over memory for each, a buffer for each, and a call for
   each. */
#pragma once
#include "tiles.h"

/* Columns j to end of C[m, n] = A[m, k] B[k, n] (+ start in every row) (+ C), B packed; j is where
   a panel begins, and end, where it is not n, too. */
SHARED void columns(word m, word j, word end, word k, const real* a, word lead, const real* packed,
                    const real* start, int add, target c) {
    if (m <= 0) return;
    const word count = (m + MR - 1) / MR;
    /* A panel that is read again is taken in pieces that stay in the first cache. The sums then go
       through memory between two pieces: `start` is added with the first, C with the others. */
    const word pieces = count == 1 ? 1 : (k + 255) / 256;
    /* Few rows use few registers: more columns at once give the processor more sums to overlap. */
    for (; m == 1 && j + 4 * NR <= end; j += 4 * NR)
        wide(k, a, lead, packed + j * k, NR * k, start, add, c, 0, j, end - j);
    for (; m <= MR / 2 && j + 2 * NR <= end; j += 2 * NR)
        broad(m, k, a, lead, packed + j * k, NR * k, start, add, c, 0, j, end - j);
    for (; j < end; j += NR)
        for (word piece = 0; piece < pieces; piece++) {
            const word q = k * piece / pieces, deep = k * (piece + 1) / pieces - q;
            for (word t = 0; t < count; t++) {
                /* Tiles of about equal height: 13 rows are 6 and 7, not 12 and 1. */
                const word i = m * t / count, mr = m * (t + 1) / count - i;
                narrow(mr, deep, a + i * lead + q, lead, packed + j * k + q * NR, 0, q ? 0 : start,
                       q ? 1 : add, c, i, j, end - j);
            }
        }
}
static inline target rowwise(real* at, word lead) { return (target){at, lead, 0}; }
