"""Matrix products of printed kernels: packed right factors, tiles that live in registers.

All products of a layer are done here, not by a library: rows of a few time steps at once while
they are in the cache, without a pass over memory for each, a buffer for each, and a call for each.
"""

from steadygrad.scan.backends.c.runtime.barrier import CREW
from steadygrad.scan.backends.c.runtime.step_blocks import AROUND
from steadygrad.scan.backends.c.runtime.tiles import tiles

SIZES = r"""
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
#define NV 2
#define VL (WIDTH / BYTES)
#define NR (VL * NV)
#define DEEP 192                       /* rows of a right factor that stay in the first cache */
#define LEAD(n) ((n) + 16)             /* rows a power of two apart would share cache lines */
#define UP(n, by) (((n) + (by) - 1) / (by) * (by))
#if defined(__x86_64__)
#define REST __builtin_ia32_pause()
#elif defined(__aarch64__)
#define REST __asm__ volatile("yield")
#else
#define REST (void)0
#endif
#define INLINE static inline __attribute__((always_inline))
typedef real vec __attribute__((vector_size(WIDTH), aligned(sizeof(real)), may_alias));
typedef real quad __attribute__((vector_size(4 * sizeof(real)), aligned(sizeof(real)), may_alias));

/* Where the rows of a result go: one after another, or each where a list says. */
typedef struct { real* at; word lead; real* const* list; } target;

#if defined(__clang__) || __GNUC__ >= 12
/* four columns of four, whose elements stand one after another, as rows */
#define MIX __builtin_shufflevector
INLINE void turn(const real* from, word column, real* to) {
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
#define turn(from, column, to) (void)0
#endif
/* A right factor (k, n), element (i, j) at b[i * row + j * column], in panels of NR columns;
   the share of one of several threads. */
static inline word panels_of(word k, word n) { return UP(n, NR) * k; }
static void pack(word k, word n, const real* b, word row, word column, real* to, word part,
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
                turn(b + i0 + (j + c) * column, column, p + i0 * NR + c);
        for (; i0 < k; i0 += 16)       /* a cache line of each of eight rows at a time */
            for (word c0 = 0; c0 < NR; c0 += 8)
                for (word i = i0; i < i0 + 16 && i < k; i++)
                    for (word c = c0; c < c0 + 8; c++)
                        p[i * NR + c] = j + c < n ? b[i * row + (j + c) * column] : 0;
    }
}

"""

PRODUCTS = r"""
/* Columns j to end of C[m, n] = A[m, k] B[k, n] (+ start in every row) (+ C), B packed; j is where
   a panel begins, and end, where it is not n, too. */
static void columns(word m, word j, word end, word k, const real* a, word lead,
                    const real* packed, const real* start, int add, target c) {
    if (m <= 0) return;
    const word count = (m + MR - 1) / MR;
    /* A panel that is read again is taken in pieces that stay in the first cache. */
    const word pieces = count == 1 ? 1 : (k + 255) / 256;
    for (; m == 1 && j + 4 * NR <= end; j += 4 * NR)
        wide(k, a, lead, packed + j * k, NR * k, start, add, c, 0, j, end - j);
    for (; m <= MR / 2 && j + 2 * NR <= end; j += 2 * NR)
        broad(m, k, a, lead, packed + j * k, NR * k, start, add, c, 0, j, end - j);
    for (; j < end; j += NR)
        for (word piece = 0; piece < pieces; piece++) {
            const word q = k * piece / pieces, deep = k * (piece + 1) / pieces - q;
            for (word t = 0; t < count; t++) {
                const word i = m * t / count, mr = m * (t + 1) / count - i;
                narrow(mr, deep, a + i * lead + q, lead, packed + j * k + q * NR, 0,
                       q ? 0 : start, q ? 1 : add, c, i, j, end - j);
            }
        }
}
static inline target rowwise(real* at, word lead) { return (target){at, lead, 0}; }
"""

PACKED = r"""
/* A left factor transposed, count rows of n columns: panels of MR columns. */
static void pack_left(word count, word n, const real* a, word lead, real* to) {
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
static void pack_right(word count, word n, const real* const* rows, real* to) {
    for (word j = 0; j < n; j += NR)
        for (word q = 0; q < count; q++)
            if (j + NR <= n) memcpy(to + j * count + q * NR, rows[q] + j, NR * sizeof(real));
            else
                for (word c = 0; c < NR; c++)
                    to[j * count + q * NR + c] = j + c < n ? rows[q][j + c] : 0;
}
/* C[m, n] = A^T B (+ C) over `count` rows, both packed as above. */
static void outer(word count, word m, word n, const real* a, const real* b, int add, target c) {
    for (word j = 0; j < n; j += NR) {
        word q = 0;
        do {
            const word k = count - q < DEEP ? count - q : DEEP;
            for (word i = 0; i < m; i += MR)
                outer_tile(k, a + i * count + q * MR, 0, b + j * count + q * NR, 0, 0,
                           q ? 1 : add, c, i, j, n - j, m - i);
            q += DEEP;
        } while (q < count);
    }
}
/* to[u * step] = sum over rows of a[q, u] * rows[q][i] (+ itself); without rows, of a alone */
static void weigh(word count, word n, const real* a, word lead, const real* const* rows, word i,
                  real* to, word step, int add) {
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
"""


def gemm() -> str:
    """C text of all products, to stand where ``real`` and ``word`` are known."""
    return SIZES + tiles() + PRODUCTS + CREW + PACKED + AROUND
