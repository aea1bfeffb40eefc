/* A GPU's worker whose steps are enqueued before those in front of them are read: every token and every
 * log probability is that of the worker that waits for each step, with graphs and without, whatever is
 * asked for and however sequences end; and where the host must see a token first, it does.
 *
 *   test_cuda_ahead        a selection
 *   test_cuda_ahead all    everything (a part of `make soak`) */
#include <math.h>
#include <string.h>

#include "gpu/cuda.h"
#include "tests/gpu/host/control.h"
#include "tests/unit/router_fixture.h"

enum {
    CHOICES = 2,
    ANSWER = 14, /* into the third KV block */
    TOP = 3,
    MAX_LEN = 112,
    LPS = 1 + TOP,
};

static bool everything;
static struct model *model;
static struct cuda_opts options; /* of the next worker's device */

static int open_gpu(uint32_t gpu, struct backend **out, struct err *e)
{
    struct cuda_opts o = options;
    o.device = gpu;
    o.step_timeout_us = 20000000;
    return cuda_backend_new(&o, out, e);
}

static int open_all(void **state)
{
    struct err e = {0};
    (void)state;
    stand_in_set_capability(90);
    stand_in_set_memory(64u << 20);
    stand_in_set_gpus(1);
    if (model_open("tests/golden/data/tiny/qwen3", &model, &e) == 0)
        return 0;
    print_error("%s (run from the repository's root)\n", e.msg);
    return -1;
}

static int close_all(void **state)
{
    (void)state;
    model_free(model);
    return 0;
}

static void start(struct noted_worker *w, struct worker_opts *o, bool prefix_caching)
{
    *o = (struct worker_opts){.model_name = "tiny",
                              .model = model,
                              .device = DEVICE_CUDA,
                              .open_gpu = open_gpu,
                              .max_model_len = MAX_LEN,
                              .max_num_seqs = 4,
                              .max_num_batched_tokens = 32,
                              .kv_cache_blocks = 64,
                              .enable_prefix_caching = prefix_caching,
                              .max_queue = 16};
    noted_start(w, o);
    if (w->dead)
        fail_msg("%s", w->why.msg);
}

/* --- one request of several choices: whose steps are the same each time --- */

static const uint32_t ends[] = {3}; /* changed to tokens that come */
static uint32_t stops[CHOICES];
static const uint32_t word_ids[] = {11, 12}, some_ids[] = {5, 6, 7, 8, 9, 40, 41, 42, 43};
static const struct token_run bad_word = {.ids = word_ids, .n = 2};
static const struct logit_bias bias[] = {{17, 2.5f}, {36, -100.0f}};
/* They change nothing, but those of two rows do not fit one launch. */
static struct logit_bias many_biases[5000];

enum kind {
    GREEDY,
    DRAWN,
    PENALTIES, /* repetition, frequency, presence */
    BIASED,    /* with a minimum of tokens */
    LOGPROBS,
    STOPPED, /* each choice somewhere else */
    WAVES,   /* penalties of rows that are sampled one after the other */
    KINDS,
    BAD_WORDS = KINDS, /* the host must see each token first: */
    ALLOWED,
    ALL_KINDS
};
static const char *const KIND[ALL_KINDS] = {"greedy",  "drawn", "penalties", "biased", "logprobs",
                                            "stopped", "waves", "bad words", "allowed"};

static void ask(struct sampling_params *p, enum kind kind)
{
    p->seed = 500 + (uint64_t)kind;
    p->temperature = kind == GREEDY ? 0 : 0.9f;
    p->top_p = kind == DRAWN ? 0.9f : 1.0f;
    if (kind == PENALTIES || kind == LOGPROBS) {
        p->repetition_penalty = 1.3f;
        p->frequency_penalty = 0.7f;
        p->presence_penalty = 0.4f;
    }
    if (kind == BIASED) {
        p->logit_bias = bias;
        p->n_logit_bias = ARRAY_LEN(bias);
        p->eos_ids = ends;
        p->n_eos_ids = ARRAY_LEN(ends);
        p->ignore_eos = false;
        p->min_tokens = ANSWER;
    }
    if (kind == LOGPROBS)
        p->logprobs = (struct logprobs_wanted){.on = true, .n_top = TOP};
    if (kind == STOPPED) {
        p->seed = 500 + (uint64_t)DRAWN;
        p->top_p = 0.9f;
        p->stop_ids = stops;
        p->n_stop_ids = CHOICES;
    }
    if (kind == WAVES) {
        p->temperature = 0.3f;
        p->repetition_penalty = 3.0f;
        p->logit_bias = many_biases;
        p->n_logit_bias = ARRAY_LEN(many_biases);
    }
    if (kind == BAD_WORDS) {
        p->bad_words = &bad_word;
        p->n_bad_words = 1;
    }
    if (kind == ALLOWED) {
        p->allowed_ids = some_ids;
        p->n_allowed_ids = ARRAY_LEN(some_ids);
    }
}

