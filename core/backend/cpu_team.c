/* cpu_team.c - see cpu_team_int.h. */
#include "core/backend/cpu_team_int.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/clock.h"
#include "core/util/lock.h"

enum {
    SPINS = 2000,           /* pauses before a waiting thread yields its processor: 50 to 100 us */
    IDLE_SLEEP_US = 500,    /* yields before a helper without a job sleeps */
    MAX_PUBLISHED = 0xff00, /* chunks at a time: a range's numbers have 16 bits */
    CACHE_LINE = 64,
};

/* One thread's two cache lines: what is given to it, and what it reports. */
struct member {
    _Alignas(CACHE_LINE) _Atomic uint64_t range;
    uint32_t first_chunk; /* added to the range's numbers; with the next two the job, see I1 */
    cpu_chunk_fn *fn;
    void *ctx;
    _Alignas(CACHE_LINE) _Atomic uint32_t done; /* chunks ever, modulo 2^32; written by itself */
    uint32_t index;
    bool started; /* thread is to be joined; the owner has none */
    struct cpu_team *team;
    pthread_t thread;
};

struct cpu_team {
    uint32_t n_members;  /* the owner is member 0 */
    uint32_t generation; /* owner only */
    uint32_t published;  /* chunks ever, modulo 2^32; owner only */
    _Alignas(
        CACHE_LINE) _Atomic uint32_t sleepers; /* counted up by sleepers, zeroed by who wakes */
    atomic_bool stop;
    struct lock lock;
    pthread_cond_t wake;
    uint32_t wakes; /* under lock: a sleeper waits for it to change */
    struct member members[];
};

static uint64_t range_make(uint32_t generation, uint32_t next, uint32_t end)
{
    return (uint64_t)generation << 32 | next << 16 | end;
}

static uint32_t range_next(uint64_t r)
{
    return (uint32_t)r >> 16;
}

static uint32_t range_end(uint64_t r)
{
    return (uint32_t)r & 0xffff;
}

static void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Claims one chunk of m's share and runs it as member `self`; false when none is left. */
static bool run_one(struct member *m, struct member *self)
{
    uint64_t seen = atomic_load_explicit(&m->range, memory_order_acquire), left;
    uint32_t chunk;
    do {
        const uint32_t next = range_next(seen), end = range_end(seen);
        if (next == end)
            return false;
        chunk = m == self ? next : end - 1;
        left = m == self ? seen + (1u << 16) : seen - 1;
    } while (!atomic_compare_exchange_weak_explicit(&m->range, &seen, left, memory_order_acquire,
                                                    memory_order_acquire));
    m->fn(m->ctx, m->first_chunk + chunk, self->index);
    const uint32_t done = atomic_load_explicit(&self->done, memory_order_relaxed) + 1;
    atomic_store_explicit(&self->done, done, memory_order_release);
    return true;
}

/* The member's own share, then what is left of the others'. */
static void run_chunks(struct cpu_team *t, struct member *self)
{
    while (run_one(self, self))
        continue;
    for (uint32_t i = 1; i < t->n_members; i++)
        while (run_one(&t->members[(self->index + i) % t->n_members], self))
            continue;
}

static bool has_share(struct member *m)
{
    const uint64_t r = atomic_load(&m->range); /* I2 */
    return range_next(r) != range_end(r);
}

static void sleep_until_woken(struct cpu_team *t, struct member *self)
{
    lock_take(&t->lock);
    const uint32_t wakes = t->wakes;
    atomic_fetch_add(&t->sleepers, 1); /* I2 */
    while (t->wakes == wakes && !atomic_load(&t->stop) && !has_share(self))
        lock_wait(&t->lock, &t->wake, UINT64_MAX);
    lock_drop(&t->lock);
}

/* Spins, yields, then sleeps until there may be a job. */
static void wait_for_job(struct cpu_team *t, struct member *self)
{
    for (uint32_t i = 0; i < SPINS; i++) {
        if (has_share(self))
            return;
        cpu_relax();
    }
    const uint64_t until = clock_now_us() + IDLE_SLEEP_US;
    while (clock_now_us() < until) {
        if (has_share(self) || atomic_load_explicit(&t->stop, memory_order_relaxed))
            return;
        sched_yield();
    }
    sleep_until_woken(t, self);
}

