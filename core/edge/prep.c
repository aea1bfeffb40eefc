#include "core/edge/prep.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/util/clock.h"

enum { WAITING_MAX = 128, CORES_PER_THREAD = 4, MAX_THREADS = 8 };

static uint32_t choose_threads(uint32_t wanted)
{
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (wanted > 0)
        return wanted;
    return cores < 2 * CORES_PER_THREAD
               ? 1
               : (uint32_t)u64_min((uint64_t)cores / CORES_PER_THREAD, MAX_THREADS);
}

/* Waits for a job; NULL: there will be none. */
static struct prep_job *next_job(struct prep *p)
{
    lock_take(&p->mu);
    while (!p->first && !p->stopping)
        (void)lock_wait(&p->mu, &p->given, UINT64_MAX);
    struct prep_job *job = p->first;
    if (job) {
        p->first = job->next;
        p->n_waiting--;
    }
    lock_drop(&p->mu);
    return job;
}

/* From the push on the job is the loop's. */
static void hand_back(struct prep_job *job)
{
    static const uint64_t one = 1;
    struct prep_inbox *inbox = job->inbox;
    lock_take(&inbox->mu);
    job->next = inbox->first;
    inbox->first = job;
    lock_drop(&inbox->mu);
    while (write(inbox->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

static void *prep_main(void *arg)
{
    struct prep *p = arg;
    struct prep_job *job;
    pthread_setname_np(pthread_self(), "prep");
    while ((job = next_job(p)) != NULL) {
        metric_gauge_add(p->waiting, -1);
        if (!atomic_load(&job->abandoned))
            job->work(job);
        metric_observe(p->seconds, (double)(clock_now_us() - job->given_us) * 1e-6);
        hand_back(job);
    }
    return NULL;
}

static void init_metrics(struct prep *p, struct metrics *m)
{
    static const double bounds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                    0.25,  0.5,    1,     2.5,  5,     10};
    if (!m)
        return;
    p->waiting = metrics_gauge(m, "llmd_edge_prep_waiting",
                               "Large bodies and long replies that wait for a thread.", "");
    p->rejected = metrics_counter(m, "llmd_edge_prep_rejected_total",
                                  "Large bodies turned away because too many wait.", "");
    p->seconds = metrics_histogram(
        m, "llmd_edge_prep_seconds",
        "From a large body's end to its tokens, from a long reply's last token to its text.", "",
        bounds, ARRAY_LEN(bounds));
}

int prep_init(struct prep *p, uint32_t n_threads, struct metrics *metrics, struct err *e)
{
    const uint32_t n = choose_threads(n_threads);
    lock_init(&p->mu, LOCK_RANK_LEAF);
    lock_cond_init(&p->given);
    init_metrics(p, metrics);
    p->threads = calloc(n, sizeof(*p->threads));
    if (!p->threads)
        return err_set(e, LLMD_ENOMEM, "out of memory for the preparing threads");
    while (p->n_threads < n) {
        const int rc = pthread_create(&p->threads[p->n_threads], NULL, prep_main, p);
        if (rc != 0)
            return err_set(e, LLMD_EIO, "cannot start a thread: %s", strerror(rc));
        p->n_threads++;
    }
    return 0;
}

void prep_fini(struct prep *p)
{
    if (!p->threads)
        return;
    lock_take(&p->mu);
    p->stopping = true;
    pthread_cond_broadcast(&p->given);
    lock_drop(&p->mu);
    for (uint32_t i = 0; i < p->n_threads; i++)
        pthread_join(p->threads[i], NULL);
    free(p->threads);
    p->threads = NULL;
    pthread_cond_destroy(&p->given);
    lock_fini(&p->mu);
}

void prep_inbox_init(struct prep_inbox *inbox, int wake_fd)
{
    *inbox = (struct prep_inbox){.wake_fd = wake_fd};
    lock_init(&inbox->mu, LOCK_RANK_LEAF);
}

void prep_inbox_fini(struct prep_inbox *inbox)
{
    BUG_ON(inbox->first); /* its owner would never hear of it */
    lock_fini(&inbox->mu);
}

/* p->mu is held. */
static bool has_place(const struct prep *p, const struct prep_job *job)
{
    const uint32_t n_free = WAITING_MAX - (uint32_t)u64_min(p->n_waiting, WAITING_MAX);
    uint32_t n_own = 0;
    if (job->urgent)
        return true;
    for (const struct prep_job *j = p->first; j && job->owner; j = j->next)
        n_own += j->owner == job->owner;
    return n_free > 0 && n_own < n_free;
}

/* p->mu is held. */
static void enqueue(struct prep *p, struct prep_job *job)
{
    struct prep_job *before = job->urgent ? NULL : p->last; /* what it goes behind; NULL: nothing */
    if (!p->first)
        before = NULL;
    job->next = before ? NULL : p->first;
    if (before)
        before->next = job;
    else
        p->first = job;
    if (!job->next)
        p->last = job;
    p->n_waiting++;
}

int prep_give(struct prep *p, struct prep_job *job, struct err *e)
{
    job->given_us = clock_now_us();
    atomic_store(&job->abandoned, false);
    metric_gauge_add(p->waiting, 1);
    lock_take(&p->mu);
    const bool full = !has_place(p, job);
    if (!full) {
        enqueue(p, job);
        pthread_cond_signal(&p->given);
    }
    lock_drop(&p->mu);
    if (full) {
        metric_gauge_add(p->waiting, -1);
        metric_add(p->rejected, 1);
        return err_set(e, LLMD_EFULL,
                       "too many large request bodies wait to be read; try again soon");
    }
    return 0;
}

void prep_take(struct prep_inbox *inbox)
{
    lock_take(&inbox->mu);
    struct prep_job *job = inbox->first;
    inbox->first = NULL;
    lock_drop(&inbox->mu);
    while (job) {
        struct prep_job *next = job->next;
        job->done(job); /* may free it */
        job = next;
    }
}