struct answer {
    uint32_t n[CHOICES], ids[CHOICES][ANSWER];
    enum finish_reason finish[CHOICES];
    struct token_logprob logprobs[CHOICES][ANSWER][LPS];
};

/* Reads what there is; true when all choices have ended. */
static bool read_on(struct request *r, struct answer *a)
{
    struct token_logprob lps[LPS];
    struct stream_item item;
    bool ended = true;
    while (stream_pull_logprobs(r, &item, 1, lps) == 1) {
        const uint32_t c = item.choice, k = a->n[c];
        assert_true(k < ANSWER && a->finish[c] == FINISH_NONE);
        a->ids[c][k] = item.token;
        a->finish[c] = item.finish;
        if (r->sampling.logprobs.on)
            memcpy(a->logprobs[c][k], lps, sizeof(lps));
        a->n[c]++;
    }
    for (uint32_t c = 0; c < CHOICES; c++)
        ended &= a->finish[c] != FINISH_NONE;
    return ended;
}

static void answer(struct noted_worker *w, enum kind kind, struct answer *out)
{
    struct reader rd;
    uint32_t prompt[21];
    for (uint32_t i = 0; i < ARRAY_LEN(prompt); i++)
        prompt[i] = (i * 37 + 5) % 256;
    *out = (struct answer){.n = {0}};
    reader_prepare(&rd, prompt, ARRAY_LEN(prompt), ANSWER, CHOICES);
    ask(&rd.r->sampling, kind);
    assert_int_equal(stream_init(rd.r, NULL, CHOICES, NULL), 0);
    assert_int_equal(reader_submit(&rd, w->w, NULL), 0);
    assert_soon(read_on(rd.r, out));
    reader_fini(&rd);
}

static bool same_logprobs(const struct token_logprob *a, const struct token_logprob *b)
{
    for (uint32_t i = 0; i < LPS; i++)
        if (a[i].token != b[i].token || a[i].logprob < b[i].logprob || a[i].logprob > b[i].logprob)
            return false;
    return true;
}

static void assert_same(const struct answer *a, const struct answer *b, const char *what)
{
    for (uint32_t c = 0; c < CHOICES; c++) {
        if (a->n[c] != b->n[c] || a->finish[c] != b->finish[c])
            fail_msg("%s, choice %u: %u tokens, not %u", what, c, b->n[c], a->n[c]);
        for (uint32_t k = 0; k < a->n[c]; k++)
            if (a->ids[c][k] != b->ids[c][k] ||
                !same_logprobs(a->logprobs[c][k], b->logprobs[c][k]))
                fail_msg("%s, choice %u, token %u: %u, not %u", what, c, k, b->ids[c][k],
                         a->ids[c][k]);
    }
}

#define ONE(kind) (1u << (kind))
static const uint32_t UNSTOPPED = ONE(GREEDY) | ONE(DRAWN) | ONE(PENALTIES) | ONE(BIASED) |
                                  ONE(LOGPROBS) | ONE(WAVES),
                      ALL = (1u << ALL_KINDS) - 1;

/* Kinds in turn, on a device that waits for each step, then on one that does not. */
static void compare(struct cuda_opts o, bool prefix_caching, uint32_t kinds)
{
    static struct answer read_first[ALL_KINDS], ahead;
    struct noted_worker w;
    struct worker_opts opts;
    o.no_overlap = true;
    options = o;
    start(&w, &opts, prefix_caching);
    const uint64_t n_before = stand_in_waits_ahead();
    for (uint32_t kind = 0; kind < ALL_KINDS; kind++) {
        if (!(kinds & ONE(kind)))
            continue;
        answer(&w, (enum kind)kind, &read_first[kind]);
        for (uint32_t c = 0; c < CHOICES && kind == DRAWN; c++)
            stops[c] = read_first[kind].ids[c][3 + 3 * c];
    }
    assert_int_equal(stand_in_waits_ahead(), n_before);
    noted_finish(&w);

    options.no_overlap = false;
    start(&w, &opts, prefix_caching);
    const uint64_t n_allocated = stand_in_allocations();
    for (uint32_t kind = 0; kind < ALL_KINDS; kind++) {
        if (!(kinds & ONE(kind)))
            continue;
        const uint64_t n_ahead = stand_in_waits_ahead();
        answer(&w, (enum kind)kind, &ahead);
        assert_same(&read_first[kind], &ahead, KIND[kind]);
        const uint64_t n = stand_in_waits_ahead() - n_ahead;
        if (kind == STOPPED)
            assert_true(n > 0);
        else if (kind < KINDS) /* all steps but the two of the prompt, and the last */
            assert_true(n >= ANSWER - 3);
        else
            assert_int_equal(n, 0);
    }
    assert_int_equal(stand_in_allocations(), n_allocated);
    noted_finish(&w);
}

