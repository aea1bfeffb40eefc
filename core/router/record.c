#include "core/router/record.h"

#include <stdio.h>
#include <string.h>

#include "core/request/request.h"
#include "core/util/clock.h"
#include "core/util/json.h"

const char *route_outcome_name(enum route_outcome o)
{
    static const char *const names[] = {
        [OUTCOME_LIVE] = "live",       [OUTCOME_FINISHED] = "finished",
        [OUTCOME_FAILED] = "failed",   [OUTCOME_CANCELLED] = "cancelled",
        [OUTCOME_REFUSED] = "refused",
    };
    return names[o];
}

/* --- while it lives --- */

static void set_text(char *to, size_t n, const char *from)
{
    snprintf(to, n, "%.*s", (int)n - 1, from ? from : "");
}

/* So that every decision in its row is aligned. */
static size_t slot_bytes(uint32_t n_candidates)
{
    const size_t align = _Alignof(struct decision);
    return (decision_bytes(n_candidates) + align - 1) / align * align;
}

struct route_record *record_begin(struct request *req, uint32_t n_candidates)
{
    struct route_record *rec = req->record;
    unsigned char *last = NULL;
    if (!rec || rec->n_candidates < n_candidates)
        rec = arena_alloc(&req->arena, sizeof(*rec) + RECORD_FIRST * slot_bytes(n_candidates));
    else {
        n_candidates = rec->n_candidates;
        last = rec->last;
    }
    if (!rec)
        return NULL;
    *rec = (struct route_record){
        .n_prompt_tokens = req->n_prompt,
        .max_tokens = req->sampling.max_tokens,
        .n_choices = req->sampling.n,
        .priority = req->priority,
        .worker = -1,
        .submitted_us = clock_now_us(),
        .submitted_wall_us = clock_wall_us(),
        .n_candidates = n_candidates,
        .last = last,
    };
    set_text(rec->id, sizeof(rec->id), req->id);
    set_text(rec->model, sizeof(rec->model), req->model);
    set_text(rec->key, sizeof(rec->key), req->key_name);
    req->record = rec;
    return rec;
}

/* Where the entry of that number lies. */
static uint32_t place(uint32_t entry)
{
    return entry < RECORD_DECISIONS ? entry : RECORD_FIRST + (entry - RECORD_FIRST) % RECORD_LAST;
}

static struct decision *slot(const struct route_record *rec, uint32_t at)
{
    const size_t n_bytes = slot_bytes(rec->n_candidates);
    if (at >= RECORD_FIRST && rec->last)
        return (struct decision *)(uintptr_t)(rec->last + (at - RECORD_FIRST) * n_bytes);
    return (struct decision *)(uintptr_t)(rec->decisions + at * n_bytes);
}

/* Whether there is room for one that goes there. */
static bool make_room(struct route_record *rec, struct request *req, uint32_t at)
{
    if (at >= RECORD_FIRST && !rec->last)
        rec->last = arena_alloc(&req->arena, RECORD_LAST * slot_bytes(rec->n_candidates));
    return at < RECORD_FIRST || rec->last;
}

/* Whether it says the same again: nobody, for that reason. */
static bool repeats(const struct decision *before, const struct decision *d)
{
    return d->chosen < 0 && before->chosen < 0 && d->reason == before->reason &&
           d->awaited == before->awaited;
}

bool record_decision(struct route_record *rec, struct request *req, const struct decision *d)
{
    rec->n_decisions++;
    if (d->chosen >= 0) {
        rec->worker = (int32_t)d->candidates[d->chosen].worker;
        rec->n_cached_tokens = d->candidates[d->chosen].n_cached_tokens;
        rec->bound_us = d->at_us;
        rec->started_us = 0;
    }
    if (d->n_candidates > rec->n_candidates) { /* workers were added since */
        rec->n_left_out++;
        return true;
    }
    if (rec->n_entries > 0 && repeats(slot(rec, place(rec->n_entries - 1)), d)) {
        const uint32_t at = place(rec->n_entries - 1);
        memcpy(slot(rec, at), d, decision_bytes(d->n_candidates));
        rec->n_times[at]++;
        return false;
    }
    const uint32_t at = place(rec->n_entries);
    if (!make_room(rec, req, at)) {
        rec->n_left_out++;
        return true;
    }
    if (rec->n_entries >= RECORD_DECISIONS)
        rec->n_left_out += rec->n_times[at];
    memcpy(slot(rec, at), d, decision_bytes(d->n_candidates));
    rec->n_times[at] = 1;
    rec->first_us[at] = d->at_us;
    rec->n_entries++;
    return true;
}

