/* worker_load.c - from nothing to ready: backend, weights, KV pool, one generated token. */
#include <stdlib.h>
#include <string.h>

#include "core/engine/engine_weights.h"
#include "core/engine/forward.h"
#include "core/engine/kv_budget.h"
#include "core/engine/profile.h"
#include "core/engine/worker_int.h"
#include "core/model/model.h"
#include "core/util/clock.h"
#include "core/util/utf8.h"

/* --- the device --- */

/* The longest run of ids that stand for whole characters and end nothing: what sim produces. */
static void sim_token_range(const struct tokenizer *t, uint32_t vocab_size, uint32_t *out_first,
                            uint32_t *out_n)
{
    uint32_t n_eos = 0, run = 0;
    *out_first = 0;
    *out_n = vocab_size;
    if (!t)
        return;
    const uint32_t *eos = tokenizer_eos_ids(t, &n_eos);
    uint32_t n_tokens = (uint32_t)u64_min(tokenizer_n_tokens(t), vocab_size), best = 0;
    for (uint32_t id = 0; id < n_tokens; id++) {
        struct token_text text = tokenizer_bytes(t, id);
        bool plain = !tokenizer_is_control(t, id) && text.n > 0 && utf8_valid(text.s, text.n);
        for (uint32_t i = 0; i < n_eos; i++)
            plain &= eos[i] != id;
        run = plain ? run + 1 : 0;
        if (run > best) {
            best = run;
            *out_first = id + 1 - run;
            *out_n = run;
        }
    }
}

static int open_backend(struct worker *w, struct err *e)
{
    const struct worker_opts *o = w->opts;
    if (o->device == DEVICE_CPU) {
        const struct cpu_opts cpu = {
            .n_threads = o->n_threads,
            .compute = o->compute_f32 ? COMPUTE_F32 : COMPUTE_AUTO,
            .isa = o->isa ? o->isa : "auto",
        };
        return cpu_backend_new(&cpu, &w->be, e);
    }
    if (o->device == DEVICE_CUDA)
        return o->open_gpu(o->gpu, &w->be, e);
    struct sim_opts sim = {.step_us = o->sim_step_us, .row_us_x1000 = o->sim_row_ns};
    sim_token_range(o->model->tokenizer, o->model->hparams.vocab_size, &sim.first_token,
                    &sim.n_tokens);
    return sim_backend_new(&sim, &w->be, e);
}

uint32_t load_percent(const struct load_progress *p)
{
    if (p->total_bytes == 0)
        return 0;
    return (uint32_t)((double)p->done_bytes * 100 / (double)p->total_bytes);
}

double load_mib_per_s(const struct load_progress *p)
{
    if (p->elapsed_us == 0)
        return 0;
    return (double)p->done_bytes / (1 << 20) / ((double)p->elapsed_us / 1e6);
}

double load_seconds_left(const struct load_progress *p)
{
    if (p->done_bytes == 0)
        return -1;
    return (double)p->elapsed_us / 1e6 * (double)(p->total_bytes - p->done_bytes) /
           (double)p->done_bytes;
}

static bool publish_progress(void *ctx, const struct load_progress *p)
{
    return worker_publish_progress(ctx, p);
}

static int load_weights(struct worker *w, struct err *e)
{
    const struct worker_opts *o = w->opts;
    if (!o->shared || o->device != DEVICE_CPU)
        return engine_weights_new(w->be, o->model, publish_progress, w, &w->weights, e);
    int rc = shared_weights_get(o->shared, w->be, o->model, publish_progress, w, &w->weights, e);
    if (rc == 0 && w->status.load.total_bytes == 0) { /* another worker loaded them */
        uint64_t bytes = o->model->weights.total_bytes;
        const struct load_progress all = {.done_bytes = bytes, .total_bytes = bytes};
        (void)worker_publish_progress(w, &all); /* who is to end sees it after the warm-up */
    }
    return rc;
}

/* --- all of it --- */

