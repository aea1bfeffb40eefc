/* Logprobs: against a naive computation in double; prompts and answers of the demo model against
 * transformers' logits on the same weights (tests/golden), however the prompt was computed. */
#include <math.h>

#include "core/engine/logprobs.h"
#include "tests/golden/logits_golden.h"
#include "tests/unit/worker_fixture.h"

#define MODEL_PATH  "models/SmolLM2-135M-Instruct.Q4_1.gguf"
#define GOLDEN_PATH "tests/golden/data/smollm2_logits.bin"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SLOW = 1 };
#else
enum { SLOW = 0 };
#endif

enum { VOCAB = 300, MAX_PULLED = 8 };

static uint32_t rng_state = 1;
static uint32_t rnd(void)
{
    rng_state = rng_state * 1664525u + 1013904223u;
    return rng_state >> 8;
}

/* --- pure functions --- */

static double naive(const float *l, uint32_t n, uint32_t id)
{
    double max = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < n; i++)
        max = fmax(max, (double)l[i]);
    for (uint32_t i = 0; i < n; i++)
        sum += isnan(l[i]) ? 0 : exp((double)l[i] - max);
    return (double)l[id] - max - log(sum);
}

/* How many are likelier, or as likely with a lower id. */
static uint32_t place(const float *l, uint32_t n, uint32_t id)
{
    uint32_t before = 0;
    for (uint32_t i = 0; i < n; i++)
        before += l[i] > l[id] || (l[i] == l[id] && i < id);
    return before;
}

static void test_against_the_obvious_way(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 300; round++) {
        const uint32_t n = 1 + rnd() % VOCAB, n_top = rnd() % (MAX_TOP_LOGPROBS + 1);
        const uint32_t ids[] = {rnd() % n, rnd() % n}, token = rnd() % n;
        float l[VOCAB];
        struct sampler_scratch s;
        struct token_logprob out[1 + MAX_TOP_LOGPROBS + 2];
        for (uint32_t i = 0; i < n; i++) /* with many equals */
            l[i] = (float)(rnd() % 40) * (round % 2 ? 0.25f : 10.0f);
        if (round % 5 == 0 && n > 1)
            l[(token + 1) % n] = -INFINITY;
        assert_int_equal(sampler_scratch_init(&s, n), 0);
        logprobs_of(&s, l, token, n_top, ids, 2, out);
        sampler_scratch_fini(&s);
        assert_int_equal(out[0].token, token);
        assert_true(fabs((double)out[0].logprob - naive(l, n, token)) < 1e-4);
        for (uint32_t i = 0; i < n_top; i++) {
            const struct token_logprob *t = &out[1 + i];
            if (i >= n) {
                assert_int_equal(t->token, STREAM_NO_TOKEN);
                continue;
            }
            assert_int_equal(place(l, n, t->token), i);
            assert_true(l[t->token] == -INFINITY ||
                        fabs((double)t->logprob - naive(l, n, t->token)) < 1e-4);
        }
        for (uint32_t i = 0; i < 2; i++)
            assert_int_equal(out[1 + n_top + i].token, ids[i]);
        uint32_t rank = logprobs_rank(l, n, token);
        assert_in_range(rank, 1, place(l, n, token) + 1);
    }
}

static void test_nan_and_infinities(void **state)
{
    (void)state;
    struct sampler_scratch s;
    struct token_logprob out[4];
    assert_int_equal(sampler_scratch_init(&s, 4), 0);
    logprobs_of(&s, (float[]){NAN, 1, 1, -INFINITY}, 0, 3, NULL, 0, out);
    assert_true(out[0].logprob == -INFINITY);
    assert_int_equal(out[1].token, 1);
    assert_true(fabsf(out[1].logprob - logf(0.5f)) < 1e-6f);
    assert_int_equal(out[3].token, 3);
    logprobs_of(&s, (float[]){0, INFINITY, 1, 2}, 1, 2, NULL, 0, out);
    assert_true(out[0].logprob == 0 && out[1].logprob == 0 && out[2].logprob == -INFINITY);
    logprobs_of(&s, (float[]){NAN, NAN, NAN, NAN}, 2, 2, NULL, 0, out);
    assert_true(out[0].logprob == -INFINITY);
    assert_int_equal(out[1].token, STREAM_NO_TOKEN);
    sampler_scratch_fini(&s);
    logprobs_certain(7, 2, (uint32_t[]){7, 8}, 2, (struct token_logprob[5]){{0, 0}});
}

/* --- the demo model --- */

static struct model *model;
static struct shared_weights *shared;
static struct logits_golden golden;

static int open_files(void **state)
{
    (void)state;
    struct err e = {0};
    if (logits_golden_open(&golden, GOLDEN_PATH, &e) || model_open(MODEL_PATH, &model, &e)) {
        print_error("%s (run from the repository's root; `make model` fetches the model)\n", e.msg);
        return -1;
    }
    return shared_weights_new(&shared);
}

static int close_files(void **state)
{
    (void)state;
    shared_weights_unref(shared);
    model_free(model);
    logits_golden_close(&golden);
    return 0;
}

static const struct logits_prompt *prompt_named(const char *label, uint32_t *out_index)
{
    uint32_t i = 0;
    while (i < golden.n_prompts && strcmp(golden.prompts[i].label, label) != 0)
        i++;
    assert_true(i < golden.n_prompts);
    *out_index = i;
    return &golden.prompts[i];
}

