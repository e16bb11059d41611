"""Matrix products of printed kernels: packed right factors, tiles that live in registers.

All products of a layer are done here, not by a library: rows of a few time steps at once while
they are in the cache, without a pass over memory for each, a buffer for each, and a call for each.
"""

from steadygrad.scan.c.tiles import tiles

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
#define VL ((int)(WIDTH / sizeof(real)))
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

/* ---- threads that share every product: each owns rows between products, columns within ---- */
typedef struct { word *gate, thread, threads, skip, rows, passed; } crew_t;
static void meet(crew_t* c) {
    if (c->threads == 1) return;
    const word goal = c->passed += c->threads;
    __atomic_fetch_add(c->gate, 1, __ATOMIC_ACQ_REL);
    /* Where others hold the cores, whoever waits gets out of the way: at first by a turn at the
       end of the queue, then by sleeping. */
    const struct timespec nap = {0, 20000};
    for (int spin = 0; __atomic_load_n(c->gate, __ATOMIC_ACQUIRE) < goal; spin++)
        if (spin < 4000) REST;
        else if (spin < 4020) sched_yield();
        else nanosleep(&nap, 0);
}
/* a share of n things in pieces of `by`: where that of a thread begins */
static inline word share(const crew_t* c, word thread, word n, word by) {
    const word at = UP(n, by) / by * thread / c->threads * by;
    return at < n ? at : n;
}
/* C = A B (+ C) for the rows of this thread, or together for those of all: `a` and `to` are where
   the thread's own rows begin, `skip` rows behind the first of all. */
static void joint(crew_t* c, word n, word k, const real* a, word lead, const real* packed,
                  int add, real* to, word apart) {
    const word j = share(c, c->thread, n, NR), end = share(c, c->thread + 1, n, NR);
    meet(c);
    columns(c->rows, j, end, k, a - c->skip * lead, lead, packed, 0, add,
            rowwise(to - c->skip * apart, apart));
    meet(c);
}

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

