/* cpu_mem.c - see cpu_mem_int.h. */
#include "core/backend/cpu_mem_int.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 2 << 20, SLAB_BYTES = 64 << 20, LINE = 64 };

struct cpu_slab {
    atomic_uint refs;
    uint8_t *base;
    size_t size, used;
};

static bool round_up(size_t n, size_t to, size_t *out)
{
    if (!size_add(n, to - 1, out))
        return false;
    *out -= *out % to;
    return true;
}

void *pages_new(size_t bytes)
{
    size_t size, reserved;
    if (!round_up(bytes, bytes < HUGE_PAGE ? 4096 : HUGE_PAGE, &size) ||
        !size_add(size, HUGE_PAGE, &reserved))
        return NULL;
    uint8_t *raw = mmap(NULL, reserved, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (raw == MAP_FAILED)
        return NULL;
    const size_t skip = (HUGE_PAGE - (uintptr_t)raw % HUGE_PAGE) % HUGE_PAGE;
    if (skip > 0)
        (void)munmap(raw, skip);
    if (skip < HUGE_PAGE)
        (void)munmap(raw + skip + size, HUGE_PAGE - skip);
    if (size >= HUGE_PAGE)
        (void)madvise(raw + skip, size, MADV_HUGEPAGE); /* a hint: refusal only costs speed */
    return raw + skip;
}

void pages_free(void *p, size_t bytes)
{
    size_t size;
    if (p && round_up(bytes, bytes < HUGE_PAGE ? 4096 : HUGE_PAGE, &size))
        (void)munmap(p, size);
}

static struct cpu_slab *slab_new(size_t size)
{
    struct cpu_slab *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    atomic_init(&s->refs, 1);
    s->size = size;
    s->base = pages_new(size);
    if (!s->base) {
        free(s);
        return NULL;
    }
    return s;
}

void slab_unref(struct cpu_slab *s)
{
    if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    pages_free(s->base, s->size);
    free(s);
}

void *slab_take(struct cpu_slab **slab, size_t bytes, struct cpu_slab **out_slab)
{
    struct cpu_slab *s = *slab;
    if (!round_up(bytes, LINE, &bytes))
        return NULL;
    if (!s || s->size - s->used < bytes) {
        s = slab_new(u64_max(bytes, SLAB_BYTES));
        if (!s)
            return NULL;
        slab_unref(*slab);
        *slab = s;
    }
    void *p = s->base + s->used;
    s->used += bytes;
    atomic_fetch_add(&s->refs, 1);
    *out_slab = s;
    return p;
}
