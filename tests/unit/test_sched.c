/* The scheduler on a make-believe device: each rule of its policy. */
#include "tests/unit/sched_world.h"

static void test_one_request(void **state)
{
    (void)state;
    struct world w;
    struct client c;
    world_init(&w, &roomy);
    submit(&w, &c, (struct client_opts){.prompt = prompt_of(1, 100), 100, .max_tokens = 30});
    run(&w, &c, 1);
    assert_text(&c);
    assert_int_equal(c.first_step, 2); /* 64 + 36 rows */
    assert_int_equal(w.n_rows, 100 + 29);
    client_fini(&c);
    world_fini(&w);
}

static void test_a_cached_prompt_computes_its_last_block(void **state)
{
    (void)state;
    struct world w;
    struct client c[3];
    world_init(&w, &roomy);
    for (uint32_t i = 0; i < 3; i++) {
        /* 48 tokens are three whole blocks: the last is computed again for its logits. */
        submit(&w, &c[i], (struct client_opts){.prompt = prompt_of(1, 48), 48, .max_tokens = 1});
        run(&w, c, i + 1);
        assert_text(&c[i]);
    }
    assert_int_equal(w.n_rows, 48 + 16 + 16);
    assert_int_equal(w.sched.counts.prefix_queries, 3 * 48);
    assert_int_equal(w.sched.counts.prefix_hits, 2 * 32);
    assert_int_equal(w.sched.prefix.n_indexed, 3);
    for (uint32_t i = 0; i < 3; i++)
        client_fini(&c[i]);
    world_fini(&w);
}

static void test_the_generated_text_is_cached_too(void **state)
{
    (void)state;
    struct world w;
    struct client c[2];
    uint32_t next[64];
    world_init(&w, &roomy);
    submit(&w, &c[0], (struct client_opts){.prompt = prompt_of(1, 20), 20, .max_tokens = 29});
    run(&w, c, 1);
    memcpy(next, prompt_of(1, 20), 20 * sizeof(next[0]));
    memcpy(next + 20, c[0].got[0], 29 * sizeof(next[0]));
    submit(&w, &c[1], (struct client_opts){.prompt = next, 49, .max_tokens = 2});
    run(&w, c, 2);
    assert_text(&c[1]);
    assert_int_equal(w.sched.counts.prefix_hits, 48); /* 20 + 28 tokens were computed */
    client_fini(&c[0]);
    client_fini(&c[1]);
    world_fini(&w);
}

static void test_salts_share_nothing(void **state)
{
    (void)state;
    struct world w;
    struct client c[2];
    world_init(&w, &roomy);
    for (uint32_t i = 0; i < 2; i++) {
        submit(&w, &c[i],
               (struct client_opts){.prompt = prompt_of(1, 40), 40, .max_tokens = 4, .salt = i});
        run(&w, c, i + 1);
        assert_text(&c[i]);
    }
    assert_int_equal(w.sched.counts.prefix_hits, 0);
    client_fini(&c[0]);
    client_fini(&c[1]);
    world_fini(&w);
}

static void test_choices_compute_the_prompt_once(void **state)
{
    (void)state;
    struct world w;
    struct client c;
    world_init(&w, &roomy);
    submit(&w, &c,
           (struct client_opts){.prompt = prompt_of(3, 100), 100, .max_tokens = 10, .n = 4});
    run(&w, &c, 1);
    assert_text(&c);
    assert_int_equal(w.n_rows, 100 + 3 * 4 + 4 * 9); /* 96 of 100 tokens are shared */
    client_fini(&c);
    world_fini(&w);
}

/* What a newcomer is told of them: the prompt once, then what is behind its last full block. */
static void test_choices_owe_the_prompt_once(void **state)
{
    (void)state;
    struct world w;
    struct client c;
    struct sched_load load;
    world_init(&w, &roomy);
    submit(&w, &c,
           (struct client_opts){.prompt = prompt_of(3, 100), 100, .max_tokens = 10, .n = 4});
    c.group->started = true;
    sched_load(&w.sched, &load);
    assert_int_equal(load.n_seqs, 4);
    assert_int_equal(load.n_prefilling, 4);
    assert_int_equal(load.n_owed_tokens, 100 + 3 * 4);
    assert_int_equal(load.n_owed_blocks, 7 + 3 * 1);
    run(&w, &c, 1);
    client_fini(&c);
    world_fini(&w);
}

