/* sched_world.h - a scheduler with a make-believe device and clients, for its tests.
 *
 * The device has a KV cache: each slot holds a value that follows from the token there and from
 * all tokens before it, written when the row is computed. The next token follows from the values
 * of every slot that the block table names, so a wrong, stale or not yet computed block anywhere
 * changes the text. What a request must get is known from its prompt alone (expected_token). */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/engine/batch_build.h"
#include "core/engine/sched.h"
#include "core/util/err.h"

enum {
    WORLD_VOCAB = 40,
    WORLD_EOS = 7,
    WORLD_MAX_LEN = 4096,
    WORLD_MAX_CHOICES = 8,
    WORLD_MAX_SEQS = 64
};

static inline uint64_t world_mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ (h >> 29);
}

/* A client with one request. */
struct client {
    struct request *r;
    struct seq_group *group; /* NULL once it is over */
    bool poked;              /* by the stream: there is room, or it was cancelled */
    uint32_t *got[WORLD_MAX_CHOICES];
    uint32_t n_got[WORLD_MAX_CHOICES];
    uint8_t finish[WORLD_MAX_CHOICES]; /* enum finish_reason */
    uint32_t first_step;               /* in which the first token came; 0: none yet */
    uint32_t last_step;
};

struct world {
    struct sched sched;
    struct batch_build build;
    uint64_t *kv; /* [n_blocks * KV_BLOCK_TOKENS] */
    uint64_t next_id;
    uint32_t n_steps;
    uint64_t n_rows; /* computed in all */
    uint32_t max_running;
};

static inline void world_init(struct world *w, const struct sched_opts *o)
{
    memset(w, 0, sizeof(*w));
    assert_true(o->max_num_seqs <= WORLD_MAX_SEQS);
    assert_int_equal(sched_init(&w->sched, o), 0);
    assert_int_equal(batch_build_init(&w->build, o->max_num_batched_tokens, o->max_num_seqs), 0);
    w->kv = calloc((size_t)o->n_kv_blocks * KV_BLOCK_TOKENS, sizeof(*w->kv));
    assert_non_null(w->kv);
}

static inline void world_fini(struct world *w)
{
    sched_audit(&w->sched);
    assert_int_equal(w->sched.n_groups, 0);
    assert_int_equal(kv_prefix_n_free(&w->sched.prefix), w->sched.opts.n_kv_blocks); /* no leak */
    sched_fini(&w->sched);
    batch_build_fini(&w->build);
    free(w->kv);
}

/* --- clients --- */

struct client_opts {
    const uint32_t *prompt;
    uint32_t n_prompt, max_tokens, n;
    int64_t priority;
    uint64_t salt, arrival_us;
    bool eos;
    bool scores; /* wants its prompt scored */
};

static inline void client_init(struct client *c, const struct client_opts *o)
{
    static const uint32_t eos[] = {WORLD_EOS};
    memset(c, 0, sizeof(*c));
    assert_int_equal(request_new(&c->r), 0);
    struct request *r = c->r;
    uint32_t *prompt = arena_array(&r->arena, o->n_prompt, sizeof(*prompt));
    assert_non_null(prompt);
    memcpy(prompt, o->prompt, o->n_prompt * sizeof(*prompt));
    r->prompt = prompt;
    r->n_prompt = o->n_prompt;
    r->priority = o->priority;
    r->cache_salt = o->salt;
    r->arrival_us = o->arrival_us;
    r->sampling = (struct sampling_params){.n = o->n ? o->n : 1,
                                           .max_tokens = o->max_tokens,
                                           .eos_ids = eos,
                                           .n_eos_ids = 1,
                                           .ignore_eos = !o->eos,
                                           .prompt_logprobs = {.on = o->scores}};
    assert_int_equal(stream_init(r, NULL, r->sampling.n, NULL), 0);
    for (uint32_t i = 0; i < r->sampling.n; i++) {
        c->got[i] = calloc(o->max_tokens, sizeof(uint32_t));
        assert_non_null(c->got[i]);
    }
}

static inline void client_fini(struct client *c)
{
    for (uint32_t i = 0; i < WORLD_MAX_CHOICES; i++)
        free(c->got[i]);
    request_unref(c->r);
}

static inline void client_poke(void *ctx)
{
    ((struct client *)ctx)->poked = true;
}

