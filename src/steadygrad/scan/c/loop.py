"""C functions of the way back: scales, clips, and what the taps write down."""

LOOP = r"""
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
/* ---- the squares' sum of a row, and how many of its values are not finite ---- */
INLINE quad squares(const real* g, word n) {
    vec s = {0}, z = {0};
    word u = 0;
    for (; u + 2 * VL <= n; u += 2 * VL) {
        const vec a = *(const vec*)(g + u), b = *(const vec*)(g + u + VL);
        s += a * a;
        z += b * b;
    }
    const vec all = s + z;
    quad sum = VL < 4 ? (quad){all[0], all[1], 0, 0} : ((const quad*)&all)[0];
    if (VL > 4) sum += ((const quad*)&all)[1];
    if (VL > 8) sum += ((const quad*)&all)[2] + ((const quad*)&all)[3];
    for (; u < n; u++) sum[0] += g[u] * g[u];
    return sum;
}
INLINE quad sums_of(quad a, quad b, quad c, quad d) {
#ifdef MIX
    const quad ab = MIX(a, b, 0, 4, 1, 5) + MIX(a, b, 2, 6, 3, 7);
    const quad cd = MIX(c, d, 0, 4, 1, 5) + MIX(c, d, 2, 6, 3, 7);
    return MIX(ab, cd, 0, 1, 4, 5) + MIX(ab, cd, 2, 3, 6, 7);
#else
    return (quad){a[0] + a[1] + a[2] + a[3], b[0] + b[1] + b[2] + b[3], c[0] + c[1] + c[2] + c[3],
                  d[0] + d[1] + d[2] + d[3]};
#endif
}
ALONE look_closely(const real* g, word n, double* square, double* bad) {
    double sum = 0;
    word count = 0;
#pragma omp simd reduction(+:sum)
    for (word u = 0; u < n; u++) sum += (double)g[u] * (double)g[u];
    *square = sum;
    if (bad && !(sum <= 1.7e308)) {
        for (word u = 0; u < n; u++) count += !(g[u] - g[u] == 0);
        *bad = (double)count;
    }
}
/* of `count` rows; of the first `states` also how many values are not finite. Four at a time: a sum
   across one vector costs as much as across four. */
INLINE void look(const int count, const int states, const real* const* g, const word* n,
                 double* square, double* bad) {
    const real most = sizeof(real) == 4 ? 1e28 : 1e290; /* beyond, squares leave their range */
    for (int k = 0; k < states; k++) bad[k] = 0;
    for (int k = 0; k < count; k += 4) {
        const int left = count - k < 4 ? count - k : 4;
        quad q[4];
        for (int i = 0; i < 4; i++) q[i] = i < left ? squares(g[k + i], n[k + i]) : q[0];
        const quad sum = sums_of(q[0], q[1], q[2], q[3]);
        for (int i = 0; i < left; i++) square[k + i] = sum[i];
        const __typeof__(sum > 0) fine = (sum > 1 / most) & (sum < most);  /* -1 where so */
        if (__builtin_expect(fine[0] & fine[1] & fine[2] & fine[3], 1)) continue;
        for (int i = k; i < k + left; i++)
            look_closely(g[i], n[i], square + i, i < states ? bad + i : 0);
    }
}
static void clear(int32_t* to, word n, word part, word parts) {
    memset(to + n * part / parts, 0, (n * (part + 1) / parts - n * part / parts) * sizeof *to);
}
static void unscale(real* g, word n, int e) {
    if (e)
        for (word u = 0; u < n; u++) g[u] = times(g[u], -e);
}
"""