static void test_equal_prompts_at_once_share_as_they_go(void **state)
{
    (void)state;
    struct world w;
    struct client c[4];
    world_init(&w, &roomy);
    for (uint32_t i = 0; i < 4; i++)
        submit(&w, &c[i], (struct client_opts){.prompt = prompt_of(3, 320), 320, .max_tokens = 10});
    run(&w, c, 4);
    for (uint32_t i = 0; i < 4; i++) {
        assert_text(&c[i]);
        client_fini(&c[i]);
    }
    assert_true(w.n_rows < 2 * 320);
    world_fini(&w);
}

/* A prompt to be scored is computed as a whole, whatever is cached, as many rows at a time as there
 * is room for logits; others find its blocks. */
static void test_a_prompt_is_scored(void **state)
{
    (void)state;
    struct world w;
    struct client c[3];
    const uint32_t n = 4 * KV_BLOCK_TOKENS;
    const struct client_opts plain = {.prompt = prompt_of(7, n), .n_prompt = n, .max_tokens = 2};
    struct client_opts scored = plain;
    scored.scores = true;
    scored.n = 2;
    world_init(&w, &(struct sched_opts){8, 512, 8, 64, true});
    submit(&w, &c[0], plain);
    run(&w, c, 1);
    uint64_t n_rows = w.n_rows, n_steps = w.n_steps;
    submit(&w, &c[1], scored);
    run(&w, c + 1, 1);
    assert_true(w.n_rows - n_rows >= n); /* nothing from the cache */
    assert_true(w.n_steps - n_steps >= n / 8);
    assert_text(&c[1]);
    n_rows = w.n_rows;
    submit(&w, &c[2], plain);
    run(&w, c + 2, 1);
    assert_true(w.n_rows - n_rows <= KV_BLOCK_TOKENS + 2);
    for (uint32_t i = 0; i < 3; i++)
        client_fini(&c[i]);
    world_fini(&w);
}

static void test_a_long_prompt_does_not_starve_a_short_one(void **state)
{
    (void)state;
    struct world w;
    struct client c[2];
    world_init(&w, &roomy);
    submit(&w, &c[0], (struct client_opts){.prompt = prompt_of(1, 1600), 1600, .max_tokens = 2});
    assert_true(world_step(&w));
    submit(&w, &c[1],
           (struct client_opts){.prompt = prompt_of(2, 30), 30, .max_tokens = 2, .arrival_us = 1});
    run(&w, c, 2);
    assert_int_equal(c[1].first_step, 2);
    assert_true(c[0].first_step <= 1 + 1600 / 64 + 1); /* it lost half of a step */
    assert_text(&c[0]);
    assert_text(&c[1]);
    client_fini(&c[0]);
    client_fini(&c[1]);
    world_fini(&w);
}

static void test_short_ones_do_not_starve_a_long_prompt(void **state)
{
    (void)state;
    enum { N = 60 };
    struct world w;
    struct client c[N + 1];
    world_init(&w, &roomy);
    submit(&w, &c[0], (struct client_opts){.prompt = prompt_of(1, 640), 640, .max_tokens = 1});
    for (uint32_t i = 1; i <= N; i++) { /* each step's budget is asked for twice over */
        submit(&w, &c[i],
               (struct client_opts){
                   .prompt = prompt_of(i + 1, 60), 60, .max_tokens = 1, .arrival_us = i});
        assert_true(world_step(&w));
    }
    run(&w, c, N + 1);
    assert_true(c[0].first_step <= 2 * 640 / 64);
    for (uint32_t i = 0; i <= N; i++) {
        assert_text(&c[i]);
        client_fini(&c[i]);
    }
    world_fini(&w);
}

static void test_priority_goes_first(void **state)
{
    (void)state;
    struct world w;
    struct client c[3];
    struct sched_opts o = roomy;
    o.max_num_seqs = 1;
    world_init(&w, &o);
    for (uint32_t i = 0; i < 3; i++)
        submit(&w, &c[i],
               (struct client_opts){.prompt = prompt_of(i, 20),
                                    20,
                                    .max_tokens = 3,
                                    .arrival_us = i,
                                    .priority = i == 2 ? -1 : 0});
    run(&w, c, 3);
    assert_true(c[2].last_step < c[0].first_step && c[0].last_step < c[1].first_step);
    for (uint32_t i = 0; i < 3; i++) {
        assert_text(&c[i]);
        client_fini(&c[i]);
    }
    world_fini(&w);
}

