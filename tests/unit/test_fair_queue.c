/* The queue of what waits: order, shares of tokens, priorities, passing over, random against a
 * list of all items. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/router/fair_queue.h"
#include "core/util/err.h"

enum { QUANTUM = 100, N_ITEMS = 400 };

struct thing {
    struct fair_item item; /* first: items are cast to things */
    uint32_t number;
    char key;
    int64_t priority;
    bool queued, barred;
};

struct world {
    struct fair_queue *q;
    struct thing things[N_ITEMS];
    struct thing *order[N_ITEMS]; /* as they were taken, or asked */
    uint32_t n_order, n_take, seed;
};

static struct world w;

static void begin(uint32_t seed)
{
    memset(&w, 0, sizeof(w));
    w.seed = seed;
    w.n_take = UINT32_MAX;
    assert_int_equal(fair_queue_new(QUANTUM, &w.q), 0);
}

static void end(void)
{
    for (struct fair_item *i; (i = fair_queue_any(w.q)) != NULL;)
        fair_queue_remove(w.q, i);
    fair_queue_audit(w.q);
    fair_queue_free(w.q);
}

static void push(uint32_t number, char key, int64_t priority, uint32_t cost)
{
    struct thing *t = &w.things[number];
    const char name[2] = {key, 0};
    *t = (struct thing){.number = number, .key = key, .priority = priority, .queued = true};
    assert_int_equal(fair_queue_push(w.q, &t->item, name, priority, cost), 0);
}

static enum fair_verdict take(void *ctx, struct fair_item *item)
{
    struct thing *t = (struct thing *)item;
    (void)ctx;
    if (w.n_take == 0)
        return FAIR_STOP;
    if (t->barred)
        return FAIR_PASS;
    w.n_take--;
    t->queued = false;
    w.order[w.n_order++] = t;
    return FAIR_TAKE;
}

static void scan(uint32_t n_take)
{
    w.n_take = n_take;
    w.n_order = 0;
    fair_queue_scan(w.q, UINT32_MAX, take, NULL);
    fair_queue_audit(w.q);
}

/* The keys in the order of w.order. */
static void expect_keys(const char *keys)
{
    char got[N_ITEMS + 1] = "";
    for (uint32_t i = 0; i < w.n_order; i++)
        got[i] = w.order[i]->key;
    assert_string_equal(got, keys);
}

static void test_first_come_first_served_within_a_key(void **state)
{
    (void)state;
    begin(1);
    for (uint32_t i = 0; i < 20; i++)
        push(i, 'a', 0, 1 + i * 37 % 300);
    scan(UINT32_MAX);
    assert_int_equal(w.n_order, 20);
    for (uint32_t i = 0; i < 20; i++)
        assert_int_equal(w.order[i]->number, i);
    end();
}

static void test_keys_share_tokens_not_requests(void **state)
{
    (void)state;
    begin(1);
    for (uint32_t i = 0; i < 100; i++)
        push(i, 'a', 0, 100);
    for (uint32_t i = 100; i < 150; i++)
        push(i, 'b', 0, 300);
    scan(80); /* of the small ones three for each large one */
    uint32_t a = 0;
    for (uint32_t i = 0; i < w.n_order; i++)
        a += w.order[i]->key == 'a';
    assert_in_range(a, 59, 61);
    end();
}

static void test_a_newcomer_does_not_wait_behind_a_flood(void **state)
{
    (void)state;
    begin(1);
    for (uint32_t i = 0; i < 100; i++)
        push(i, 'a', 0, 100);
    scan(10);
    push(200, 'b', 0, 100);
    scan(3);
    bool served = false;
    for (uint32_t i = 0; i < w.n_order; i++)
        served |= w.order[i]->key == 'b';
    assert_true(served);
    end();
}

/* What is said to be served before a newcomer is, to the quantum and the sizes of single items. */
static void test_what_is_ahead(void **state)
{
    (void)state;
    for (uint32_t seed = 0; seed < 200; seed++) {
        begin(seed);
        const uint32_t n = 1 + seed % 60, n_keys = 1 + seed % 4;
        uint32_t n_own = 0;
        uint64_t before = 0;
        for (uint32_t i = 0; i < n; i++) {
            const uint32_t k = (i * 7 + seed) % n_keys % (1 + i % 3);
            push(i, (char)('a' + k), i % 5 == 4, 20 + (i * 31 + seed) % 60);
            n_own += k == 0;
        }
        const struct fair_ahead ahead = fair_queue_ahead(w.q, "a", 0, 50);
        assert_int_equal(ahead.n_own, n_own);
        assert_in_range(ahead.n_keys, 1, n_keys);
        push(n, 'a', 0, 50);
        scan(UINT32_MAX);
        for (uint32_t i = 0; w.order[i]->number != n; i++)
            before += w.order[i]->item.cost;
        const uint64_t slack = 3 * (QUANTUM + 80);
        assert_in_range(ahead.cost + slack, before, before + 2 * slack);
        end();
    }
}

/* However the scans are cut, the order is that of one scan. */
static void test_turns_go_on_where_they_were(void **state)
{
    (void)state;
    char whole[N_ITEMS + 1] = "", pieces[N_ITEMS + 1] = "";
    for (int cut = 0; cut < 2; cut++) {
        begin(1);
        for (uint32_t i = 0; i < 30; i++)
            push(i, (char)('a' + i % 3), 0, 40 + i % 3 * 60);
        char *out = cut ? pieces : whole;
        size_t n = 0;
        while (fair_queue_n(w.q) > 0) {
            scan(cut ? 1 : UINT32_MAX);
            for (uint32_t i = 0; i < w.n_order; i++)
                out[n++] = w.order[i]->key;
        }
        end();
    }
    assert_string_equal(pieces, whole);
}

