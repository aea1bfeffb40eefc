/* The map of blocks to workers: random changes against plain arrays, names that collide in their
 * home slot, the full table, matches of prompts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "core/router/prefix_map.h"

enum { N_NAMES = 200, MAX_ENTRIES = 150, N_STEPS = 60000 };

/* Few home slots, so that runs are long and wrap around the end of the table. */
static struct prefix_hash name_of(uint32_t i)
{
    const uint64_t homes[] = {0, 1, 5, 506, 509, 510, 511};
    return (struct prefix_hash){.lo = homes[i % 7] | (uint64_t)(i / 7) << 32, .hi = i};
}

struct world {
    struct prefix_map *map;
    uint64_t held[N_NAMES], promised[N_NAMES];
    uint32_t n;
    uint32_t seed, n_full;
    bool pieces; /* forget in pieces; room for all names */
};

static uint32_t rnd(struct world *w, uint32_t n)
{
    w->seed = w->seed * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(w->seed >> 8) * n >> 24);
}

/* Whether the name is in, or there is room for it; counts it in. */
static bool admit(struct world *w, uint32_t i)
{
    if (w->held[i] | w->promised[i])
        return true;
    if (w->n == MAX_ENTRIES && !w->pieces) {
        w->n_full++;
        return false;
    }
    w->n++;
    return true;
}

static void drop(struct world *w, uint32_t i, bool held, bool promised, uint32_t worker)
{
    bool was = (w->held[i] | w->promised[i]) != 0;
    if (held)
        w->held[i] &= ~(1ull << worker);
    if (promised)
        w->promised[i] &= ~(1ull << worker);
    w->n -= was && (w->held[i] | w->promised[i]) == 0;
}

static void change(struct world *w)
{
    uint32_t i = rnd(w, N_NAMES), worker = rnd(w, PREFIX_MAP_WORKERS), what = rnd(w, 1000);
    uint64_t bit = 1ull << worker;
    if (what < 300) {
        prefix_map_add(w->map, worker, name_of(i));
        if (admit(w, i))
            w->held[i] |= bit;
    } else if (what < 550) {
        prefix_map_remove(w->map, worker, name_of(i));
        drop(w, i, true, false, worker);
    } else if (what < 750) {
        bool news = !((w->held[i] | w->promised[i]) & bit) && admit(w, i);
        assert_int_equal(prefix_map_promise(w->map, worker, name_of(i)), news);
        if (news)
            w->promised[i] |= bit;
    } else if (what < 950) {
        prefix_map_break(w->map, worker, name_of(i));
        drop(w, i, false, true, worker);
    } else {
        prefix_map_forget(w->map, worker);
        if (!w->pieces)
            assert_true(prefix_map_sweep(w->map, UINT32_MAX));
        for (uint32_t k = 0; k < N_NAMES; k++)
            drop(w, k, true, false, worker);
    }
}

static void check_match(struct world *w)
{
    struct prefix_hash names[12];
    uint32_t ids[12], n = rnd(w, 13);
    struct prefix_match got[PREFIX_MAP_WORKERS];
    uint64_t asked = (uint64_t)w->seed << 32 | rnd(w, UINT32_MAX);
    memset(got, 0xee, sizeof(got));
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = rnd(w, N_NAMES);
        names[i] = name_of(ids[i]);
    }
    prefix_map_match(w->map, names, n, asked, got);
    for (uint32_t worker = 0; worker < PREFIX_MAP_WORKERS; worker++) {
        uint32_t held = 0, known = 0;
        if (!(asked >> worker & 1)) {
            assert_int_equal(got[worker].n_held, 0xeeeeeeee);
            continue;
        }
        while (held < n && (w->held[ids[held]] >> worker & 1))
            held++;
        while (known < n && ((w->held[ids[known]] | w->promised[ids[known]]) >> worker & 1))
            known++;
        assert_int_equal(got[worker].n_held, held);
        assert_int_equal(got[worker].n_known, known);
    }
}

