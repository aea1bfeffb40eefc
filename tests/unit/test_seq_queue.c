/* The queue of waiting groups against a search through all of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/engine/seq_queue.h"

static uint32_t rnd(uint32_t *state, uint32_t n)
{
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 8) % n;
}

enum { MAX_GROUPS = 40, STEPS = 200000 };

static struct request requests[MAX_GROUPS];
static struct seq_group *groups[MAX_GROUPS];
static bool queued[MAX_GROUPS];

static struct seq_group *first_by_search(void)
{
    struct seq_group *first = NULL;
    for (uint32_t i = 0; i < MAX_GROUPS; i++)
        if (queued[i] && (!first || seq_group_before(groups[i], first)))
            first = groups[i];
    return first;
}

/* A new order for group i; mostly it is the newest. */
static void renew(uint32_t i, uint64_t now, uint32_t *seed)
{
    bool newest = rnd(seed, 4) != 0;
    requests[i].priority = newest ? 0 : (int64_t)rnd(seed, 3) - 1;
    requests[i].arrival_us = newest ? now : rnd(seed, (uint32_t)now + 1);
    groups[i]->id = now;
}

static void test_random_against_search(void **state)
{
    (void)state;
    struct seq_queue q;
    uint32_t seed = 7, n = 0;
    assert_int_equal(seq_queue_init(&q, MAX_GROUPS), 0);
    for (uint32_t i = 0; i < MAX_GROUPS; i++) {
        groups[i] = calloc(1, sizeof(*groups[i]));
        assert_non_null(groups[i]);
        groups[i]->req = &requests[i];
    }
    for (uint32_t step = 0; step < STEPS; step++) {
        uint32_t i = rnd(&seed, MAX_GROUPS);
        /* It fills and drains in turns, so that it is full and empty now and then. */
        bool filling = step / 500 % 2 == 0;
        if (!queued[i] && (filling || rnd(&seed, 4) == 0)) {
            renew(i, step, &seed);
            seq_queue_add(&q, groups[i]);
            queued[i] = true;
            n++;
        } else if (!filling && n > 0 && rnd(&seed, 2) == 0) {
            struct seq_group *g = seq_queue_first(&q); /* what the scheduler does */
            seq_queue_remove(&q, g);
            for (uint32_t k = 0; k < MAX_GROUPS; k++)
                if (groups[k] == g)
                    queued[k] = false;
            n--;
        } else if (queued[i] && rnd(&seed, 8) == 0) { /* a cancelled one */
            seq_queue_remove(&q, groups[i]);
            queued[i] = false;
            n--;
        }
        assert_int_equal(q.n, n);
        assert_ptr_equal(seq_queue_first(&q), first_by_search());
    }
    for (uint32_t i = 0; i < MAX_GROUPS; i++)
        free(groups[i]);
    seq_queue_fini(&q);
    seq_queue_fini(&q); /* a zeroed one is fine */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_against_search)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
