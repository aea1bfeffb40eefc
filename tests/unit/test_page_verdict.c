/* test_page_verdict.c - the verdict over facts: what is said of a slow worker, a hot prefix, a full KV pool,
 * slow clients, and when. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "core/edge/page_verdict.h"

enum { SECOND_US = 1000000 };

/* Two workers of one model that are ready, and do the same. */
struct world {
    struct router_worker_view workers[2];
    struct health_model model;
    struct health_facts facts;
    struct page_health health;
    struct buf said; /* problems, then the verdict */
};

static void begin(struct world *w)
{
    memset(w, 0, sizeof(*w));
    for (uint32_t i = 0; i < ARRAY_LEN(w->workers); i++) {
        w->workers[i] = (struct router_worker_view){.model = "m", .generation = 1, .index = i};
        w->workers[i].status = (struct worker_status){
            .state = WORKER_READY, .decode_step_us = 2000, .decode_step_seqs = 4};
    }
    w->model = (struct health_model){.name = "m", .ready = true};
    w->facts = (struct health_facts){.now_us = SECOND_US,
                                     .wall_us = 1790000000ull * SECOND_US,
                                     .progressing = true,
                                     .models = &w->model,
                                     .n_models = 1,
                                     .workers = w->workers,
                                     .n_workers = 2,
                                     .n_running = 3,
                                     .kv = 0.5};
}

static const char *judge(struct world *w, uint32_t n_seconds)
{
    for (uint32_t i = 0; i < n_seconds; i++) {
        page_health_judge(&w->health, &w->facts);
        w->facts.now_us += SECOND_US;
        w->facts.wall_us += SECOND_US;
    }
    buf_clear(&w->said);
    page_health_add_problems(&w->health, &w->said);
    page_health_add_verdict(&w->health, &w->said);
    return buf_str(&w->said);
}

static bool says(struct world *w, const char *text)
{
    return strstr(judge(w, 1), text) != NULL;
}

static void test_a_slow_worker(void **state)
{
    (void)state;
    struct world w;
    begin(&w);
    assert_false(says(&w, "worker_slow"));
    w.workers[1].status.decode_step_us = 9000;
    assert_null(strstr(judge(&w, 4), "worker_slow")); /* it may be a moment */
    assert_true(says(&w, "worker 1 of m is slow: a step takes 9.0 ms, on worker 0 2.0 ms"));
    assert_true(says(&w, "\"state\":\"degraded\""));
    w.workers[1].status.decode_step_seqs = 16; /* its batch is four times as large */
    assert_false(says(&w, "worker_slow"));
    w.workers[1].status.decode_step_us = 30000;
    assert_non_null(strstr(judge(&w, 5), "worker_slow"));
    w.workers[0].generation = 2; /* another model has nothing to say */
    assert_false(says(&w, "worker_slow"));
    w.workers[0].generation = 1;
    w.workers[0].status.decode_step_us = 0; /* nor has one that knows nothing */
    assert_null(strstr(judge(&w, 9), "worker_slow"));
    w.workers[0].status.decode_step_us = 200;
    w.workers[1].status.decode_step_us = 900; /* nobody notices */
    w.workers[1].status.decode_step_seqs = 1;
    assert_null(strstr(judge(&w, 9), "worker_slow"));
    buf_fini(&w.said);
}

static void test_a_hot_prefix(void **state)
{
    (void)state;
    struct world w;
    begin(&w);
    w.workers[0].n_bound = 9;
    w.workers[0].n_bound_cached = 8;
    w.workers[1].n_bound = 3;
    assert_null(strstr(judge(&w, 4), "hot_prefix"));
    assert_true(says(&w, "worker 0 of m has 9 requests, 8 of them"));
    assert_true(says(&w, "\"state\":\"serving\"")); /* it explains, and is no fault */
    assert_true(says(&w, "3 requests run on 2 workers, 0 wait; worker 0 of m has 9 requests"));
    w.workers[1].n_bound = 4;
    assert_false(says(&w, "hot_prefix"));
    w.workers[1].n_bound = 0;
    w.workers[0].n_bound_cached = 5; /* most came for another reason */
    assert_null(strstr(judge(&w, 9), "hot_prefix"));
    buf_fini(&w.said);
}

static void test_a_full_pool(void **state)
{
    (void)state;
    struct world w;
    begin(&w);
    w.facts.kv = 0.95;
    assert_non_null(strstr(judge(&w, 5), "95 % of the KV cache is in use\""));
    w.facts.kv = 0.7; /* its pool breathes, for requests lose their blocks */
    w.facts.preempted_s = 0.5;
    assert_true(says(&w, "70 % of the KV cache is in use, and requests lose theirs to others"));
    w.facts.preempted_s = 0;
    assert_false(says(&w, "kv_full"));
    buf_fini(&w.said);
}

static void test_slow_clients(void **state)
{
    (void)state;
    struct world w;
    begin(&w);
    w.facts.n_waiting_for_clients = 2;
    assert_null(strstr(judge(&w, 4), "slow_clients"));
    assert_true(says(&w, "2 answers wait for clients that read slowly"));
    assert_true(says(&w, "\"state\":\"serving\""));
    w.facts.kv = 0.99; /* what is a fault comes first */
    assert_non_null(strstr(judge(&w, 5), "\"state\":\"degraded\",\"reason\":\"99 % of"));
    w.facts.n_waiting_for_clients = 0;
    assert_false(says(&w, "slow_clients"));
    buf_fini(&w.said);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_slow_worker),
        cmocka_unit_test(test_a_hot_prefix),
        cmocka_unit_test(test_a_full_pool),
        cmocka_unit_test(test_slow_clients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