/* Hands the request to the scheduler; returns seq_group_new's code. */
static inline int client_submit(struct world *w, struct client *c)
{
    const struct seq_limits limits = {.vocab_size = WORLD_VOCAB,
                                      .max_model_len = WORLD_MAX_LEN,
                                      .n_kv_blocks = w->sched.opts.n_kv_blocks};
    int rc = seq_group_new(c->r, &limits, &c->group, NULL);
    if (rc)
        return rc;
    c->group->id = w->next_id++;
    c->group->epoch = stream_attach(c->r, client_poke, c);
    c->r->consumer = c; /* the way back from a sequence */
    sched_add(&w->sched, c->group);
    return 0;
}

/* Reads up to max items. */
static inline void client_pull(struct client *c, uint32_t max)
{
    struct stream_item item;
    for (; max > 0 && stream_pull(c->r, &item, 1) == 1; max--) {
        assert_int_equal(c->finish[item.choice], FINISH_NONE);
        if (item.token != STREAM_NO_TOKEN)
            c->got[item.choice][c->n_got[item.choice]++] = item.token;
        c->finish[item.choice] = item.finish;
    }
}

static inline bool client_finished(const struct client *c)
{
    for (uint32_t i = 0; i < c->r->sampling.n; i++)
        if (c->finish[i] == FINISH_NONE)
            return false;
    return true;
}

/* --- the device --- */

static inline uint64_t kv_value(uint64_t before, uint32_t token, uint32_t pos)
{
    return world_mix(world_mix(before + 1, token), pos);
}

static inline uint32_t sample(uint64_t sum, const struct request *r, uint32_t choice)
{
    uint64_t h = world_mix(world_mix(sum, choice), r->cache_salt);
    return (uint32_t)((h >> 32) % WORLD_VOCAB);
}

/* What the request must get: fills out[max_tokens] and returns how many tokens. */
static inline uint32_t expected(const struct request *r, uint32_t choice, uint32_t *out)
{
    uint64_t sum = 0, before = 0;
    uint32_t n = 0;
    for (uint32_t pos = 0; n < r->sampling.max_tokens; pos++) {
        uint32_t token = pos < r->n_prompt ? r->prompt[pos] : out[pos - r->n_prompt];
        if (pos == 0)
            before = r->cache_salt; /* salts share nothing: not even the values */
        before = kv_value(before, token, pos);
        sum += before;
        if (pos + 1 < r->n_prompt)
            continue;
        out[n++] = sample(sum, r, choice);
        if (out[n - 1] == WORLD_EOS && !r->sampling.ignore_eos)
            break;
    }
    return n;
}

static inline uint64_t *kv_at(struct world *w, const struct batch_seq *s, uint32_t pos)
{
    return &w->kv[s->block_table[pos / KV_BLOCK_TOKENS] * KV_BLOCK_TOKENS + pos % KV_BLOCK_TOKENS];
}

/* Computes the rows of one sequence; returns the sum over its whole context. */
static inline uint64_t compute(struct world *w, const struct batch *b, const struct batch_seq *s,
                               const struct request *r)
{
    for (uint32_t i = 0; i < s->n_rows; i++) {
        uint32_t row = s->first_row + i, pos = s->first_pos + i;
        assert_int_equal(b->positions[row], pos);
        assert_ptr_equal(&w->kv[b->slots[row]], kv_at(w, s, pos));
        uint64_t before = pos > 0 ? *kv_at(w, s, pos - 1) : r->cache_salt;
        w->kv[b->slots[row]] = kv_value(before, b->tokens[row], pos);
    }
    uint64_t sum = 0;
    for (uint32_t pos = 0; pos < s->first_pos + s->n_rows; pos++)
        sum += *kv_at(w, s, pos);
    return sum;
}

/* --- one step, as the worker does it --- */

static inline void group_over(struct world *w, struct client *c)
{
    sched_remove(&w->sched, c->group);
    sched_sweep(&w->sched);
    seq_group_free(c->group);
    c->group = NULL;
}

static inline void client_handle_poke(struct world *w, struct client *c)
{
    static const struct err cancelled = {.code = LLMD_ECANCELLED};
    struct waker_set none = {0};
    c->poked = false;
    if (!c->group)
        return;
    if (!request_is_cancelled(c->r)) {
        sched_resume(&w->sched, c->group);
        return;
    }
    stream_fail(c->r, c->group->epoch, &cancelled, &none);
    group_over(w, c);
}

