/* Threads that meet: between phases, and where they share the columns of every product. */
#pragma once
#include "gemm.h"

typedef void (*parallel_t)(void (*)(void*), void*, unsigned, unsigned);
typedef int (*number_t)(void);

/* ---- threads that share every product: each owns rows between products, columns within ---- */
typedef struct {
    word *gate, thread, threads, skip, rows, passed;
} crew_t;
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
static void joint(crew_t* c, word n, word k, const real* a, word lead, const real* packed, int add,
                  real* to, word apart) {
    const word j = share(c, c->thread, n, NR), end = share(c, c->thread + 1, n, NR);
    meet(c);
    columns(c->rows, j, end, k, a - c->skip * lead, lead, packed, 0, add,
            rowwise(to - c->skip * apart, apart));
    meet(c);
}
