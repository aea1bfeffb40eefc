/* push_table.h - when each token of each stream was pushed: a file that the programs of edge.sh map.
 *
 * Row i is stream i, the request whose seed is i + 1. Its producer writes at_ns[k], then n = k + 1; a
 * reader that has seen k + 1 tokens of the stream finds their times in at_ns[0..k].
 *
 * Thread  one producer per row. */
#pragma once
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PUSH_STREAMS = 1024, PUSH_TOKENS = 2048 };

struct push_row {
    atomic_uint n;
    uint64_t at_ns[PUSH_TOKENS]; /* CLOCK_MONOTONIC */
};

struct push_table {
    struct push_row rows[PUSH_STREAMS];
};

static inline uint64_t push_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Maps the file, which is made when there is none. NULL: errno says why. */
static inline struct push_table *push_table_open(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return NULL;
    void *at = MAP_FAILED;
    if (ftruncate(fd, sizeof(struct push_table)) == 0)
        at = mmap(NULL, sizeof(struct push_table), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return at == MAP_FAILED ? NULL : at;
}

static inline void push_table_clear(struct push_table *t)
{
    for (uint32_t i = 0; i < PUSH_STREAMS; i++)
        atomic_store(&t->rows[i].n, 0);
}

static inline void push_table_note(struct push_table *t, uint64_t stream)
{
    if (stream >= PUSH_STREAMS)
        return;
    struct push_row *row = &t->rows[stream];
    const uint32_t n = atomic_load_explicit(&row->n, memory_order_relaxed);
    if (n == PUSH_TOKENS)
        return;
    row->at_ns[n] = push_now_ns();
    atomic_store_explicit(&row->n, n + 1, memory_order_release);
}
