/* The block pool against a plain array of reference counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "core/engine/kv_pool.h"
#include "core/util/err.h"

static uint32_t rnd(uint32_t *state, uint32_t n)
{
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 8) % n;
}

static void test_take_is_all_or_nothing(void **state)
{
    (void)state;
    struct kv_pool p;
    uint32_t ids[4] = {99, 99, 99, 99};
    assert_int_equal(kv_pool_init(&p, 3), 0);
    assert_int_equal(kv_pool_take(&p, 4, ids), -LLMD_EFULL);
    assert_int_equal(ids[0], 99); /* outputs untouched */
    assert_int_equal(p.n_free, 3);
    assert_int_equal(kv_pool_take(&p, 0, ids), 0);
    assert_int_equal(kv_pool_take(&p, 3, ids), 0);
    assert_int_equal(p.n_free, 0);
    assert_true(ids[0] < 3 && ids[1] < 3 && ids[2] < 3);
    assert_true(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
    assert_int_equal(kv_pool_take(&p, 1, ids), -LLMD_EFULL);
    kv_pool_fini(&p);
}

static void test_a_shared_block_stays_until_its_last_holder_goes(void **state)
{
    (void)state;
    struct kv_pool p;
    uint32_t id, other;
    assert_int_equal(kv_pool_init(&p, 1), 0);
    assert_int_equal(kv_pool_take(&p, 1, &id), 0);
    kv_pool_ref(&p, id);
    assert_int_equal(kv_pool_unref(&p, id), 1);
    assert_int_equal(kv_pool_take(&p, 1, &other), -LLMD_EFULL);
    assert_int_equal(kv_pool_unref(&p, id), 0);
    assert_int_equal(kv_pool_take(&p, 1, &other), 0);
    assert_int_equal(other, id);
    kv_pool_fini(&p);
}

static void test_random_against_model(void **state)
{
    (void)state;
    enum { N = 48, STEPS = 100000 };
    struct kv_pool p;
    uint32_t refs[N] = {0}, seed = 1;
    assert_int_equal(kv_pool_init(&p, N), 0);
    for (int step = 0; step < STEPS; step++) {
        uint32_t n_free = 0, id = rnd(&seed, N), ids[8];
        for (uint32_t b = 0; b < N; b++)
            n_free += refs[b] == 0;
        assert_int_equal(p.n_free, n_free);
        switch (rnd(&seed, 3)) {
        case 0: {
            uint32_t n = rnd(&seed, 8);
            int rc = kv_pool_take(&p, n, ids);
            assert_int_equal(rc, n <= n_free ? 0 : -LLMD_EFULL);
            for (uint32_t i = 0; rc == 0 && i < n; i++) {
                assert_true(ids[i] < N);
                assert_int_equal(refs[ids[i]], 0); /* nobody else has it */
                refs[ids[i]] = 1;
            }
            break;
        }
        case 1:
            if (refs[id] > 0 && refs[id] < 5) {
                kv_pool_ref(&p, id);
                refs[id]++;
            }
            break;
        default:
            if (refs[id] > 0)
                assert_int_equal(kv_pool_unref(&p, id), --refs[id]);
        }
        if (step % 64 == 0)
            kv_pool_audit(&p);
    }
    kv_pool_fini(&p);
    kv_pool_fini(&p); /* a zeroed pool is fine */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_take_is_all_or_nothing),
        cmocka_unit_test(test_a_shared_block_stays_until_its_last_holder_goes),
        cmocka_unit_test(test_random_against_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
