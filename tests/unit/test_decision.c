/* Decisions: each policy on hand-made workers, the reasons in words, ties, bars, replay. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/router/decision.h"
#include "core/util/json.h"

enum { MAX = 8 };

/* A record with room for MAX workers that all could take a prompt of 1000 tokens. */
static struct decision *fresh(enum route_policy policy, uint32_t n)
{
    struct decision *d = calloc(1, sizeof(*d) + MAX * sizeof(d->candidates[0]));
    assert_non_null(d);
    d->policy = policy;
    d->n_prompt_tokens = 1000;
    d->alpha = 0.1;
    d->delta = 250;
    d->n_candidates = n;
    for (uint32_t i = 0; i < n; i++)
        d->candidates[i].worker = i;
    return d;
}

static void expect(struct decision *d, int32_t chosen, enum route_reason reason, const char *words)
{
    struct buf b = {0};
    decision_make(d);
    assert_int_equal(d->chosen, chosen);
    assert_int_equal(d->reason, reason);
    assert_true(decision_replay(d));
    decision_explain(d, &b);
    assert_string_equal(buf_str(&b), words);
    buf_fini(&b);
}

static void test_cost_of_prefix(void **state)
{
    (void)state;
    struct decision *d = fresh(ROUTE_PREFIX, 2);
    d->candidates[0] = (struct candidate){.worker = 0,
                                          .n_owed_tokens = 300,
                                          .n_cached_tokens = 960,
                                          .n_prefilling = 2,
                                          .n_decoding = 10};
    decision_make(d);
    assert_true(fabs(d->candidates[0].cost - (300 + 40 * (1 + 2 + 1.0) + 250 * 12)) < 1e-9);
    assert_true(d->candidates[1].cost == 1000);
    d->candidates[0].n_cached_tokens = 1000; /* something is always computed */
    decision_make(d);
    assert_true(fabs(d->candidates[0].cost - (300 + 4 + 3000)) < 1e-9);
    free(d);
}

static void test_prefix_goes_where_it_is_cached(void **state)
{
    (void)state;
    struct decision *d = fresh(ROUTE_PREFIX, 3);
    d->candidates[1].n_cached_tokens = 800;
    expect(d, 1, REASON_CACHED, "worker 1: 800 of 1000 prompt tokens cached there, the most");
    d->candidates[1].n_owed_tokens = 2000;
    d->candidates[2].n_decoding = 1;
    expect(d, 0, REASON_LOAD,
           "worker 0: worker 1 has 800 prompt tokens more, but more to do before");
    d->candidates[1].n_cached_tokens = 0;
    expect(d, 0, REASON_LEAST_LOADED, "worker 0: the least loaded");
    free(d);
}

static void test_equals_take_turns(void **state)
{
    (void)state;
    for (int policy = ROUTE_PREFIX; policy <= ROUTE_LEAST_LOADED; policy++) {
        struct decision *d = fresh((enum route_policy)policy, 3);
        uint32_t counts[3] = {0};
        for (uint64_t number = 1; number <= 9; number++) {
            decision_make(d);
            assert_int_equal(d->reason, REASON_TURN);
            d->candidates[d->chosen].last_chosen = number;
            counts[d->chosen]++;
        }
        assert_true(counts[0] == 3 && counts[1] == 3 && counts[2] == 3);
        free(d);
    }
}

static void test_bars(void **state)
{
    (void)state;
    struct decision *d = fresh(ROUTE_PREFIX, 3);
    for (int bar = BAR_STATE; bar <= BAR_KV; bar++) {
        d->candidates[0].bar = (enum route_bar)bar;
        d->candidates[0].n_cached_tokens = 1000;
        d->candidates[2].bar = BAR_STATE;
        expect(d, 1, REASON_ONLY, "worker 1: no other can take it now");
    }
    d->candidates[1].bar = BAR_SEQS;
    expect(d, -1, REASON_NONE, "no worker can take it now");
    free(d);
}

