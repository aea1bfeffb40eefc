/* lock.h - a mutex with a rank. Locks are taken in ascending rank; a thread that would take a
 * lock of the same or a lower rank than one it holds is a BUG (checked in every build: it costs
 * one thread-local load). No callback, input/output or device call happens under a lock. */
#pragma once
#include <pthread.h>

#include "core/util/base.h"

enum lock_rank {
    LOCK_RANK_ROUTER = 1,
    LOCK_RANK_INBOX = 2,
    LOCK_RANK_STREAM = 3,
    LOCK_RANK_WAKER = 4,
    LOCK_RANK_LEAF = 5, /* small registries that call nothing */
};

struct lock {
    pthread_mutex_t mu;
    uint32_t rank;
};

void lock_init(struct lock *l, enum lock_rank rank);
void lock_fini(struct lock *l);
void lock_take(struct lock *l);
void lock_drop(struct lock *l);
/* Waits on c with l and no other lock held, as pthread_cond_wait. until_us is monotonic (clock_now_us);
 * UINT64_MAX waits without end. Returns false on time-out. */
bool lock_wait(struct lock *l, pthread_cond_t *c, uint64_t until_us);
/* A condition variable on the monotonic clock. */
void lock_cond_init(pthread_cond_t *c);
