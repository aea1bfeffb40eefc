#include "core/edge/generation_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/edge/api.h"
#include "core/edge/front.h"
#include "core/edge/later.h"
#include "core/edge/reply.h"
#include "core/edge/request_log.h"
#include "core/edge/respond.h"
#include "core/edge/sse.h"
#include "core/observe/log.h"
#include "core/router/router.h"
#include "core/util/clock.h"

enum {
    OUT_HIGH_BYTES = 64 * 1024, /* I1 */
    OUT_LOW_BYTES = 16 * 1024,  /* pull again below */
};

static size_t pending(const struct generation *g)
{
    return g->out.len - g->out_at;
}

/* ---- from tokens to bytes ---- */

const struct model_series *generation_series(const struct generation *g)
{
    return &g->catalog->series[g->plan.model - g->catalog->models];
}

static void count_choice(struct generation *g, const struct part *p, const struct choice *c,
                         enum finish_reason finish)
{
    const struct choice_figures f = {
        .finish = finish,
        .n_prompt = p->n_prompt,
        .n_generated = c->n_tokens,
        .trace_id = trace_context_recorded(&g->exchange->trace),
        .max_tokens = p->request ? p->request->sampling.max_tokens : 0,
        .seconds = (double)(clock_now_us() - g->exchange->started_us) * 1e-6,
    };
    edge_metrics_choice(generation_series(g), &f);
}

static void finish(struct generation *g)
{
    g->ended = true;
    if (g->plan.stream)
        sse_end(g);
}

void generation_cancel(struct generation *g)
{
    for (uint32_t i = 0; g->parts && i < g->plan.n_prompts; i++)
        if (g->parts[i].request)
            request_cancel(g->parts[i].request);
}

void generation_fail(struct generation *g, const struct err *why)
{
    if (g->ended)
        return;
    g->error = *why;
    generation_cancel(g);
    finish(g);
    exchange_resume(g->exchange);
}

/* A choice is complete. */
static void close_choice(struct generation *g, struct part *p, const struct choice *c)
{
    count_choice(g, p, c, (enum finish_reason)c->finish);
    p->n_open--;
    g->n_open--;
    /* After a stop string the worker does not know yet. It can only be told about all choices of
     * a request at once; until then what the others' sibling still yields is dropped. */
    if (p->n_open == 0)
        request_cancel(p->request);
    if (g->n_open == 0)
        finish(g);
}

/* The worker gave up. */
static void take_failure(struct generation *g, const struct part *p)
{
    struct err why = {0};
    if (!stream_error(p->request, &why))
        err_set(&why, LLMD_EDRAINING, "the server ended the request");
    else if (why.code == LLMD_ECANCELLED) { /* not by us: then nobody listens any more */
        err_clear(&why);
        err_set(&why, LLMD_ECANCELLED, "an operator of the server cancelled the request");
    }
    generation_fail(g, &why);
}

static void take_item(struct generation *g, struct part *p, const struct stream_item *item)
{
    uint32_t index = p->first_choice + item->choice;
    struct choice *c = &g->choices[index];
    if (c->finish != FINISH_NONE || g->ended)
        return;
    if (item->finish == FINISH_ERROR || item->finish == FINISH_ABORT) {
        take_failure(g, p);
        return;
    }
    if (g->plan.no_output) /* the prompt is scored: its token is not wanted */
        c->finish = FINISH_LENGTH;
    else
        choice_take(c, &g->plan.rules, item);
    if (g->plan.stream) {
        if (!g->begun)
            sse_begin(g);
        if (!p->begun)
            sse_echo(g, p);
        if (c->finish != FINISH_NONE || c->n_tokens == 1 || c->n_unsent >= g->plan.stream_interval)
            sse_choice(g, index);
    }
    g->begun = p->begun = true;
    if (c->finish != FINISH_NONE)
        close_choice(g, p, c);
}

