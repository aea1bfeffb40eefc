/* The scheduler on a make-believe device: steps that are planned ahead of those that were read, then random
 * load against the text that each request must get whatever else runs. */
#include "tests/unit/sched_world.h"

/* --- steps ahead --- */

/* Sequences end by a token that nobody knew when the next step was enqueued: nothing of that counts, and
 * the blocks that it wrote to are others' at once. */
static void test_steps_ahead_change_no_text(void **state)
{
    (void)state;
    enum { N = 6 };
    uint64_t n_rows[2];
    for (uint32_t lazy = 0; lazy < 2; lazy++) {
        struct world w;
        struct client c[N];
        uint32_t n_useful = 0;
        world_init(&w, &roomy);
        w.ahead = true;
        w.lazy = lazy;
        for (uint32_t i = 0; i < N; i++)
            submit(
                &w, &c[i],
                (struct client_opts){
                    .prompt = prompt_of(i, 9), 9, .max_tokens = 60, .arrival_us = i, .eos = true});
        run(&w, c, N);
        for (uint32_t i = 0; i < N; i++) {
            assert_text(&c[i]);
            n_useful += 9 + c[i].n_got[0] - 1;
            client_fini(&c[i]);
        }
        n_rows[lazy] = w.n_rows;
        assert_true(w.n_rows > n_useful && w.n_rows <= n_useful + N); /* one in vain, at most */
        assert_true(w.n_followed > w.n_steps / 2);
        world_fini(&w);
    }
    assert_int_equal(n_rows[0], n_rows[1]);
}

/* Whether a step would follow the one that is enqueued now. */
static bool follows(struct world *w)
{
    const uint32_t n = w->n_followed;
    assert_true(world_step(w));
    return w->n_followed > n;
}

static void test_who_might_start_is_not_kept_waiting(void **state)
{
    (void)state;
    struct world w;
    struct client c[4];
    struct sched_opts o = roomy;
    o.max_num_seqs = 2;
    world_init(&w, &o);
    w.ahead = true;
    submit(&w, &c[0], (struct client_opts){.prompt = prompt_of(0, 9), 9, .max_tokens = 20});
    assert_true(follows(&w)); /* behind its prompt */
    assert_true(follows(&w));
    submit(&w, &c[1], (struct client_opts){.prompt = prompt_of(1, 90), 90, .max_tokens = 12});
    assert_false(follows(&w)); /* a place is free */
    assert_false(follows(&w)); /* half of the prompt is not computed */
    assert_true(follows(&w));
    for (uint32_t i = 2; i < 4; i++)
        submit(&w, &c[i], (struct client_opts){.prompt = prompt_of(i, 9), 9, .max_tokens = 3});
    assert_true(follows(&w)); /* no place is free, nor will one be soon */
    while (c[1].group && seq_n_generated(&c[1].group->seqs[0]) < 11)
        assert_true(follows(&w));
    assert_false(follows(&w)); /* c[1] ends surely */
    run(&w, c, 4);
    for (uint32_t i = 0; i < 4; i++) {
        assert_text(&c[i]);
        client_fini(&c[i]);
    }
    world_fini(&w);
}

/* A dry pool, a full stream: the step before is read first. What was taken for a step that did not come
 * about is there for the next. */
static void test_nothing_is_taken_away_for_a_step_ahead(void **state)
{
    (void)state;
    struct world w;
    struct client c[2];
    struct sched_opts o = roomy;
    o.n_kv_blocks = 5;
    world_init(&w, &o);
    w.ahead = true;
    for (uint32_t i = 0; i < 2; i++)
        submit(&w, &c[i],
               (struct client_opts){
                   .prompt = prompt_of(i, 20), 20, .max_tokens = 40, .arrival_us = i});
    run(&w, c, 2);
    assert_true(w.sched.counts.n_preemptions > 0 && w.n_followed > 10);
    for (uint32_t i = 0; i < 2; i++) {
        assert_text(&c[i]);
        client_fini(&c[i]);
    }
    submit(&w, &c[0], (struct client_opts){.prompt = prompt_of(7, 9), 9, .max_tokens = 71});
    for (bool done = false; !done; done = client_finished(&c[0])) { /* it reads when it must */
        while (world_step(&w))
            sched_audit(&w.sched);
        client_pull(&c[0], 1);
        if (c[0].poked)
            client_handle_poke(&w, &c[0]);
    }
    assert_text(&c[0]);
    client_fini(&c[0]);
    world_fini(&w);
}

static void test_cancelled_with_a_step_ahead(void **state)
{
    (void)state;
    for (uint32_t steps = 1; steps < 8; steps++) {
        struct world w;
        struct client c[2];
        world_init(&w, &roomy);
        w.ahead = w.lazy = true;
        for (uint32_t i = 0; i < 2; i++)
            submit(
                &w, &c[i],
                (struct client_opts){.prompt = prompt_of(i, 30), 30, .max_tokens = 20, .n = 2 - i});
        for (uint32_t i = 0; i < steps; i++)
            assert_true(world_step(&w));
        request_cancel(c[0].r);
        client_handle_poke(&w, &c[0]);
        assert_null(c[0].group); /* at once: nobody waits for the step */
        sched_audit(&w.sched);
        run(&w, c + 1, 1);
        assert_text(&c[1]);
        client_pull(&c[0], UINT32_MAX);
        client_fini(&c[0]);
        client_fini(&c[1]);
        world_fini(&w);
    }
}

/* --- random load --- */

