/* worker_fixture.h - workers over a tiny model, and clients that read their streams. */
#pragma once
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/engine/worker.h"
#include "core/model/model.h"
#include "core/model/model_int.h"
#include "core/request/request.h"
#include "core/util/clock.h"
#include "core/util/lock.h"
#include "tests/unit/model_sample.h"
#include "tests/unit/patience.h"

/* --- the model --- */

struct sample_llama {
    struct buf file;
    struct model *model;
};

static inline void sample_open(struct sample_llama *s)
{
    struct gguf_writer w = {0};
    struct gguf *g;
    *s = (struct sample_llama){0};
    sample_model(&w, NULL);
    gw_finish(&w, &s->file);
    gw_fini(&w);
    assert_int_equal(gguf_open_memory(s->file.data, s->file.len, "sample", &g, NULL), 0);
    assert_int_equal(model_from_gguf(g, &s->model, NULL), 0);
}

static inline void sample_close(struct sample_llama *s)
{
    model_free(s->model);
    buf_fini(&s->file);
}

static inline struct worker_opts sim_worker_opts(const struct sample_llama *s)
{
    return (struct worker_opts){
        .model_name = "tiny",
        .model = s->model,
        .device = DEVICE_SIM,
        .max_model_len = 512,
        .max_num_seqs = 16,
        .max_num_batched_tokens = 128,
        .kv_cache_blocks = 256,
        .enable_prefix_caching = true,
        .max_queue = 64,
    };
}

/* --- a worker whose callbacks are noted --- */

struct noted_worker {
    struct worker *w;
    struct lock mu; /* guards what callbacks write */
    pthread_cond_t changed;
    bool ready, dead;
    struct err why;
    struct worker_status last;
    uint32_t n_published, max_running;
};

static inline void note_published(void *ctx, struct worker *w, const struct worker_report *r)
{
    struct noted_worker *n = ctx;
    const struct worker_status *s = &r->status;
    (void)w;
    lock_take(&n->mu);
    n->last = *s;
    n->n_published++;
    if (s->n_running > n->max_running)
        n->max_running = s->n_running;
    lock_drop(&n->mu);
}

static inline void note_ready(void *ctx, struct worker *w)
{
    struct noted_worker *n = ctx;
    (void)w;
    lock_take(&n->mu);
    n->ready = true;
    pthread_cond_broadcast(&n->changed);
    lock_drop(&n->mu);
}

static inline void note_dead(void *ctx, struct worker *w, const struct err *why)
{
    struct noted_worker *n = ctx;
    (void)w;
    lock_take(&n->mu);
    n->dead = true;
    n->why = *why;
    pthread_cond_broadcast(&n->changed);
    lock_drop(&n->mu);
}

/* Starts and waits until it is ready or dead. */
static inline void noted_start(struct noted_worker *n, const struct worker_opts *o)
{
    const struct worker_callbacks cb = {
        .ctx = n, .published = note_published, .ready = note_ready, .dead = note_dead};
    struct err e = {0};
    memset(n, 0, sizeof(*n));
    lock_init(&n->mu, LOCK_RANK_LEAF);
    lock_cond_init(&n->changed);
    assert_int_equal(worker_start(o, &cb, &n->w, &e), 0);
    uint64_t until_us = clock_now_us() + PATIENCE_US;
    lock_take(&n->mu);
    while (!n->ready && !n->dead)
        assert_true(lock_wait(&n->mu, &n->changed, until_us));
    lock_drop(&n->mu);
}

static inline void noted_wait_dead(struct noted_worker *n)
{
    uint64_t until_us = clock_now_us() + PATIENCE_US;
    lock_take(&n->mu);
    while (!n->dead)
        assert_true(lock_wait(&n->mu, &n->changed, until_us));
    lock_drop(&n->mu);
}

/* What the callbacks have noted so far. */
static inline void noted_counts(struct noted_worker *n, uint32_t *out_published,
                                uint32_t *out_max_running)
{
    lock_take(&n->mu);
    *out_published = n->n_published;
    *out_max_running = n->max_running;
    lock_drop(&n->mu);
}

static inline void noted_free(struct noted_worker *n)
{
    worker_free(n->w);
    pthread_cond_destroy(&n->changed);
    lock_fini(&n->mu);
}