/* Tokens of all choices. stream.mu is held. */
static uint32_t n_output(const struct request *req)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < req->stream.n_choices; i++)
        n += req->stream.n_outputs[i];
    return (uint32_t)n;
}

void record_event(struct record_events *events, struct request *req, uint32_t worker,
                  const char *why)
{
    struct record_event *ev = &events->last[events->n++ % RECORD_EVENTS];
    ev->at_us = clock_now_us();
    ev->worker = worker;
    lock_take(&req->stream.mu);
    ev->n_output_tokens = n_output(req);
    lock_drop(&req->stream.mu);
    set_text(ev->why, sizeof(ev->why), why);
}

/* --- its end --- */

static void set_error(struct route_record *rec, const struct err *why)
{
    const bool cancelled = why->code == LLMD_ECANCELLED;
    rec->outcome = cancelled ? OUTCOME_CANCELLED : OUTCOME_FAILED;
    if (cancelled)
        return;
    rec->error_code = why->code;
    set_text(rec->error, sizeof(rec->error), why->msg);
}

/* stream.mu is held. */
static void look(struct route_record *rec, const struct request *req)
{
    rec->n_output_tokens = n_output(req);
    rec->first_token_us = req->trace.first_token_us;
    if (rec->outcome != OUTCOME_LIVE || req->stream.n_unfinished > 0)
        return;
    rec->over_us = req->trace.last_token_us;
    if (req->stream.error.code != 0)
        set_error(rec, &req->stream.error);
    else
        rec->outcome = OUTCOME_FINISHED;
}

void record_look(struct route_record *rec, struct request *req)
{
    lock_take(&req->stream.mu);
    look(rec, req);
    lock_drop(&req->stream.mu);
}

void record_end(struct route_record *rec, struct request *req, const struct err *why)
{
    lock_take(&req->stream.mu);
    look(rec, req);
    lock_drop(&req->stream.mu);
    if (rec->outcome == OUTCOME_LIVE && why)
        set_error(rec, why);
    else if (rec->outcome == OUTCOME_LIVE)
        rec->outcome = OUTCOME_CANCELLED;
    rec->over_us = clock_now_us();
}

/* --- reading it --- */

size_t record_bytes(const struct route_record *rec)
{
    return sizeof(*rec) + record_n_kept(rec) * slot_bytes(rec->n_candidates);
}

size_t record_max_bytes(const struct route_record *rec)
{
    return sizeof(*rec) + RECORD_DECISIONS * slot_bytes(rec->n_candidates);
}

void record_copy(const struct route_record *rec, void *to)
{
    const uint32_t n_kept = record_n_kept(rec);
    const uint32_t n_first = n_kept < RECORD_FIRST ? n_kept : RECORD_FIRST;
    struct route_record *copy = to;
    memcpy(copy, rec, sizeof(*rec));
    copy->last = NULL;
    memcpy(slot(copy, 0), slot(rec, 0), n_first * slot_bytes(rec->n_candidates));
    if (n_kept > n_first)
        memcpy(slot(copy, n_first), slot(rec, n_first),
               (n_kept - n_first) * slot_bytes(rec->n_candidates));
}

uint32_t record_n_kept(const struct route_record *rec)
{
    return rec->n_entries < RECORD_DECISIONS ? rec->n_entries : RECORD_DECISIONS;
}

const struct decision *record_kept(const struct route_record *rec, uint32_t i,
                                   uint64_t *out_n_times, uint64_t *out_first_us)
{
    const uint32_t n_gone = rec->n_entries - record_n_kept(rec);
    const uint32_t at = place(i < RECORD_FIRST ? i : i + n_gone);
    *out_n_times = rec->n_times[at];
    *out_first_us = rec->first_us[at];
    return slot(rec, at);
}