/* What one request was told: the scores of its prompt, the logprobs of its answer. */
struct told {
    struct reader rd;
    struct token_logprob answer[4][1 + MAX_TOP_LOGPROBS];
};

static void ask(struct told *t, struct worker *w, const struct logits_prompt *p, uint32_t n_top)
{
    memset(t, 0, sizeof(*t));
    reader_prepare(&t->rd, p->ids, p->n_tokens, 2, 1);
    struct request *r = t->rd.r;
    r->sampling.logprobs = r->sampling.prompt_logprobs =
        (struct logprobs_wanted){.on = true, .n_top = n_top};
    assert_int_equal(stream_init(r, NULL, 1, NULL), 0);
    assert_int_equal(reader_submit(&t->rd, w, NULL), 0);
    uint64_t until_us = clock_now_us() + PATIENCE_US;
    uint32_t n = 0;
    while (t->rd.finish[0] == FINISH_NONE) {
        struct stream_item item;
        struct token_logprob lps[1 + MAX_TOP_LOGPROBS];
        assert_true(clock_now_us() < until_us);
        if (stream_pull_logprobs(r, &item, 1, lps) == 0) {
            clock_sleep_us(200);
            continue;
        }
        assert_ptr_equal(item.logprobs, lps);
        assert_int_equal(lps[0].token, item.token);
        memcpy(t->answer[n++], lps, (1 + n_top) * sizeof(lps[0]));
        t->rd.finish[0] = item.finish;
    }
    assert_int_equal(n, 2);
    assert_int_equal(r->stream.scores->n, p->n_tokens);
}

static struct worker_opts opts(void)
{
    return (struct worker_opts){.model_name = "smollm2",
                                .model = model,
                                .shared = shared,
                                .device = DEVICE_CPU,
                                .n_threads = 1,
                                .compute_f32 = true,
                                .isa = "auto",
                                .max_model_len = 512,
                                .max_num_seqs = 8,
                                .max_num_batched_tokens = 512,
                                .kv_cache_blocks = 64,
                                .enable_prefix_caching = true,
                                .max_queue = 8};
}

static void assert_near(const struct token_logprob *got, uint32_t n,
                        const struct logits_position *g)
{
    for (uint32_t i = 0; i < n && i < golden.top_k; i++) {
        double want = (double)g->top_logits[i] - (double)g->lse;
        assert_int_equal(got[i].token, g->top_ids[i]);
        if (fabs((double)got[i].logprob - want) > 2e-3)
            fail_msg("position %u, token %u: %g, transformers say %g", g->position, got[i].token,
                     (double)got[i].logprob, want);
    }
}

static void test_prompt_and_answer_as_transformers_say(void **state)
{
    (void)state;
    enum { TOP = 5 };
    uint32_t index;
    const struct logits_prompt *p = prompt_named("fox", &index);
    const struct worker_opts o = opts();
    struct noted_worker w;
    struct told t;
    noted_start(&w, &o);
    ask(&t, w.w, p, TOP);
    const struct stream_scores *sc = t.rd.r->stream.scores;
    uint32_t n_compared = 0;
    for (uint32_t i = 0; i < p->n_positions; i++) {
        const struct logits_position g = logits_golden_position(&golden, index, i);
        const uint32_t next = g.position + 1;
        if (next == p->n_tokens) {
            assert_near(t.answer[0] + 1, TOP, &g);
            assert_int_equal(t.answer[0][0].token, g.top_ids[0]); /* greedy */
            continue;
        }
        const struct token_logprob *score = sc->logprobs + (size_t)next * sc->n_each;
        assert_int_equal(score[0].token, p->ids[next]);
        assert_near(score + 1, TOP, &g);
        n_compared++;
        if (sc->ranks[next] <= TOP)
            assert_int_equal(score[sc->ranks[next]].token, p->ids[next]);
    }
    assert_true(n_compared > 0);
    reader_fini(&t.rd);
    noted_finish(&w);
}

/* Nothing of it depends on chunks, a full cache, or how many rows of logits fit. */
static void test_the_same_however_computed(void **state)
{
    (void)state;
    uint32_t index;
    const struct logits_prompt *p = prompt_named(SLOW ? "fox" : "once", &index);
    struct worker_opts ways[3] = {opts(), opts(), opts()};
    struct told first = {0};
    ways[1].max_num_seqs = 1;
    ways[2].max_num_batched_tokens = 3;
    ways[2].max_num_seqs = 2;
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        struct noted_worker w;
        noted_start(&w, &ways[i]);
        for (uint32_t round = 0; round < 2; round++) {
            struct told t;
            ask(&t, w.w, p, 2);
            if (!first.rd.r) {
                first = t;
                continue;
            }
            const struct stream_scores *a = first.rd.r->stream.scores, *b = t.rd.r->stream.scores;
            assert_memory_equal(a->logprobs + 3, b->logprobs + 3,
                                (p->n_tokens - 1) * 3 * sizeof(*a->logprobs));
            assert_memory_equal(a->ranks + 1, b->ranks + 1, (p->n_tokens - 1) * sizeof(*a->ranks));
            assert_memory_equal(first.answer, t.answer, sizeof(t.answer));
            reader_fini(&t.rd);
        }
        noted_finish(&w);
    }
    reader_fini(&first.rd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_the_obvious_way),
        cmocka_unit_test(test_nan_and_infinities),
        cmocka_unit_test(test_prompt_and_answer_as_transformers_say),
        cmocka_unit_test(test_the_same_however_computed),
    };
    return cmocka_run_group_tests(tests, open_files, close_files);
}
