/* Threads that meet: between phases, and where they share the columns of every product. */
#pragma once
#include "dots.h"

typedef void (*parallel_t)(void (*)(void*), void*, unsigned, unsigned);
typedef int (*number_t)(void);

/* Threads that share every product: each owns rows between products, and columns within one. */
typedef struct {
    word* gate;           /* how many have arrived since the call began; a cache line of its own */
    word thread, threads; /* this one's number, and how many share a product: 1 if none do */
    word skip;            /* rows of the batch before this thread's own */
    word rows;            /* rows of this step, of all threads */
    word passed;          /* arrivals after which this thread went on the last time */
} team_t;

/* Return when all threads have called this as often. The count is not set back in between, so no
   thread can be caught between two uses of it. */
SHARED void wait_for_all(team_t* c) {
    if (c->threads == 1) return;
    const word goal = c->passed += c->threads;
    __atomic_fetch_add(c->gate, 1, __ATOMIC_ACQ_REL);
    /* Where others hold the cores, a waiting thread gives up its turn: at first by a turn at the
       end of the queue, then by sleeping. */
    const struct timespec nap = {0, 20000};
    for (int spin = 0; __atomic_load_n(c->gate, __ATOMIC_ACQUIRE) < goal; spin++)
        if (spin < 4000) CPU_PAUSE;
        else if (spin < 4020) sched_yield();
        else nanosleep(&nap, 0);
}

/* a share of n things in pieces of `by`: where that of a thread begins */
static inline word share(const team_t* c, word thread, word n, word by) {
    const word at = UP(n, by) / by * thread / c->threads * by;
    return at < n ? at : n;
}

/* C = A B (+ C) for the rows of this thread, or together for those of all: `a` and `to` are where
   the thread's own rows begin, `skip` rows behind the first of all. */
SHARED void team_product(team_t* c, word n, word k, const real* a, word lead, const real* packed,
                         int add, real* to, word apart) {
    const word j = share(c, c->thread, n, NR), end = share(c, c->thread + 1, n, NR);
    wait_for_all(c); /* until every thread's rows of A are written */
    columns(c->rows, j, end, k, a - c->skip * lead, lead, packed, 0, add,
            rowwise(to - c->skip * apart, apart));
    wait_for_all(c); /* until every thread's columns of C are there to be read */
}

/* the same of B as it is stored, transposed */
SHARED void team_dots(team_t* c, word n, word k, const real* a, word lead, const real* stored,
                      real* to, word apart) {
    const word j = share(c, c->thread, n, NR), end = share(c, c->thread + 1, n, NR);
    wait_for_all(c);
    dots(c->rows, j, end, k, a - c->skip * lead, lead, stored, 0,
         rowwise(to - c->skip * apart, apart));
    wait_for_all(c);
}

/* the same of B as it is stored */
SHARED void team_sums(team_t* c, word n, word k, const real* a, word lead, const real* stored,
                      int add, real* to, word apart) {
    const word j = share(c, c->thread, n, NR), end = share(c, c->thread + 1, n, NR);
    wait_for_all(c);
    sums(c->rows, j, end, k, a - c->skip * lead, lead, stored, n, add,
         rowwise(to - c->skip * apart, apart));
    wait_for_all(c);
}