static int init_pools(struct worker *w, uint32_t max_num_seqs, uint32_t n_blocks, struct err *e)
{
    const struct worker_opts *o = w->opts;
    const struct sched_opts sched = {
        .max_num_seqs = max_num_seqs,
        .max_num_batched_tokens = o->max_num_batched_tokens,
        .max_groups = o->max_queue + o->max_num_seqs,
        .n_kv_blocks = n_blocks,
        .enable_prefix_caching = o->enable_prefix_caching,
    };
    int rc = sched_init(&w->sched, &sched);
    w->max_flights = forward_can_post(w->forward) ? STEPS_IN_FLIGHT : 1;
    for (uint32_t i = 0; i < w->max_flights && !rc; i++)
        rc = batch_build_init(&w->flights[i].build, o->max_num_batched_tokens, max_num_seqs);
    if (!rc && !forward_has_sampler(w->forward))
        rc = sampler_scratch_init(&w->scratch, o->model->hparams.vocab_size);
    struct kv_view *view = rc ? NULL : calloc(1, sizeof(*view) + n_blocks);
    if (!rc && !view)
        rc = -LLMD_ENOMEM;
    if (rc)
        return err_set(e, -rc, "out of memory for %u sequences and %u KV blocks", max_num_seqs,
                       n_blocks);
    view->n_blocks = n_blocks;
    w->sched.pool.view = view;
    atomic_store(&w->kv_view, view);
    return 0;
}

/* KV cache, work space, layer loop. A device of its own has worked before its memory is dealt out. */
static int take_memory(struct worker *w, const struct backend_limits *limits, uint32_t *out_blocks,
                       struct err *e)
{
    const struct worker_opts *o = w->opts;
    const struct backend_ops *ops = w->be->ops;
    struct attn_shape shape;
    forward_attn_shape(o->model, o->max_model_len, &shape);
    const uint64_t block_bytes = u64_max(1, ops->kv_block_bytes(w->be, &shape));
    struct device_memory memory;
    *out_blocks = 1;
    int rc = ops->memory ? 0 : kv_budget_host(o, block_bytes, out_blocks, e);
    if (!rc)
        rc = ops->reserve(w->be, &shape, limits, *out_blocks, e);
    if (!rc)
        rc = forward_new(w->be, o->model, w->weights, &shape, limits, &w->forward, e);
    if (rc || !ops->memory)
        return rc;
    rc = profile_device(w->forward, &shape, limits, e);
    if (!rc)
        rc = ops->memory(w->be, &memory, e);
    if (!rc)
        rc = kv_budget_device(o, block_bytes, &memory, out_blocks, e);
    if (!rc)
        rc = ops->kv_resize(w->be, *out_blocks, e);
    if (!rc)
        rc = profile_decodes(w->forward, w->be, &shape, limits, e);
    if (!rc && ops->seal)
        rc = ops->seal(w->be, e);
    return rc;
}

static int load_all(struct worker *w, const struct engine_metrics *em, struct err *e)
{
    const uint64_t began_us = clock_now_us();
    uint64_t opened_us = 0, loaded_us = 0;
    const struct worker_opts *o = w->opts;
    /* Every running sequence gets a row of each step, so that all of them move. */
    uint32_t max_num_seqs = (uint32_t)u64_min(o->max_num_seqs, o->max_num_batched_tokens);
    const struct backend_limits limits = {
        .max_rows = o->max_num_batched_tokens, .max_seqs = max_num_seqs, .max_out = max_num_seqs};
    uint32_t n_blocks = 0;

    int rc = open_backend(w, e);
    opened_us = clock_now_us();
    if (!rc)
        rc = load_weights(w, e);
    loaded_us = clock_now_us();
    if (!rc)
        rc = take_memory(w, &limits, &n_blocks, e);
    if (rc)
        return rc;
    w->limits = (struct seq_limits){
        .vocab_size = o->model->hparams.vocab_size,
        .max_model_len = o->max_model_len,
        .n_kv_blocks = n_blocks,
        .samplers = forward_needs_samplers(w->forward),
        .has_logits = !forward_has_sampler(w->forward),
    };
    rc = init_pools(w, max_num_seqs, n_blocks, e);
    if (!rc && engine_metrics_cache_config(o, n_blocks))
        rc = err_set(e, LLMD_ENOMEM, "out of memory for metrics");
    engine_metrics_loaded(em, LOAD_OPEN, opened_us - began_us);
    engine_metrics_loaded(em, LOAD_WEIGHTS, loaded_us - opened_us);
    engine_metrics_loaded(em, LOAD_MEMORY, clock_now_us() - loaded_us);
    return rc;
}