/* Pulls what the ring holds, as long as there is room for it (I1). */
static void pull(struct generation *g, struct part *p)
{
    struct stream_item items[PULL_MAX];
    while (!g->ended) {
        if (pending(g) >= OUT_HIGH_BYTES) {
            g->behind = true;
            return;
        }
        uint32_t n = stream_pull_logprobs(p->request, items, PULL_MAX, g->logprobs);
        if (n > 0)
            g->token_us = clock_now_us();
        for (uint32_t i = 0; i < n; i++)
            take_item(g, p, &items[i]);
        if (n < PULL_MAX)
            return;
    }
}

static bool out_of_memory(const struct generation *g)
{
    bool failed = g->out.failed;
    for (uint32_t i = 0; i < g->n_choices; i++)
        failed |=
            g->choices[i].text.failed || g->choices[i].ids.failed || g->choices[i].logprobs.failed;
    return failed;
}

/* There is room again: pulls what waited in the rings. */
static void catch_up(struct generation *g)
{
    g->behind = false;
    for (uint32_t i = 0; i < g->plan.n_prompts && !g->behind; i++)
        if (g->parts[i].request)
            pull(g, &g->parts[i]);
}

/* Sends what is pending past libmicrohttpd. False: it must go by way of it, as the end must. */
static bool send_past(struct generation *g)
{
    struct exchange *ex = g->exchange;
    if (!g->in_body || g->ended || !ex->suspended || !ex->chunks ||
        !front_send_chunk(ex->conn->front, g->out.data + g->out_at, pending(g)))
        return false;
    ex->n_reply += pending(g);
    g->last_sent_us = clock_now_us();
    buf_clear(&g->out);
    g->out_at = 0;
    return true;
}

/* What is pending leaves, and what the rings still hold behind it, while the client keeps up. */
static void deliver(struct generation *g)
{
    while (pending(g) > 0 && !out_of_memory(g) && send_past(g))
        if (g->behind)
            catch_up(g);
    if (out_of_memory(g))
        exchange_hang_up(g->exchange); /* half a text would pass for a whole one */
    else if (pending(g) > 0 || g->ended)
        exchange_resume(g->exchange);
}

void generation_wake(struct request *r)
{
    struct part *p = r->consumer;
    if (!p)
        return;
    struct generation *g = p->generation;
    pull(g, p);
    deliver(g);
}

enum { LINE_BYTES = 64 };

static void fetch(const void *at, size_t n)
{
    for (size_t i = 0; at && i < n; i += LINE_BYTES)
        __builtin_prefetch((const char *)at + i);
}

/* What leads to the next is there when its turn comes: each step asks for all of the requests. */
void generation_fetch(struct request *const ready[], uint32_t n)
{
    struct generation *all[GENERATION_FETCH];
    uint32_t n_all = 0;
    for (uint32_t i = 0; i < n; i++)
        fetch(ready[i]->consumer, sizeof(struct part));
    for (uint32_t i = 0; i < n; i++) {
        const struct part *p = ready[i]->consumer;
        if (!p)
            continue;
        fetch(p->generation, offsetof(struct generation, catalog));
        fetch(&p->generation->plan.rules, sizeof(p->generation->plan.rules));
        all[n_all++] = p->generation;
    }
    for (uint32_t i = 0; i < n_all; i++) {
        fetch(all[i]->exchange, LINE_BYTES);
        fetch(all[i]->choices, offsetof(struct choice, detok) + LINE_BYTES);
        fetch(all[i]->out.data, all[i]->head.len + LINE_BYTES);
        fetch(all[i]->head.data, all[i]->head.len);
    }
    for (uint32_t i = 0; i < n_all; i++)
        fetch(all[i]->exchange->conn, LINE_BYTES);
    for (uint32_t i = 0; i < n_all; i++)
        fetch(all[i]->exchange->conn->front, offsetof(struct front, up));
}

