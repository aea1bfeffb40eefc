/* Streams under fire: producers, consumers, a migrator and cancellations at the same time.
 *
 * Every choice of every request counts 0, 1, 2, ...; consumers check that nothing is lost, doubled
 * or reordered, whichever producer it came from, and that each choice ends exactly once. Threads
 * block without a time-out: a lost wake-up hangs the test, which an alarm turns into a failure. */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/request/request.h"
#include "core/util/clock.h"
#include "tests/unit/patience.h"

enum {
    N_REQUESTS = 600,
    N_PRODUCERS = 3,
    N_CONSUMERS = 3,
    N_CHOICES_MAX = 4,
    N_TOKENS_MAX = 150,
    DEADLINE_S = 250,
};

struct job {
    struct request *r;
    pthread_mutex_t mu; /* makes "push and count" one step against a migration; guards the rest */
    uint32_t producer, epoch;
    uint32_t n_pushed[N_CHOICES_MAX];
    uint32_t n_tokens[N_CHOICES_MAX];
    bool over;
    /* the consumer's own */
    uint32_t n_seen[N_CHOICES_MAX];
    uint32_t n_ended;
    bool ended[N_CHOICES_MAX];
};

struct producer {
    pthread_t thread;
    pthread_mutex_t mu;
    pthread_cond_t wake;
    bool kicked;
    uint32_t index;
};

struct consumer {
    pthread_t thread;
    struct waker waker;
    uint32_t index;
    uint32_t n_left; /* requests that have not ended */
};

static struct job jobs[N_REQUESTS];
static struct producer producers[N_PRODUCERS];
static struct consumer consumers[N_CONSUMERS];
static atomic_uint n_faults, n_live, n_migrations, n_aborted;

static void check(bool ok)
{
    if (!ok)
        atomic_fetch_add(&n_faults, 1);
}

static uint32_t rnd(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static void kick(void *ctx)
{
    struct producer *p = ctx;
    pthread_mutex_lock(&p->mu);
    p->kicked = true;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->mu);
}

static void kick_all(void)
{
    for (uint32_t i = 0; i < N_PRODUCERS; i++)
        kick(&producers[i]);
}

static void job_over(struct job *j)
{
    j->over = true;
    if (atomic_fetch_sub(&n_live, 1) == 1)
        kick_all();
}

/* One step of one request: at most one token per choice. True when it made progress. */
static bool produce(struct job *j, struct waker_set *set)
{
    struct request *r = j->r;
    if (request_is_cancelled(r)) {
        struct err why = {.code = LLMD_ECANCELLED};
        stream_fail(r, j->epoch, &why, set);
        job_over(j);
        return true;
    }
    uint32_t n = r->sampling.n, n_done = 0;
    if (stream_room(r, j->epoch, n) < n)
        return false;
    for (uint32_t c = 0; c < n; c++) {
        if (j->n_pushed[c] == j->n_tokens[c]) {
            n_done++;
            continue;
        }
        bool last = j->n_pushed[c] + 1 == j->n_tokens[c];
        struct stream_item it = {.choice = c,
                                 .token = j->n_pushed[c],
                                 .stop_id = -1,
                                 .finish = last ? FINISH_LENGTH : FINISH_NONE};
        int rc = stream_push(r, j->epoch, &it, set);
        check(rc == 0 || rc == -LLMD_ECANCELLED); /* there was room */
        if (rc == 0)
            n_done += ++j->n_pushed[c] == j->n_tokens[c];
    }
    if (n_done == n)
        job_over(j);
    return true;
}

static void *producer_main(void *arg)
{
    struct producer *p = arg;
    struct waker_set set = {.n = 0};
    while (atomic_load(&n_live) > 0) {
        bool progress = false;
        for (uint32_t i = 0; i < N_REQUESTS; i++) {
            struct job *j = &jobs[i];
            pthread_mutex_lock(&j->mu);
            if (j->r && j->producer == p->index && !j->over)
                progress |= produce(j, &set);
            pthread_mutex_unlock(&j->mu);
        }
        waker_set_flush(&set);
        pthread_mutex_lock(&p->mu);
        while (!progress && !p->kicked && atomic_load(&n_live) > 0)
            pthread_cond_wait(&p->wake, &p->mu);
        p->kicked = false;
        pthread_mutex_unlock(&p->mu);
    }
    return NULL;
}

