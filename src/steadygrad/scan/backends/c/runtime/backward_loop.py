"""C functions of the way back: scales, clips, and what the taps write down."""

TOP = r"""
static inline double as_double(word bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
/* a number times a power of two, in two halves: one factor could itself leave the range */
static inline int held(int e) {
    const int most = sizeof(real) == 4 ? 126 : 1022;
    return e > most ? most : (e < -most ? -most : e);
}
static inline real times(real x, int e) {
    const int h = e >> 1;
    return x * r_ldexp(1, held(h)) * r_ldexp(1, held(e - h));
}
static int rescale(real* const* all, const word* widths, int states, word row, int look,
                   const real* outside, int32_t* now, real* factor) {
    int move = 0;
    if (look) {
        real top = 0;
        for (int k = 0; k < states; k++) {
            const real* const g = all[k] + row * widths[k];
#pragma omp simd reduction(max:top)
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
                all[k][row * widths[k] + u] = times(all[k][row * widths[k] + u], move);
        now[0] += move;
        *factor = times(1, -now[0]);
    }
    return now[0] != 0 || move != 0;
}
/* the gradient at the last state, from `at` on; none is zero */
static void enter(word n, const real* grad, word at, real* to) {
    if (grad) memcpy(to, grad + at, n * sizeof(real));
    else memset(to, 0, n * sizeof(real));
}
static void clip(real* g, word n, word by, real bound) {
    if (by == 0) {
        for (word u = 0; u < n; u++) {
            const real v = g[u];
            g[u] = v > bound ? bound : (v < -bound ? -bound : v);
        }
        return;
    }
    double sum = 0;
#pragma omp simd reduction(+:sum)
    for (word u = 0; u < n; u++) sum += (double)g[u] * (double)g[u];
    if (!(sum <= (double)bound * (double)bound)) { /* a NaN goes in here and comes out */
        const real s = (real)((double)bound / sqrt(sum));
        for (word u = 0; u < n; u++) g[u] *= s;
    }
}
"""

SUMS = r"""
static const real edge[2 * VL] = {[VL ... 2 * VL - 1] = 1};
static __attribute__((noinline)) quad squares_of_few(const real* g0, const real* g1,
                                                     const real* g2, const real* g3, word n) {
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
#define SQUARE(s, g, w) { const vec v = *(const vec*)(g) w; s += v * v; }
    if (n < VL) return squares_of_few(g0, g1, g2, g3, n);
    vec a = {0}, b = {0}, c = {0}, d = {0};
    word u = 0;
    for (; u + VL <= n; u += VL) {
        SQUARE(a, g0 + u,) SQUARE(b, g1 + u,) SQUARE(c, g2 + u,) SQUARE(d, g3 + u,)
    }
    if (u < n) {
        const vec w = *(const vec*)(edge + n - u);
        u = n - VL;
        SQUARE(a, g0 + u, * w) SQUARE(b, g1 + u, * w) SQUARE(c, g2 + u, * w) SQUARE(d, g3 + u, * w)
    }
    return across(a, b, c, d);
}
typedef __typeof__((quad){0} > 0) quads;  /* -1 where so, else 0 */
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
static double look_closely(const real* g, word n) {
    double sum = 0;
    word count = 0;
#pragma omp simd reduction(+:sum)
    for (word u = 0; u < n; u++) sum += (double)g[u] * (double)g[u];
    if (sum <= 1.7e308) return sum;
    for (word u = 0; u < n; u++) count += !(g[u] - g[u] == 0);
    return count ? -(double)(2 * count + (sum != sum)) : sum;
}
/* Sums that are written already, of `rows` rows, formed anew where they are not to be trusted. */
ALONE note_closely(word rows, const int count, const real* const* first, const word* lead,
                   const word* n, double* to) {
    for (int v = 0; v < count; v++)
        for (word i = 0; i < rows; i++, to++)
            if (!(*to > 1 / (double)MOST_SQUARES && *to < (double)MOST_SQUARES))
                *to = look_closely(first[v] + i * lead[v], n[v]);
}
typedef double four __attribute__((vector_size(32), aligned(8), may_alias));
/* For each of `rows` rows a record of `count` sums: value v of row r is at first[v] + r * lead[v],
   of n[v] units; `even` if all are of the same. Of the first `fours` rows one value of four rows at
   a time, and their sums stand together, value by value; of the others four values at a time. */
INLINE void look(word rows, word fours, const int count, const int even, const real* const* first,
                 const word* lead, const word* n, double* record) {
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
            note_closely(4, count, here, lead, n, to);
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
            else for (int k = 0; k < more; k++) to[v + k] = wide[k];
            fine &= (sum > least) & (sum < most);
        }
        if (__builtin_expect(!all_of(fine), 0)) note_closely(1, count, here, lead, n, to);
    }
}
/* whether any row was so far from one, a step ago, that it may have to be rescaled */
INLINE int strays(const double* record, const int count, const int states, word rows,
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
static void clear(int32_t* to, word n, word part, word parts) {
    memset(to + n * part / parts, 0, (n * (part + 1) / parts - n * part / parts) * sizeof *to);
}
static void unscale(real* g, word n, int e) {
    if (e)
        for (word u = 0; u < n; u++) g[u] = times(g[u], -e);
}
"""


def _across(width: int) -> list[str]:
    """A function that sums four vectors of so many values, for the compilers that can mix them.

    Adding halves of two vectors, each with a half of the other, leaves the sums of both in one.
    """
    fours = range(0, width, 4)

    def mixed(a: str, b: str, low: list[int], high: list[int]) -> str:
        ways = (", ".join(str(q + i) for q in fours for i in way) for way in (low, high))
        return " + ".join(f"MIX({a}, {b}, {way})" for way in ways)

    first = ([0, width, 1, width + 1], [2, width + 2, 3, width + 3])
    second = ([0, 1, width, width + 1], [2, 3, width + 2, width + 3])
    parts = " + ".join(f"((const quad*)&s)[{q // 4}]" for q in fours)
    return [
        f"#elif WIDTH / BYTES == {width}",
        "INLINE quad across(vec a, vec b, vec c, vec d) {",
        f"    const vec ab = {mixed('a', 'b', *first)};",
        f"    const vec cd = {mixed('c', 'd', *first)};",
        f"    const vec s = {mixed('ab', 'cd', *second)};",
        f"    return {parts};",
        "}",
    ]


def loop() -> str:
    """C text, to stand behind `steadygrad.scan.backends.c.runtime.gemm.gemm`."""
    plain = [
        "/* ---- sums of squares of rows ---- */",
        "#ifndef MIX",
        "#define PLAIN_SUMS",
        *(line for width in (4, 8, 16) for line in _across(width)),
        "#else",
        "#define PLAIN_SUMS",
        "#endif",
        "#ifdef PLAIN_SUMS",
        "INLINE quad across(vec a, vec b, vec c, vec d) {",
        "    quad s = {0};",
        "    for (int i = 0; i < VL; i++) s += (quad){a[i], b[i], c[i], d[i]};",
        "    return s;",
        "}",
        "#endif",
    ]
    return TOP + "\n".join(plain) + SUMS
