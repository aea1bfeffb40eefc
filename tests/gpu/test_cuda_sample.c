/* The operation `sample` of the CUDA backend: the tokens that the engine's sampler picks from the same
 * step's logits, for rows with and without lists, in one launch and in several. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/engine/sampler.h"
#include "gpu/cuda.h"
#include "tests/gpu/host/control.h"
#include "tests/golden/tiny_golden.h"
#include "tests/unit/forward_rig.h"

#define FOLDER "tests/golden/data/tiny"

enum { ROWS = 24, FEW = 64 };

static struct model *open_model(void)
{
    struct model *m;
    struct tiny_golden golden;
    struct err e = {0};
    char path[128];
    must(tiny_golden_open(&golden, FOLDER "/logits.bin", &e), &e);
    snprintf(path, sizeof(path), FOLDER "/%s", tiny_golden_model(&golden, 0).name);
    file_map_close(&golden.map);
    must(model_open(path, &m, &e), &e);
    return m;
}

static void open_rig(struct rig *rig, const struct model *m, bool host_logits, bool no_graphs)
{
    const struct cuda_opts o = {.host_logits = host_logits, .no_graphs = no_graphs};
    struct backend *be;
    struct err e = {0};
    stand_in_set_capability(90);
    stand_in_set_memory(1u << 30);
    must(cuda_backend_new(&o, &be, &e), &e);
    rig_init(rig, be, m, NULL);
    assert_int_equal(forward_has_sampler(rig->forward), !host_logits);
    assert_true(forward_needs_samplers(rig->forward));
}

/* One step of ROWS sequences of a few tokens each, whose last rows' logits are wanted. */
static void run(struct rig *rig, uint32_t vocab)
{
    static struct step st;
    struct sequence seqs[ROWS] = {{{0}, 0, 0}};
    uint32_t tokens[4];
    rig->next_block = 0;
    st.batch = (struct batch){0};
    for (uint32_t i = 0; i < ROWS; i++) {
        for (uint32_t k = 0; k < ARRAY_LEN(tokens); k++)
            tokens[k] = (i * 31 + k * 7 + 1) % vocab;
        step_add(rig, &st, &seqs[i], tokens, 1 + i % ARRAY_LEN(tokens));
        step_want(&st, st.batch.n_rows - 1);
    }
    step_run(rig, &st);
}

/* Every seventh token, for rows that may choose among few. */
static uint32_t allow_few(uint32_t i, uint32_t vocab, uint32_t *ids)
{
    uint32_t n = 0;
    for (uint32_t t = i % 7; t < vocab && n < FEW; t += 7)
        ids[n++] = t;
    return n;
}

/* Parameters by turns: greedy, whole, cut, penalties; and a sampler that has seen n_seen tokens. Every
 * fifth, whose log probabilities are looked at, and others have a mask. */
static struct sampler *sampler_of(struct sampling_params *p, uint32_t i, uint32_t vocab,
                                  uint32_t n_seen)
{
    struct sampler *s;
    static uint32_t all_few[ROWS][FEW]; /* the sampler's, too */
    uint32_t *few = all_few[i];
    *p = (struct sampling_params){.temperature = i % 4 == 0 ? 0.0f : 0.9f,
                                  .top_p = i % 4 == 2 ? 0.9f : 1.0f,
                                  .top_k = i % 8 == 3 ? 20 : 0,
                                  .repetition_penalty = i % 4 == 3 || n_seen > 100 ? 1.2f : 1.0f,
                                  .seed = 1000 + i,
                                  .n = 1,
                                  .max_tokens = MAX_CONTEXT};
    if (i % 5 == 0 || i % 4 == 2) {
        p->allowed_ids = few;
        p->n_allowed_ids = allow_few(i, vocab, few);
    }
    assert_int_equal(sampler_new(p, NULL, 0, vocab, 0, &s), 0);
    for (uint32_t t = 0; t < n_seen; t++)
        sampler_accept(s, (t * 3 + i) % vocab);
    return s;
}

/* As the scores of a prompt are made: its own token by an infinite bias, told by the logits without. */
static bool is_forced(uint32_t i)
{
    return i % 10 == 5;
}

