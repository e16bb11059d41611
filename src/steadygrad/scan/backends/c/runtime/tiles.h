/* The innermost loops of matrix products: a few rows times a few vectors of columns.

   The loops themselves are printed (printer/tiles.py), with one variable for each register: a tile
   that is held in an array would be zeroed, and read back, through memory, which for a sum of a
   hundred terms costs as much as five of them. They are

       wide     one row, eight vectors           broad   up to 6 rows, four vectors
       narrow   up to 12 rows, two vectors       outer_tile   MR rows, two vectors, A transposed
       dots_of_several   one row, a dot product for each of a few columns
       sums              one row, vectors of columns of what is no panel */
#pragma once
#include "across.h"

/* Not inlined: a tile uses all registers, and the loop around it would lose its own. */
#define ALONE SHARED __attribute__((noinline)) void
#define TERMS word k, const real *a, word lead, const real *p, word panel
#define PLACE const real *start, int add, target c, word i0, word j, word left

static inline real* row_of(target c, word i) { return c.list ? c.list[i] : c.at + i * c.lead; }

INLINE void store(real* to, vec s, const real* start, int add) {
    if (start) s += *(const vec*)start;
    if (add) s += *(const vec*)to;
    *(vec*)to = s;
}

/* the last columns, fewer than the vectors of a tile */
ALONE store_some(real* to, const vec* s, const real* start, int add, word left) {
    const real* const t = (const real*)s;
    word u = 0;
    for (; u + 4 <= left; u += 4) {
        quad x = *(const quad*)(t + u);
        if (start) x += *(const quad*)(start + u);
        if (add) x += *(const quad*)(to + u);
        *(quad*)(to + u) = x;
    }
    for (; u < left; u++) to[u] = t[u] + (start ? start[u] : 0) + (add ? to[u] : 0);
}

#include "printed_tiles.h"
