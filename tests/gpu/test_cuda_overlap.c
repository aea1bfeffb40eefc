/* Steps of the CUDA backend that are enqueued before those in front of them are read: the same tokens and
 * log probabilities as one step after the other, with graphs and without; nothing is allocated; a fault
 * ends all of them. */
#include <string.h>

#include "core/engine/sampler.h"
#include "gpu/cuda.h"
#include "tests/gpu/host/control.h"
#include "tests/golden/tiny_golden.h"
#include "tests/unit/forward_rig.h"

#define FOLDER "tests/golden/data/tiny"

enum { SEQS = 9, STEPS = 12, PROMPT = 5 };

static struct model *model;

static int open_model(void **state)
{
    struct tiny_golden golden;
    struct err e = {0};
    char path[128];
    (void)state;
    must(tiny_golden_open(&golden, FOLDER "/logits.bin", &e), &e);
    snprintf(path, sizeof(path), FOLDER "/%s", tiny_golden_model(&golden, 0).name);
    file_map_close(&golden.map);
    must(model_open(path, &model, &e), &e);
    return 0;
}

static int close_model(void **state)
{
    (void)state;
    model_free(model);
    return 0;
}

static void open_rig(struct rig *rig, bool no_graphs, bool no_overlap)
{
    const struct cuda_opts o = {
        .no_graphs = no_graphs, .no_overlap = no_overlap, .step_timeout_us = 200000};
    struct backend *be;
    struct err e = {0};
    stand_in_set_capability(90);
    stand_in_set_memory(1u << 30);
    must(cuda_backend_new(&o, &be, &e), &e);
    rig_init(rig, be, model, NULL);
    assert_int_equal(forward_can_post(rig->forward), !no_overlap);
}

/* --- a run: prompts, then one token of each sequence per step; some end on the way --- */

/* What a step needs until it is collected. */
struct flight {
    struct step step;
    struct sample_row rows[SEQS];
    struct sample_logprobs logprobs[SEQS];
    uint32_t ids[SEQS], who[SEQS], n;
};

struct text {
    uint32_t ids[STEPS][SEQS];
    struct sample_logprobs logprobs[STEPS][SEQS];
};

struct run {
    struct rig rig;
    struct sequence seqs[SEQS];
    struct sampling_params params[SEQS];
    struct sampler *samplers[SEQS];
    struct flight flights[STEPS_IN_FLIGHT];
    struct text text;
};

/* Sequence i gives its last token in this step. */
static uint32_t last_step(uint32_t i)
{
    return STEPS - 1 - (i % 4 == 1 ? i : 0);
}

static void run_init(struct run *r, bool no_graphs, bool no_overlap)
{
    memset(r, 0, sizeof(*r));
    open_rig(&r->rig, no_graphs, no_overlap);
    for (uint32_t i = 0; i < SEQS; i++) {
        struct sampling_params *p = &r->params[i];
        *p = (struct sampling_params){.temperature = i % 2 ? 0.9f : 0.0f,
                                      .top_p = i % 4 == 3 ? 0.9f : 1.0f,
                                      .repetition_penalty = i % 3 == 0 ? 1.4f : 1.0f,
                                      .presence_penalty = i % 3 == 1 ? 1.5f : 0.0f,
                                      .frequency_penalty = i % 6 == 1 ? 0.8f : 0.0f,
                                      .seed = 900 + i,
                                      .n = 1,
                                      .max_tokens = STEPS};
        assert_int_equal(sampler_new(p, NULL, 0, model->hparams.vocab_size, 0, &r->samplers[i]), 0);
    }
}

static void run_fini(struct run *r)
{
    for (uint32_t i = 0; i < SEQS; i++)
        sampler_free(r->samplers[i]);
    rig_close(&r->rig);
}

/* Step number k: behind the step `before`, whose tokens are not known yet when it is to follow. */
static void build(struct run *r, uint32_t k, const struct flight *before, bool follows,
                  struct flight *f)
{
    const uint32_t vocab = model->hparams.vocab_size;
    struct batch *b = &f->step.batch;
    *b = (struct batch){.follows = follows,
                        .tokens = f->step.tokens,
                        .positions = f->step.positions,
                        .slots = f->step.slots,
                        .seqs = f->step.seqs,
                        .out_rows = f->step.out_rows};
    f->n = 0;
    for (uint32_t i = 0; i < SEQS; i++) {
        uint32_t tokens[PROMPT], n = 1, at = 0;
        if (k > last_step(i))
            continue;
        if (before) {
            while (before->who[at] != i)
                at++;
            tokens[0] = follows ? at : before->ids[at];
        } else
            for (n = 0; n < 1 + i % PROMPT; n++)
                tokens[n] = (i * 31 + n * 7 + 1) % vocab;
        step_add(&r->rig, &f->step, &r->seqs[i], tokens, n);
        step_want(&f->step, b->n_rows - 1);
        f->logprobs[f->n] = (struct sample_logprobs){.n_top = i % 5};
        f->rows[f->n] = (struct sample_row){.row = f->n, .logprobs = &f->logprobs[f->n]};
        sampler_describe(r->samplers[i], k, &f->rows[f->n].how);
        f->who[f->n++] = i;
    }
}

