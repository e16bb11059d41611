/* Runs a kernel on a picture of another process's memory, and writes down what has changed.

   runner WHAT FILE [WORD WORD WORD]

   WHAT is forward, backward, forward_room or backward_room. FILE holds, as 64-bit numbers, how many
   argument words there are and how many pieces of memory; the words; then of each piece its address
   there, its length in bytes, and its content, padded to eight bytes. A word that is an address in a
   piece is moved to where that piece is here. The last three arguments say which words are OpenMP's
   entry, thread number and team size. The words (moved back), the result of a room function and all
   pieces are written over FILE. */
#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int64_t word;
void steadygrad_forward(const word*);
void steadygrad_backward(const word*);
word steadygrad_forward_room(word*);
word steadygrad_backward_room(word*);
void GOMP_parallel(void (*)(void*), void*, unsigned, unsigned);

typedef struct {
    word there, size;
    char* here;
} piece_t;

static void must(int fine, const char* what) {
    if (fine) return;
    perror(what);
    exit(1);
}
static void* room(word size) { /* on a cache line, as torch's memory is */
    void* found = aligned_alloc(64, (size_t)(size + 63) / 64 * 64 + 64);
    must(found != 0, "memory");
    return found;
}

int main(int count, char** given) {
    must(count == 6, "arguments");
    FILE* file = fopen(given[2], "rb");
    must(file != 0, given[2]);
    word head[2], result = 0;
    must(fread(head, 8, 2, file) == 2, "head");
    word *words = room(8 * head[0]), *before = room(8 * head[0]);
    must(fread(words, 8, head[0], file) == (size_t)head[0], "words");
    memcpy(before, words, 8 * head[0]);
    piece_t* pieces = room(head[1] * sizeof(piece_t));
    for (word i = 0; i < head[1]; i++) {
        piece_t* p = pieces + i;
        must(fread(&p->there, 8, 1, file) == 1 && fread(&p->size, 8, 1, file) == 1, "piece");
        p->here = room(p->size);
        must(fread(p->here, 8, p->size / 8, file) == (size_t)p->size / 8, "content");
    }
    fclose(file);
    for (word k = 0; k < head[0]; k++)
        for (word i = 0; i < head[1]; i++)
            if (words[k] >= pieces[i].there && words[k] < pieces[i].there + pieces[i].size) {
                words[k] = (word)(intptr_t)pieces[i].here + words[k] - pieces[i].there;
                break;
            }
    words[atoi(given[3])] = (word)(intptr_t)GOMP_parallel;
    words[atoi(given[4])] = (word)(intptr_t)omp_get_thread_num;
    words[atoi(given[5])] = (word)(intptr_t)omp_get_num_threads;
    if (!strcmp(given[1], "forward")) steadygrad_forward(words);
    else if (!strcmp(given[1], "backward")) steadygrad_backward(words);
    else {
        word (*ask)(word*) =
            !strcmp(given[1], "forward_room") ? steadygrad_forward_room : steadygrad_backward_room;
        result = ask(words);
        before = words; /* it writes numbers, and was given no address */
    }
    file = fopen(given[2], "wb");
    must(file && fwrite(&result, 8, 1, file) == 1, "result");
    must(fwrite(before, 8, head[0], file) == (size_t)head[0], "words");
    for (word i = 0; i < head[1]; i++)
        must(fwrite(pieces[i].here, 8, pieces[i].size / 8, file) == (size_t)pieces[i].size / 8,
             "content");
    must(!fclose(file), "close");
    return 0;
}