void generation_tick(struct generation *g, uint64_t now_us)
{
    uint32_t silence_s = g->catalog->limits.sse_keepalive_s;
    struct err why = {0};
    if (generation_is_late(g, now_us, &why)) {
        generation_fail(g, &why);
        return;
    }
    if (!g->submitted || !g->plan.stream || silence_s == 0 || !g->exchange->suspended ||
        pending(g) > 0 || now_us - g->last_sent_us < (uint64_t)silence_s * 1000000)
        return;
    sse_comment(g);
    deliver(g);
}

/* ---- from bytes to the client ---- */

static enum MHD_Result plan(struct generation *g);
static enum MHD_Result go_on(struct generation *g);

/* libmicrohttpd wants more of the body. */
static ssize_t read_out(void *cls, uint64_t pos, char *to, size_t max)
{
    (void)pos;
    struct generation *g = cls;
    struct exchange *ex = g->exchange;
    if (ex->gone || g->out.failed)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    g->in_body = true;
    size_t n = (size_t)u64_min(pending(g), max);
    if (n == 0) {
        if (g->ended)
            return MHD_CONTENT_READER_END_OF_STREAM;
        exchange_suspend(ex);
        return 0;
    }
    memcpy(to, g->out.data + g->out_at, n);
    g->out_at += n;
    if (g->out_at == g->out.len || g->out_at >= OUT_LOW_BYTES) {
        buf_consume(&g->out, g->out_at);
        g->out_at = 0;
    }
    g->last_sent_us = clock_now_us();
    ex->n_reply += n;
    if (g->behind && pending(g) < OUT_LOW_BYTES)
        catch_up(g);
    return (ssize_t)n;
}

/* max_tokens = 0: nothing but the prompts is wanted back. */
static void end_without_output(struct generation *g)
{
    if (g->plan.stream)
        sse_begin(g);
    for (uint32_t i = 0; g->plan.stream && i < g->plan.n_prompts; i++)
        sse_echo(g, &g->parts[i]);
    for (uint32_t i = 0; i < g->n_choices; i++) {
        struct choice *c = &g->choices[i];
        c->finish = FINISH_LENGTH;
        if (g->plan.stream)
            sse_choice(g, i);
        count_choice(g, &g->parts[i / g->plan.sampling.n], c, FINISH_LENGTH);
    }
    g->n_open = 0;
    finish(g);
}

/* Of a stream that begins at once, where its first prompt was bound; false while that waits. */
static bool note_placement(struct generation *g)
{
    struct exchange *ex = g->exchange;
    struct router_placement at;
    struct request *r = g->parts[0].request;
    ex->placed = r && router_placed(exchange_opts(ex)->router, r, &at);
    if (!ex->placed)
        return false;
    ex->worker = at.worker;
    ex->n_cached_tokens = at.n_cached_tokens;
    return true;
}

/* Which worker had its first prompt last, if one had. */
static void note_worker(struct generation *g)
{
    struct exchange *ex = g->exchange;
    struct request *r = g->parts[0].request;
    if (!r)
        return;
    lock_take(&r->stream.mu);
    ex->placed = r->trace.worker >= 0;
    ex->worker = (uint32_t)r->trace.worker;
    ex->n_cached_tokens = r->trace.n_cached_tokens;
    lock_drop(&r->stream.mu);
}

/* Nothing is generated: g->error says why. */
static enum MHD_Result refuse(struct generation *g)
{
    g->ended = true;
    generation_drop_body(g);
    generation_leave(g); /* before the reply says what the key has left */
    return respond_error(g->exchange, &g->error);
}

/* The router has it. */
static enum MHD_Result begin_reply(struct generation *g)
{
    struct exchange *ex = g->exchange;
    g->submitted = true;
    g->token_us = clock_now_us();
    if (g->plan.no_output && !g->plan.sampling.prompt_logprobs.on)
        end_without_output(g);
    conn_watch(ex->conn);
    if (g->plan.stream && note_placement(g))
        return respond_stream(ex, read_out, g);
    return generation_reply(g);
}