/* Moves requests from one producer to another while both are at work; the old one finds out by
 * its refused pushes. */
static void *migrator_main(void *arg)
{
    uint32_t *seed = arg;
    while (atomic_load(&n_live) > 0) {
        struct job *j = &jobs[rnd(seed) % N_REQUESTS];
        struct stream_item stale = {.token = 999999, .stop_id = -1, .finish = FINISH_STOP};
        struct waker_set set = {.n = 0};
        struct err why = {.code = LLMD_EWORKER};
        struct producer *to = &producers[rnd(seed) % N_PRODUCERS];
        pthread_mutex_lock(&j->mu);
        if (j->r && !j->over) {
            uint32_t old = j->epoch;
            j->producer = to->index;
            j->epoch = stream_attach(j->r, kick, to);
            check(stream_push(j->r, old, &stale, &set) == -LLMD_ECANCELLED);
            stream_fail(j->r, old, &why, &set);
            check(set.n == 0);
            atomic_fetch_add(&n_migrations, 1);
        }
        pthread_mutex_unlock(&j->mu);
        kick(to);
        clock_sleep_us(50);
    }
    return NULL;
}

static void consume_item(struct job *j, const struct stream_item *it)
{
    uint32_t c = it->choice;
    check(!j->ended[c]);
    if (it->token != STREAM_NO_TOKEN)
        check(it->token == j->n_seen[c]++);
    if (it->finish == FINISH_NONE)
        return;
    j->ended[c] = true;
    j->n_ended++;
    if (it->finish == FINISH_LENGTH) {
        check(j->n_seen[c] == j->n_tokens[c]);
    } else {
        check(it->finish == FINISH_ABORT && request_is_cancelled(j->r));
        atomic_fetch_add(&n_aborted, 1);
    }
}

static void consume(struct consumer *k, struct job *j, uint32_t *seed)
{
    struct stream_item items[16];
    uint32_t n, max = 1 + rnd(seed) % 16;
    while ((n = stream_pull(j->r, items, max)) > 0)
        for (uint32_t i = 0; i < n; i++) {
            consume_item(j, &items[i]);
            if (i == 0 && rnd(seed) % 400 == 0)
                request_cancel(j->r);
        }
    if (j->n_ended == j->r->sampling.n) {
        j->n_ended++; /* only once */
        k->n_left--;
    }
}

static void *consumer_main(void *arg)
{
    struct consumer *k = arg;
    uint32_t seed = 77 + k->index;
    struct request *ready[8];
    while (k->n_left > 0) {
        struct pollfd p = {.fd = k->waker.event_fd, .events = POLLIN};
        poll(&p, 1, -1);
        if (rnd(&seed) % 8 == 0)
            clock_sleep_us(300); /* a slow client: rings fill */
        uint32_t n, max = 1 + rnd(&seed) % 8;
        while ((n = waker_take(&k->waker, ready, max)) > 0)
            for (uint32_t i = 0; i < n; i++) {
                consume(k, &jobs[ready[i]->priority], &seed);
                request_unref(ready[i]);
            }
    }
    return NULL;
}

static void setup_jobs(uint32_t *seed)
{
    atomic_store(&n_live, N_REQUESTS);
    for (uint32_t i = 0; i < N_REQUESTS; i++) {
        struct job *j = &jobs[i];
        struct consumer *k = &consumers[rnd(seed) % N_CONSUMERS];
        assert_int_equal(request_new(&j->r), 0);
        j->r->sampling.n = 1 + rnd(seed) % N_CHOICES_MAX;
        j->r->priority = i; /* finds the job of a request */
        for (uint32_t c = 0; c < j->r->sampling.n; c++)
            j->n_tokens[c] = 1 + rnd(seed) % N_TOKENS_MAX;
        pthread_mutex_init(&j->mu, NULL);
        assert_int_equal(stream_init(j->r, &k->waker, j->r->sampling.n, NULL), 0);
        j->producer = rnd(seed) % N_PRODUCERS;
        j->epoch = stream_attach(j->r, kick, &producers[j->producer]);
        k->n_left++;
    }
}

