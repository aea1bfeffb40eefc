#include "core/edge/spans.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/edge/api.h"
#include "core/edge/generation.h"
#include "core/edge/routes.h"
#include "core/observe/otlp.h"
#include "core/observe/traces.h"
#include "core/router/record.h"
#include "core/router/router.h"
#include "core/util/clock.h"

enum { NAME_MAX_BYTES = 160, CLIENT_CLOSED = 499 };

/* The spans of one request while they are written. Moments are those of clock_now_us(). */
struct teller {
    struct exchange *ex;
    struct buf *out;
    uint64_t to_wall_us; /* what makes such a moment one since 1970 */
    uint64_t end_us;
    uint64_t root;
    struct otlp_span next; /* with what all have in common */
    uint32_t n_spans;
};

/* ---- ids ---- */

static uint64_t id_of(const char *hex)
{
    return strtoull(hex, NULL, 16);
}

static void read_trace_id(const char *hex, uint8_t out[OTLP_TRACE_BYTES])
{
    for (size_t i = 0; i < OTLP_TRACE_BYTES; i++) {
        const char digits[] = {hex[2 * i], hex[2 * i + 1], '\0'};
        out[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
}

/* Ids of the spans below the root, which is random: mixed from its own and their number (splitmix64). */
static uint64_t child_id(const struct teller *t)
{
    uint64_t v = t->root + t->n_spans * 0x9e3779b97f4a7c15u;
    v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9u;
    v = (v ^ v >> 27) * 0x94d049bb133111ebu;
    v ^= v >> 31;
    return v != 0 && v != t->root ? v : t->root + 1 + t->n_spans;
}

/* ---- pieces ---- */

/* Opens a child from one moment to another, 0 standing for the end; *out_id is its id. */
static size_t open_child(struct teller *t, const char *name, uint64_t parent, uint64_t from_us,
                         uint64_t to_us, uint64_t *out_id)
{
    t->next.id = *out_id = child_id(t);
    t->next.parent = parent;
    t->next.name = name;
    t->next.start_us = from_us + t->to_wall_us;
    t->next.end_us = (to_us != 0 ? to_us : t->end_us) + t->to_wall_us;
    t->n_spans++;
    return otlp_span_open(t->out, &t->next);
}

static void set_int(struct teller *t, enum otlp_name name, uint64_t value)
{
    otlp_int(t->out, OTLP_OF_SPAN, name, (int64_t)value);
}

static void set_text(struct teller *t, enum otlp_name name, const char *value)
{
    if (value && value[0])
        otlp_text(t->out, OTLP_OF_SPAN, name, value);
}

static double seconds(uint64_t us)
{
    return (double)us * 1e-6;
}

/* ---- one prompt ---- */

/* What is known of one prompt's request when it is over. */
struct story {
    uint32_t index;
    bool alone; /* there is one prompt */
    struct request_trace trace;
    struct route_record *record; /* NULL: none */
};

static void set_index(struct teller *t, const struct story *s)
{
    if (!s->alone)
        set_int(t, OTLP_PROMPT_INDEX, s->index);
}

static void tell_queue(struct teller *t, const struct story *s)
{
    const struct decision *d = s->record ? record_last_binding(s->record) : NULL;
    struct buf why = {0};
    uint64_t id;
    const size_t span =
        open_child(t, "queue", t->root, s->trace.queued_us, s->trace.scheduled_us, &id);
    set_index(t, s);
    if (d) {
        decision_explain(d, &why);
        set_int(t, OTLP_WORKER, d->candidates[d->chosen].worker);
        set_text(t, OTLP_ROUTE_REASON, route_reason_name(d->reason));
        set_text(t, OTLP_ROUTE_WHY, buf_str(&why));
    }
    if (s->record)
        set_int(t, OTLP_ROUTE_DECISIONS, s->record->n_decisions);
    otlp_close(t->out, span);
    buf_fini(&why);
}

static void tell_chunk(struct teller *t, uint64_t parent, const struct trace_chunk *c)
{
    uint64_t id;
    const size_t span =
        open_child(t, "prefill chunk", parent, c->began_us, c->began_us + c->us, &id);
    set_int(t, OTLP_ROWS, c->n_rows);
    set_int(t, OTLP_STEP_ROWS, c->n_step_rows);
    set_int(t, OTLP_STEP_DECODES, c->n_decodes);
    if (c->n_steps > 1)
        set_int(t, OTLP_STEPS, c->n_steps);
    otlp_close(t->out, span);
}

/* Returns its id. */
static uint64_t tell_prefill(struct teller *t, const struct story *s)
{
    uint64_t id;
    const size_t span =
        open_child(t, "prefill", t->root, s->trace.scheduled_us, s->trace.first_token_us, &id);
    set_index(t, s);
    set_int(t, OTLP_CACHED_TOKENS, s->trace.n_cached_tokens);
    if (s->trace.worker >= 0)
        set_int(t, OTLP_WORKER, (uint64_t)s->trace.worker);
    otlp_close(t->out, span);
    return id;
}

/* Those after the first token are of further choices, or computed anew what a preemption or a migration
 * took away: the tokens wait for them. */
static void tell_chunks(struct teller *t, const struct story *s, uint64_t prefill, uint64_t decode)
{
    for (uint32_t i = 0; i < s->trace.n_chunks; i++) {
        const struct trace_chunk *c = &s->trace.chunks[i];
        const bool decoding = decode != 0 && c->began_us >= s->trace.first_token_us;
        tell_chunk(t, decoding ? decode : prefill, c);
    }
}

static void tell_gap(struct teller *t, const struct trace_gap *g)
{
    const size_t event = otlp_event_open(t->out, "slow token", g->ended_us + t->to_wall_us);
    otlp_text(t->out, OTLP_OF_EVENT, OTLP_GAP_CAUSE, gap_cause_name(g->cause));
    otlp_real(t->out, OTLP_OF_EVENT, OTLP_GAP_SECONDS, seconds(g->us));
    otlp_int(t->out, OTLP_OF_EVENT, OTLP_OUTPUT_TOKENS, g->n_tokens);
    otlp_int(t->out, OTLP_OF_EVENT, OTLP_WORKER, g->worker);
    otlp_int(t->out, OTLP_OF_EVENT, OTLP_STEP_DECODES, g->n_decodes);
    if (g->choice > 0)
        otlp_int(t->out, OTLP_OF_EVENT, OTLP_CHOICE, g->choice);
    if (g->n_prefill_rows > 0)
        otlp_int(t->out, OTLP_OF_EVENT, OTLP_GAP_PROMPT_ROWS, g->n_prefill_rows);
    if (g->other[0])
        otlp_text(t->out, OTLP_OF_EVENT, OTLP_GAP_OTHER, g->other);
    otlp_close(t->out, event);
}

/* Returns its id. */
static uint64_t tell_decode(struct teller *t, const struct story *s)
{
    static const enum otlp_name causes[GAP_N_CAUSES] = {
        [GAP_STEP] = OTLP_CAUSE_STEP,           [GAP_BATCH] = OTLP_CAUSE_BATCH,
        [GAP_PREFILL] = OTLP_CAUSE_PREFILL,     [GAP_STALL] = OTLP_CAUSE_STALL,
        [GAP_CLIENT] = OTLP_CAUSE_CLIENT,       [GAP_PREEMPTION] = OTLP_CAUSE_PREEMPTION,
        [GAP_MIGRATION] = OTLP_CAUSE_MIGRATION,
    };
    const struct request_trace *r = &s->trace;
    uint64_t id;
    const size_t span = open_child(t, "decode", t->root, r->first_token_us, r->last_token_us, &id);
    set_index(t, s);
    if (r->worker >= 0)
        set_int(t, OTLP_WORKER, (uint64_t)r->worker);
    for (int i = 0; i < GAP_N_CAUSES; i++)
        if (r->part_us[i] > 0)
            otlp_real(t->out, OTLP_OF_SPAN, causes[i], seconds(r->part_us[i]));
    for (uint32_t i = 0; i < r->n_gaps; i++)
        tell_gap(t, &r->gaps[i]);
    otlp_close(t->out, span);
    return id;
}

/* ---- migrations ---- */

/* Where it went at or after that moment; NULL: nowhere. */
static const struct decision *next_binding(const struct route_record *record, uint64_t at_us)
{
    for (uint32_t i = 0; i < record_n_kept(record); i++) {
        uint64_t n_times, first_us;
        const struct decision *d = record_kept(record, i, &n_times, &first_us);
        if (d->chosen >= 0 && d->at_us >= at_us)
            return d;
    }
    return NULL;
}

/* When its tokens went on: the end of the gap that the moment lies in, or when it was bound anew, if it
 * had none before; 0: they did not. */
static uint64_t resumed_us(const struct story *s, uint64_t at_us, const struct decision *binding)
{
    for (uint32_t i = 0; i < s->trace.n_gaps; i++) {
        const struct trace_gap *g = &s->trace.gaps[i];
        if (g->part_us[GAP_MIGRATION] > 0 && g->ended_us >= at_us && g->ended_us - g->us <= at_us)
            return g->ended_us;
    }
    return binding ? binding->at_us : 0;
}

static void tell_migration(struct teller *t, const struct story *s, uint64_t parent,
                           const struct record_event *move)
{
    const struct decision *to = next_binding(s->record, move->at_us);
    uint64_t id;
    const size_t span =
        open_child(t, "migration", parent, move->at_us, resumed_us(s, move->at_us, to), &id);
    set_index(t, s);
    set_int(t, OTLP_FROM_WORKER, move->worker);
    if (to)
        set_int(t, OTLP_TO_WORKER, to->candidates[to->chosen].worker);
    set_int(t, OTLP_MOVED_TOKENS, move->n_output_tokens);
    set_text(t, OTLP_MOVED_WHY, move->why);
    otlp_close(t->out, span);
}

static void tell_migrations(struct teller *t, const struct story *s, uint64_t prefill,
                            uint64_t decode)
{
    const struct record_events *moves = &s->record->moves;
    const uint32_t n_kept = (uint32_t)u64_min(moves->n, RECORD_EVENTS);
    for (uint32_t i = moves->n - n_kept; i < moves->n; i++) {
        const struct record_event *move = &moves->last[i % RECORD_EVENTS];
        const bool decoding = decode != 0 && move->at_us >= s->trace.first_token_us;
        tell_migration(t, s, decoding ? decode : prefill != 0 ? prefill : t->root, move);
    }
}

static void tell_part(struct teller *t, const struct story *s)
{
    uint64_t prefill = 0, decode = 0;
    if (s->trace.queued_us != 0)
        tell_queue(t, s);
    if (s->trace.scheduled_us != 0)
        prefill = tell_prefill(t, s);
    if (s->trace.first_token_us != 0)
        decode = tell_decode(t, s);
    tell_chunks(t, s, prefill, decode);
    if (s->record)
        tell_migrations(t, s, prefill, decode);
}

/* ---- the whole ---- */

/* The stages that all prompts share; sum: of all of them. */
static void tell_shared(struct teller *t, const struct request_trace *sum)
{
    uint64_t id;
    otlp_close(t->out, open_child(t, "edge", t->root, t->ex->started_us, sum->queued_us, &id));
    if (sum->last_token_us != 0)
        otlp_close(t->out, open_child(t, "reply", t->root, sum->last_token_us, 0, &id));
}

static void tell_parts(struct teller *t, const struct generation *g)
{
    struct router *router = exchange_opts(t->ex)->router;
    for (uint32_t i = 0; g->parts && i < g->plan.n_prompts && i < SPANS_PARTS; i++) {
        struct request *r = g->parts[i].request;
        if (!r)
            continue;
        struct story s = {.index = i, .alone = g->plan.n_prompts == 1};
        lock_take(&r->stream.mu);
        s.trace = r->trace;
        lock_drop(&r->stream.mu);
        s.record = router_record(router, r);
        tell_part(t, &s);
        free(s.record);
    }
}

static void set_params(struct teller *t, const struct generation *g)
{
    const struct sampling_params *p = &g->plan.sampling;
    set_text(t, OTLP_REQUEST_MODEL, g->plan.model->name);
    set_text(t, OTLP_RESPONSE_MODEL, g->plan.model->name);
    otlp_bool(t->out, OTLP_OF_SPAN, OTLP_REQUEST_STREAM, g->plan.stream);
    set_int(t, OTLP_REQUEST_CHOICES, p->n);
    if (!g->plan.no_max_tokens)
        set_int(t, OTLP_REQUEST_MAX_TOKENS, p->max_tokens);
    otlp_real(t->out, OTLP_OF_SPAN, OTLP_REQUEST_TEMPERATURE, (double)p->temperature);
    otlp_real(t->out, OTLP_OF_SPAN, OTLP_REQUEST_TOP_P, (double)p->top_p);
    if (p->top_k > 0)
        set_int(t, OTLP_REQUEST_TOP_K, p->top_k);
}

static void set_results(struct teller *t, const struct generation *g,
                        const struct generation_sum *sum)
{
    const char *finish = generation_outcome(g);
    set_text(t, OTLP_RESPONSE_ID, g->id);
    set_int(t, OTLP_INPUT_TOKENS, sum->n_prompt);
    set_int(t, OTLP_OUTPUT_TOKENS, sum->n_generated);
    set_int(t, OTLP_CACHED_TOKENS, sum->trace.n_cached_tokens);
    otlp_texts(t->out, OTLP_OF_SPAN, OTLP_FINISH_REASONS, &finish, 1);
    if (sum->trace.first_token_us >= t->ex->started_us)
        otlp_real(t->out, OTLP_OF_SPAN, OTLP_TIME_TO_FIRST,
                  seconds(sum->trace.first_token_us - t->ex->started_us));
    if (sum->trace.worker >= 0)
        set_int(t, OTLP_WORKER, (uint64_t)sum->trace.worker);
    set_int(t, OTLP_PREEMPTIONS, sum->trace.n_preemptions);
    set_int(t, OTLP_MIGRATIONS, sum->trace.n_migrations);
}

static void set_http(struct teller *t)
{
    const struct exchange *ex = t->ex;
    set_text(t, OTLP_HTTP_METHOD, ex->method);
    set_text(t, OTLP_HTTP_ROUTE, ex->route->label);
    set_text(t, OTLP_URL_PATH, ex->route->label);
    if (ex->status != 0)
        set_int(t, OTLP_HTTP_STATUS, ex->status);
    set_int(t, OTLP_HTTP_REQUEST_BYTES, ex->n_body);
    set_int(t, OTLP_HTTP_RESPONSE_BYTES, ex->n_reply);
    set_text(t, OTLP_REQUEST_ID, ex->id);
    set_text(t, OTLP_KEY, exchange_key_name(ex));
}

/* Of few different texts: the kind of error, or the status. */
static void set_error(struct teller *t)
{
    const struct generation *g = t->ex->generation;
    char status[16];
    snprintf(status, sizeof(status), "%u", t->ex->status ? t->ex->status : CLIENT_CLOSED);
    if (g && g->error.code != 0)
        set_text(t, OTLP_ERROR_TYPE, err_openai_type(g->error.code));
    else if (t->ex->status / 100 != 2)
        set_text(t, OTLP_ERROR_TYPE, status);
    else if (t->ex->gone)
        set_text(t, OTLP_ERROR_TYPE, "client_closed_request");
}

static void tell_root(struct teller *t, const struct generation_sum *sum)
{
    const struct exchange *ex = t->ex;
    const struct generation *g = ex->generation;
    const struct edge_model *model = g ? g->plan.model : NULL;
    const bool chat = model ? g->plan.chat : ex->route->handle != api_completions;
    const char *operation = chat ? "chat" : "text_completion";
    const int code = g ? g->error.code : 0;
    char name[NAME_MAX_BYTES];
    struct otlp_span span = t->next;
    snprintf(name, sizeof(name), "%s%s%s", operation, model ? " " : "", model ? model->name : "");
    span.id = t->root;
    span.parent = ex->trace.parent_id[0] ? id_of(ex->trace.parent_id) : 0;
    span.remote = true;
    span.kind = OTLP_SERVER;
    span.name = name;
    span.start_us = ex->started_us + t->to_wall_us;
    span.end_us = t->end_us + t->to_wall_us;
    span.error = ex->status >= 500 || (code != 0 && err_http_status(code) >= 500);
    span.why = code != 0 ? g->error.msg : NULL;
    const size_t opened = otlp_span_open(t->out, &span);
    t->n_spans++;
    set_text(t, OTLP_OPERATION, operation);
    set_text(t, OTLP_PROVIDER, "llmd");
    set_http(t);
    set_error(t);
    if (model)
        set_params(t, g);
    if (g && g->submitted)
        set_results(t, g, sum);
    otlp_close(t->out, opened);
}

bool spans_wanted(const struct exchange *ex)
{
    const struct route *r = ex->route;
    return r && ex->method && route_method(ex->method) == ROUTE_POST &&
           (r->handle == api_chat || r->handle == api_completions || r->handle == api_invocations);
}

void spans_end(struct exchange *ex)
{
    struct traces *traces = exchange_opts(ex)->traces;
    struct generation_sum sum = {.n_prompt = 0};
    if (!trace_context_recorded(&ex->trace) || !traces_on(traces) || !spans_wanted(ex) ||
        ex->access != ACCESS_GRANTED) /* a stranger fills no queue of ours */
        return;
    struct teller t = {
        .ex = ex,
        .out = &ex->conn->loop->spans,
        .end_us = clock_now_us(),
        .root = id_of(ex->trace.span_id),
        .next = {.kind = OTLP_INTERNAL},
    };
    t.to_wall_us = clock_wall_us() - t.end_us;
    read_trace_id(ex->trace.trace_id, t.next.trace_id);
    buf_clear(t.out);
    if (ex->generation)
        generation_sum(ex->generation, &sum);
    tell_root(&t, &sum);
    tell_shared(&t, &sum.trace);
    if (ex->generation)
        tell_parts(&t, ex->generation);
    (void)traces_put(traces, t.out, t.n_spans); /* when it drops them it counts them */
}
