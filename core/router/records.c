/* records.c - what the router keeps of requests: those that are with it, those that ended, and the
 * last decisions.
 *
 * A walk over all that is live gives the lock up every WALK_AT_ONCE requests; a marker, a dispatch
 * without a request, keeps its place in the list. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/router/router_int.h"
#include "core/util/clock.h"
#include "core/util/json.h"

enum {
    ENDED_MAX = 1024,
    ENDED_BYTES = 4 << 20,
    DECISIONS_MAX = 8192,
    DECISIONS_BYTES = 1 << 20,
    WALK_AT_ONCE = 64,
};

/* One of the last decisions. */
struct past_decision {
    char request[96], model[64]; /* cut off where they are longer */
    _Alignas(16) unsigned char decision[];
};

int records_init(struct records *k)
{
    *k = (struct records){0};
    if (history_init(&k->ended, ENDED_MAX, ENDED_BYTES) == 0 &&
        history_init(&k->decisions, DECISIONS_MAX, DECISIONS_BYTES) == 0)
        return 0;
    records_fini(k);
    return -LLMD_ENOMEM;
}

void records_fini(struct records *k)
{
    history_fini(&k->ended);
    history_fini(&k->decisions);
}

/* --- the list of what lives --- */

/* Behind `after`; NULL: in front. r->mu is held. */
static void list_behind(struct records *k, struct dispatch *dp, struct dispatch *after)
{
    dp->older = after;
    dp->newer = after ? after->newer : k->oldest;
    *(after ? &after->newer : &k->oldest) = dp;
    *(dp->newer ? &dp->newer->older : &k->newest) = dp;
}

static void unlist(struct records *k, struct dispatch *dp)
{
    *(dp->older ? &dp->older->newer : &k->oldest) = dp->newer;
    *(dp->newer ? &dp->newer->older : &k->newest) = dp->older;
}

void records_list(struct router *r, struct dispatch *dp)
{
    dp->req->dispatch = dp;
    list_behind(&r->records, dp, r->records.newest);
    r->records.n_live++;
}

void records_unlist(struct router *r, struct dispatch *dp)
{
    if (!dp->req->dispatch)
        return;
    dp->req->dispatch = NULL;
    unlist(&r->records, dp);
    r->records.n_live--;
}

/* Visits all that live, oldest first, until visit() returns false; r->mu is held then. */
static void each_live(struct router *r, bool (*visit)(void *ctx, struct dispatch *dp), void *ctx)
{
    struct records *k = &r->records;
    struct dispatch marker = {.req = NULL};
    bool more = true;
    lock_take(&r->mu);
    list_behind(k, &marker, NULL);
    for (uint32_t n = 1; more && marker.newer; n++) {
        struct dispatch *dp = marker.newer;
        unlist(k, &marker);
        list_behind(k, &marker, dp);
        if (dp->req)
            more = visit(ctx, dp);
        if (n % WALK_AT_ONCE == 0) {
            lock_drop(&r->mu);
            lock_take(&r->mu);
        }
    }
    unlist(k, &marker);
    lock_drop(&r->mu);
}

/* --- what happens --- */

void records_decided(struct router *r, struct dispatch *dp, const struct decision *d)
{
    const size_t n_bytes = decision_bytes(d->n_candidates);
    if (!record_decision(dp->record, dp->req, d))
        return;
    struct past_decision *p = history_add(&r->records.decisions, sizeof(*p) + n_bytes);
    snprintf(p->request, sizeof(p->request), "%.*s", (int)sizeof(p->request) - 1, dp->record->id);
    snprintf(p->model, sizeof(p->model), "%.*s", (int)sizeof(p->model) - 1, dp->record->model);
    memcpy(p->decision, d, n_bytes);
}

void records_end(struct router *r, struct dispatch *dp, const struct err *why)
{
    record_end(dp->record, dp->req, why);
    void *kept = history_add(&r->records.ended, record_bytes(dp->record));
    if (kept)
        record_copy(dp->record, kept);
}

