#include "core/util/arena.h"

#include <stdlib.h>
#include <string.h>

enum { ARENA_ALIGN = 16, ARENA_LARGE_BYTES = 1024 };
enum { ARENA_CHUNK_MIN_BYTES = 512, ARENA_CHUNK_MAX_BYTES = 4096 };

struct arena_chunk {
    struct arena_chunk *next;
    size_t used, cap;
    _Alignas(ARENA_ALIGN) unsigned char data[];
};

void arena_init(struct arena *a, size_t max_bytes)
{
    *a = (struct arena){.max_bytes = max_bytes};
}

void arena_fini(struct arena *a)
{
    for (struct arena_chunk *c = a->chunks, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    *a = (struct arena){0};
}

/* A chunk with room for n_bytes: as large as what is used, so that a small arena stays small. A large
 * allocation gets one of its own behind the newest, whose room stays in use. */
static struct arena_chunk *chunk_new(struct arena *a, size_t n_bytes)
{
    size_t usual = u64_min(u64_max(a->used_bytes, ARENA_CHUNK_MIN_BYTES), ARENA_CHUNK_MAX_BYTES);
    size_t cap = u64_max(n_bytes, usual - sizeof(struct arena_chunk)), total;
    if (!size_add(cap, sizeof(struct arena_chunk), &total))
        return NULL;
    struct arena_chunk *c = calloc(1, total);
    if (!c)
        return NULL;
    struct arena_chunk **at = &a->chunks;
    if (n_bytes >= ARENA_LARGE_BYTES && *at)
        at = &(*at)->next;
    c->cap = cap;
    c->next = *at;
    *at = c;
    return c;
}

void *arena_alloc(struct arena *a, size_t n_bytes)
{
    size_t need, total;
    if (!size_add(n_bytes, ARENA_ALIGN - 1, &need))
        return NULL;
    need &= ~(size_t)(ARENA_ALIGN - 1);
    if (!size_add(a->used_bytes, need, &total) || (a->max_bytes && total > a->max_bytes))
        return NULL;

    struct arena_chunk *c = a->chunks;
    if (!c || c->cap - c->used < need) {
        c = chunk_new(a, need);
        if (!c)
            return NULL;
    }
    void *p = c->data + c->used;
    c->used += need;
    a->used_bytes = total;
    return p;
}

void *arena_array(struct arena *a, size_t n, size_t size_bytes)
{
    size_t total;
    return size_mul(n, size_bytes, &total) ? arena_alloc(a, total) : NULL;
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
    size_t total;
    if (!size_add(n, 1, &total))
        return NULL;
    char *p = arena_alloc(a, total);
    if (p && n)
        memcpy(p, s, n);
    return p;
}

char *arena_strdup(struct arena *a, const char *s)
{
    return arena_strndup(a, s, strlen(s));
}
