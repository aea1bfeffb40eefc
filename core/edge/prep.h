/* prep.h - threads for work that would keep a loop from its other connections: parsing, rendering and
 * tokenizing large bodies, writing long replies.
 *
 *   loop     prep_give    the job goes to the pool
 *   thread   job->work    unless it was abandoned before its turn
 *   loop     prep_take    job->done: the job has come back
 *
 * Ownership  A job is a part of what its owner allocates. From prep_give to done() it is the pool's:
 *            the owner neither frees nor changes what work() uses. An owner that ends before sets
 *            `abandoned`, forgets the job, and leaves the freeing to done(). Both happen on the loop's
 *            thread, so that the owner is either there when done() runs or known to be gone.
 * Thread     prep_give, prep_take and done() on the loop of the job's inbox; work() on one of the
 *            pool's. prep_free when no loop runs any more; what is left in inboxes then is prep_take's,
 *            for whoever frees them.
 * Errors     EFULL: so many jobs wait already, of one owner or of all: as many as places are free, so
 *            that some are always left for those who have fewer. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "core/observe/metrics.h"
#include "core/util/base.h"
#include "core/util/err.h"
#include "core/util/lock.h"

struct prep_job;

/* Where a loop's jobs come back to. */
struct prep_inbox {
    struct lock mu; /* rank LEAF */
    struct prep_job *first;
    int wake_fd; /* an eventfd that is written for each job; the loop's */
};

struct prep_job {
    struct prep_job *next;
    struct prep_inbox *inbox;
    void (*work)(struct prep_job *job);
    void (*done)(struct prep_job *job);
    bool urgent;       /* never refused, and before the others: there are few such */
    const void *owner; /* whose it is: nobody's jobs take all places; NULL: nobody's */
    atomic_bool abandoned;
    uint64_t given_us;
};

struct prep {
    struct lock mu;       /* rank LEAF; guards what follows up to stopping */
    pthread_cond_t given; /* a job, or the end */
    struct prep_job *first, *last;
    uint32_t n_waiting;
    bool stopping;
    pthread_t *threads; /* [n_threads] */
    uint32_t n_threads;
    struct metric_gauge *waiting;
    struct metric_counter *rejected;
    struct metric_histogram *seconds;
};

/* For a zeroed one. n_threads 0: automatic. metrics may be NULL. */
MUST_CHECK int prep_init(struct prep *p, uint32_t n_threads, struct metrics *metrics,
                         struct err *e);
/* Ends the threads when all that was given is done, which is quick for what was abandoned. Nothing of a
 * zeroed one. */
void prep_fini(struct prep *p);
void prep_inbox_init(struct prep_inbox *inbox, int wake_fd);
void prep_inbox_fini(struct prep_inbox *inbox);

/* For a job with work, done and inbox. */
MUST_CHECK int prep_give(struct prep *p, struct prep_job *job, struct err *e);
/* The wake-up came: calls done() of all that came back. */
void prep_take(struct prep_inbox *inbox);