static void test_priorities_are_strict(void **state)
{
    (void)state;
    begin(1);
    push(0, 'c', 5, 10);
    push(1, 'b', 0, 5000);
    push(2, 'a', -3, 10);
    push(3, 'b', 0, 10);
    scan(UINT32_MAX);
    expect_keys("abbc");
    assert_int_equal(fair_queue_n(w.q), 0);
    end();
}

static void test_who_cannot_go_is_passed_over(void **state)
{
    (void)state;
    begin(1);
    for (uint32_t i = 0; i < 6; i++)
        push(i, i < 3 ? 'a' : 'b', 0, 10);
    w.things[0].barred = w.things[3].barred = w.things[4].barred = true;
    scan(UINT32_MAX);
    expect_keys("aab");
    assert_int_equal(fair_queue_n(w.q), 3);
    w.things[0].barred = w.things[3].barred = w.things[4].barred = false;
    scan(UINT32_MAX);
    assert_int_equal(w.n_order, 3);
    assert_int_equal(fair_queue_cost(w.q), 0);
    end();
}

/* Of many that are passed over, half of the questions are left for lower priorities; but none of them
 * goes before one that was not asked while others of the higher priority go. */
static void test_a_priority_hides_no_other(void **state)
{
    (void)state;
    begin(1);
    for (uint32_t i = 0; i < 100; i++) {
        push(i, 'a', 0, 1);
        w.things[i].barred = true;
    }
    push(100, 'b', 1, 1);
    push(101, 'b', 2, 1);
    fair_queue_scan(w.q, 64, take, NULL);
    assert_false(w.things[100].queued);
    assert_false(w.things[101].queued);
    push(102, 'b', 1, 1);
    for (uint32_t i = 0; i < 100; i++)
        w.things[i].barred = false;
    fair_queue_scan(w.q, 64, take, NULL);
    assert_true(w.things[102].queued);
    end();
}

static void test_a_scan_asks_no_more_than_it_may(void **state)
{
    (void)state;
    begin(1);
    for (uint32_t i = 0; i < 50; i++) {
        push(i, (char)('a' + i % 5), 0, 10);
        w.things[i].barred = true;
    }
    w.things[49].barred = false;
    w.n_order = 0;
    fair_queue_scan(w.q, 20, take, NULL);
    assert_int_equal(w.n_order, 0);
    fair_queue_scan(w.q, 50, take, NULL);
    assert_int_equal(w.n_order, 1);
    end();
}

/* A key of which more are passed over than one scan may ask does not hide the others. */
static void test_the_next_scan_asks_the_next_key(void **state)
{
    (void)state;
    begin(1);
    for (uint32_t i = 0; i < 30; i++) {
        push(i, i < 28 ? 'a' : 'b', 0, 10);
        w.things[i].barred = i < 28;
    }
    w.n_take = UINT32_MAX;
    w.n_order = 0;
    for (uint32_t i = 0; i < 2; i++)
        fair_queue_scan(w.q, 20, take, NULL);
    fair_queue_audit(w.q);
    expect_keys("bb");
    end();
}

static uint32_t rnd(uint32_t n)
{
    w.seed = w.seed * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(w.seed >> 8) * n >> 24);
}

/* Of what was taken: nobody of its key and priority that could go was there before it, and nobody
 * of a better priority at all. */
static void check_order(void)
{
    for (uint32_t i = 0; i < w.n_order; i++)
        for (uint32_t k = 0; k < N_ITEMS; k++) {
            const struct thing *t = w.order[i], *o = &w.things[k];
            if (!o->queued || o->barred)
                continue;
            assert_false(o->priority < t->priority);
            assert_false(o->priority == t->priority && o->key == t->key && o->number < t->number);
        }
}

static void test_random(void **state)
{
    (void)state;
    uint32_t next = 0, n_taken = 0;
    begin(5);
    for (uint32_t step = 0; step < 4000; step++) {
        uint64_t cost = 0;
        uint32_t n = 0;
        if (rnd(3) > 0 && next < N_ITEMS) {
            push(next++, (char)('a' + rnd(6)), (int64_t)rnd(3) - 1, 1 + rnd(5 * QUANTUM));
        } else if (rnd(6) == 0) {
            struct thing *t = &w.things[rnd(N_ITEMS)];
            if (t->queued)
                fair_queue_remove(w.q, &t->item);
            t->queued = false;
        } else {
            for (uint32_t i = 0; i < N_ITEMS; i++)
                w.things[i].barred = rnd(4) == 0;
            scan(rnd(5));
            check_order();
            n_taken += w.n_order;
        }
        if (next == N_ITEMS && fair_queue_n(w.q) == 0)
            next = 0;
        for (uint32_t i = 0; i < N_ITEMS; i++) {
            n += w.things[i].queued;
            cost += w.things[i].queued ? w.things[i].item.cost : 0;
        }
        assert_int_equal(fair_queue_n(w.q), n);
        assert_int_equal(fair_queue_cost(w.q), cost);
        fair_queue_audit(w.q);
    }
    assert_true(n_taken > 300);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_come_first_served_within_a_key),
        cmocka_unit_test(test_keys_share_tokens_not_requests),
        cmocka_unit_test(test_a_newcomer_does_not_wait_behind_a_flood),
        cmocka_unit_test(test_what_is_ahead),
        cmocka_unit_test(test_turns_go_on_where_they_were),
        cmocka_unit_test(test_priorities_are_strict),
        cmocka_unit_test(test_who_cannot_go_is_passed_over),
        cmocka_unit_test(test_a_priority_hides_no_other),
        cmocka_unit_test(test_a_scan_asks_no_more_than_it_may),
        cmocka_unit_test(test_the_next_scan_asks_the_next_key),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
