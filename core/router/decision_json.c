/* decision_json.c - decisions as JSON, written and read back. */
#include <math.h>
#include <stdlib.h>

#include "core/router/decision.h"
#include "core/util/json.h"

/* --- out --- */

static void add_candidate(const struct candidate *c, struct buf *out)
{
    buf_addf(out, "{\"worker\":%u,\"bar\":", c->worker);
    json_add_cstr(out, c->bar == BAR_NONE ? NULL : route_bar_text(c->bar));
    buf_addf(out,
             ",\"owed_tokens\":%llu,\"cached_tokens\":%u,\"held_tokens\":%u,\"prefilling\":%u,"
             "\"decoding\":%u,\"step_us\":%u,\"last_chosen\":%llu,\"cost\":",
             (unsigned long long)c->n_owed_tokens, c->n_cached_tokens, c->n_held_tokens,
             c->n_prefilling, c->n_decoding, c->step_us, (unsigned long long)c->last_chosen);
    json_add_double(out, c->cost);
    buf_addch(out, '}');
}

static void add_worker(const struct decision *d, const char *name, int32_t index, struct buf *out)
{
    if (index >= 0)
        buf_addf(out, "\"%s\":%u,", name, d->candidates[index].worker);
    else
        buf_addf(out, "\"%s\":null,", name);
}

void decision_add_members(const struct decision *d, struct buf *out)
{
    struct buf why = {0};
    decision_explain(d, &why);
    buf_addf(out, "\"number\":%llu,\"at_us\":%llu,\"policy\":\"%s\",\"prompt_tokens\":%u,",
             (unsigned long long)d->number, (unsigned long long)d->at_us,
             route_policy_name(d->policy), d->n_prompt_tokens);
    if (d->has_session)
        buf_addf(out, "\"session\":\"%016llx\",", (unsigned long long)d->session);
    buf_addstr(out, "\"alpha\":");
    json_add_double(out, d->alpha);
    buf_addstr(out, ",\"delta\":");
    json_add_double(out, d->delta);
    buf_addch(out, ',');
    add_worker(d, "worker", d->chosen, out);
    add_worker(d, "awaited", d->awaited, out);
    buf_addf(out, "\"reason\":\"%s\",\"why\":", route_reason_name(d->reason));
    json_add_cstr(out, buf_str(&why));
    buf_addstr(out, ",\"candidates\":[");
    for (uint32_t i = 0; i < d->n_candidates; i++) {
        buf_addstr(out, i ? "," : "");
        add_candidate(&d->candidates[i], out);
    }
    buf_addch(out, ']');
    out->failed |= why.failed;
    buf_fini(&why);
}

void decision_add_json(const struct decision *d, struct buf *out)
{
    buf_addch(out, '{');
    decision_add_members(d, out);
    buf_addch(out, '}');
}

/* --- in --- */

/* One object; after the first fault (rc) all reads give nothing. */
struct reader {
    const json_t *object;
    int rc;
    struct err *e;
};

static void wrong(struct reader *r, const char *name, const char *what)
{
    if (r->rc == 0)
        r->rc = err_set(r->e, LLMD_EPARSE, "decision: \"%s\" must be %s", name, what);
}

static uint64_t read_u64(struct reader *r, const char *name, uint64_t max)
{
    const json_t *v = json_object_get(r->object, name);
    const json_int_t n = json_is_integer(v) ? json_integer_value(v) : -1;
    if (n < 0 || (uint64_t)n > max) {
        wrong(r, name, max == UINT32_MAX ? "an integer from 0 to 2^32 - 1" : "an integer from 0");
        return 0;
    }
    return (uint64_t)n;
}

static uint32_t read_u32(struct reader *r, const char *name)
{
    return (uint32_t)read_u64(r, name, UINT32_MAX);
}

static double read_double(struct reader *r, const char *name)
{
    const json_t *v = json_object_get(r->object, name);
    if (!json_is_number(v) || !isfinite(json_number_value(v)))
        wrong(r, name, "a number");
    return json_number_value(v);
}

/* NULL for null, and for anything but a string, which is a fault. */
static const char *read_str(struct reader *r, const char *name, bool null_too)
{
    const json_t *v = json_object_get(r->object, name);
    if (!json_is_string(v) && !(null_too && json_is_null(v)))
        wrong(r, name, null_too ? "a string or null" : "a string");
    return json_string_value(v);
}

static void read_session(struct reader *r, struct decision *d)
{
    if (!json_object_get(r->object, "session"))
        return;
    const char *hex = read_str(r, "session", false);
    char *end = NULL;
    d->has_session = true;
    if (hex)
        d->session = strtoull(hex, &end, 16);
    if (hex && (*hex == '\0' || *end))
        wrong(r, "session", "a hexadecimal number");
}