/* --- warm-up --- */

static int warm_up_request(const struct worker_opts *o, struct request **out, struct err *e)
{
    static const uint32_t prompt[] = {0};
    struct request *r;
    int rc = request_new(&r);
    if (rc)
        return err_set(e, LLMD_ENOMEM, "out of memory for the warm-up");
    r->prompt = prompt;
    r->n_prompt = ARRAY_LEN(prompt);
    r->sampling = (struct sampling_params){
        .top_p = 1,
        .repetition_penalty = 1,
        .n = 1,
        .max_tokens = (uint32_t)u64_min(2, o->max_model_len - r->n_prompt), /* prefill, decode */
        .ignore_eos = true,
    };
    rc = stream_init(r, NULL, 1, e);
    if (rc) {
        request_unref(r);
        return rc;
    }
    *out = r;
    return 0;
}

/* Generates tokens on the same path as any request: a worker that cannot is not ready. */
static int warm_up(struct worker *w, struct err *e)
{
    struct request *r;
    struct seq_group *g = NULL;
    int rc = warm_up_request(w->opts, &r, e);
    if (rc)
        return rc;
    rc = seq_group_new(r, &w->limits, &g, e);
    if (!rc) {
        g->worker = w;
        g->epoch = stream_attach(r, NULL, NULL);
        lock_take(&w->mu);
        w->n_groups++;
        lock_drop(&w->mu);
        sched_add(&w->sched, g);
    }
    for (bool worked = true; !rc && worked;)
        rc = worker_step(w, &worked, e);
    struct stream_item item = {0};
    while (!rc && item.finish == FINISH_NONE && stream_pull(r, &item, 1) == 1)
        ;
    if (!rc && item.finish != FINISH_LENGTH)
        rc = err_set(e, LLMD_EINTERNAL, "the warm-up generated no token");
    request_unref(r);
    w->n_steps = w->n_generated = 0;
    return rc;
}

int worker_load(struct worker *w, struct err *e)
{
    const struct worker_opts *o = w->opts;
    struct engine_metrics metrics;
    if (engine_metrics_init(&metrics, o))
        return err_set(e, LLMD_ENOMEM, "out of memory for metrics");
    worker_publish(w, WORKER_LOADING);
    int rc = load_all(w, &metrics, e);
    if (rc)
        return rc;
    worker_publish(w, WORKER_WARMING);
    const uint64_t warms_us = clock_now_us();
    rc = warm_up(w, e);
    engine_metrics_loaded(&metrics, LOAD_WARM_UP, clock_now_us() - warms_us);
    if (rc) {
        err_prefix(e, "warm-up: ");
        return rc;
    }
    w->metrics = metrics; /* what was before does not count */
    w->counted = w->sched.counts;
    return 0;
}

void worker_unload(struct worker *w)
{
    forward_free(w->forward); /* first: steps in flight fill in what others hold */
    sampler_scratch_fini(&w->scratch);
    for (uint32_t i = 0; i < STEPS_IN_FLIGHT; i++)
        batch_build_fini(&w->flights[i].build);
    sched_fini(&w->sched);
    engine_weights_unref(w->weights);
    if (w->be)
        w->be->ops->free(w->be);
}