/* There is a plan, or an error. ENOTFOUND, and something else is served by now: the model was replaced
 * in between, and the plan is made anew. */
static enum MHD_Result on_plan(struct generation *g)
{
    int rc = -g->error.code;
    if (rc == 0)
        rc = generation_submit(g, &g->error);
    if (rc == -LLMD_ENOTFOUND && generation_is_outdated(g)) {
        err_clear(&g->error);
        return plan(g);
    }
    if (rc != 0)
        return refuse(g);
    generation_drop_body(g);
    return begin_reply(g);
}

static enum MHD_Result plan(struct generation *g)
{
    const bool later = later_wanted(g->exchange);
    int rc = later ? generation_plan_later(g, &g->error) : generation_plan(g, &g->error);
    if (rc != 0 || !later)
        return on_plan(g);
    exchange_suspend(g->exchange);
    return MHD_YES;
}

/* Resumed before it was submitted: the plan has come, or the server stops. */
static enum MHD_Result go_on(struct generation *g)
{
    if (g->error.code != 0)
        return refuse(g);
    if (generation_take_plan(g))
        return on_plan(g);
    exchange_suspend(g->exchange);
    return MHD_YES;
}

enum MHD_Result generation_begin(struct exchange *ex, enum plan_kind kind)
{
    struct err e = {0};
    struct generation *g = calloc(1, sizeof(*g));
    if (!g) {
        err_set(&e, LLMD_ENOMEM, "out of memory for the request");
        return respond_error(ex, &e);
    }
    g->exchange = ex;
    g->n_refs = 1;
    g->kind = kind;
    g->catalog = edge_catalog(ex->conn->loop->edge);
    ex->generation = g;
    if (generation_admit(g, &g->error) == 0)
        return plan(g);
    return refuse(g);
}

/* It is all there. What no other thread can be had for is written here. */
static enum MHD_Result reply_plain(struct generation *g)
{
    struct exchange *ex = g->exchange;
    struct buf body = {0};
    struct err e = {0};
    bool written = ex->later && generation_take_reply(g, &body);
    if (!written && (ex->later || (generation_is_long(g) && generation_write_later(g, &e) == 0))) {
        exchange_suspend(ex);
        return MHD_YES;
    }
    generation_settle(g);
    if (!written)
        reply_write(g, &body);
    return respond_json(ex, MHD_HTTP_OK, &body);
}

/* A stream that waits begins with its first event or comment: till then an error has its status. */
enum MHD_Result generation_reply(struct generation *g)
{
    struct exchange *ex = g->exchange;
    const bool begins = g->plan.stream && pending(g) > 0;
    if (ex->gone)
        return MHD_NO;
    if (!g->submitted)
        return go_on(g);
    if (!g->ended && !begins) {
        exchange_suspend(ex);
        return MHD_YES;
    }
    if (g->error.code != 0 && !(g->plan.stream && g->begun))
        return respond_error(ex, &g->error);
    note_worker(g);
    return g->plan.stream ? respond_stream(ex, read_out, g) : reply_plain(g);
}

/* ---- the end ---- */

uint64_t generation_cached_tokens(const struct generation *g)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < g->plan.n_prompts; i++) {
        struct request *r = g->parts[i].request;
        if (!r)
            continue;
        lock_take(&r->stream.mu);
        n += r->trace.n_cached_tokens;
        lock_drop(&r->stream.mu);
    }
    return n;
}

void generation_sum(const struct generation *g, struct generation_sum *out)
{
    *out = (struct generation_sum){.trace.worker = -1};
    for (uint32_t i = 0; g->parts && i < g->plan.n_prompts; i++) {
        struct request *r = g->parts[i].request;
        out->n_prompt += g->parts[i].n_prompt;
        if (!r)
            continue;
        lock_take(&r->stream.mu);
        trace_merge(&out->trace, &r->trace);
        lock_drop(&r->stream.mu);
    }
    for (uint32_t i = 0; i < g->n_choices; i++) {
        out->n_generated += g->choices[i].n_tokens;
        out->n_longest = (uint32_t)u64_max(out->n_longest, g->choices[i].n_tokens);
    }
}