static void *helper_main(void *arg)
{
    struct member *self = arg;
    while (!atomic_load_explicit(&self->team->stop, memory_order_relaxed)) {
        run_chunks(self->team, self);
        wait_for_job(self->team, self);
    }
    return NULL;
}

void cpu_team_wake(struct cpu_team *t)
{
    if (atomic_load(&t->sleepers) == 0)
        return;
    lock_take(&t->lock);
    atomic_store(&t->sleepers, 0);
    t->wakes++;
    pthread_cond_broadcast(&t->wake);
    lock_drop(&t->lock);
}

/* Gives every member its share of chunks first_chunk .. first_chunk + n - 1. */
static void publish(struct cpu_team *t, uint32_t first_chunk, uint32_t n, cpu_chunk_fn *fn,
                    void *ctx)
{
    t->generation++;
    t->published += n;
    for (uint32_t i = t->n_members; i-- > 0;) { /* the owner's last: the helpers start sooner */
        struct member *m = &t->members[i];
        m->first_chunk = first_chunk;
        m->fn = fn;
        m->ctx = ctx;
        atomic_store(&m->range, range_make(t->generation, n * i / t->n_members,
                                           n * (i + 1) / t->n_members)); /* I2 */
    }
    cpu_team_wake(t);
}

static bool all_done(const struct cpu_team *t)
{
    uint32_t done = 0;
    for (uint32_t i = 0; i < t->n_members; i++)
        done += atomic_load_explicit(&t->members[i].done, memory_order_acquire);
    return done == t->published;
}

void cpu_team_run(struct cpu_team *t, uint32_t n_chunks, cpu_chunk_fn *fn, void *ctx)
{
    if (t->n_members == 1 || n_chunks == 1) {
        for (uint32_t c = 0; c < n_chunks; c++)
            fn(ctx, c, 0);
        return;
    }
    for (uint32_t first = 0; first < n_chunks; first += MAX_PUBLISHED) {
        publish(t, first, (uint32_t)u64_min(n_chunks - first, MAX_PUBLISHED), fn, ctx);
        run_chunks(t, &t->members[0]);
        for (uint32_t i = 0; !all_done(t); i++) {
            if (i < SPINS)
                cpu_relax();
            else
                sched_yield();
        }
    }
}

uint32_t cpu_team_size(const struct cpu_team *t)
{
    return t->n_members;
}

void cpu_team_free(struct cpu_team *t)
{
    if (!t)
        return;
    lock_take(&t->lock);
    atomic_store(&t->stop, true);
    pthread_cond_broadcast(&t->wake);
    lock_drop(&t->lock);
    for (uint32_t i = 1; i < t->n_members && t->members[i].started; i++)
        pthread_join(t->members[i].thread, NULL);
    pthread_cond_destroy(&t->wake);
    lock_fini(&t->lock);
    free(t);
}

int cpu_team_new(uint32_t n_threads, struct cpu_team **out, struct err *e)
{
    if (n_threads == 0 || n_threads > CPU_TEAM_MAX)
        return err_set(e, LLMD_EINVAL, "%u CPU threads: must be 1 to %d", n_threads, CPU_TEAM_MAX);
    const size_t size = sizeof(struct cpu_team) + n_threads * sizeof(struct member);
    struct cpu_team *t = aligned_alloc(CACHE_LINE, size);
    if (!t)
        return err_set(e, LLMD_ENOMEM, "cannot allocate a team of %u threads", n_threads);
    memset(t, 0, size);
    lock_init(&t->lock, LOCK_RANK_LEAF);
    lock_cond_init(&t->wake);
    for (uint32_t i = 0; i < n_threads; i++) {
        t->members[i].team = t;
        t->members[i].index = i;
    }
    t->n_members = n_threads; /* before a helper runs: it looks at all the others */
    for (uint32_t i = 1; i < n_threads; i++) {
        struct member *m = &t->members[i];
        if (pthread_create(&m->thread, NULL, helper_main, m) != 0) {
            cpu_team_free(t);
            return err_set(e, LLMD_ENOMEM,
                           "cannot start CPU thread %u of %u: lower the number of threads", i + 1,
                           n_threads);
        }
        m->started = true;
    }
    *out = t;
    return 0;
}
