/* What must never change a text, on the demo model: prefix cache, chunk size, batch size, threads,
 * preemption, which worker, and the instruction set. Every variant generates the same requests,
 * greedy and sampled, and each token is compared with the first variant's. Skipped without the
 * model. */
#include <stdio.h>
#include <unistd.h>

#include "core/backend/backend.h"
#include "tests/unit/worker_fixture.h"

#define MODEL_PATH "models/SmolLM2-135M-Instruct.Q4_1.gguf"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { LONG_ANSWER = 36, SHORT_ANSWER = 2, SLOW = 1 }; /* the threads are what is looked at */
#else
enum { LONG_ANSWER = 40, SHORT_ANSWER = 12, SLOW = 0 };
#endif

enum {
    FRANCE,
    PENALTIES,
    CUT,
    CHOICES,
    SKY,
    BEES,
    SKY_SAMPLED,
    WHOLE_BLOCKS,
    LONGEST,
    ONE_TOKEN,
    N_TEXTS,
    N_REQUESTS = SLOW ? CHOICES + 1 : N_TEXTS,
    N_LONG_ANSWERS = 3, /* the first ones */
    MAX_PROMPT = 400,
    MAX_WORKERS = 2,
};

#define PREAMBLE                                                                                   \
    "You are a patient teacher. Answer in one short paragraph, use plain words, and never invent " \
    "facts. If you do not know something, say so and propose where the answer could be looked "    \
    "up. Numbers are written as digits. The student asks: "

/* The first three answer at length; of the long ones, three begin alike and one is there twice. */
static const char *const texts[N_TEXTS] = {
    [FRANCE] = "The capital of France is",
    [PENALTIES] = "A list of words: apple, pear, apple, pear, apple,",
    [CUT] = "def fibonacci(n):\n    \"\"\"Returns the n-th Fibonacci number.\"\"\"\n",
    [CHOICES] = "Once upon a time there was a lighthouse",
    [SKY] = PREAMBLE "why is the sky blue during the day, but red in the evening?",
    [BEES] = PREAMBLE "how do bees find their way back to the hive after a long flight?",
    [SKY_SAMPLED] = PREAMBLE "why is the sky blue during the day, but red in the evening?",
    [WHOLE_BLOCKS] = PREAMBLE,
    [LONGEST] = PREAMBLE PREAMBLE PREAMBLE PREAMBLE "what was the question?",
    [ONE_TOKEN] = "A",
};

static struct model *model;
static struct shared_weights *shared;
static uint32_t prompts[N_TEXTS][MAX_PROMPT], n_prompt[N_TEXTS];
static struct reader expected[N_REQUESTS];

static void tokenize(void)
{
    for (uint32_t i = 0; i < N_TEXTS; i++) {
        struct token_list ids = {0};
        assert_int_equal(
            tokenizer_encode(model->tokenizer, texts[i], strlen(texts[i]), 0, &ids, NULL), 0);
        if (i == WHOLE_BLOCKS)
            ids.n = ids.n / KV_BLOCK_TOKENS * KV_BLOCK_TOKENS;
        assert_true(ids.n >= 1 && ids.n <= MAX_PROMPT);
        memcpy(prompts[i], ids.ids, ids.n * sizeof(ids.ids[0]));
        n_prompt[i] = (uint32_t)ids.n;
        token_list_fini(&ids);
    }
}

static void request_init(struct reader *rd, uint32_t i)
{
    reader_init(rd, NULL, prompts[i], n_prompt[i], i < N_LONG_ANSWERS ? LONG_ANSWER : SHORT_ANSWER,
                i == CHOICES ? 3 : 1);
    struct sampling_params *p = &rd->r->sampling;
    p->seed = 1000 + i;
    switch (i) {
    case SKY_SAMPLED:
        p->temperature = 0.8f;
        p->top_p = 0.9f;
        break;
    case CHOICES:
        p->temperature = 1.2f;
        break;
    case PENALTIES:
        p->temperature = 0.7f;
        p->repetition_penalty = 1.3f;
        p->frequency_penalty = 0.5f;
        p->presence_penalty = 0.5f;
        break;
    case CUT:
        p->temperature = 1.0f;
        p->top_k = 20;
        p->min_p = 0.05f;
        break;
    default: /* greedy */
        break;
    }
}

static struct worker_opts base_opts(void)
{
    return (struct worker_opts){
        .model_name = "smollm2",
        .model = model,
        .shared = shared,
        .device = DEVICE_CPU,
        .n_threads = 1,
        .isa = "auto",
        .max_model_len = 512,
        .max_num_seqs = 8,
        .max_num_batched_tokens = 512,
        .kv_cache_blocks = 256,
        .enable_prefix_caching = true,
        .max_queue = 64,
    };
}

/* Generates the first n_requests requests on workers of the same options, in turns, n_rounds times
 * (later ones find a warm prefix cache); compares with `expected`, or fills it when nothing is
 * expected yet. Returns how often it preempted. */
