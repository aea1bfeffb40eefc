/* worker_load.c - from nothing to ready: backend, weights, KV pool, one generated token. */
#include <stdlib.h>
#include <string.h>

#include "core/engine/engine_weights.h"
#include "core/engine/forward.h"
#include "core/engine/worker_int.h"
#include "core/model/model.h"
#include "core/util/meminfo.h"
#include "core/util/utf8.h"

/* Slots are 32-bit: block * KV_BLOCK_TOKENS + offset. */
static const uint64_t MAX_KV_BLOCKS = UINT32_MAX / KV_BLOCK_TOKENS;
/* What an automatic KV cache takes at most: it comes on top of the weights, unasked. */
static const uint64_t MAX_AUTO_KV_BYTES = 1ull << 30;

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

/* --- the KV pool --- */

/* Blocks that nobody chose: every sequence could hold a quarter of the longest context, within
 * MAX_AUTO_KV_BYTES and a quarter of what memory is left; but one sequence of the longest context
 * shall fit, unless that takes more than half of the memory. A simulated cache takes no memory. */
static uint64_t auto_blocks(const struct worker_opts *o, uint64_t block_bytes)
{
    uint64_t longest = blocks_for(o->max_model_len);
    uint64_t want = u64_max(longest, o->max_num_seqs * ((longest + 3) / 4));
    if (o->device == DEVICE_SIM)
        return want;
    uint64_t available = mem_available_bytes();
    uint64_t bound = MAX_AUTO_KV_BYTES / block_bytes;
    if (available > 0) {
        bound = u64_min(bound, available / 4 / block_bytes);
        longest = u64_min(longest, available / 2 / block_bytes);
    }
    return u64_min(want, u64_max(bound, longest));
}

/* A pool that was asked for must fit what memory is left: its pages are touched one by one, and the
 * process would be killed under load instead. */
static int check_memory(const struct worker_opts *o, uint64_t n_blocks, uint64_t block_bytes,
                        struct err *e)
{
    enum { BOOKS_BYTES = 192 }; /* of a block, in pool and prefix cache */
    const uint64_t available = mem_available_bytes();
    const uint64_t bytes = n_blocks * (BOOKS_BYTES + (o->device == DEVICE_SIM ? 0 : block_bytes));
    if (available == 0 || bytes <= available)
        return 0;
    return err_set(
        e, LLMD_EINVAL,
        "a KV cache of %llu MiB takes %llu MiB, but only %llu MiB of memory are left; lower "
        "kv_cache_mb",
        (unsigned long long)(n_blocks * block_bytes >> 20), (unsigned long long)(bytes >> 20),
        (unsigned long long)(available >> 20));
}

static int choose_pool(struct worker *w, const struct attn_shape *shape, uint32_t *out_blocks,
                       struct err *e)
{
    const struct worker_opts *o = w->opts;
    uint64_t block_bytes = u64_max(1, w->be->ops->kv_block_bytes(w->be, shape));
    uint64_t n = o->kv_cache_blocks;
    if (n == 0 && o->kv_cache_bytes > 0)
        n = o->kv_cache_bytes / block_bytes;
    else if (n == 0)
        n = auto_blocks(o, block_bytes);
    n = u64_min(n, MAX_KV_BLOCKS);
    if (n == 0)
        return err_set(e, LLMD_EINVAL,
                       "the KV cache holds no block of %llu bytes (%d tokens); raise kv_cache_mb "
                       "or free memory",
                       (unsigned long long)block_bytes, KV_BLOCK_TOKENS);
    /* A pool given in blocks is taken as it is: requests beyond it are refused one by one. */
    uint64_t longest = blocks_for(o->max_model_len);
    if (o->kv_cache_blocks == 0 && n < longest)
        return err_set(e, LLMD_EINVAL,
                       "the KV cache of %llu tokens cannot hold max_model_len = %u tokens, which "
                       "take %llu MiB; lower max_model_len, raise kv_cache_mb or free memory",
                       (unsigned long long)n * KV_BLOCK_TOKENS, o->max_model_len,
                       (unsigned long long)((longest * block_bytes + (1u << 20) - 1) >> 20));
    int rc = check_memory(o, n, block_bytes, e);
    if (rc)
        return rc;
    *out_blocks = (uint32_t)n;
    return 0;
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
    if (!rc)
        rc = batch_build_init(&w->build, o->max_num_batched_tokens, max_num_seqs);
    if (!rc && !forward_has_sampler(w->forward))
        rc = sampler_scratch_init(&w->scratch, o->model->hparams.vocab_size);
    if (rc)
        return err_set(e, -rc, "out of memory for %u sequences and %u KV blocks", max_num_seqs,
                       n_blocks);
    return 0;
}

static int load_all(struct worker *w, struct err *e)
{
    const struct worker_opts *o = w->opts;
    /* Every running sequence gets a row of each step, so that all of them move. */
    uint32_t max_num_seqs = (uint32_t)u64_min(o->max_num_seqs, o->max_num_batched_tokens);
    const struct backend_limits limits = {
        .max_rows = o->max_num_batched_tokens, .max_seqs = max_num_seqs, .max_out = max_num_seqs};
    struct attn_shape shape;
    uint32_t n_blocks = 0;

    int rc = open_backend(w, e);
    if (!rc)
        rc = load_weights(w, e);
    if (rc)
        return rc;
    forward_attn_shape(o->model, o->max_model_len, &shape);
    rc = choose_pool(w, &shape, &n_blocks, e);
    if (!rc)
        rc = w->be->ops->reserve(w->be, &shape, &limits, n_blocks, e);
    if (!rc)
        rc = forward_new(w->be, o->model, w->weights, &shape, &limits, &w->forward, e);
    if (rc)
        return rc;
    w->limits = (struct seq_limits){
        .vocab_size = o->model->hparams.vocab_size,
        .max_model_len = o->max_model_len,
        .n_kv_blocks = n_blocks,
        .samplers = forward_needs_samplers(w->forward),
    };
    rc = init_pools(w, max_num_seqs, n_blocks, e);
    if (!rc && engine_metrics_cache_config(o->metrics, o->model_name, o->index, n_blocks,
                                           o->enable_prefix_caching))
        rc = err_set(e, LLMD_ENOMEM, "out of memory for metrics");
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
    if (engine_metrics_init(&metrics, o->metrics, o->model_name, o->index))
        return err_set(e, LLMD_ENOMEM, "out of memory for metrics");
    worker_publish(w, WORKER_LOADING);
    int rc = load_all(w, e);
    if (rc)
        return rc;
    worker_publish(w, WORKER_WARMING);
    rc = warm_up(w, e);
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
    sampler_scratch_fini(&w->scratch);
    batch_build_fini(&w->build);
    sched_fini(&w->sched);
    forward_free(w->forward);
    engine_weights_unref(w->weights);
    if (w->be)
        w->be->ops->free(w->be);
}
