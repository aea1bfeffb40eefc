/* shared.cc - a block's shared memory, and copies into it that are under way.
 *
 * Arrays lie in an arena, in the order in which threads first name them, with red zones between
 * them: poisoned under AddressSanitizer, else filled with a pattern that is checked at the end. */
#include "tests/gpu/host/stand_in_int.hh"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

namespace stand_in
{

enum {
    RED_ZONE = 128,
    MAX_ARRAYS = 64,
    RED = 0xa5,
    NOT_A_NUMBER = 0xff, /* in every format of floats */
};

/* Stands for the launch's shared_bytes in the list of arrays. */
static const char dynamic_key = 0;

void shared_reserve(struct machine *m)
{
    const size_t need = m->limits.max_shared_bytes + (MAX_ARRAYS + 1) * size_t{RED_ZONE * 2};
    if (m->arena_bytes >= need)
        return;
    shared_fini(m);
    m->arena = static_cast<uint8_t *>(aligned_alloc(RED_ZONE, (need + 127) / 128 * 128));
    if (!m->arena)
        abort();
    m->arena_bytes = need;
}

void shared_fini(struct machine *m)
{
    if (m->arena)
        ASAN_UNPOISON_MEMORY_REGION(m->arena, m->arena_bytes);
    free(m->arena);
    m->arena = nullptr;
}

void shared_begin(struct machine *m)
{
    ASAN_UNPOISON_MEMORY_REGION(m->arena, RED_ZONE);
    memset(m->arena, RED, RED_ZONE);
    m->arrays.clear();
    m->used = RED_ZONE;
    ASAN_POISON_MEMORY_REGION(m->arena, m->arena_bytes);
}

/* Takes the next part of the arena, with a red zone behind it. */
static struct shared_array *add(struct machine *m, const void *key, size_t bytes)
{
    const size_t behind = RED_ZONE + (RED_ZONE - bytes % RED_ZONE) % RED_ZONE;
    uint8_t *p = m->arena + m->used;
    size_t total = bytes;
    for (const struct shared_array &a : m->arrays)
        total += a.bytes;
    if (total > m->limits.max_shared_bytes || m->arrays.size() == MAX_ARRAYS)
        return nullptr;
    m->arrays.push_back({key, m->used, bytes});
    m->used += bytes + behind;
    ASAN_UNPOISON_MEMORY_REGION(p, bytes + behind);
    memset(p, NOT_A_NUMBER, bytes);
    memset(p + bytes, RED, behind);
    ASAN_POISON_MEMORY_REGION(p + bytes, behind);
    return &m->arrays.back();
}

static struct shared_array *find(struct machine *m, const void *key)
{
    for (struct shared_array &a : m->arrays)
        if (a.key == key)
            return &a;
    return nullptr;
}

void *shared(const void *key, size_t bytes, size_t align, struct site at)
{
    struct machine *m = the_machine();
    struct shared_array *a = find(m, key);
    if (!a)
        a = add(m, key, bytes);
    if (!a || align > RED_ZONE)
        fault(at, "%zu bytes more of shared memory: the device has %u for a block", bytes,
              m->limits.max_shared_bytes);
    return m->arena + a->offset;
}

uint8_t *dynamic_shared()
{
    return static_cast<uint8_t *>(
        shared(&dynamic_key, the_machine()->dynamic_bytes, 16, {__FILE__, __LINE__}));
}

#ifndef __SANITIZE_ADDRESS__
static void check_red_zones(struct machine *m)
{
    size_t end = 0;
    for (const struct shared_array &a : m->arrays) {
        for (; end < a.offset; end++)
            if (m->arena[end] != RED)
                return fault_at(m, "a write beyond an array of shared memory");
        end = a.offset + a.bytes;
    }
    for (; end < m->used; end++)
        if (m->arena[end] != RED)
            return fault_at(m, "a write beyond an array of shared memory");
}
#endif

void shared_end(struct machine *m)
{
#ifndef __SANITIZE_ADDRESS__
    check_red_zones(m);
#endif
    ASAN_POISON_MEMORY_REGION(m->arena, m->arena_bytes);
}

/* --- copies under way --- */

void copies_begin(struct thread *t)
{
    t->copies.clear();
    t->group = 0;
}

/* Whether all of p[0..n) lies in one array. */
static bool in_shared(const struct machine *m, const uint8_t *p, size_t n)
{
    for (const struct shared_array &a : m->arrays)
        if (p >= m->arena + a.offset && p + n <= m->arena + a.offset + a.bytes)
            return true;
    return false;
}

void copy_begin(void *shared, const void *src, bool valid, struct site at)
{
    struct machine *m = the_machine();
    uint8_t *to = static_cast<uint8_t *>(shared);
    if (reinterpret_cast<uintptr_t>(shared) % 16 ||
        (valid && reinterpret_cast<uintptr_t>(src) % 16))
        fault(at, "a copy from %p to %p: both must be multiples of 16", src, shared);
    if (!in_shared(m, to, 16))
        fault(at, "a copy to %p, which is no shared memory", shared);
    ASAN_UNPOISON_MEMORY_REGION(to, 16); /* an unfinished copy may be overtaken by another */
    memset(to, NOT_A_NUMBER, 16);
    ASAN_POISON_MEMORY_REGION(to, 16);
    m->current->copies.push_back(
        {to, valid ? static_cast<const uint8_t *>(src) : nullptr, m->current->group});
}

void copy_commit()
{
    the_machine()->current->group++;
}

static void finish(const struct pending_copy &c)
{
    ASAN_UNPOISON_MEMORY_REGION(c.to, 16);
    if (c.from)
        memcpy(c.to, c.from, 16);
    else
        memset(c.to, 0, 16);
}

void copy_wait(unsigned n_left)
{
    struct thread *self = the_machine()->current;
    while (!self->copies.empty() && self->copies.front().group + n_left < self->group) {
        finish(self->copies.front());
        self->copies.pop_front();
    }
}

void copies_end(struct machine *m, struct thread *t)
{
    if (!t->copies.empty())
        fault_at(m, "a thread ended with copies that it did not wait for");
}

} // namespace stand_in