const char *generation_outcome(const struct generation *g)
{
    static const char *const words[] = {[FINISH_NONE] = "abort",
                                        [FINISH_STOP] = "stop",
                                        [FINISH_LENGTH] = "length",
                                        [FINISH_ABORT] = "abort",
                                        [FINISH_ERROR] = "error"};
    if (g->error.code != 0)
        return "error";
    return g->n_open > 0 || g->n_choices == 0 ? "abort" : words[g->choices[0].finish];
}

static void log_end(const struct generation *g, const struct generation_sum *sum)
{
    const struct exchange *ex = g->exchange;
    const struct request_trace *t = &sum->trace;
    char key[160], model[160], why[700];
    double ttft_ms = -1, total_ms = (double)(clock_now_us() - ex->started_us) * 1e-3;
    if (t->first_token_us)
        ttft_ms = (double)(t->first_token_us - ex->started_us) * 1e-3;
    bool failed = g->error.code != 0;
    log_info("edge",
             "request id=%s key=%s model=%s status=%u stream=%d prompt=%llu cached=%u "
             "tokens=%llu choices=%u worker=%d preempted=%u ttft_ms=%.1f total_ms=%.1f "
             "finish=%s%s%s%s%s",
             g->id[0] ? g->id : ex->id, log_quote(exchange_key_name(ex), key, sizeof(key)),
             log_quote(g->plan.model ? g->plan.model->name : "", model, sizeof(model)),
             ex->status ? ex->status : 499, g->plan.stream, (unsigned long long)sum->n_prompt,
             t->n_cached_tokens, (unsigned long long)sum->n_generated, g->n_choices, t->worker,
             t->n_preemptions, ttft_ms, total_ms, generation_outcome(g), failed ? " error=" : "",
             failed ? log_quote(g->error.msg, why, sizeof(why)) : "",
             ex->trace.trace_id[0] ? " trace=" : "", ex->trace.trace_id);
}

static void count_end(struct generation *g, const struct generation_sum *sum)
{
    if (!g->submitted) {
        if (g->error.code == LLMD_EFULL && g->plan.model)
            edge_metrics_rejected(generation_series(g));
        return;
    }
    for (uint32_t i = 0; i < g->n_choices; i++)
        if (g->choices[i].finish == FINISH_NONE)
            count_choice(g, &g->parts[i / g->plan.sampling.n], &g->choices[i],
                         g->error.code != 0 ? FINISH_ERROR : FINISH_ABORT);
    const struct request_figures figures = {
        .n = g->plan.sampling.n,
        .n_longest = sum->n_longest,
        .decode_seconds = (double)(sum->trace.last_token_us - sum->trace.first_token_us) * 1e-6,
    };
    edge_metrics_request(generation_series(g), &figures);
}

void generation_free(struct generation *g)
{
    if (!g)
        return;
    struct generation_sum sum;
    generation_sum(g, &sum);
    count_end(g, &sum);
    log_end(g, &sum);
    generation_leave(g);
    generation_detach(g);
    generation_unref(g);
}

void generation_unref(struct generation *g)
{
    if (--g->n_refs > 0)
        return;
    generation_forget(g);
    buf_fini(&g->out);
    catalog_unref(g->catalog);
    free(g);
}

enum MHD_Result api_chat(struct exchange *ex)
{
    return generation_begin(ex, PLAN_CHAT);
}

enum MHD_Result api_completions(struct exchange *ex)
{
    return generation_begin(ex, PLAN_COMPLETIONS);
}

enum MHD_Result api_invocations(struct exchange *ex)
{
    return generation_begin(ex, PLAN_EITHER);
}
