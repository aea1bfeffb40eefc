/* Scores of a prompt's tokens (prompt_logprobs) by a worker on the stand-in: the device makes them where
 * it samples. */
#include <math.h>

#include "tests/gpu/cuda_worker_case.h"

enum { TOP = 3, SCORED = 3 /* a prompt that shares its beginning with others */ };

/* What a prompt's tokens score on a worker of its own. */
struct scores {
    struct token_logprob tokens[MAX_PROMPT][1 + TOP];
    uint32_t ranks[MAX_PROMPT];
};

static void score_prompt(const struct worker_opts *o, struct scores *out)
{
    struct noted_worker w;
    struct reader rd;
    const uint32_t n = n_prompt[SCORED];
    noted_start(&w, o);
    reader_prepare(&rd, prompts[SCORED], n, 1, 1);
    rd.r->model = "tiny";
    rd.r->sampling.prompt_logprobs = (struct logprobs_wanted){.on = true, .n_top = TOP};
    assert_int_equal(stream_init(rd.r, NULL, 1, NULL), 0);
    assert_int_equal(reader_submit(&rd, w.w, NULL), 0);
    reader_wait(&rd);
    const struct stream_scores *s = rd.r->stream.scores;
    assert_int_equal(s->n, n);
    assert_int_equal(s->n_each, 1 + TOP);
    memset(out, 0, sizeof(*out));
    for (uint32_t i = 1; i < n; i++) {
        memcpy(out->tokens[i], s->logprobs + (size_t)i * s->n_each, sizeof(out->tokens[i]));
        out->ranks[i] = s->ranks[i];
    }
    reader_fini(&rd);
    noted_finish(&w);
}

/* The prompt's own scores: near the CPU's, whole numbers of ranks in order, and the same bits however
 * the prompt was cut. */
static void test_prompt_scores(void **state)
{
    static struct scores gpu, chunked, cpu;
    struct worker_opts o = base_opts();
    const uint32_t n = n_prompt[SCORED];
    (void)state;
    score_prompt(&o, &gpu);
    o.max_num_batched_tokens = 7;
    score_prompt(&o, &chunked);
    assert_memory_equal(&gpu, &chunked, sizeof(gpu));
    o = base_opts();
    o.device = DEVICE_CPU;
    score_prompt(&o, &cpu);
    for (uint32_t i = 1; i < n; i++) {
        const struct token_logprob *g = gpu.tokens[i], *c = cpu.tokens[i];
        assert_int_equal(g->token, prompts[SCORED][i]);
        assert_int_equal(c->token, prompts[SCORED][i]);
        assert_true(fabsf(g->logprob - c->logprob) < 0.2f);
        assert_true(g[1].logprob >= g[2].logprob && g[2].logprob >= g[3].logprob);
        assert_true(fabsf(g[1].logprob - c[1].logprob) < 0.2f);
        for (uint32_t k = 1; k <= TOP; k++) /* a rank up to TOP is that place of the list */
            if (g[k].token == g->token)
                assert_true(gpu.ranks[i] <= k && g[k].logprob == g->logprob);
        if (gpu.ranks[i] > TOP)
            assert_true(g->logprob <= g[TOP].logprob);
        assert_in_range(gpu.ranks[i], 1, model->hparams.vocab_size);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_prompt_scores)};
    struct err e = {0};
    make_prompts();
    reset_machine();
    if (model_open(FOLDER "qwen3", &model, &e) != 0) {
        print_error("%s (run from the repository's root)\n", e.msg);
        return 1;
    }
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    model_free(model);
    return failed;
}
