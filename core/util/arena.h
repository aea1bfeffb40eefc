/* arena.h - memory with one common end: everything allocated is freed together.
 *
 * Used for one request, one parsed template, one configuration. Allocations are zeroed and
 * 16-byte aligned. Not thread safe: the owner of the arena allocates.
 * Limit  an arena with max_bytes > 0 refuses (NULL) to grow past it. */
#pragma once
#include "core/util/base.h"

struct arena_chunk;

struct arena {
    struct arena_chunk *chunks; /* newest first */
    size_t used_bytes;          /* handed out so far */
    size_t max_bytes;           /* 0: no limit */
};

void arena_init(struct arena *a, size_t max_bytes);
void arena_fini(struct arena *a);
void *arena_alloc(struct arena *a, size_t n_bytes);
/* n * size with overflow check. */
void *arena_array(struct arena *a, size_t n, size_t size_bytes);
/* Copy of the n bytes with a NUL behind them. */
char *arena_strndup(struct arena *a, const char *s, size_t n);
char *arena_strdup(struct arena *a, const char *s);