static inline void emit(struct world *w, struct seq *q, uint32_t token)
{
    struct client *c = q->group->req->consumer;
    struct stream_item item;
    struct waker_set none = {0};
    seq_next_item(q, token, &item);
    assert_int_equal(stream_n_scored(q->group->req),
                     q->group->n_prompt); /* the prompt's come first */
    int rc = stream_push(q->group->req, q->group->epoch, &item, &none);
    assert_int_equal(rc, 0); /* the room was reserved */
    seq_accept(q, token);
    if (c->first_step == 0)
        c->first_step = w->n_steps;
    c->last_step = w->n_steps;
    if (item.finish != FINISH_NONE)
        sched_end_seq(&w->sched, q);
}

/* The rows that score the prompt of an entry: each next token once, by the row before it. */
static inline uint32_t emit_scores(const struct batch *b, const struct plan_entry *entry,
                                   uint32_t out_row)
{
    struct seq_group *g = entry->seq->group;
    for (uint32_t i = 0; i < entry->n_scores; i++) {
        const uint32_t position = b->positions[b->out_rows[out_row + i]];
        const struct token_logprob score = {g->req->prompt[g->n_scored], -(float)position};
        assert_int_equal(position + 1, g->n_scored);
        assert_int_equal(stream_push_score(g->req, g->epoch, &score, position), 0);
        g->n_scored++;
    }
    return entry->n_scores;
}

/* False when there is nothing to do. */
static inline bool world_step(struct world *w)
{
    const struct plan *p = sched_plan(&w->sched);
    const struct sched_opts *o = &w->sched.opts;
    if (p->n == 0)
        return false;
    w->n_steps++;
    w->n_rows += p->n_rows;
    assert_true(p->n_rows <= o->max_num_batched_tokens && p->n <= o->max_num_seqs);
    assert_true(p->n_out <= o->max_num_seqs);
    if (w->sched.n_running > w->max_running)
        w->max_running = w->sched.n_running;

    const struct batch *b = batch_build_plan(&w->build, p);
    assert_int_equal(b->n_rows, p->n_rows);
    assert_int_equal(b->n_out, p->n_out);
    struct seq *wants[WORLD_MAX_SEQS];
    uint32_t n_out = 0, out_row = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        struct seq *q = p->entries[i].seq;
        uint64_t sum = compute(w, b, &b->seqs[i], q->group->req);
        out_row += emit_scores(b, &p->entries[i], out_row);
        if (!p->entries[i].wants_token)
            continue;
        assert_int_equal(b->out_rows[out_row++], b->seqs[i].first_row + b->seqs[i].n_rows - 1);
        w->build.out_ids[n_out] = sample(sum, q->group->req, q->choice);
        wants[n_out++] = q;
    }
    assert_int_equal(out_row, p->n_out);
    sched_commit(&w->sched);
    for (uint32_t i = 0; i < n_out; i++)
        emit(w, wants[i], w->build.out_ids[i]);
    sched_sweep(&w->sched);
    for (uint32_t i = 0; i < n_out; i++) {
        struct client *c = wants[i] ? wants[i]->group->req->consumer : NULL;
        if (!c || c->group->n_live > 0)
            continue;
        for (uint32_t k = i + 1; k < n_out; k++) /* its other choices go with it */
            if (wants[k] && wants[k]->group == c->group)
                wants[k] = NULL;
        group_over(w, c);
    }
    return true;
}

static inline void assert_text(const struct client *c)
{
    const struct request *r = c->r;
    for (uint32_t i = 1; r->stream.scores && i < r->n_prompt; i++)
        assert_int_equal(r->stream.scores->logprobs[i].token, r->prompt[i]);
    uint32_t *text = calloc(r->sampling.max_tokens, sizeof(*text));
    assert_non_null(text);
    for (uint32_t i = 0; i < r->sampling.n; i++) {
        uint32_t n = expected(r, i, text);
        assert_int_equal(c->n_got[i], n);
        assert_memory_equal(c->got[i], text, n * sizeof(*text));
        bool eos = text[n - 1] == WORLD_EOS && !r->sampling.ignore_eos;
        assert_int_equal(c->finish[i], eos ? FINISH_STOP : FINISH_LENGTH);
    }
    free(text);
}