static void read_candidate(struct reader *r, const struct decision *d, struct candidate *c)
{
    *c = (struct candidate){
        .worker = read_u32(r, "worker"),
        .n_owed_tokens = read_u64(r, "owed_tokens", INT64_MAX),
        .n_cached_tokens = read_u32(r, "cached_tokens"),
        .n_held_tokens = read_u32(r, "held_tokens"),
        .n_prefilling = read_u32(r, "prefilling"),
        .n_decoding = read_u32(r, "decoding"),
        .step_us = json_object_get(r->object, "step_us") ? read_u32(r, "step_us") : 0,
        .last_chosen = read_u64(r, "last_chosen", INT64_MAX),
        .cost = read_double(r, "cost"),
    };
    const char *bar = read_str(r, "bar", true);
    if (bar && (!route_bar_find(bar, &c->bar) || c->bar == BAR_NONE))
        wrong(r, "bar", "null or why the worker cannot take it");
    if (c->n_cached_tokens > d->n_prompt_tokens)
        wrong(r, "cached_tokens", "at most \"prompt_tokens\"");
    if (c->n_held_tokens > c->n_cached_tokens)
        wrong(r, "held_tokens", "at most \"cached_tokens\"");
}

/* The candidate of the worker that the member names, which must have that bar; -1 for null. */
static int32_t read_worker(struct reader *r, const char *name, const struct decision *d,
                           enum route_bar bar)
{
    if (json_is_null(json_object_get(r->object, name)))
        return -1;
    const uint32_t worker = read_u32(r, name);
    for (uint32_t i = 0; i < d->n_candidates; i++)
        if (d->candidates[i].worker == worker && d->candidates[i].bar == bar)
            return (int32_t)i;
    wrong(r, name,
          bar == BAR_NONE ? "null or a candidate that can take it"
                          : "null or a candidate that is behind");
    return -1;
}

static void read_decision(struct reader *r, const json_t *candidates, struct decision *d)
{
    *d = (struct decision){
        .number = read_u64(r, "number", INT64_MAX),
        .at_us = read_u64(r, "at_us", INT64_MAX),
        .n_prompt_tokens = read_u32(r, "prompt_tokens"),
        .alpha = read_double(r, "alpha"),
        .delta = read_double(r, "delta"),
        .n_candidates = (uint32_t)json_array_size(candidates),
    };
    const char *policy = read_str(r, "policy", false), *reason = read_str(r, "reason", false);
    if (policy && !route_policy_find(policy, &d->policy))
        wrong(r, "policy", "the name of a policy");
    if (reason && !route_reason_find(reason, &d->reason))
        wrong(r, "reason", "the name of a reason");
    read_session(r, d);
    for (uint32_t i = 0; i < d->n_candidates && r->rc == 0; i++) {
        struct reader one = {.object = json_array_get(candidates, i), .e = r->e};
        read_candidate(&one, d, &d->candidates[i]);
        r->rc = one.rc;
        for (uint32_t k = 0; k < i; k++)
            if (d->candidates[k].worker == d->candidates[i].worker)
                wrong(r, "candidates", "of different workers");
    }
    d->chosen = read_worker(r, "worker", d, BAR_NONE);
    d->awaited = read_worker(r, "awaited", d, BAR_BACKLOG);
    const bool waits = d->reason == REASON_NONE || d->reason == REASON_BACKLOG;
    if (waits == (d->chosen >= 0) || (d->awaited >= 0) != (d->reason == REASON_BACKLOG))
        wrong(r, "reason", "one that goes with \"worker\" and \"awaited\"");
}

int decision_from_json(const char *text, size_t n, struct decision **out, struct err *e)
{
    json_t *v = NULL;
    int rc = json_parse(text, n, &v, e);
    if (rc)
        return rc;
    struct reader r = {.object = v, .e = e};
    const json_t *candidates = json_object_get(v, "candidates");
    struct decision *d = NULL;
    if (!json_is_array(candidates) || json_array_size(candidates) > DECISION_CANDIDATES)
        wrong(&r, "candidates", "an array of at most 64");
    else if (!(d = malloc(decision_bytes((uint32_t)json_array_size(candidates)))))
        r.rc = err_set(e, LLMD_ENOMEM, "out of memory for a decision");
    else
        read_decision(&r, candidates, d);
    json_decref(v);
    if (r.rc)
        free(d);
    else
        *out = d;
    return r.rc;
}
