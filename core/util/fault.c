#ifdef LLMD_FAULTS
#include "core/util/fault.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/clock.h"
#include "core/util/lock.h"

enum { FAULTS_MAX = 16, SLICE_US = 2000 };

static const char *const point_names[] = {
    [FAULT_STEP_FAILS] = "step-fails",   [FAULT_STEP_POISONS] = "step-poisons",
    [FAULT_STEP_STALLS] = "step-stalls", [FAULT_STEP_SLOW] = "step-slow",
    [FAULT_LOAD_STALLS] = "load-stalls", [FAULT_ALLOCATION] = "allocation",
};

static struct {
    pthread_mutex_t mu; /* without a rank: asked for under all of them */
    struct fault items[FAULTS_MAX];
    uint32_t n_happened[FAULTS_MAX];
    uint32_t n;
} table = {.mu = PTHREAD_MUTEX_INITIALIZER};

static atomic_uint_least64_t n_cleared;                      /* what stalls looks at it */
static atomic_uint_least64_t n_allocations, fail_at, n_more; /* of FAULT_ALLOCATION */
static _Thread_local uint64_t n_steps, n_loads;              /* of this worker */

void fault_add(const struct fault *f)
{
    BUG_ON(f->at == 0);
    if (f->point == FAULT_ALLOCATION) {
        atomic_store(&fail_at, 0);
        atomic_store(&n_allocations, 0);
        atomic_store(&n_more, f->times > 0 ? f->times - 1 : UINT64_MAX / 2);
        atomic_store(&fail_at, f->at);
        return;
    }
    pthread_mutex_lock(&table.mu);
    BUG_ON(table.n == FAULTS_MAX);
    table.n_happened[table.n] = 0;
    table.items[table.n++] = *f;
    pthread_mutex_unlock(&table.mu);
}

void fault_clear(void)
{
    atomic_store(&fail_at, 0);
    pthread_mutex_lock(&table.mu);
    table.n = 0;
    pthread_mutex_unlock(&table.mu);
    atomic_fetch_add(&n_cleared, 1);
}

/* Whether the point's n-th passing has a fault, and for how long. */
static bool happens(enum fault_point point, uint32_t worker, uint64_t n, uint64_t *out_us)
{
    bool found = false;
    pthread_mutex_lock(&table.mu);
    for (uint32_t i = 0; i < table.n && !found; i++) {
        const struct fault *f = &table.items[i];
        const bool now = point == FAULT_STEP_SLOW ? n >= f->at : n == f->at;
        if (f->point != point || (f->worker != FAULT_ANY_WORKER && f->worker != worker) || !now ||
            (f->times > 0 && table.n_happened[i] >= f->times))
            continue;
        table.n_happened[i]++;
        *out_us = f->us;
        found = true;
    }
    pthread_mutex_unlock(&table.mu);
    return found;
}

static void stall(uint64_t us)
{
    const uint64_t began_us = clock_now_us(), cleared = atomic_load(&n_cleared);
    for (uint64_t now_us = began_us; now_us - began_us < us && atomic_load(&n_cleared) == cleared;
         now_us = clock_now_us())
        clock_sleep_us(u64_min(SLICE_US, us - (now_us - began_us)));
}

int fault_step(uint32_t worker, struct err *e)
{
    uint64_t us;
    n_steps++;
    if (happens(FAULT_STEP_STALLS, worker, n_steps, &us))
        stall(us);
    if (happens(FAULT_STEP_SLOW, worker, n_steps, &us))
        stall(us);
    if (happens(FAULT_STEP_FAILS, worker, n_steps, &us))
        return err_set(e, LLMD_EGPU, "a fault was asked for at step %llu",
                       (unsigned long long)n_steps);
    if (happens(FAULT_STEP_POISONS, worker, n_steps, &us))
        return err_set(e, LLMD_EPOISONED, "a poisoned device was asked for at step %llu",
                       (unsigned long long)n_steps);
    return 0;
}

void fault_load(uint32_t worker)
{
    uint64_t us;
    n_loads++;
    if (happens(FAULT_LOAD_STALLS, worker, n_loads, &us))
        stall(us);
}

uint64_t fault_n_allocations(void)
{
    return atomic_load(&n_allocations);
}

bool fault_allocation(void)
{
    const uint64_t at = atomic_load(&fail_at), n = atomic_fetch_add(&n_allocations, 1) + 1;
    return at > 0 && n >= at && n - at <= atomic_load(&n_more);
}

/* --- faults as text --- */

static bool find_point(const char *word, enum fault_point *out)
{
    for (size_t i = 0; i < ARRAY_LEN(point_names); i++)
        if (strcmp(word, point_names[i]) == 0) {
            *out = (enum fault_point)i;
            return true;
        }
    return false;
}

static int set_field(struct fault *f, const char *word, struct err *e)
{
    char *end = NULL;
    const char *value = strchr(word, '=');
    const uint64_t v = value ? strtoull(value + 1, &end, 10) : 0;
    if (!value || end == value + 1 || *end != '\0')
        return err_set(e, LLMD_EINVAL, "\"%s\" is not NAME=NUMBER", word);
    const size_t n = (size_t)(value - word);
    if (n == 6 && memcmp(word, "worker", n) == 0)
        f->worker = (uint32_t)v;
    else if (n == 2 && memcmp(word, "at", n) == 0)
        f->at = v;
    else if (n == 2 && memcmp(word, "ms", n) == 0)
        f->us = v * 1000;
    else if (n == 5 && memcmp(word, "times", n) == 0)
        f->times = (uint32_t)v;
    else
        return err_set(e, LLMD_EINVAL, "\"%s\": a fault has worker, at, ms, times", word);
    return 0;
}

static int parse_one(char *text, struct err *e)
{
    struct fault f = {.worker = FAULT_ANY_WORKER, .at = 1, .us = UINT64_MAX};
    char *save = NULL, *word = strtok_r(text, " ", &save);
    if (!word)
        return 0;
    if (!find_point(word, &f.point))
        return err_set(e, LLMD_EINVAL, "there is no fault \"%s\"", word);
    while ((word = strtok_r(NULL, " ", &save)) != NULL) {
        const int rc = set_field(&f, word, e);
        if (rc)
            return rc;
    }
    if (f.at == 0)
        return err_set(e, LLMD_EINVAL, "at counts from 1");
    fault_add(&f);
    return 0;
}

int fault_parse(const char *text, struct err *e)
{
    char copy[1024], *save = NULL;
    if ((size_t)snprintf(copy, sizeof(copy), "%s", text) >= sizeof(copy))
        return err_set(e, LLMD_EINVAL, "faults take at most %zu bytes", sizeof(copy) - 1);
    for (char *one = strtok_r(copy, ";", &save); one; one = strtok_r(NULL, ";", &save)) {
        const int rc = parse_one(one, e);
        if (rc)
            return rc;
    }
    return 0;
}
#endif