static void test_stress(void **state)
{
    (void)state;
    uint32_t seed = 1, migrator_seed = 2;
    pthread_t migrator;
    alarm(DEADLINE_S);

    for (uint32_t i = 0; i < N_PRODUCERS; i++) {
        producers[i].index = i;
        pthread_mutex_init(&producers[i].mu, NULL);
        pthread_cond_init(&producers[i].wake, NULL);
    }
    for (uint32_t i = 0; i < N_CONSUMERS; i++) {
        consumers[i].index = i;
        assert_int_equal(waker_init(&consumers[i].waker, NULL), 0);
    }
    setup_jobs(&seed);

    pthread_create(&migrator, NULL, migrator_main, &migrator_seed);
    assert_soon(atomic_load(&n_migrations) > 0);
    for (uint32_t i = 0; i < N_PRODUCERS; i++)
        pthread_create(&producers[i].thread, NULL, producer_main, &producers[i]);
    for (uint32_t i = 0; i < N_CONSUMERS; i++)
        pthread_create(&consumers[i].thread, NULL, consumer_main, &consumers[i]);

    for (uint32_t i = 0; i < N_PRODUCERS; i++)
        pthread_join(producers[i].thread, NULL);
    for (uint32_t i = 0; i < N_CONSUMERS; i++)
        pthread_join(consumers[i].thread, NULL);
    pthread_join(migrator, NULL);

    assert_int_equal(atomic_load(&n_faults), 0);
    assert_true(atomic_load(&n_aborted) > 0);
    for (uint32_t i = 0; i < N_REQUESTS; i++) {
        assert_int_equal(atomic_load(&jobs[i].r->refs), 1); /* no reference leaked */
        request_unref(jobs[i].r);
    }
    for (uint32_t i = 0; i < N_CONSUMERS; i++)
        waker_fini(&consumers[i].waker);
    print_message("%u migrations, %u choices aborted\n", atomic_load(&n_migrations),
                  atomic_load(&n_aborted));
}

/* Two producers, one consumer, one token per flush: as many arm/take races as possible. */
enum { N_PINGS = 40000 };

struct pinger {
    pthread_t thread;
    struct request *r;
    struct producer wake;
};

static void *pinger_main(void *arg)
{
    struct pinger *p = arg;
    struct waker_set set = {.n = 0};
    uint32_t epoch = stream_attach(p->r, kick, &p->wake);
    for (uint32_t i = 0; i < N_PINGS;) {
        struct stream_item it = {
            .token = i, .stop_id = -1, .finish = i + 1 == N_PINGS ? FINISH_LENGTH : FINISH_NONE};
        int rc = stream_push(p->r, epoch, &it, &set);
        waker_set_flush(&set);
        if (rc == 0) {
            i++;
            continue;
        }
        check(rc == -LLMD_EFULL);
        pthread_mutex_lock(&p->wake.mu);
        while (!p->wake.kicked)
            pthread_cond_wait(&p->wake.wake, &p->wake.mu);
        p->wake.kicked = false;
        pthread_mutex_unlock(&p->wake.mu);
    }
    return NULL;
}

static void test_no_wake_up_is_lost(void **state)
{
    (void)state;
    struct waker w;
    struct pinger ps[2];
    struct request *ready[2];
    uint32_t n_seen = 0;
    alarm(DEADLINE_S);
    atomic_store(&n_faults, 0);
    assert_int_equal(waker_init(&w, NULL), 0);
    for (uint32_t i = 0; i < 2; i++) {
        ps[i].wake.kicked = false;
        pthread_mutex_init(&ps[i].wake.mu, NULL);
        pthread_cond_init(&ps[i].wake.wake, NULL);
        assert_int_equal(request_new(&ps[i].r), 0);
        assert_int_equal(stream_init(ps[i].r, &w, 1, NULL), 0);
        pthread_create(&ps[i].thread, NULL, pinger_main, &ps[i]);
    }
    while (n_seen < 2 * N_PINGS) {
        struct pollfd p = {.fd = w.event_fd, .events = POLLIN};
        poll(&p, 1, -1);
        uint32_t n = waker_take(&w, ready, 2);
        for (uint32_t i = 0; i < n; i++) {
            struct stream_item items[64];
            n_seen += stream_pull(ready[i], items, 64);
            request_unref(ready[i]);
        }
    }
    for (uint32_t i = 0; i < 2; i++) {
        pthread_join(ps[i].thread, NULL);
        request_unref(ps[i].r);
    }
    assert_int_equal(atomic_load(&n_faults), 0);
    waker_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_stress),
                                       cmocka_unit_test(test_no_wake_up_is_lost)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