/* A step in vain has another number of rows, and so other kernels: without pinned ones nothing ends
 * before its time. */
static void test_graphs(void **state)
{
    (void)state;
    compare((struct cuda_opts){0}, true, everything ? UNSTOPPED : ONE(LOGPROBS) | ONE(WAVES));
}

static void test_eager(void **state)
{
    (void)state;
    if (everything)
        compare((struct cuda_opts){.no_graphs = true}, false, UNSTOPPED);
    else
        skip();
}

static void test_pinned(void **state)
{
    (void)state;
    compare((struct cuda_opts){.pin_kernels = true}, true,
            everything ? ALL : ONE(DRAWN) | ONE(STOPPED) | ONE(BAD_WORDS));
    if (everything)
        compare((struct cuda_opts){.pin_kernels = true}, false, ALL);
}

/* --- what happens while a step is in flight --- */

/* Cancelled after so many tokens: at once, and the others never notice. */
static void test_cancelled(void **state)
{
    (void)state;
    static struct answer alone, beside, cut;
    struct noted_worker w;
    struct worker_opts opts;
    options = (struct cuda_opts){.pin_kernels = true};
    start(&w, &opts, true);
    answer(&w, PENALTIES, &alone);
    for (uint32_t n = everything ? 1 : 4; n < 6; n++) {
        struct reader rd;
        uint32_t prompt[30];
        for (uint32_t i = 0; i < ARRAY_LEN(prompt); i++)
            prompt[i] = (i * 7 + n) % 256;
        cut = (struct answer){.n = {0}};
        reader_init(&rd, NULL, prompt, ARRAY_LEN(prompt), ANSWER, CHOICES);
        assert_int_equal(reader_submit(&rd, w.w, NULL), 0);
        assert_soon(read_on(rd.r, &cut) || cut.n[CHOICES - 1] >= n);
        request_cancel(rd.r);
        answer(&w, PENALTIES, &beside);
        assert_same(&alone, &beside, "beside one that is cancelled");
        reader_fini(&rd);
    }
    noted_finish(&w); /* no block is left behind */
}

/* A device that breaks under steps in flight: what was read is there once, and nothing of what was not. */
static void test_broken(void **state)
{
    (void)state;
    static struct answer whole;
    struct noted_worker w;
    struct worker_opts opts;
    options = (struct cuda_opts){.pin_kernels = true};
    start(&w, &opts, true);
    answer(&w, DRAWN, &whole);
    noted_finish(&w);
    for (uint64_t at = 30; at < 280; at += everything ? 31 : 120) {
        struct reader rd;
        uint32_t prompt[21];
        for (uint32_t i = 0; i < ARRAY_LEN(prompt); i++)
            prompt[i] = (i * 37 + 5) % 256;
        start(&w, &opts, true);
        reader_prepare(&rd, prompt, ARRAY_LEN(prompt), ANSWER, CHOICES);
        ask(&rd.r->sampling, DRAWN);
        assert_int_equal(stream_init(rd.r, NULL, CHOICES, NULL), 0);
        stand_in_break_kernel(0, STAND_IN_ILLEGAL_ADDRESS, at);
        assert_int_equal(reader_submit(&rd, w.w, NULL), 0);
        noted_wait_dead(&w);
        assert_int_equal(w.why.code, LLMD_EPOISONED);
        for (uint32_t c = 0; c < CHOICES; c++) {
            uint32_t n;
            bool finished;
            const uint32_t *kept = stream_kept(rd.r, c, &n, &finished);
            assert_true(n < ANSWER);
            assert_memory_equal(kept, whole.ids[c], n * sizeof(*kept));
        }
        reader_fini(&rd);
        noted_free(&w);
    }
    stand_in_break_kernel(0, STAND_IN_ENDLESS, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_graphs), cmocka_unit_test(test_eager), cmocka_unit_test(test_pinned),
        cmocka_unit_test(test_cancelled), cmocka_unit_test(test_broken)};
    everything = argc > 1 && strcmp(argv[1], "all") == 0;
    return cmocka_run_group_tests(tests, open_all, close_all);
}
