#include "core/edge/request_log.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/edge/generation.h"
#include "core/edge/routes.h"
#include "core/request/prefix_hash.h"
#include "core/router/record.h"
#include "core/router/router.h"
#include "core/store/store.h"
#include "core/util/clock.h"

enum {
    CLIENT_CLOSED = 499,
    ROUTES_MAX = 16,
    PREFIX_LEVELS = 12,
    PREFIX_MAX_BLOCKS = 1 << (PREFIX_LEVELS - 1)
};

/* Texts of a row that live nowhere else. */
struct texts {
    char client[INET6_ADDRSTRLEN], session[17];
    char prefix[PREFIX_LEVELS * 9 + 1];
    struct buf timeline, route;
};

bool request_log_wants_body(const struct exchange *ex)
{
    const struct edge_opts *o = exchange_opts(ex);
    return o->store && (o->log_prompts || (ex->key && ex->key->log_prompts));
}

/* ---- the row ---- */

/* Names of the first 1, 2, 4, ... blocks of the prompt: two requests that share one began alike. */
static const char *name_prefix(const struct request *r, char *out, size_t n_out)
{
    struct prefix_hash name = {0, 0};
    uint32_t n_blocks = (uint32_t)u64_min(r->n_prompt / PREFIX_BLOCK_TOKENS, PREFIX_MAX_BLOCKS);
    size_t len = 0;
    for (uint32_t i = 1; i <= n_blocks; i++) {
        name = prefix_hash_block(name, r->cache_salt,
                                 r->prompt + (size_t)(i - 1) * PREFIX_BLOCK_TOKENS);
        if ((i & (i - 1)) == 0)
            len += (size_t)snprintf(out + len, n_out - len, "%s%08x", len ? "." : "",
                                    (unsigned)(name.lo & UINT32_MAX));
    }
    return len ? out : NULL;
}

static const char *refusal_text(const struct exchange *ex)
{
    switch (ex->refusal) {
    case REFUSE_FRAMING:
        return ex->refusal_detail;
    case REFUSE_ACCESS:
        return ex->access == ACCESS_NO_KEY    ? "the API key is missing or not known"
               : ex->access == ACCESS_EXPIRED ? "the API key has expired"
                                              : "forbidden";
    case REFUSE_PATH:
        return "no such path";
    case REFUSE_METHOD:
        return "wrong method";
    case REFUSE_DRAINING:
        return "the server is shutting down";
    case REFUSE_SIZE:
        return "the body is too large";
    case REFUSE_NOT:
        break;
    }
    return NULL;
}

/* Adds the stages of all its requests, and the time line. */
static void add_stages(const struct request_trace *all, uint64_t began, struct texts *t,
                       struct store_row *row)
{
    row->worker = all->worker;
    row->cached_tokens = all->n_cached_tokens;
    row->preemptions = all->n_preemptions;
    row->migrations = all->n_migrations;
    if (all->queued_us >= began)
        row->edge_us = (int64_t)(all->queued_us - began);
    if (all->scheduled_us >= all->queued_us && all->queued_us != 0)
        row->queue_us = (int64_t)(all->scheduled_us - all->queued_us);
    if (all->first_token_us >= all->scheduled_us && all->scheduled_us != 0) {
        row->prefill_us = (int64_t)(all->first_token_us - all->scheduled_us);
        row->first_token_us = (int64_t)(all->first_token_us - began);
    }
    if (all->n_gaps > 0) {
        row->slowest_gap_us = (int64_t)all->gaps[0].us;
        row->slowest_gap_cause = gap_cause_name(all->gaps[0].cause);
    }
    if (all->scheduled_us != 0) {
        trace_add_json(all, began, &t->timeline);
        row->timeline = t->timeline.failed ? NULL : buf_str(&t->timeline);
    }
}

/* The router's records of all its requests, as a JSON array; the reason is that of the first. */
static void add_route(const struct generation *g, struct texts *t, struct store_row *row)
{
    struct router *router = exchange_opts(g->exchange)->router;
    buf_addch(&t->route, '[');
    for (uint32_t i = 0; i < g->plan.n_prompts && i < ROUTES_MAX; i++) {
        struct request *r = g->parts[i].request;
        struct route_record *record = r ? router_record(router, r) : NULL;
        if (!record)
            continue;
        const struct decision *d = record_last_binding(record);
        if (d && !row->route_reason)
            row->route_reason = route_reason_name(d->reason);
        if (t->route.len > 1)
            buf_addch(&t->route, ',');
        record_add_json(record, &t->route);
        free(record);
    }
    buf_addch(&t->route, ']');
    if (t->route.len > 2 && !t->route.failed)
        row->route = buf_str(&t->route);
}

static void add_generation(const struct generation *g, struct texts *t, struct store_row *row)
{
    row->stream = g->plan.stream;
    row->model = g->plan.model ? g->plan.model->name : NULL;
    if (g->error.code != 0)
        row->error = g->error.msg[0] ? g->error.msg : err_text(g->error.code);
    if (g->parts)
        add_route(g, t, row);
    if (!g->submitted || !g->parts)
        return;
    struct generation_sum sum;
    generation_sum(g, &sum);
    const struct request *r = g->parts[0].request;
    row->finish = generation_outcome(g);
    row->choices = g->n_choices;
    row->prompt_tokens = (int64_t)sum.n_prompt;
    row->output_tokens = (int64_t)sum.n_generated;
    if (r && r->session != 0) {
        snprintf(t->session, sizeof(t->session), "%016llx", (unsigned long long)r->session);
        row->session = t->session;
    }
    if (r)
        row->prefix = name_prefix(r, t->prefix, sizeof(t->prefix));
    add_stages(&sum.trace, g->exchange->started_us, t, row);
}

/* Only what wants to generate, or would have: not the status page, not operators. */
static bool is_logged(const struct exchange *ex)
{
    if (!exchange_opts(ex)->store || ex->conn->loop->control || !ex->method)
        return false;
    return ex->generation || (route_method(ex->method) == ROUTE_POST &&
                              !(ex->route && ex->route->access != ACCESS_KEY));
}

void request_log_end(const struct exchange *ex)
{
    const struct generation *g = ex->generation;
    struct store_row row;
    struct texts t = {.timeline = {0}};
    if (!is_logged(ex))
        return;
    const uint64_t total_us = clock_now_us() - ex->started_us;
    store_row_init(&row);
    row.time_us = (int64_t)(clock_wall_us() - total_us);
    row.id = g && g->id[0] ? g->id : ex->id;
    row.trace = ex->trace.trace_id[0] ? ex->trace.trace_id : NULL;
    row.key = ex->key ? ex->key->name : NULL;
    row.client = exchange_client(ex, t.client);
    row.endpoint = ex->route ? ex->route->label : NULL;
    row.status = ex->status ? (int64_t)ex->status : CLIENT_CLOSED;
    row.total_us = (int64_t)total_us;
    row.request_bytes = (int64_t)ex->n_body;
    row.reply_bytes = (int64_t)ex->n_reply;
    row.error = refusal_text(ex);
    if (g)
        add_generation(g, &t, &row);
    if (ex->kept_body.len > 0 && !ex->kept_body.failed) {
        row.prompt = buf_str(&ex->kept_body);
        row.n_prompt = ex->kept_body.len;
    }
    (void)store_log(exchange_opts(ex)->store, &row);
    buf_fini(&t.timeline);
    buf_fini(&t.route);
}