static void check(struct rig *device, struct rig *host, uint32_t vocab, uint32_t n_seen)
{
    struct sampling_params params[ROWS];
    struct sampler *samplers[ROWS];
    struct sampler_scratch scratch;
    struct sample_row rows[ROWS] = {{0}};
    struct sample_logprobs logprobs[ROWS] = {{0}};
    struct sample_bias forced[ROWS];
    uint32_t ids[ROWS];
    struct err e = {0};
    assert_int_equal(sampler_scratch_init(&scratch, vocab), 0);
    for (uint32_t i = 0; i < ROWS; i++) {
        samplers[i] = sampler_of(&params[i], i, vocab, n_seen);
        rows[i].row = i;
        sampler_describe(samplers[i], n_seen, &rows[i].how);
        if (i % 5 == 0) {
            logprobs[i].n_top = i % 7;
            rows[i].logprobs = &logprobs[i];
        }
        if (is_forced(i)) {
            forced[i] = (struct sample_bias){.token = (i * 37 + n_seen) % vocab, .bias = INFINITY};
            rows[i].how = (struct sample_how){
                .top_p = 1, .repetition_penalty = 1, .bias = &forced[i], .n_bias = 1};
        }
    }
    run(device, vocab);
    must(forward_sample(device->forward, rows, ROWS, ids, &e), &e);
    run(host, vocab);
    for (uint32_t i = 0; i < ROWS; i++) {
        const float *l = forward_logits(host->forward, i);
        assert_int_equal(ids[i], is_forced(i) ? forced[i].token
                                              : sampler_pick(samplers[i], l, &scratch, n_seen));
        double sum = 0;
        uint32_t n_likelier = 0;
        for (uint32_t t = 0; t < vocab; t++) {
            sum += exp((double)l[t]);
            n_likelier += l[t] > l[ids[i]];
        }
        if (rows[i].logprobs)
            assert_int_equal(logprobs[i].rank, 1 + n_likelier);
        if (rows[i].logprobs)
            assert_true(fabs((double)logprobs[i].chosen - ((double)l[ids[i]] - log(sum))) < 1e-4);
        if (logprobs[i].n_top > 1)
            assert_true(logprobs[i].top[0] >= logprobs[i].top[1]);
        sampler_free(samplers[i]);
    }
    sampler_scratch_fini(&scratch);
}

static void test_sample(void **state)
{
    struct model *m = open_model();
    const uint32_t vocab = m->hparams.vocab_size;
    struct rig device, host;
    (void)state;
    open_rig(&device, m, false, false);
    open_rig(&host, m, true, false);
    check(&device, &host, vocab, 0);
    check(&device, &host, vocab, 30);
    check(&device, &host, vocab, vocab); /* lists for several launches */
    rig_close(&device);
    rig_close(&host);
    model_free(m);
}

/* --- steps of decodes as graphs --- */

/* What one step of decodes gave: `chosen` tells of every bit of a row's logits. */
struct decoded {
    uint32_t ids[ROWS];
    struct sample_logprobs logprobs[ROWS];
};

/* One more token of the first n sequences. */
static void decode(struct rig *rig, struct sequence *seqs, uint32_t n, uint32_t vocab,
                   uint32_t n_seen, struct decoded *out)
{
    static struct step st;
    struct sampling_params params[ROWS];
    struct sampler *samplers[ROWS];
    struct sample_row rows[ROWS] = {{0}};
    struct err e = {0};
    st.batch = (struct batch){0};
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t token = (seqs[i].n_tokens * 13 + i * 5) % vocab;
        samplers[i] = sampler_of(&params[i], i, vocab, n_seen);
        rows[i] = (struct sample_row){.row = i, .logprobs = &out->logprobs[i]};
        sampler_describe(samplers[i], seqs[i].n_tokens, &rows[i].how);
        step_want(&st, st.batch.n_rows);
        step_add(rig, &st, &seqs[i], &token, 1);
    }
    step_run(rig, &st);
    must(forward_sample(rig->forward, rows, n, out->ids, &e), &e);
    for (uint32_t i = 0; i < n; i++)
        sampler_free(samplers[i]);
}

/* Sizes between those of graphs, some again: recorded, then replayed with other data. */
static void test_graphs(void **state)
{
    static const struct {
        uint32_t n, n_seen;
    } steps[] = {{3, 0}, {3, 20}, {1, 0}, {7, 0},     {24, 5},
                 {2, 0}, {4, 8},  {9, 0}, {24, 1000}, {3, 1}};
    struct model *m = open_model();
    const uint32_t vocab = m->hparams.vocab_size;
    static struct sequence seqs[2][ROWS];
    struct rig graphs, eager;
    struct err e = {0};
    (void)state;
    open_rig(&graphs, m, false, false);
    open_rig(&eager, m, false, true);
    memset(seqs, 0, sizeof(seqs));
    assert_int_equal(graphs.be->ops->decode_size(graphs.be, 3), 4);
    assert_int_equal(graphs.be->ops->decode_size(graphs.be, 65), 96);
    assert_int_equal(graphs.be->ops->decode_size(graphs.be, MAX_OUT + 1), 0);
    assert_int_equal(eager.be->ops->decode_size(eager.be, 3), 0);
    for (size_t k = 0; k < ARRAY_LEN(steps); k++) {
        struct decoded a = {{0}, {{0}}}, b = {{0}, {{0}}};
        decode(&graphs, seqs[0], steps[k].n, vocab, steps[k].n_seen, &a);
        decode(&eager, seqs[1], steps[k].n, vocab, steps[k].n_seen, &b);
        if (memcmp(&a, &b, sizeof(a)) != 0)
            fail_msg("step %zu, %u rows: the graph gives other tokens or logits", k, steps[k].n);
    }
    /* The KV cache moves: graphs are recorded anew. */
    must(graphs.be->ops->kv_resize(graphs.be, graphs.n_blocks, &e), &e);
    must(eager.be->ops->kv_resize(eager.be, eager.n_blocks, &e), &e);
    struct decoded a = {{0}, {{0}}}, b = {{0}, {{0}}};
    decode(&graphs, seqs[0], 3, vocab, 0, &a);
    decode(&eager, seqs[1], 3, vocab, 0, &b);
    assert_memory_equal(&a, &b, sizeof(a));
    rig_close(&graphs);
    rig_close(&eager);
    model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sample),
                                       cmocka_unit_test(test_graphs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