/* Drains, checks that nothing was left behind, frees. */
static inline void noted_finish(struct noted_worker *n)
{
    struct worker_status s;
    worker_drain(n->w);
    noted_wait_dead(n);
    worker_status(n->w, &s);
    assert_int_equal(s.state, WORKER_DEAD);
    assert_int_equal(n->why.code, LLMD_EDRAINING);
    assert_int_equal(s.n_running + s.n_waiting, 0);
    assert_int_equal(s.n_prefill_tokens, 0);
    assert_int_equal(s.n_free_kv_blocks, s.n_kv_blocks);
    noted_free(n);
}

/* --- clients --- */

enum { READER_MAX_CHOICES = 4 };

struct reader {
    struct request *r;
    uint32_t max_tokens;
    uint32_t *got[READER_MAX_CHOICES];
    uint32_t n_got[READER_MAX_CHOICES]; /* shown or not */
    uint32_t n_shown[READER_MAX_CHOICES];
    int64_t stop_id[READER_MAX_CHOICES];
    uint8_t finish[READER_MAX_CHOICES]; /* enum finish_reason */
};

/* A greedy request over a copy of the prompt, without its stream: logprobs may still be asked for. */
static inline void reader_prepare(struct reader *rd, const uint32_t *prompt, uint32_t n_prompt,
                                  uint32_t max_tokens, uint32_t n)
{
    memset(rd, 0, sizeof(*rd));
    assert_true(n <= READER_MAX_CHOICES);
    assert_int_equal(request_new(&rd->r), 0);
    struct request *r = rd->r;
    uint32_t *copy = arena_array(&r->arena, n_prompt, sizeof(*copy));
    assert_non_null(copy);
    memcpy(copy, prompt, n_prompt * sizeof(*copy));
    r->prompt = copy;
    r->n_prompt = n_prompt;
    r->arrival_us = clock_now_us();
    r->sampling = (struct sampling_params){
        .top_p = 1, .repetition_penalty = 1, .n = n, .max_tokens = max_tokens, .ignore_eos = true};
    rd->max_tokens = max_tokens;
    for (uint32_t i = 0; i < n; i++) {
        rd->got[i] = calloc(max_tokens, sizeof(uint32_t));
        assert_non_null(rd->got[i]);
    }
}

/* The same with its stream; r->sampling may be changed before it is submitted. */
static inline void reader_init(struct reader *rd, struct waker *waker, const uint32_t *prompt,
                               uint32_t n_prompt, uint32_t max_tokens, uint32_t n)
{
    reader_prepare(rd, prompt, n_prompt, max_tokens, n);
    assert_int_equal(stream_init(rd->r, waker, n, NULL), 0);
}

static inline void reader_fini(struct reader *rd)
{
    for (uint32_t i = 0; i < READER_MAX_CHOICES; i++)
        free(rd->got[i]);
    request_unref(rd->r);
}

/* The caller keeps its reference. */
static inline int reader_submit(struct reader *rd, struct worker *w, struct err *e)
{
    request_ref(rd->r);
    int rc = worker_submit(w, rd->r, e);
    if (rc)
        request_unref(rd->r);
    return rc;
}

static inline bool reader_finished(const struct reader *rd)
{
    for (uint32_t i = 0; i < rd->r->sampling.n; i++)
        if (rd->finish[i] == FINISH_NONE)
            return false;
    return true;
}

/* Reads up to max items; returns how many there were. */
static inline uint32_t reader_pull(struct reader *rd, uint32_t max)
{
    struct stream_item item;
    uint32_t n = 0;
    for (; n < max && stream_pull(rd->r, &item, 1) == 1; n++) {
        uint32_t c = item.choice;
        assert_int_equal(rd->finish[c], FINISH_NONE);
        if (item.token != STREAM_NO_TOKEN) {
            assert_true(rd->n_got[c] < rd->max_tokens);
            rd->got[c][rd->n_got[c]++] = item.token;
            rd->n_shown[c] += !item.hidden;
        }
        rd->stop_id[c] = item.stop_id;
        rd->finish[c] = item.finish;
    }
    return n;
}

/* Reads what there is. True: that was the end of every choice. */
static inline bool reader_ended(struct reader *rd)
{
    (void)reader_pull(rd, UINT32_MAX);
    return reader_finished(rd);
}

static inline void reader_wait(struct reader *rd)
{
    assert_soon(reader_ended(rd));
}

static inline void assert_same_text(const struct reader *a, const struct reader *b)
{
    for (uint32_t i = 0; i < a->r->sampling.n; i++) {
        assert_int_equal(a->n_got[i], b->n_got[i]);
        assert_memory_equal(a->got[i], b->got[i], a->n_got[i] * sizeof(uint32_t));
        assert_int_equal(a->finish[i], b->finish[i]);
    }
}