const struct decision *record_last_binding(const struct route_record *rec)
{
    for (uint32_t i = record_n_kept(rec); i-- > 0;) {
        uint64_t n_times, first_us;
        const struct decision *d = record_kept(rec, i, &n_times, &first_us);
        if (d->chosen >= 0)
            return d;
    }
    return NULL;
}

/* --- JSON --- */

static void add_time(const struct route_record *rec, const char *name, uint64_t at_us,
                     struct buf *out)
{
    buf_addf(out, "\"%s\":", name);
    if (at_us >= rec->submitted_us)
        buf_addf(out, "%.3f,", (double)(at_us - rec->submitted_us) / 1000);
    else
        buf_addstr(out, "null,");
}

static void add_text(const char *name, const char *text, struct buf *out)
{
    buf_addf(out, "\"%s\":", name);
    json_add_cstr(out, text);
    buf_addch(out, ',');
}

static void add_error(const struct route_record *rec, struct buf *out)
{
    if (rec->error_code == 0) {
        buf_addstr(out, "\"error\":null,");
        return;
    }
    buf_addf(out, "\"error\":{\"status\":%d,\"message\":", err_http_status(rec->error_code));
    json_add_cstr(out, rec->error);
    buf_addstr(out, "},");
}

static void add_events(const struct route_record *rec, const char *name,
                       const struct record_events *events, struct buf *out)
{
    const uint32_t n_kept = (uint32_t)u64_min(events->n, RECORD_EVENTS);
    buf_addf(out, "\"n_%s\":%u,\"%s\":[", name, events->n, name);
    for (uint32_t i = events->n - n_kept; i < events->n; i++) {
        const struct record_event *ev = &events->last[i % RECORD_EVENTS];
        buf_addf(out, "%s{\"worker\":%u,", i > events->n - n_kept ? "," : "", ev->worker);
        add_time(rec, "at_ms", ev->at_us, out);
        buf_addf(out, "\"output_tokens\":%u,\"why\":", ev->n_output_tokens);
        json_add_cstr(out, ev->why);
        buf_addch(out, '}');
    }
    buf_addstr(out, "],");
}

static void add_decisions(const struct route_record *rec, struct buf *out)
{
    buf_addf(out, "\"n_decisions\":%llu,\"n_left_out\":%llu,\"decisions\":[",
             (unsigned long long)rec->n_decisions, (unsigned long long)rec->n_left_out);
    for (uint32_t i = 0; i < record_n_kept(rec); i++) {
        uint64_t n_times, first_us;
        const struct decision *d = record_kept(rec, i, &n_times, &first_us);
        buf_addf(out, "%s{\"times\":%llu,", i ? "," : "", (unsigned long long)n_times);
        add_time(rec, "first_ms", first_us, out);
        add_time(rec, "last_ms", d->at_us, out);
        decision_add_members(d, out);
        buf_addch(out, '}');
    }
    buf_addch(out, ']');
}

void record_add_json(const struct route_record *rec, struct buf *out)
{
    buf_addch(out, '{');
    add_text("id", rec->id, out);
    add_text("model", rec->model, out);
    add_text("key", rec->key[0] ? rec->key : NULL, out);
    add_text("outcome", route_outcome_name(rec->outcome), out);
    add_error(rec, out);
    if (rec->worker >= 0)
        buf_addf(out, "\"worker\":%d,", rec->worker);
    else
        buf_addstr(out, "\"worker\":null,");
    buf_addf(out,
             "\"prompt_tokens\":%u,\"cached_tokens\":%u,\"output_tokens\":%u,\"max_tokens\":%u,"
             "\"choices\":%u,\"priority\":%lld,\"submitted\":%.6f,",
             rec->n_prompt_tokens, rec->n_cached_tokens, rec->n_output_tokens, rec->max_tokens,
             rec->n_choices, (long long)rec->priority, (double)rec->submitted_wall_us / 1e6);
    add_time(rec, "queued_ms", rec->queued_us, out);
    add_time(rec, "bound_ms", rec->bound_us, out);
    add_time(rec, "started_ms", rec->started_us, out);
    add_time(rec, "first_token_ms", rec->first_token_us, out);
    add_time(rec, "over_ms", rec->over_us, out);
    add_events(rec, "migrations", &rec->moves, out);
    add_events(rec, "refusals", &rec->refusals, out);
    add_decisions(rec, out);
    buf_addch(out, '}');
}