/* --- views --- */

struct requests_view {
    struct router_request_view *out;
    uint32_t n, max;
};

static bool view_request(void *ctx, struct dispatch *dp)
{
    struct requests_view *all = ctx;
    struct route_record *rec = dp->record;
    record_look(rec, dp->req);
    struct router_request_view *v = &all->out[all->n];
    *v = (struct router_request_view){
        .worker = dp->slot ? (int32_t)dp->slot->opts->index : -1,
        .n_prompt_tokens = rec->n_prompt_tokens,
        .n_cached_tokens = rec->n_cached_tokens,
        .n_output_tokens = rec->n_output_tokens,
        .n_choices = rec->n_choices,
        .n_migrations = rec->moves.n,
        .submitted_us = rec->submitted_us,
        .bound_us = rec->bound_us,
        .first_token_us = rec->first_token_us,
    };
    v->waits_for_client = stream_starved(dp->req);
    memcpy(v->id, rec->id, sizeof(v->id));
    memcpy(v->model, rec->model, sizeof(v->model));
    memcpy(v->key, rec->key, sizeof(v->key));
    return ++all->n < all->max;
}

uint32_t router_requests(struct router *r, struct router_request_view *out, uint32_t max)
{
    struct requests_view all = {.out = out, .max = max};
    if (max > 0)
        each_live(r, view_request, &all);
    lock_take(&r->mu);
    const uint32_t n = r->records.n_live;
    lock_drop(&r->mu);
    return all.n < max ? all.n : (uint32_t)u64_max(n, max);
}

static bool count_starved(void *ctx, struct dispatch *dp)
{
    uint32_t *n = ctx;
    *n += stream_starved(dp->req);
    return true;
}

uint32_t router_n_waiting_for_clients(struct router *r)
{
    uint32_t n = 0;
    each_live(r, count_starved, &n);
    return n;
}

struct route_record *router_record(struct router *r, struct request *req)
{
    struct route_record *rec = req->record;
    struct route_record *copy = rec ? malloc(record_max_bytes(rec)) : NULL;
    if (!copy)
        return NULL;
    lock_take(&r->mu);
    record_look(rec, req);
    record_copy(rec, copy);
    lock_drop(&r->mu);
    return copy;
}

struct search {
    const char *id;
    struct route_record *found;
    bool no_memory;
    bool live; /* then also: */
    bool waits_for_client, waits_for_worker;
    struct request_trace trace;
    uint64_t arrival_us;
};

static void found(struct search *s, const struct route_record *rec)
{
    s->found = malloc(record_bytes(rec));
    s->no_memory = !s->found;
    if (s->found)
        record_copy(rec, s->found);
}

static bool search_live(void *ctx, struct dispatch *dp)
{
    struct search *s = ctx;
    if (strcmp(dp->record->id, s->id) != 0)
        return true;
    record_look(dp->record, dp->req);
    found(s, dp->record);
    lock_take(&dp->req->stream.mu);
    s->trace = dp->req->trace;
    lock_drop(&dp->req->stream.mu);
    s->waits_for_client = stream_starved(dp->req);
    s->waits_for_worker = !dp->slot;
    s->arrival_us = dp->req->arrival_us;
    s->live = true;
    return false;
}

/* Newest first. */
static void search_ended(struct router *r, struct search *s)
{
    const struct history *h = &r->records.ended;
    uint32_t n = 1;
    lock_take(&r->mu);
    for (uint64_t number = h->next; !s->found && !s->no_memory; n++) {
        size_t n_bytes;
        const struct route_record *rec = history_get(h, --number, &n_bytes);
        if (!rec)
            break;
        if (strcmp(rec->id, s->id) == 0)
            found(s, rec);
        if (n % WALK_AT_ONCE == 0) {
            lock_drop(&r->mu);
            lock_take(&r->mu);
        }
    }
    lock_drop(&r->mu);
}