AROUND = r"""
/* ---- what is multiplied over a few steps at once: input, input's gradient, weights' gradients */
#define LINES 48                       /* rows that are projected at once */
#define FEW 4                          /* inputs of so few features need no tiles */
#define MOST(a, b) ((a) > (b) ? (a) : (b))
/* Rows of a thread; a dense batch, where every step has B rows, needs no sizes and offsets. */
typedef struct { const word *sizes, *offsets; word T, B, reverse, from, rows; } span;
static inline word step_of(const span* s, word step) { return s->reverse ? s->T - 1 - step : step; }
static inline word rows_at(const span* s, word t) {
    const word m = (s->sizes ? s->sizes[t] : s->B) - s->from;
    return m < 0 ? 0 : (m > s->rows ? s->rows : m);
}
static inline word place_of(const span* s, word t) {
    return (s->offsets ? s->offsets[t] : t * s->B) + s->from;
}
/* the same over the rows of all threads */
static inline span everyone(const span* s) {
    span all = *s;
    all.from = 0;
    all.rows = s->sizes ? s->sizes[0] : s->B;
    return all;
}
/* rows of all time steps that belong to earlier threads */
static inline word rows_before(const span* s) {
    word sum = s->sizes ? 0 : s->T * s->from;
    for (word t = 0; s->sizes && t < s->T; t++)
        sum += s->sizes[t] < s->from ? s->sizes[t] : s->from;
    return sum;
}
/* W of few inputs, transposed: (n, I) -> (I, n); the share of one thread */
static void lay(word n, word I, const real* w, real* to, word part, word parts) {
    for (word u = n * part / parts; u < n * (part + 1) / parts; u++)
        for (word i = 0; i < I; i++) to[i * n + u] = w[u * I + i];
}
/* x W^T + b for the rows of `s` from `step` on, to their place in xp or, if it is not whole, one
   after another; returns the first step that found no room. A crew shares rows, then columns. */
static word project(crew_t* c, const span* s, word step, word I, word n, const real* x,
                    const real* w, const real* bias, real* xp, int whole, real* lines, real** to) {
    const word room = MOST(LINES, s->rows);
    word count = 0;
    for (; step < s->T; step++) {
        const word t = step_of(s, step), m = rows_at(s, t), at = place_of(s, t);
        if (count + m > room) break;
        for (word b = 0; b < m; b++, count++) {
            if (count % c->threads != c->thread) continue;
            memcpy(lines + count * LEAD(I), x + (at + b) * I, I * sizeof(real));
            to[count] = whole ? xp + (at + b) * n : xp + count * LEAD(n);
        }
    }
    meet(c);
    const word j = share(c, c->thread, n, NR), end = share(c, c->thread + 1, n, NR);
    columns(count, j, end, I, lines, LEAD(I), w, bias, 0, (target){0, 0, to});
    meet(c);
    return step;
}
/* h before step t of row b: of the step before, or of the state at the beginning */
static inline const real* before(const span* s, word t, word b, word H, const real* hidden,
                                 const real* start) {
    const word u = s->reverse ? t + 1 : t - 1;
    const int inside = u >= 0 && u < s->T && b < rows_at(s, u);
    return inside ? hidden + (place_of(s, u) + b) * H : start + (s->from + b) * H;
}
/* `count` rows g of the gradient at n pre-activations -> gradients of input, W and bias;
   returns whether `left` now holds g. Whatever is 0 is not wanted. A crew shares the rows of W. */
static int settle_input(const crew_t* c, word count, word n, const real* g, real* left,
                        real* right, word I, const real* const* x, real* dw, real* db,
                        const real* w, real* const* dx, int add) {
    const word u0 = share(c, c->thread, n, MR), own = share(c, c->thread + 1, n, MR) - u0;
    if (db) weigh(count, own, g + u0, LEAD(n), 0, 0, db + u0, 1, add);
    if (w && I > FEW)
        columns(count, share(c, c->thread, I, NR), share(c, c->thread + 1, I, NR), n, g, LEAD(n),
                w, 0, 0, (target){0, 0, dx});
    if (w && I <= FEW)
        for (word q = share(c, c->thread, count, 1); q < share(c, c->thread + 1, count, 1); q++)
            for (word i = 0; i < I; i++) {
                real sum = 0;
#pragma omp simd reduction(+:sum)
                for (word u = 0; u < n; u++) sum += g[q * LEAD(n) + u] * w[i * n + u];
                dx[q][i] = sum;
            }
    if (!dw) return 0;
    if (I <= FEW) {
        for (word i = 0; i < I; i++)
            weigh(count, own, g + u0, LEAD(n), x, i, dw + u0 * I + i, I, add);
        return 0;
    }
    pack_left(count, own, g + u0, LEAD(n), left);
    pack_right(count, I, x, right);
    outer(count, own, I, left, right, add, rowwise(dw + u0 * I, I));
    return 1;
}
/* the same for a recurrent matrix and its bias; `ready` if `left` holds g already */
static void settle_recurrent(const crew_t* c, word count, word n, const real* g, real* left,
                             real* right, word H, const real* const* h, real* dr, real* db,
                             int add, int ready) {
    const word u0 = share(c, c->thread, n, MR), own = share(c, c->thread + 1, n, MR) - u0;
    if (db) weigh(count, own, g + u0, LEAD(n), 0, 0, db + u0, 1, add);
    if (!dr) return;
    if (!ready) pack_left(count, own, g + u0, LEAD(n), left);
    pack_right(count, H, h, right);
    outer(count, own, H, left, right, add, rowwise(dr + u0 * H, H));
}
/* the part of one of several threads of: to += what every other thread has found */
static void join(real* to, const real* spare, word apart, word size, word part, word parts) {
    if (!to) return;
    for (word t = 1; t < parts; t++, spare += apart)
        for (word i = size * part / parts; i < size * (part + 1) / parts; i++) to[i] += spare[i];
}
"""


def gemm() -> str:
    """C text of all products, to stand where ``real`` and ``word`` are known."""
    return SIZES + tiles() + PRODUCTS + AROUND
