/* sched_world.h - a scheduler with a make-believe device and clients, for its tests.
 *
 * The device has a KV cache: each slot holds a value that follows from the token there and from
 * all tokens before it, written when the row is computed. The next token follows from the values
 * of every slot that the block table names, so a wrong, stale or not yet computed block anywhere
 * changes the text. What a request must get is known from its prompt alone (expected_token).
 *
 * It can be told of a step before the one in front of it was read, and computes it at once or when it is
 * waited for: whatever happens to blocks and sequences in between must change no text. */
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

/* A step on the device, with all that it was told. */
struct world_flight {
    const struct plan *plan;
    struct batch_build build;
    const struct batch *batch;
    uint32_t *
        tables; /* its copies of the block tables, [WORLD_MAX_SEQS][WORLD_MAX_LEN / KV_BLOCK_TOKENS] */
    uint64_t salts[WORLD_MAX_SEQS];
    uint32_t choices[WORLD_MAX_SEQS];
    uint32_t ids[WORLD_MAX_SEQS]; /* by row of the logits */
    bool computed;
};

struct world {
    struct sched sched;
    struct world_flight flights[STEPS_IN_FLIGHT];
    uint32_t first_flight, n_flights;
    bool ahead; /* steps follow others where they can, */
    bool lazy;  /* and are computed as late as can be */
    uint32_t n_followed;
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
    for (uint32_t i = 0; i < STEPS_IN_FLIGHT; i++) {
        struct world_flight *f = &w->flights[i];
        assert_int_equal(batch_build_init(&f->build, o->max_num_batched_tokens, o->max_num_seqs),
                         0);
        f->tables =
            calloc((size_t)WORLD_MAX_SEQS * WORLD_MAX_LEN / KV_BLOCK_TOKENS, sizeof(*f->tables));
        assert_non_null(f->tables);
    }
    w->kv = calloc((size_t)o->n_kv_blocks * KV_BLOCK_TOKENS, sizeof(*w->kv));
    assert_non_null(w->kv);
}

static inline void world_fini(struct world *w)
{
    sched_audit(&w->sched);
    assert_int_equal(w->sched.n_groups, 0);
    assert_int_equal(kv_prefix_n_free(&w->sched.prefix), w->sched.opts.n_kv_blocks); /* no leak */
    sched_fini(&w->sched);
    assert_int_equal(w->n_flights, 0);
    for (uint32_t i = 0; i < STEPS_IN_FLIGHT; i++) {
        batch_build_fini(&w->flights[i].build);
        free(w->flights[i].tables);
    }
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

static inline uint32_t sample(uint64_t sum, uint64_t salt, uint32_t choice)
{
    uint64_t h = world_mix(world_mix(sum, choice), salt);
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
        out[n++] = sample(sum, r->cache_salt, choice);
        if (out[n - 1] == WORLD_EOS && !r->sampling.ignore_eos)
            break;
    }
    return n;
}

static inline uint64_t *kv_at(struct world *w, const uint32_t *table, uint32_t pos)
{
    return &w->kv[table[pos / KV_BLOCK_TOKENS] * KV_BLOCK_TOKENS + pos % KV_BLOCK_TOKENS];
}

/* Computes the rows of the i-th sequence; returns the sum over its whole context. */
static inline uint64_t compute(struct world *w, const struct world_flight *f, uint32_t i,
                               const struct world_flight *before)
{
    const struct batch *b = f->batch;
    const struct batch_seq *s = &b->seqs[i];
    const uint32_t *table = f->tables + (size_t)i * WORLD_MAX_LEN / KV_BLOCK_TOKENS;
    for (uint32_t k = 0; k < s->n_rows; k++) {
        uint32_t row = s->first_row + k, pos = s->first_pos + k;
        uint32_t token = b->follows ? before->ids[b->tokens[row]] : b->tokens[row];
        assert_int_equal(b->positions[row], pos);
        assert_ptr_equal(&w->kv[b->slots[row]], kv_at(w, table, pos));
        uint64_t last = pos > 0 ? *kv_at(w, table, pos - 1) : f->salts[i];
        w->kv[b->slots[row]] = kv_value(last, token, pos);
    }
    uint64_t sum = 0;
    for (uint32_t pos = 0; pos < s->first_pos + s->n_rows; pos++)
        sum += *kv_at(w, table, pos);
    return sum;
}