static void test_waiting_for_one_that_is_behind(void **state)
{
    (void)state;
    struct decision *d = fresh(ROUTE_PREFIX, 2);
    d->candidates[0].bar = BAR_BACKLOG;
    d->candidates[0].n_owed_tokens = 500;
    d->candidates[0].n_cached_tokens = 900;
    expect(d, -1, REASON_BACKLOG, "waits for worker 0, which is behind but still the best");
    assert_int_equal(d->awaited, 0);
    d->candidates[0].n_owed_tokens = 5000;
    expect(d, 1, REASON_LOAD,
           "worker 1: worker 0 has 900 prompt tokens more, but more to do before");
    d->candidates[0].n_owed_tokens = 0;
    d->policy = ROUTE_ROUNDROBIN; /* does not wait for anybody */
    expect(d, 1, REASON_ONLY, "worker 1: no other can take it now");
    free(d);
}

static void test_sessions_stay_and_move_only_with_their_worker(void **state)
{
    (void)state;
    uint32_t homes[200], counts[MAX] = {0};
    struct decision *d = fresh(ROUTE_SESSION, 5);
    d->has_session = true;
    for (uint32_t s = 0; s < 200; s++) {
        d->session = s * 0x9e3779b97f4a7c15u;
        d->candidates[s % 5].n_owed_tokens = s * 100; /* load does not matter */
        decision_make(d);
        assert_int_equal(d->reason, REASON_SESSION);
        homes[s] = (uint32_t)d->chosen;
        counts[d->chosen]++;
    }
    for (uint32_t w = 0; w < 5; w++)
        assert_in_range(counts[w], 20, 60);
    d->candidates[3].bar = BAR_STATE;
    for (uint32_t s = 0; s < 200; s++) {
        d->session = s * 0x9e3779b97f4a7c15u;
        decision_make(d);
        assert_true(homes[s] == 3 ? d->chosen != 3 : (uint32_t)d->chosen == homes[s]);
    }
    d->has_session = false; /* then by load */
    for (uint32_t w = 0; w < 5; w++)
        d->candidates[w].n_owed_tokens = 100 - w;
    expect(d, 4, REASON_LEAST_LOADED, "worker 4: the least loaded");
    free(d);
}

static void test_replay_notices_a_changed_record(void **state)
{
    (void)state;
    struct decision *d = fresh(ROUTE_PREFIX, 2);
    d->candidates[1].n_cached_tokens = 160;
    decision_make(d);
    assert_true(decision_replay(d));
    d->delta = 251;
    d->candidates[0].n_decoding = 1;
    assert_false(decision_replay(d));
    free(d);
}

static void test_json(void **state)
{
    (void)state;
    struct decision *d = fresh(ROUTE_PREFIX, 2);
    struct buf b = {0};
    json_t *v = NULL;
    d->candidates[1].n_cached_tokens = 160;
    d->candidates[0].bar = BAR_KV;
    decision_make(d);
    decision_add_json(d, &b);
    assert_int_equal(json_parse(buf_str(&b), b.len, &v, NULL), 0);
    assert_string_equal(json_string_value(json_object_get(v, "policy")), "prefix");
    assert_int_equal(json_integer_value(json_object_get(v, "worker")), 1);
    const json_t *c = json_array_get(json_object_get(v, "candidates"), 0);
    assert_string_equal(json_string_value(json_object_get(c, "bar")), "its KV cache is full");
    assert_true(json_number_value(json_object_get(c, "cost")) == 1000);
    json_decref(v);
    buf_fini(&b);
    free(d);
}

static void test_names(void **state)
{
    (void)state;
    enum route_policy p;
    for (int i = ROUTE_PREFIX; i <= ROUTE_LEAST_LOADED; i++) {
        assert_true(route_policy_find(route_policy_name((enum route_policy)i), &p));
        assert_int_equal(p, i);
    }
    assert_true(route_policy_find("kvaware", &p) && p == ROUTE_PREFIX);
    assert_false(route_policy_find("random", &p));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cost_of_prefix),
        cmocka_unit_test(test_prefix_goes_where_it_is_cached),
        cmocka_unit_test(test_equals_take_turns),
        cmocka_unit_test(test_bars),
        cmocka_unit_test(test_waiting_for_one_that_is_behind),
        cmocka_unit_test(test_sessions_stay_and_move_only_with_their_worker),
        cmocka_unit_test(test_replay_notices_a_changed_record),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
