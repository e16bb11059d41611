/* Sums across vectors: across(a, b, c, d) is the sum of each of four, as one of four.

   Adding halves of two vectors, each with a half of the other, leaves the sums of both in one. For
   compilers that can mix two vectors (MIX); the rest add number by number. */
#pragma once
#include "vectors.h"

#ifndef MIX
#define PLAIN_SUMS
#elif WIDTH / BYTES == 4
INLINE quad across(vec a, vec b, vec c, vec d) {
    const vec ab = MIX(a, b, 0, 4, 1, 5) + MIX(a, b, 2, 6, 3, 7);
    const vec cd = MIX(c, d, 0, 4, 1, 5) + MIX(c, d, 2, 6, 3, 7);
    const vec s = MIX(ab, cd, 0, 1, 4, 5) + MIX(ab, cd, 2, 3, 6, 7);
    return ((const quad*)&s)[0];
}
#elif WIDTH / BYTES == 8
INLINE quad across(vec a, vec b, vec c, vec d) {
    const vec ab = MIX(a, b, 0, 8, 1, 9, 4, 12, 5, 13) + MIX(a, b, 2, 10, 3, 11, 6, 14, 7, 15);
    const vec cd = MIX(c, d, 0, 8, 1, 9, 4, 12, 5, 13) + MIX(c, d, 2, 10, 3, 11, 6, 14, 7, 15);
    const vec s = MIX(ab, cd, 0, 1, 8, 9, 4, 5, 12, 13) + MIX(ab, cd, 2, 3, 10, 11, 6, 7, 14, 15);
    return ((const quad*)&s)[0] + ((const quad*)&s)[1];
}
#elif WIDTH / BYTES == 16
INLINE quad across(vec a, vec b, vec c, vec d) {
    const vec ab = MIX(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29) +
                   MIX(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
    const vec cd = MIX(c, d, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29) +
                   MIX(c, d, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
    const vec s = MIX(ab, cd, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
                  MIX(ab, cd, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    return ((const quad*)&s)[0] + ((const quad*)&s)[1] + ((const quad*)&s)[2] +
           ((const quad*)&s)[3];
}
#else
#define PLAIN_SUMS
#endif
#ifdef PLAIN_SUMS
INLINE quad across(vec a, vec b, vec c, vec d) {
    quad s = {0};
    for (int i = 0; i < VL; i++) s += (quad){a[i], b[i], c[i], d[i]};
    return s;
}
#endif