/* What only one that lives has: how old it is, and its time line so far. */
static void add_timeline(const struct search *s, struct buf *out)
{
    buf_truncate(out, out->len - 1); /* goes on in the record's object */
    buf_addf(out, ",\"waits_for\":%s,\"edge_us\":%llu,\"age_us\":%llu,\"timeline\":",
             s->waits_for_client   ? "\"client\""
             : s->waits_for_worker ? "\"worker\""
                                   : "null",
             (unsigned long long)(s->found->submitted_us - s->arrival_us),
             (unsigned long long)(clock_now_us() - s->arrival_us));
    trace_add_json(&s->trace, s->arrival_us, out);
    buf_addch(out, '}');
}

bool router_record_json(struct router *r, const char *id, struct buf *out)
{
    struct search s = {.id = id};
    each_live(r, search_live, &s);
    if (!s.found && !s.no_memory)
        search_ended(r, &s);
    if (s.found)
        record_add_json(s.found, out);
    if (s.found && s.live && !out->failed)
        add_timeline(&s, out);
    out->failed |= s.no_memory;
    free(s.found);
    return s.found || s.no_memory;
}

enum { CANCEL_AT_ONCE = 32 };

struct cancellation {
    const char *id;
    struct request *found[CANCEL_AT_ONCE]; /* a reference each */
    uint32_t n;
};

static bool find_to_cancel(void *ctx, struct dispatch *dp)
{
    struct cancellation *c = ctx;
    if (strcmp(dp->record->id, c->id) == 0 && !request_is_cancelled(dp->req))
        c->found[c->n++] = request_ref(dp->req);
    return c->n < CANCEL_AT_ONCE;
}

uint32_t router_cancel(struct router *r, const char *id)
{
    uint32_t n_all = 0;
    struct cancellation c;
    do {
        c = (struct cancellation){.id = id};
        each_live(r, find_to_cancel, &c);
        for (uint32_t i = 0; i < c.n; i++) {
            request_cancel(c.found[i]);
            request_unref(c.found[i]);
        }
        n_all += c.n;
    } while (c.n == CANCEL_AT_ONCE);
    return n_all;
}

static void add_past(const struct past_decision *p, bool first, struct buf *out)
{
    buf_addstr(out, first ? "{\"request\":" : ",\n{\"request\":");
    json_add_cstr(out, p->request);
    buf_addstr(out, ",\"model\":");
    json_add_cstr(out, p->model);
    buf_addch(out, ',');
    decision_add_members((const struct decision *)(const void *)p->decision, out);
    buf_addch(out, '}');
}

/* A copy of the decision of that number or of the oldest that is left; NULL: there is none. */
static const struct past_decision *take_past(struct router *r, uint64_t *number, void *room,
                                             size_t max_bytes)
{
    const struct history *h = &r->records.decisions;
    size_t n_bytes;
    lock_take(&r->mu);
    *number = u64_max(*number, h->first);
    const void *p = history_get(h, *number, &n_bytes);
    BUG_ON(p && n_bytes > max_bytes);
    if (p)
        memcpy(room, p, n_bytes);
    lock_drop(&r->mu);
    return p ? room : NULL;
}

uint32_t router_decisions(struct router *r, uint32_t n, struct buf *out)
{
    const size_t max_bytes = sizeof(struct past_decision) + decision_bytes(DECISION_CANDIDATES);
    struct past_decision *room = malloc(max_bytes);
    const struct past_decision *p;
    uint32_t n_added = 0;
    lock_take(&r->mu);
    const uint64_t end = r->records.decisions.next;
    lock_drop(&r->mu);
    buf_addch(out, '[');
    out->failed |= !room;
    for (uint64_t at = end > n ? end - n : 1; room && at < end; at++, n_added++) {
        if (!(p = take_past(r, &at, room, max_bytes)) || at >= end)
            break;
        add_past(p, n_added == 0, out);
    }
    buf_addch(out, ']');
    free(room);
    return n_added;
}