static void test_a_dry_pool_preempts_the_last(void **state)
{
    (void)state;
    for (uint32_t caching = 0; caching < 2; caching++) {
        struct world w;
        struct client c[3];
        struct sched_opts o = roomy;
        o.n_kv_blocks = 10;
        o.enable_prefix_caching = caching;
        world_init(&w, &o);
        for (uint32_t i = 0; i < 3; i++) /* each grows from 1 to 7 blocks */
            submit(&w, &c[i],
                   (struct client_opts){
                       .prompt = prompt_of(i, 10), 10, .max_tokens = 100, .arrival_us = i});
        run(&w, c, 3);
        assert_true(w.sched.counts.n_preemptions > 0);
        assert_int_equal(c[0].r->trace.n_preemptions, 0); /* the first is never disturbed */
        assert_int_equal(c[0].last_step - c[0].first_step, 99);
        assert_true(c[1].last_step <= c[2].last_step);
        for (uint32_t i = 0; i < 3; i++) {
            assert_text(&c[i]);
            client_fini(&c[i]);
        }
        world_fini(&w);
    }
}

static void test_nobody_is_admitted_to_be_preempted(void **state)
{
    (void)state;
    struct world w;
    struct client c[2];
    struct sched_opts o = roomy;
    o.n_kv_blocks = 4;
    world_init(&w, &o);
    for (uint32_t i = 0; i < 2; i++) /* both prompts would fit, but not one more block */
        submit(&w, &c[i],
               (struct client_opts){
                   .prompt = prompt_of(i, 32), 32, .max_tokens = 20, .arrival_us = i});
    run(&w, c, 2);
    assert_int_equal(w.sched.counts.n_preemptions, 0);
    assert_true(c[1].first_step > c[0].last_step);
    for (uint32_t i = 0; i < 2; i++) {
        assert_text(&c[i]);
        client_fini(&c[i]);
    }
    world_fini(&w);
}

static void test_a_full_stream_pauses_only_itself(void **state)
{
    (void)state;
    struct world w;
    struct client c[2];
    struct sched_opts o = roomy;
    o.max_num_seqs = 1; /* a paused sequence must leave its place */
    world_init(&w, &o);
    submit(&w, &c[0], (struct client_opts){.prompt = prompt_of(1, 10), 10, .max_tokens = 200});
    submit(
        &w, &c[1],
        (struct client_opts){.prompt = prompt_of(2, 10), 10, .max_tokens = 200, .arrival_us = 1});
    while (world_step(&w)) {
        client_pull(&c[1], UINT32_MAX);
        sched_audit(&w.sched);
    }
    assert_text(&c[1]);
    assert_int_equal(w.sched.n_paused, 1);
    assert_true(c[0].group->seqs[0].n_blocks > 0);
    while (!client_finished(&c[0])) {
        client_pull(&c[0], 1);
        if (c[0].poked)
            client_handle_poke(&w, &c[0]);
        world_step(&w);
        sched_audit(&w.sched);
    }
    assert_text(&c[0]);
    assert_int_equal(c[0].r->trace.n_preemptions, 0);
    client_fini(&c[0]);
    client_fini(&c[1]);
    world_fini(&w);
}

static void test_a_paused_one_gives_its_blocks_when_needed(void **state)
{
    (void)state;
    struct world w;
    struct client c[2];
    struct sched_opts o = roomy;
    o.n_kv_blocks = 12;
    world_init(&w, &o);
    submit(&w, &c[0], (struct client_opts){.prompt = prompt_of(1, 64), 64, .max_tokens = 100});
    while (world_step(&w))
        ; /* until its stream is full */
    submit(
        &w, &c[1],
        (struct client_opts){.prompt = prompt_of(2, 100), 100, .max_tokens = 80, .arrival_us = 1});
    while (world_step(&w)) {
        client_pull(&c[1], UINT32_MAX);
        sched_audit(&w.sched);
    }
    assert_text(&c[1]);
    assert_int_equal(c[0].r->trace.n_preemptions, 1);
    client_pull(&c[0], UINT32_MAX);
    assert_true(c[0].poked);
    client_handle_poke(&w, &c[0]);
    run(&w, c, 1);
    assert_text(&c[0]);
    client_fini(&c[0]);
    client_fini(&c[1]);
    world_fini(&w);
}