/* The device runs the step, if it has not yet; it is its turn. */
static inline void flight_run(struct world *w, struct world_flight *f)
{
    const struct world_flight *before = &w->flights[f == w->flights];
    uint32_t out_row = 0;
    for (uint32_t i = 0; i < f->plan->n && !f->computed; i++) {
        const struct plan_entry *entry = &f->plan->entries[i];
        uint64_t sum = compute(w, f, i, before);
        out_row += entry->n_scores;
        if (!entry->wants_token)
            continue;
        assert_int_equal(f->batch->out_rows[out_row],
                         f->batch->seqs[i].first_row + f->batch->seqs[i].n_rows - 1);
        f->ids[out_row++] = sample(sum, f->salts[i], f->choices[i]);
    }
    f->computed = true;
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

/* The device is told of a step. */
static inline void flight_begin(struct world *w, const struct plan *p)
{
    struct world_flight *f = &w->flights[(w->first_flight + w->n_flights++) % STEPS_IN_FLIGHT];
    const struct sched_opts *o = &w->sched.opts;
    assert_true(p->n_rows <= o->max_num_batched_tokens && p->n <= o->max_num_seqs);
    assert_true(p->n_out <= o->max_num_seqs);
    w->n_rows += p->n_rows;
    f->plan = p;
    f->batch = batch_build_plan(&f->build, p);
    f->computed = false;
    assert_int_equal(f->batch->n_rows, p->n_rows);
    assert_int_equal(f->batch->n_out, p->n_out);
    assert_int_equal(f->batch->follows, p->follows);
    for (uint32_t i = 0; i < p->n; i++) {
        const struct seq *q = p->entries[i].seq;
        memcpy(f->tables + (size_t)i * WORLD_MAX_LEN / KV_BLOCK_TOKENS, q->blocks,
               q->n_blocks * sizeof(*q->blocks));
        f->salts[i] = q->group->req->cache_salt;
        f->choices[i] = q->choice;
    }
}

/* The oldest step is read, as the worker does it. */
static inline void flight_end(struct world *w)
{
    struct world_flight *f = &w->flights[w->first_flight];
    const struct plan *p = f->plan;
    struct seq *wants[WORLD_MAX_SEQS];
    uint32_t out_row = 0;
    w->first_flight = (w->first_flight + 1) % STEPS_IN_FLIGHT;
    w->n_flights--;
    w->n_steps++;
    flight_run(w, f);
    sched_commit(&w->sched);
    for (uint32_t i = 0; i < p->n; i++) {
        struct seq *q = p->entries[i].seq;
        wants[i] = p->entries[i].wants_token ? q : NULL;
        if (q)
            out_row += emit_scores(f->batch, &p->entries[i], out_row);
        if (p->entries[i].wants_token && q)
            emit(w, q, f->ids[out_row]);
        out_row += p->entries[i].wants_token;
    }
    assert_int_equal(out_row, p->n_out);
    sched_sweep(&w->sched);
    for (uint32_t i = 0; i < p->n; i++) {
        struct client *c = wants[i] ? wants[i]->group->req->consumer : NULL;
        if (!c || c->group->n_live > 0)
            continue;
        for (uint32_t k = i + 1; k < p->n; k++) /* its other choices go with it */
            if (wants[k] && wants[k]->group == c->group)
                wants[k] = NULL;
        group_over(w, c);
    }
}

/* False when there is nothing to do. */
static inline bool world_step(struct world *w)
{
    if (w->n_flights == 0) {
        const struct plan *p = sched_plan(&w->sched);
        if (p->n == 0)
            return false;
        flight_begin(w, p);
    }
    if (w->sched.n_running > w->max_running)
        w->max_running = w->sched.n_running;
    const struct plan *next = w->ahead ? sched_follow(&w->sched) : NULL;
    if (next) {
        w->n_followed++;
        flight_begin(w, next);
        for (uint32_t i = 0; i < STEPS_IN_FLIGHT && !w->lazy; i++)
            flight_run(w, &w->flights[(w->first_flight + i) % STEPS_IN_FLIGHT]);
    }
    flight_end(w);
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

/* --- what the tests do again and again --- */

static inline uint32_t rnd(uint32_t *state, uint32_t n)
{
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 8) % n;
}

static inline const uint32_t *prompt_of(uint32_t seed, uint32_t n)
{
    static uint32_t tokens[WORLD_MAX_LEN];
    for (uint32_t i = 0; i < n; i++)
        tokens[i] = rnd(&seed, WORLD_VOCAB);
    return tokens;
}

static inline void submit(struct world *w, struct client *c, struct client_opts o)
{
    client_init(c, &o);
    assert_int_equal(client_submit(w, c), 0);
}

/* Runs until nothing is left to do; every client reads at once. */
static inline void run(struct world *w, struct client *clients, uint32_t n)
{
    while (world_step(w)) {
        for (uint32_t i = 0; i < n; i++)
            client_pull(&clients[i], UINT32_MAX);
        sched_audit(&w->sched);
    }
}

static const struct sched_opts roomy = {.max_num_seqs = 8,
                                        .max_num_batched_tokens = 64,
                                        .max_groups = 64,
                                        .n_kv_blocks = 256,
                                        .enable_prefix_caching = true};