/* Forgetting in pieces, between which everything else happens. Nothing is ever full. */
static void test_sweeps_in_pieces(void **state)
{
    (void)state;
    static struct world w;
    w = (struct world){.seed = 12, .pieces = true};
    assert_int_equal(prefix_map_new(N_NAMES, &w.map), 0);
    for (uint32_t step = 0; step < N_STEPS; step++) {
        change(&w);
        const bool swept = prefix_map_sweep(w.map, rnd(&w, 60));
        assert_true(swept ? prefix_map_n_entries(w.map) == w.n
                          : prefix_map_n_entries(w.map) >= w.n);
        if (step % 8 == 0)
            check_match(&w);
        if (step % 64 == 0)
            prefix_map_audit(w.map);
    }
    while (!prefix_map_sweep(w.map, 1))
        ;
    assert_int_equal(prefix_map_n_entries(w.map), w.n);
    prefix_map_free(w.map);
}

static void test_random_against_arrays(void **state)
{
    (void)state;
    static struct world w;
    w = (struct world){.seed = 11};
    assert_int_equal(prefix_map_new(MAX_ENTRIES, &w.map), 0);
    for (uint32_t step = 0; step < N_STEPS; step++) {
        change(&w);
        assert_int_equal(prefix_map_n_entries(w.map), w.n);
        if (step % 8 == 0)
            check_match(&w);
        if (step % 64 == 0)
            prefix_map_audit(w.map);
    }
    assert_true(w.n_full > 100);
    prefix_map_free(w.map);
}

static void test_a_full_table_answers_too_low_and_recovers(void **state)
{
    (void)state;
    struct prefix_map *m;
    struct prefix_match got[PREFIX_MAP_WORKERS] = {{0, 0}};
    const struct prefix_hash a = {.lo = 1}, b = {.lo = 2};
    assert_int_equal(prefix_map_new(1, &m), 0);
    prefix_map_add(m, 3, a);
    prefix_map_add(m, 3, b);
    assert_false(prefix_map_promise(m, 4, b));
    prefix_map_match(m, (struct prefix_hash[]){a, b}, 2, 1ull << 3, got);
    assert_int_equal(got[3].n_held, 1);
    prefix_map_remove(m, 3, a);
    assert_true(prefix_map_promise(m, 4, b));
    prefix_map_break(m, 4, b);
    assert_int_equal(prefix_map_n_entries(m), 0);
    prefix_map_free(m);
}

static void test_growing_keeps_what_is_there(void **state)
{
    (void)state;
    struct prefix_map *m;
    struct prefix_hash names[N_NAMES];
    struct prefix_match got[PREFIX_MAP_WORKERS] = {{0, 0}};
    assert_int_equal(prefix_map_new(40, &m), 0);
    for (uint32_t i = 0; i < N_NAMES; i++) {
        names[i] = name_of(i);
        if (i >= 40)
            assert_false(prefix_map_promise(m, 2, names[i])); /* full */
        else
            prefix_map_add(m, 2, names[i]);
    }
    assert_int_equal(prefix_map_grow(m, N_NAMES), 0);
    for (uint32_t i = 40; i < N_NAMES; i++)
        assert_true(prefix_map_promise(m, 2, names[i]));
    prefix_map_audit(m);
    prefix_map_match(m, names, N_NAMES, 1ull << 2, got);
    assert_int_equal(got[2].n_held, 40);
    assert_int_equal(got[2].n_known, N_NAMES);
    prefix_map_free(m);
}

static void test_names_follow_from_all_tokens_before(void **state)
{
    (void)state;
    uint32_t tokens[40];
    struct prefix_hash a[2], b[2];
    for (uint32_t i = 0; i < 40; i++)
        tokens[i] = i;
    prefix_hash_prompt(tokens, 40, 0, a);
    prefix_hash_prompt(tokens, 32, 0, b);
    assert_memory_equal(a, b, sizeof(a));
    prefix_hash_prompt(tokens, 32, 1, b); /* another salt */
    assert_false(prefix_hash_equal(a[0], b[0]) || prefix_hash_equal(a[1], b[1]));
    tokens[0] = 99;
    prefix_hash_prompt(tokens, 32, 0, b);
    assert_false(prefix_hash_equal(a[0], b[0]) || prefix_hash_equal(a[1], b[1]));
    prefix_hash_prompt(tokens, 15, 0, b + 2); /* no full block: nothing is written */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_against_arrays),
        cmocka_unit_test(test_a_full_table_answers_too_low_and_recovers),
        cmocka_unit_test(test_sweeps_in_pieces),
        cmocka_unit_test(test_growing_keeps_what_is_there),
        cmocka_unit_test(test_names_follow_from_all_tokens_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
