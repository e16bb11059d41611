/* Vectors of the processor, and the sizes of tiles that fit its registers. */
#pragma once
#include "real.h"

#if defined(__AVX512F__)
#define WIDTH 64
#define MR 12
#elif defined(__AVX__)
#define WIDTH 32
#define MR 6
#elif defined(__aarch64__)
#define WIDTH 16
#define MR 12
#else
#define WIDTH 16
#define MR 6
#endif
#define NV 2 /* vectors in a row of the usual tile: with MR rows, all registers but a few */
#define VL (WIDTH / BYTES)
#define NR (VL * NV)
/* Rows of a right factor that stay in the first cache: NR columns are at most 128 bytes. */
#define DEEP 192
/* From one row to the next. Rows a power of two apart would fall into the same few cache sets. */
#define LEAD(n) ((n) + 16)
#define UP(n, by) (((n) + (by) - 1) / (by) * (by))
#if defined(__x86_64__)
#define CPU_PAUSE __builtin_ia32_pause()
#elif defined(__aarch64__)
#define CPU_PAUSE __asm__ volatile("yield")
#else
#define CPU_PAUSE (void)0
#endif
#define INLINE static inline __attribute__((always_inline))
/* Aligned as one number is, so that they may stand anywhere; may_alias, so that rows of `real` may
   be read through them without the compiler assuming that the two are different memory. */
typedef real vec __attribute__((vector_size(WIDTH), aligned(sizeof(real)), may_alias));
typedef real quad __attribute__((vector_size(4 * sizeof(real)), aligned(sizeof(real)), may_alias));

/* Where the rows of a result go: one after another, or each where a list says. */
typedef struct {
    real* at;
    word lead;
    real* const* list;
} target;

#if defined(__clang__) || __GNUC__ >= 12
/* Four columns of four, whose elements stand one after another, as rows */
#define MIX __builtin_shufflevector
INLINE void transpose_4x4(const real* from, word column, real* to) {
    const quad a = *(const quad*)from, b = *(const quad*)(from + column);
    const quad c = *(const quad*)(from + 2 * column), d = *(const quad*)(from + 3 * column);
    const quad ab = MIX(a, b, 0, 4, 1, 5), cd = MIX(c, d, 0, 4, 1, 5);
    const quad ef = MIX(a, b, 2, 6, 3, 7), gh = MIX(c, d, 2, 6, 3, 7);
    *(quad*)to = MIX(ab, cd, 0, 1, 4, 5);
    *(quad*)(to + NR) = MIX(ab, cd, 2, 3, 6, 7);
    *(quad*)(to + 2 * NR) = MIX(ef, gh, 0, 1, 4, 5);
    *(quad*)(to + 3 * NR) = MIX(ef, gh, 2, 3, 6, 7);
}
#define FOURS(k, row) ((row) == 1 ? (k) / 4 * 4 : 0)
#else
#define FOURS(k, row) 0
#define transpose_4x4(from, column, to) (void)0
#endif

/* A right factor (k, n), element (i, j) at b[i * row + j * column], in panels of NR columns;
   the share of one of several threads. */
#define PANEL_LINES (NR < 8 ? NR : 8) /* a panel of doubles in 16-byte vectors has four */
static inline word panels_of(word k, word n) { return UP(n, NR) * k; }
SHARED void pack(word k, word n, const real* b, word row, word column, real* to, word part,
                 word parts) {
    const word panels = UP(n, NR) / NR;
    for (word panel = panels * part / parts; panel < panels * (part + 1) / parts; panel++) {
        const word j = panel * NR;
        real* const p = to + j * k;
        if (column == 1 && j + NR <= n) {
            for (word i = 0; i < k; i++) memcpy(p + i * NR, b + i * row + j, NR * sizeof(real));
            continue;
        }
        word i0 = 0;
        for (; j + NR <= n && i0 < FOURS(k, row); i0 += 4)
            for (word c = 0; c < NR; c += 4)
                transpose_4x4(b + i0 + (j + c) * column, column, p + i0 * NR + c);
        for (; i0 < k; i0 += 16) /* a cache line of each of eight rows at a time */
            for (word c0 = 0; c0 < NR; c0 += PANEL_LINES)
                for (word i = i0; i < i0 + 16 && i < k; i++)
                    for (word c = c0; c < c0 + PANEL_LINES; c++)
                        p[i * NR + c] = j + c < n ? b[i * row + (j + c) * column] : 0;
    }
}