static uint32_t run(const struct worker_opts *o, uint32_t n_workers, uint32_t n_requests,
                    uint32_t n_rounds)
{
    struct noted_worker w[MAX_WORKERS];
    struct worker_opts opts[MAX_WORKERS];
    uint32_t n_preempted = 0;
    for (uint32_t i = 0; i < n_workers; i++) {
        opts[i] = *o;
        opts[i].index = i;
        noted_start(&w[i], &opts[i]);
        if (w[i].dead)
            fail_msg("%s", w[i].why.msg);
    }
    for (uint32_t round = 0; round < n_rounds; round++) {
        struct reader rd[N_REQUESTS];
        for (uint32_t i = 0; i < n_requests; i++) {
            request_init(&rd[i], i);
            assert_int_equal(reader_submit(&rd[i], w[(i + round) % n_workers].w, NULL), 0);
        }
        for (uint32_t i = 0; i < n_requests; i++) {
            reader_wait(&rd[i]);
            n_preempted += rd[i].r->trace.n_preemptions;
            if (!expected[i].r) {
                expected[i] = rd[i];
                continue;
            }
            assert_same_text(&rd[i], &expected[i]);
            reader_fini(&rd[i]);
        }
    }
    for (uint32_t i = 0; i < n_workers; i++)
        noted_finish(&w[i]);
    return n_preempted;
}

static int open_all(void **state)
{
    struct err e = {0};
    (void)state;
    if (access(MODEL_PATH, R_OK) != 0)
        return 0;
    if (model_open(MODEL_PATH, &model, &e) != 0 || shared_weights_new(&shared) != 0) {
        fprintf(stderr, "%s\n", e.msg);
        return -1;
    }
    tokenize();
    struct worker_opts o = base_opts();
    assert_int_equal(run(&o, 1, N_REQUESTS, 2), 0);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < N_REQUESTS; i++)
        if (expected[i].r)
            reader_fini(&expected[i]);
    shared_weights_unref(shared);
    model_free(model);
    return 0;
}

static void need_model(void)
{
    if (!model) {
        print_message(MODEL_PATH " is not there\n");
        skip();
    }
}

static void test_the_first_variant_says_something(void **state)
{
    (void)state;
    need_model();
    const struct reader *france = &expected[FRANCE];
    struct token_text first = tokenizer_bytes(model->tokenizer, france->got[0][0]);
    assert_int_equal(first.n, strlen(" Paris"));
    assert_memory_equal(first.s, " Paris", first.n);
    const struct reader *choices = &expected[CHOICES];
    assert_memory_not_equal(choices->got[0], choices->got[1], SHORT_ANSWER * sizeof(uint32_t));
    assert_memory_not_equal(choices->got[1], choices->got[2], SHORT_ANSWER * sizeof(uint32_t));
    assert_true(n_prompt[LONGEST] > 200);
}

static void test_prefix_cache_off(void **state)
{
    (void)state;
    need_model();
    struct worker_opts o = base_opts();
    o.enable_prefix_caching = false;
    run(&o, 1, N_REQUESTS, 1);
}

static void test_chunks(void **state)
{
    (void)state;
    need_model();
    static const uint32_t budgets[] = {1, 16, 37};
    for (size_t i = 0; i < ARRAY_LEN(budgets); i++) {
        struct worker_opts o = base_opts();
        o.max_num_batched_tokens = budgets[i];
        uint32_t n = budgets[i] == 1 && !SLOW ? SKY_SAMPLED : N_REQUESTS;
        run(&o, 1, n, 1);
    }
}

static void test_one_at_a_time(void **state)
{
    (void)state;
    need_model();
    struct worker_opts o = base_opts();
    o.max_num_seqs = 1;
    run(&o, 1, N_REQUESTS, 1);
}

static void test_threads(void **state)
{
    (void)state;
    need_model();
    struct worker_opts o = base_opts();
    o.n_threads = 2;
    run(&o, 1, N_REQUESTS, 1);
}

static void test_preemption(void **state)
{
    (void)state;
    need_model();
    for (uint32_t caching = 0; caching < 2; caching++) {
        struct worker_opts o = base_opts();
        o.enable_prefix_caching = caching;
        o.kv_cache_blocks = 6; /* three answers grow to three blocks and more each */
        assert_true(run(&o, 1, N_LONG_ANSWERS, 1) > 0);
    }
    struct worker_opts o = base_opts();
    o.kv_cache_blocks = (n_prompt[LONGEST] + SHORT_ANSWER) / KV_BLOCK_TOKENS + 1;
    run(&o, 1, N_REQUESTS, 1);
}

static void test_two_workers(void **state)
{
    (void)state;
    need_model();
    struct worker_opts o = base_opts();
    run(&o, 2, N_REQUESTS, 2);
}

static void test_instruction_sets(void **state)
{
    (void)state;
    need_model();
    static const char *const isas[] = {"portable", "avx2", "avx512"};
    for (size_t i = SLOW; i < ARRAY_LEN(isas); i++) {
        struct backend *be;
        const struct cpu_opts probe = {.n_threads = 1, .isa = isas[i]};
        if (cpu_backend_new(&probe, &be, NULL) != 0) {
            print_message("%s: not on this machine\n", isas[i]);
            continue;
        }
        be->ops->free(be);
        struct worker_opts o = base_opts();
        o.isa = isas[i];
        o.shared = NULL; /* the layout of the weights may differ */
        run(&o, 1, i == 0 ? 1 : N_REQUESTS, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_variant_says_something),
        cmocka_unit_test(test_prefix_cache_off),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_one_at_a_time),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_preemption),
        cmocka_unit_test(test_two_workers),
        cmocka_unit_test(test_instruction_sets),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
