/* cpu_team.c - see cpu_team_int.h. */
#include "core/backend/cpu_team_int.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/util/clock.h"
#include "core/util/lock.h"

enum {
    SPINS = 2000,        /* pauses before a waiting thread yields its processor: 50 to 100 us */
    IDLE_SLEEP_US = 500, /* yields before a helper without a job sleeps */
    CACHE_LINE = 64,
};

struct helper {
    struct cpu_team *team;
    uint32_t index;
    pthread_t thread;
};

struct cpu_team {
    _Alignas(CACHE_LINE) _Atomic uint64_t ticket;
    _Alignas(CACHE_LINE) _Atomic uint32_t unfinished;
    _Alignas(
        CACHE_LINE) _Atomic uint32_t sleepers; /* counted up by sleepers, zeroed by who wakes */
    atomic_bool stop;
    _Alignas(CACHE_LINE) uint32_t n_chunks; /* the job, see I1 */
    cpu_chunk_fn *fn;
    void *ctx;
    uint32_t generation; /* owner only */
    uint32_t n_helpers;  /* started */
    struct lock lock;
    pthread_cond_t wake;
    uint32_t wakes; /* under lock: a sleeper waits for it to change */
    struct helper helpers[];
};

static void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Claims and runs one chunk; false when none is left. */
static bool run_one(struct cpu_team *t, uint32_t thread)
{
    uint64_t seen = atomic_load_explicit(&t->ticket, memory_order_acquire);
    do {
        if ((uint32_t)seen == 0)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&t->ticket, &seen, seen - 1,
                                                    memory_order_acquire, memory_order_acquire));
    t->fn(t->ctx, t->n_chunks - (uint32_t)seen, thread);
    atomic_fetch_sub_explicit(&t->unfinished, 1, memory_order_release);
    return true;
}

static void sleep_until_woken(struct cpu_team *t)
{
    lock_take(&t->lock);
    const uint32_t wakes = t->wakes;
    atomic_fetch_add(&t->sleepers, 1);
    while (t->wakes == wakes && !atomic_load(&t->stop) && (uint32_t)atomic_load(&t->ticket) == 0)
        lock_wait(&t->lock, &t->wake, UINT64_MAX);
    lock_drop(&t->lock);
}

/* Spins, yields, then sleeps until there may be a job. */
static void wait_for_job(struct cpu_team *t)
{
    for (uint32_t i = 0; i < SPINS; i++) {
        if ((uint32_t)atomic_load_explicit(&t->ticket, memory_order_relaxed) != 0)
            return;
        cpu_relax();
    }
    const uint64_t until = clock_now_us() + IDLE_SLEEP_US;
    while (clock_now_us() < until) {
        if ((uint32_t)atomic_load_explicit(&t->ticket, memory_order_relaxed) != 0 ||
            atomic_load_explicit(&t->stop, memory_order_relaxed))
            return;
        sched_yield();
    }
    sleep_until_woken(t);
}

static void *helper_main(void *arg)
{
    struct helper *h = arg;
    while (!atomic_load_explicit(&h->team->stop, memory_order_relaxed))
        if (!run_one(h->team, h->index))
            wait_for_job(h->team);
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

void cpu_team_run(struct cpu_team *t, uint32_t n_chunks, cpu_chunk_fn *fn, void *ctx)
{
    if (t->n_helpers == 0 || n_chunks == 1) {
        for (uint32_t c = 0; c < n_chunks; c++)
            fn(ctx, c, 0);
        return;
    }
    if (n_chunks == 0)
        return;
    t->n_chunks = n_chunks;
    t->fn = fn;
    t->ctx = ctx;
    atomic_store_explicit(&t->unfinished, n_chunks, memory_order_relaxed);
    atomic_store(&t->ticket, (uint64_t)++t->generation << 32 | n_chunks); /* I2 */
    cpu_team_wake(t);
    while (run_one(t, 0))
        continue;
    for (uint32_t i = 0; atomic_load_explicit(&t->unfinished, memory_order_acquire) != 0; i++) {
        if (i < SPINS)
            cpu_relax();
        else
            sched_yield();
    }
}

uint32_t cpu_team_size(const struct cpu_team *t)
{
    return t->n_helpers + 1;
}

void cpu_team_free(struct cpu_team *t)
{
    if (!t)
        return;
    lock_take(&t->lock);
    atomic_store(&t->stop, true);
    pthread_cond_broadcast(&t->wake);
    lock_drop(&t->lock);
    for (uint32_t i = 0; i < t->n_helpers; i++)
        pthread_join(t->helpers[i].thread, NULL);
    pthread_cond_destroy(&t->wake);
    lock_fini(&t->lock);
    free(t);
}

int cpu_team_new(uint32_t n_threads, struct cpu_team **out, struct err *e)
{
    if (n_threads == 0 || n_threads > CPU_TEAM_MAX)
        return err_set(e, LLMD_EINVAL, "%u CPU threads: must be 1 to %d", n_threads, CPU_TEAM_MAX);
    const size_t size = sizeof(struct cpu_team) + n_threads * sizeof(struct helper);
    struct cpu_team *t =
        aligned_alloc(CACHE_LINE, (size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE);
    if (!t)
        return err_set(e, LLMD_ENOMEM, "cannot allocate a team of %u threads", n_threads);
    *t = (struct cpu_team){.n_helpers = 0};
    lock_init(&t->lock, LOCK_RANK_LEAF);
    lock_cond_init(&t->wake);
    for (uint32_t i = 0; i + 1 < n_threads; i++) {
        struct helper *h = &t->helpers[i];
        *h = (struct helper){.team = t, .index = i + 1};
        if (pthread_create(&h->thread, NULL, helper_main, h) != 0) {
            cpu_team_free(t);
            return err_set(e, LLMD_ENOMEM,
                           "cannot start CPU thread %u of %u: lower the number of threads", i + 2,
                           n_threads);
        }
        t->n_helpers++;
    }
    *out = t;
    return 0;
}

/* The lowest-numbered processor that shares cpu's core; cpu itself when unknown. */
static int first_sibling(int cpu)
{
    char path[96];
    int first = cpu;
    (void)snprintf(path, sizeof(path),
                   "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    FILE *f = fopen(path, "re");
    if (!f)
        return cpu;
    if (fscanf(f, "%d", &first) != 1)
        first = cpu;
    (void)fclose(f);
    return first;
}

uint32_t cpu_physical_cores(void)
{
    cpu_set_t ours, cores;
    CPU_ZERO(&ours);
    CPU_ZERO(&cores);
    if (sched_getaffinity(0, sizeof(ours), &ours) != 0)
        return 1;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &ours))
            CPU_SET(first_sibling(cpu), &cores);
    const int n = CPU_COUNT(&cores);
    return n < 1 ? 1 : n > CPU_TEAM_MAX ? CPU_TEAM_MAX : (uint32_t)n;
}