static void test_the_last_of_the_paused_goes_first(void **state)
{
    (void)state;
    struct world w;
    struct client c[3];
    struct sched_opts o = roomy;
    o.n_kv_blocks = 20;
    world_init(&w, &o);
    for (uint32_t i = 0; i < 2; i++)
        submit(&w, &c[i],
               (struct client_opts){
                   .prompt = prompt_of(i, 32), 32, .max_tokens = 80, .arrival_us = 1 - i});
    while (world_step(&w))
        ; /* until both streams are full, at 6 blocks each */
    submit(
        &w, &c[2],
        (struct client_opts){.prompt = prompt_of(3, 150), 150, .max_tokens = 2, .arrival_us = 2});
    while (world_step(&w))
        client_pull(&c[2], UINT32_MAX);
    assert_text(&c[2]);
    assert_int_equal(c[0].r->trace.n_preemptions, 1); /* the one that arrived later */
    assert_int_equal(c[1].r->trace.n_preemptions, 0);
    for (uint32_t i = 0; i < 2; i++) {
        client_pull(&c[i], UINT32_MAX);
        client_handle_poke(&w, &c[i]);
    }
    run(&w, c, 2);
    for (uint32_t i = 0; i < 3; i++) {
        if (i < 2)
            assert_text(&c[i]);
        client_fini(&c[i]);
    }
    world_fini(&w);
}

static void test_what_can_never_fit_is_refused(void **state)
{
    (void)state;
    struct world w;
    struct client c;
    struct sched_opts o = roomy;
    o.n_kv_blocks = 4;
    world_init(&w, &o);
    client_init(&c, &(struct client_opts){.prompt = prompt_of(1, 60), 60, .max_tokens = 6});
    assert_int_equal(client_submit(&w, &c), -LLMD_ETOOBIG);
    client_fini(&c);
    /* The last token is never fed, so 64 of 65 must fit. */
    submit(&w, &c, (struct client_opts){.prompt = prompt_of(1, 60), 60, .max_tokens = 5});
    run(&w, &c, 1);
    assert_text(&c);
    client_fini(&c);
    client_init(&c, &(struct client_opts){.prompt = prompt_of(1, 60), 60, .max_tokens = 200});
    c.r->sampling.max_tokens_yields = true; /* nobody asked for the 200 */
    assert_int_equal(client_submit(&w, &c), 0);
    run(&w, &c, 1);
    assert_true(c.n_got[0] == 5 && c.finish[0] == FINISH_LENGTH);
    client_fini(&c);
    client_init(&c, &(struct client_opts){
                        .prompt = prompt_of(1, WORLD_MAX_LEN), WORLD_MAX_LEN, .max_tokens = 1});
    assert_int_equal(client_submit(&w, &c), -LLMD_ECONTEXT);
    client_fini(&c);
    world_fini(&w);
}

static void test_cancelled_at_any_stage(void **state)
{
    (void)state;
    for (uint32_t steps = 0; steps < 12; steps++) {
        struct world w;
        struct client c[2];
        world_init(&w, &roomy);
        submit(&w, &c[0],
               (struct client_opts){.prompt = prompt_of(1, 200), 200, .max_tokens = 20, .n = 3});
        submit(&w, &c[1], (struct client_opts){.prompt = prompt_of(2, 50), 50, .max_tokens = 20});
        for (uint32_t i = 0; i < steps; i++)
            assert_true(world_step(&w));
        request_cancel(c[0].r);
        assert_true(c[0].poked);
        client_handle_poke(&w, &c[0]);
        sched_audit(&w.sched);
        run(&w, c, 2);
        assert_text(&c[1]);
        client_pull(&c[0], UINT32_MAX);
        for (uint32_t i = 0; i < 3; i++)
            assert_int_equal(c[0].finish[i], FINISH_ABORT);
        client_fini(&c[0]);
        client_fini(&c[1]);
        world_fini(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_request),
        cmocka_unit_test(test_a_cached_prompt_computes_its_last_block),
        cmocka_unit_test(test_the_generated_text_is_cached_too),
        cmocka_unit_test(test_salts_share_nothing),
        cmocka_unit_test(test_choices_compute_the_prompt_once),
        cmocka_unit_test(test_choices_owe_the_prompt_once),
        cmocka_unit_test(test_equal_prompts_at_once_share_as_they_go),
        cmocka_unit_test(test_a_prompt_is_scored),
        cmocka_unit_test(test_a_long_prompt_does_not_starve_a_short_one),
        cmocka_unit_test(test_short_ones_do_not_starve_a_long_prompt),
        cmocka_unit_test(test_priority_goes_first),
        cmocka_unit_test(test_a_dry_pool_preempts_the_last),
        cmocka_unit_test(test_nobody_is_admitted_to_be_preempted),
        cmocka_unit_test(test_a_full_stream_pauses_only_itself),
        cmocka_unit_test(test_a_paused_one_gives_its_blocks_when_needed),
        cmocka_unit_test(test_the_last_of_the_paused_goes_first),
        cmocka_unit_test(test_what_can_never_fit_is_refused),
        cmocka_unit_test(test_cancelled_at_any_stage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
