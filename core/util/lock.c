#include "core/util/lock.h"

#include <errno.h>
#include <time.h>

/* Bit r is set while this thread holds a lock of rank r. */
static _Thread_local uint32_t held_ranks;

void lock_init(struct lock *l, enum lock_rank rank)
{
    BUG_ON(pthread_mutex_init(&l->mu, NULL) != 0);
    l->rank = rank;
}

void lock_fini(struct lock *l)
{
    BUG_ON(pthread_mutex_destroy(&l->mu) != 0);
}

void lock_take(struct lock *l)
{
    BUG_ON(held_ranks >> l->rank); /* ascending rank only */
    pthread_mutex_lock(&l->mu);
    held_ranks |= 1u << l->rank;
}

void lock_drop(struct lock *l)
{
    BUG_ON(!(held_ranks >> l->rank & 1));
    held_ranks &= ~(1u << l->rank);
    pthread_mutex_unlock(&l->mu);
}

bool lock_wait(struct lock *l, pthread_cond_t *c, uint64_t until_us)
{
    int rc;
    BUG_ON(held_ranks != 1u << l->rank); /* a second lock would stay locked meanwhile */
    if (until_us == UINT64_MAX)
        rc = pthread_cond_wait(c, &l->mu);
    else {
        struct timespec t = {.tv_sec = (time_t)(until_us / 1000000u),
                             .tv_nsec = (long)(until_us % 1000000u) * 1000};
        rc = pthread_cond_timedwait(c, &l->mu, &t);
    }
    BUG_ON(rc != 0 && rc != ETIMEDOUT);
    return rc == 0;
}

void lock_cond_init(pthread_cond_t *c)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    BUG_ON(pthread_cond_init(c, &attr) != 0);
    pthread_condattr_destroy(&attr);
}