enum { LOAD_REQUESTS = 150, LOAD_LIVE = 12 };

struct load {
    struct world w;
    struct client clients[LOAD_REQUESTS];
    bool slow[LOAD_REQUESTS], cancel[LOAD_REQUESTS], submitted[LOAD_REQUESTS];
    uint32_t n_submitted, n_live, seed;
};

static void load_submit(struct load *l)
{
    uint32_t i = l->n_submitted, *seed = &l->seed, prompt[256];
    uint32_t n_shared = rnd(seed, 5) * KV_BLOCK_TOKENS + rnd(seed, 3);
    uint32_t n = n_shared + 1 + rnd(seed, 60);
    memcpy(prompt, prompt_of(1, 256), sizeof(prompt)); /* all begin alike */
    memcpy(prompt + n_shared, prompt_of(i + 2, n - n_shared), (n - n_shared) * sizeof(prompt[0]));
    client_init(&l->clients[i], &(struct client_opts){.prompt = prompt,
                                                      .n_prompt = n,
                                                      .max_tokens = 1 + rnd(seed, 90),
                                                      .n = rnd(seed, 4) ? 1 : 1 + rnd(seed, 5),
                                                      .priority = (int64_t)rnd(seed, 2),
                                                      .salt = rnd(seed, 2),
                                                      .arrival_us = i / 4,
                                                      .eos = rnd(seed, 2) == 0,
                                                      .scores = rnd(seed, 4) == 0});
    l->slow[i] = rnd(seed, 4) == 0;
    l->cancel[i] = rnd(seed, 6) == 0;
    int rc = client_submit(&l->w, &l->clients[i]);
    assert_true(rc == 0 || rc == -LLMD_ETOOBIG);
    l->submitted[i] = rc == 0;
    l->n_submitted++;
    l->n_live += rc == 0;
}

static void load_tend(struct load *l, uint32_t i)
{
    struct client *c = &l->clients[i];
    if (!l->submitted[i] || client_finished(c))
        return;
    if (l->cancel[i] && rnd(&l->seed, 40) == 0)
        request_cancel(c->r);
    if (!l->slow[i])
        client_pull(c, UINT32_MAX);
    else if (rnd(&l->seed, 12) == 0)
        client_pull(c, 1 + rnd(&l->seed, 100));
    if (c->poked)
        client_handle_poke(&l->w, c);
    if (client_finished(c)) {
        l->n_live--;
        assert_null(c->group);
    }
}

enum ahead { READ_FIRST, AHEAD, AHEAD_LAZY }; /* see struct world */

/* Returns how often it preempted. */
static uint64_t run_load(uint32_t seed, const struct sched_opts *o, enum ahead ahead,
                         uint32_t *n_followed)
{
    struct load *l = calloc(1, sizeof(*l));
    assert_non_null(l);
    l->seed = seed;
    world_init(&l->w, o);
    l->w.ahead = ahead != READ_FIRST;
    l->w.lazy = ahead == AHEAD_LAZY;
    for (uint32_t idle = 0; l->n_submitted < LOAD_REQUESTS || l->n_live > 0;) {
        if (l->n_submitted < LOAD_REQUESTS && l->n_live < LOAD_LIVE && rnd(&l->seed, 3) == 0)
            load_submit(l);
        idle = world_step(&l->w) ? 0 : idle + 1;
        assert_true(idle < 10000); /* stuck */
        for (uint32_t i = 0; i < l->n_submitted; i++)
            load_tend(l, i);
        sched_audit(&l->w.sched);
    }
    while (world_step(&l->w)) /* in vain: all have ended */
        ;
    for (uint32_t i = 0; i < LOAD_REQUESTS; i++) {
        struct client *c = &l->clients[i];
        if (l->submitted[i] && !request_is_cancelled(c->r))
            assert_text(c);
        client_fini(c);
    }
    uint64_t n_preemptions = l->w.sched.counts.n_preemptions;
    *n_followed += l->w.n_followed;
    assert_int_equal(l->w.sched.counts.prefix_hits > 0, o->enable_prefix_caching);
    world_fini(&l->w);
    free(l);
    return n_preemptions;
}

static void test_random_load(void **state)
{
    (void)state;
    static const struct sched_opts opts[] = {
        {8, 64, LOAD_LIVE, 200, true}, {8, 64, LOAD_LIVE, 200, false},
        {8, 8, LOAD_LIVE, 24, true},   {8, 32, LOAD_LIVE, 14, true},
        {8, 32, LOAD_LIVE, 14, false}, {1, 1, LOAD_LIVE, 14, true},
        {3, 512, LOAD_LIVE, 16, true}, {12, 16, LOAD_LIVE, 12, true},
        {12, 16, LOAD_LIVE, 12, false}};
    for (uint32_t i = 0; i < ARRAY_LEN(opts); i++) {
        uint64_t n = 0;
        uint32_t n_followed = 0;
        for (uint32_t seed = 0; seed < 6; seed++)
            n += run_load(100 * i + seed, &opts[i], (enum ahead)(seed % 3), &n_followed);
        assert_true(n > 0 || opts[i].n_kv_blocks == 200 || opts[i].max_num_seqs == 1);
        assert_true(n_followed > 300);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps_ahead_change_no_text),
        cmocka_unit_test(test_who_might_start_is_not_kept_waiting),
        cmocka_unit_test(test_nothing_is_taken_away_for_a_step_ahead),
        cmocka_unit_test(test_cancelled_with_a_step_ahead),
        cmocka_unit_test(test_random_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
