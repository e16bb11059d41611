/* What is multiplied over a few time steps at once: the input, and for the gradients of weights. */
#pragma once
#include "barrier.h"
#include "outer.h"

#define LINES 48 /* rows that are projected at once */
#define FEW 4    /* inputs of so few features need no tiles */
#define MOST(a, b) ((a) > (b) ? (a) : (b))

/* Rows of a thread; a dense batch, where every step has B rows, needs no sizes and offsets. */
typedef struct {
    const word *sizes, *offsets;
    word T, B, reverse, from, rows;
} span;
static inline word step_of(const span* s, word step) { return s->reverse ? s->T - 1 - step : step; }
static inline word rows_at(const span* s, word t) {
    const word m = (s->sizes ? s->sizes[t] : s->B) - s->from;
    return m < 0 ? 0 : (m > s->rows ? s->rows : m);
}
static inline word place_of(const span* s, word t) {
    return (s->offsets ? s->offsets[t] : t * s->B) + s->from;
}

/* the same over the rows of all threads */
static inline span all_rows(const span* s) {
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
SHARED void transpose_few(word n, word I, const real* w, real* to, word part, word parts) {
    for (word u = n * part / parts; u < n * (part + 1) / parts; u++)
        for (word i = 0; i < I; i++) to[i * n + u] = w[u * I + i];
}

/* x W^T + b for the rows of `s` from `step` on, to their place in xp or, if it is not whole, one
   after another; W as it is stored if `direct`, else packed. Returns the first step that found no
   room. A team shares rows, then columns. */
SHARED word project(team_t* c, const span* s, word step, word I, word n, const real* x,
                    const real* w, int direct, const real* bias, real* xp, int whole, real* lines,
                    real** to) {
    const word room = MOST(LINES, s->rows);
    word count = 0;
    for (; step < s->T; step++) {
        const word t = step_of(s, step), m = rows_at(s, t), at = place_of(s, t);
        if (count + m > room) break;
        /* Gathered with a lead, not read where they stand: see LEAD. */
        for (word b = 0; b < m; b++, count++) {
            if (count % c->threads != c->thread) continue;
            memcpy(lines + count * LEAD(I), x + (at + b) * I, I * sizeof(real));
            to[count] = whole ? xp + (at + b) * n : xp + count * LEAD(n);
        }
    }
    wait_for_all(c); /* until all rows are gathered */
    const word j = share(c, c->thread, n, NR), end = share(c, c->thread + 1, n, NR);
    if (direct) dots(count, j, end, I, lines, LEAD(I), w, bias, (target){0, 0, to});
    else columns(count, j, end, I, lines, LEAD(I), w, bias, 0, (target){0, 0, to});
    wait_for_all(c);
    return step;
}

/* h before step t of row b: of the step before, or of the state at the beginning */
static inline const real* state_before(const span* s, word t, word b, word H, const real* hidden,
                                       const real* start) {
    const word u = s->reverse ? t + 1 : t - 1;
    const int inside = u >= 0 && u < s->T && b < rows_at(s, u);
    return inside ? hidden + (place_of(s, u) + b) * H : start + (s->from + b) * H;
}

/* `count` rows g of the gradient at n pre-activations -> gradients of input, W and bias;
   returns whether `left` now holds g. Whatever is 0 is not wanted. W is as it is stored if `direct`,
   else packed. A team shares the rows of W. */
SHARED int add_input_gradients(const team_t* c, word count, word n, const real* g, real* left,
                               real* right, word I, const real* const* x, real* dw, real* db,
                               const real* w, int direct, real* const* dx, int add) {
    const word u0 = share(c, c->thread, n, MR), own = share(c, c->thread + 1, n, MR) - u0;
    if (db) weighted_sum(count, own, g + u0, LEAD(n), 0, 0, db + u0, 1, add);
    if (w && I > FEW && direct)
        sums(count, share(c, c->thread, I, NR), share(c, c->thread + 1, I, NR), n, g, LEAD(n), w, I,
             0, (target){0, 0, dx});
    else if (w && I > FEW)
        columns(count, share(c, c->thread, I, NR), share(c, c->thread + 1, I, NR), n, g, LEAD(n), w,
                0, 0, (target){0, 0, dx});
    if (w && I <= FEW)
        for (word q = share(c, c->thread, count, 1); q < share(c, c->thread + 1, count, 1); q++)
            for (word i = 0; i < I; i++) {
                real sum = 0;
#pragma omp simd reduction(+ : sum)
                for (word u = 0; u < n; u++) sum += g[q * LEAD(n) + u] * w[i * n + u];
                dx[q][i] = sum;
            }
    if (!dw) return 0;
    if (I <= FEW) {
        for (word i = 0; i < I; i++)
            weighted_sum(count, own, g + u0, LEAD(n), x, i, dw + u0 * I + i, I, add);
        return 0;
    }
    pack_left(count, own, g + u0, LEAD(n), left);
    pack_right(count, I, x, right);
    outer(count, own, I, left, right, add, rowwise(dw + u0 * I, I));
    return 1;
}

/* the same for a recurrent matrix and its bias; `ready` if `left` holds g already */
SHARED void add_recurrent_gradients(const team_t* c, word count, word n, const real* g, real* left,
                                    real* right, word H, const real* const* h, real* dr, real* db,
                                    int add, int ready) {
    const word u0 = share(c, c->thread, n, MR), own = share(c, c->thread + 1, n, MR) - u0;
    if (db) weighted_sum(count, own, g + u0, LEAD(n), 0, 0, db + u0, 1, add);
    if (!dr) return;
    if (!ready) pack_left(count, own, g + u0, LEAD(n), left);
    pack_right(count, H, h, right);
    outer(count, own, H, left, right, add, rowwise(dr + u0 * H, H));
}

/* the gradient of a bias that is added where another is: the share of one of a team */
SHARED void copy_share(const team_t* c, word n, const real* from, real* to) {
    const word u0 = share(c, c->thread, n, MR), own = share(c, c->thread + 1, n, MR) - u0;
    if (from && to) memcpy(to + u0, from + u0, own * sizeof(real));
}

/* the part of one of several threads of: to += what every other thread has found */
SHARED void add_shares(real* to, const real* spare, word apart, word size, word part, word parts) {
    if (!to) return;
    for (word t = 1; t < parts; t++, spare += apart)
        for (word i = size * part / parts; i < size * (part + 1) / parts; i++) to[i] += spare[i];
}