static void take(struct run *r, uint32_t k, const struct flight *f)
{
    for (uint32_t i = 0; i < f->n; i++) {
        const uint32_t who = f->who[i];
        r->text.ids[k][who] = f->ids[i];
        r->text.logprobs[k][who] = f->logprobs[i];
        sampler_accept(r->samplers[who], f->ids[i]);
    }
}

static void one_after_the_other(struct run *r)
{
    struct err e = {0};
    for (uint32_t k = 0; k < STEPS; k++) {
        struct flight *f = &r->flights[k % 2], *before = &r->flights[1 - k % 2];
        build(r, k, k > 0 ? before : NULL, false, f);
        must(forward_step(r->rig.forward, &f->step.batch, &e), &e);
        must(forward_sample(r->rig.forward, f->rows, f->n, f->ids, &e), &e);
        take(r, k, f);
    }
}

/* Every step but the first, and every fourth behind it, is enqueued while the one before runs. */
static void overlapped(struct run *r)
{
    struct err e = {0};
    struct flight *before = NULL;
    for (uint32_t k = 0; k < STEPS; k++) {
        struct flight *f = &r->flights[k % 2];
        const bool follows = k % 4 != 0;
        if (before && !follows) {
            must(forward_collect(r->rig.forward, &e), &e);
            take(r, k - 1, before);
        }
        build(r, k, before, follows, f);
        must(forward_post(r->rig.forward, &f->step.batch, f->rows, f->ids, &e), &e);
        if (follows) {
            must(forward_collect(r->rig.forward, &e), &e);
            take(r, k - 1, before);
        }
        before = f;
    }
    must(forward_collect(r->rig.forward, &e), &e);
    take(r, STEPS - 1, before);
}

static void check(bool no_graphs)
{
    static struct run one, other;
    run_init(&one, no_graphs, true);
    one_after_the_other(&one);
    run_init(&other, no_graphs, false);
    const uint64_t n_allocated = stand_in_allocations(), n_ahead = stand_in_waits_ahead();
    overlapped(&other);
    assert_int_equal(stand_in_allocations(), n_allocated);
    assert_int_equal(stand_in_waits_ahead() - n_ahead, STEPS - 1 - (STEPS - 1) / 4);
    for (uint32_t k = 0; k < STEPS; k++)
        for (uint32_t i = 0; i < SEQS; i++)
            if (one.text.ids[k][i] != other.text.ids[k][i] ||
                memcmp(&one.text.logprobs[k][i], &other.text.logprobs[k][i],
                       sizeof(struct sample_logprobs)) != 0)
                fail_msg("step %u, sequence %u: token %u, not %u", k, i, other.text.ids[k][i],
                         one.text.ids[k][i]);
    run_fini(&one);
    run_fini(&other);
}

static void test_graphs(void **state)
{
    (void)state;
    check(false);
}

static void test_eager(void **state)
{
    (void)state;
    check(true);
}

/* What was enqueued behind a step that fails never counts. */
static void test_a_fault_ends_both(void **state)
{
    static struct run r;
    struct err e = {0};
    (void)state;
    for (int how = STAND_IN_ILLEGAL_ADDRESS; how <= STAND_IN_ENDLESS; how++) {
        run_init(&r, false, false);
        build(&r, 0, NULL, false, &r.flights[0]);
        must(forward_post(r.rig.forward, &r.flights[0].step.batch, r.flights[0].rows,
                          r.flights[0].ids, &e),
             &e);
        build(&r, 1, &r.flights[0], true, &r.flights[1]);
        must(forward_post(r.rig.forward, &r.flights[1].step.batch, r.flights[1].rows,
                          r.flights[1].ids, &e),
             &e);
        stand_in_break_kernel(0, (enum stand_in_break)how, 3);
        assert_int_equal(forward_collect(r.rig.forward, &e), -LLMD_EPOISONED);
        assert_non_null(strstr(e.msg, how == STAND_IN_ENDLESS ? "no answer" : "illegal memory"));
        e = (struct err){0};
        run_fini(&r); /* which does not wait for the other */
    }
}

/* A backend goes while steps are in flight. */
static void test_nobody_collects(void **state)
{
    static struct run r;
    struct err e = {0};
    (void)state;
    run_init(&r, false, false);
    build(&r, 0, NULL, false, &r.flights[0]);
    must(forward_post(r.rig.forward, &r.flights[0].step.batch, r.flights[0].rows, r.flights[0].ids,
                      &e),
         &e);
    run_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_graphs), cmocka_unit_test(test_eager),
                                       cmocka_unit_test(test_a_fault_ends_both),
                                       cmocka_unit_test(test_nobody_collects)};
    return cmocka_run_group_tests(tests, open_model, close_model);
}
