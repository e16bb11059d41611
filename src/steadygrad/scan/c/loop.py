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
/* whether any of four numbers is outside of a range, or NaN */
INLINE int outside(quad x, real low, real high) {
    const __typeof__(x > 0) fine = (x > low) & (x < high);  /* -1 where so */
    word bits[sizeof(quad) / sizeof(word)], all = -1;
    memcpy(bits, &fine, sizeof bits);
    for (int i = 0; i < (int)(sizeof bits / sizeof *bits); i++) all &= bits[i];
    return all != -1;
}
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
/* The sums of four rows, or of the first `count` of them, each to its place. */
ALONE note_closely(const real* g0, const real* g1, const real* g2, const real* g3, word n,
                   int count, double* to, word apart) {
    const real* const g[] = {g0, g1, g2, g3};
    for (int i = 0; i < count; i++) to[i * apart] = look_closely(g[i], n);
}
typedef double four __attribute__((vector_size(32), aligned(8), may_alias));
INLINE void note(const real* g0, const real* g1, const real* g2, const real* g3, word n,
                 const int count, double* to, word apart) {
    const quad sum = squares(g0, g1, g2, g3, n);
    const four wide = __builtin_convertvector(sum, four);
    if (apart == 1 && count == 4) *(four*)to = wide;
    else for (int i = 0; i < count; i++) to[i * apart] = wide[i];
    const real most = BYTES == 4 ? 1e28 : 1e290;  /* beyond, squares may have left their range */
    if (__builtin_expect(outside(sum, 1 / most, most), 0))
        note_closely(g0, g1, g2, g3, n, count, to, apart);
}
/* For each of `rows` rows a record of `count` sums: value v of row r is at first[v] + r * lead[v],
   of n[v] units; `even` if all are of the same. One value of four rows at a time, and of rows that
   are left four values. */
INLINE void look(word rows, const int count, const int even, const real* const* first,
                 const word* lead, const word* n, double* record) {
    const word fours = rows / 4 * 4;
    for (word i = 0; i < fours; i += 4)
#pragma GCC unroll 8
        for (int v = 0; v < count; v++) {
            const word by = lead[v];
            const real* const g = first[v] + i * by;
            note(g, g + by, g + 2 * by, g + 3 * by, n[v], 4, record + i * count + v, count);
        }
    for (word i = fours; i < rows; i++) {
        double* const to = record + i * count;
#define OF(v) (first[v] + i * lead[v])
        for (int v = 0; v < count; v++)
            if (even && v + 4 <= count)
                note(OF(v), OF(v + 1), OF(v + 2), OF(v + 3), n[0], 4, to + v, 1), v += 3;
            else if (even && v + 2 <= count)
                note(OF(v), OF(v + 1), OF(v), OF(v + 1), n[0], 2, to + v, 1), v += 1;
            else
                note(OF(v), OF(v), OF(v), OF(v), n[v], 1, to + v, 1);
    }
}
/* whether any row was so far from one, a step ago, that it may have to be rescaled */
INLINE int strays(const double* record, const int count, const int states, word rows) {
    int far = 0;
    for (word i = 0; i < rows; i++) {
        double sum = 0;
        for (int k = 0; k < states; k++) sum += record[i * count + k];
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
    """C text, to stand behind `steadygrad.scan.c.gemm.gemm`."""
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
