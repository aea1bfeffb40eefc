#include "cmd/explain_text.h"

#include <math.h>
#include <string.h>

#include "cmd/control_client.h"
#include "core/store/row.h"

enum { TEXT_MAX = 512 };

static const char *text(const json_t *object, const char *name, char out[TEXT_MAX])
{
    return control_text(json_object_get(object, name), out, TEXT_MAX);
}

static bool known(const json_t *object, const char *name)
{
    return json_is_number(json_object_get(object, name));
}

static double ms(const json_t *object, const char *name)
{
    return control_number(object, name) / 1000;
}

/* ---- head ---- */

static void add_head(const json_t *story, struct buf *out)
{
    char a[TEXT_MAX], b[TEXT_MAX], time[STORE_TIME_CHARS];
    store_time_text((int64_t)control_number(story, "time_us"), time);
    buf_addf(out, "%s\n", text(story, "id", a));
    buf_addf(out, "  arrived %s", time);
    if (text(story, "client", a)[0])
        buf_addf(out, " from %s", a);
    if (text(story, "key", a)[0])
        buf_addf(out, ", key %s", a);
    buf_addf(out, "\n  model %s", text(story, "model", a)[0] ? a : "none");
    if (known(story, "worker"))
        buf_addf(out, ", worker %.0f", control_number(story, "worker"));
    if (known(story, "prompt_tokens"))
        buf_addf(out, "; %.0f prompt tokens (%.0f cached), %.0f output tokens",
                 control_number(story, "prompt_tokens"), control_number(story, "cached_tokens"),
                 control_number(story, "output_tokens"));
    if (json_is_true(json_object_get(story, "live")))
        buf_addf(out, "\n  it is with the server: %s", text(story, "finish", b));
    else
        buf_addf(out, "\n  status %.0f, %s, after %.1f ms", control_number(story, "status"),
                 text(story, "finish", b)[0] ? b : "refused", ms(story, "total_us"));
    if (text(story, "error", a)[0])
        buf_addf(out, "\n  error: %s", a);
    buf_addch(out, '\n');
}

/* ---- route ---- */

static void add_candidates(const json_t *decision, struct buf *out)
{
    const json_t *c, *list = json_object_get(decision, "candidates");
    char bar[TEXT_MAX];
    size_t i;
    if (json_array_size(list) > 0)
        buf_addf(out, "       %-6s %10s %8s %8s %8s %10s %8s\n", "worker", "cost", "owed", "cached",
                 "held", "prefilling", "decoding");
    json_array_foreach(list, i, c)
    {
        const bool chosen = known(decision, "worker") &&
                            control_number(decision, "worker") == control_number(c, "worker");
        buf_addf(out, "     %c %-6.0f", chosen ? '>' : ' ', control_number(c, "worker"));
        if (known(c, "cost"))
            buf_addf(out, " %10.1f", control_number(c, "cost"));
        else
            buf_addf(out, " %10s", "-");
        buf_addf(out, " %8.0f %8.0f %8.0f %10.0f %8.0f", control_number(c, "owed_tokens"),
                 control_number(c, "cached_tokens"), control_number(c, "held_tokens"),
                 control_number(c, "prefilling"), control_number(c, "decoding"));
        if (text(c, "bar", bar)[0])
            buf_addf(out, "  (%s)", bar);
        buf_addch(out, '\n');
    }
}

static void add_events(const json_t *record, const char *name, const char *what, struct buf *out)
{
    const json_t *event;
    char why[TEXT_MAX];
    size_t i;
    json_array_foreach(json_object_get(record, name), i, event) buf_addf(
        out, "  worker %.0f %s after %.0f output tokens: %s\n", control_number(event, "worker"),
        what, control_number(event, "output_tokens"), text(event, "why", why));
}

static void add_record(const json_t *record, struct buf *out)
{
    const json_t *decision;
    char why[TEXT_MAX], policy[TEXT_MAX];
    size_t i;
    json_array_foreach(json_object_get(record, "decisions"), i, decision)
    {
        buf_addf(out, "  after %.1f ms: %s", control_number(decision, "first_ms"),
                 text(decision, "why", why));
        if (control_number(decision, "times") > 1)
            buf_addf(out, " (%.0f times, until %.1f ms)", control_number(decision, "times"),
                     control_number(decision, "last_ms"));
        buf_addf(out, "; policy %s, alpha %g, delta %.1f\n", text(decision, "policy", policy),
                 control_number(decision, "alpha"), control_number(decision, "delta"));
        add_candidates(decision, out);
    }
    add_events(record, "refusals", "would not have it", out);
    add_events(record, "migrations", "lost it", out);
}

static void add_route(const json_t *story, struct buf *out)
{
    const json_t *record, *list = json_object_get(story, "route");
    size_t i;
    if (json_array_size(list) == 0)
        return;
    buf_addstr(out, "\nRoute (costs in prompt tokens; times since the router had it)\n");
    json_array_foreach(list, i, record)
    {
        if (json_array_size(list) > 1)
            buf_addf(out, "  prompt %zu\n", i);
        add_record(record, out);
    }
}

/* ---- time line ---- */

static void add_at(struct buf *out, double at_ms, const char *what)
{
    buf_addf(out, "  %10.1f  %s", at_ms, what);
}

static void add_chunks(const json_t *timeline, struct buf *out)
{
    const json_t *c;
    size_t i;
    json_array_foreach(json_object_get(timeline, "chunks"), i, c)
    {
        add_at(out, ms(c, "at_us"), "  prefill");
        buf_addf(out, " of %.0f rows in %.1f ms", control_number(c, "rows"), ms(c, "us"));
        if (control_number(c, "steps") > 1)
            buf_addf(out, " and %.0f steps", control_number(c, "steps"));
        const double others = control_number(c, "step_rows") - control_number(c, "rows");
        if (others > 0)
            buf_addf(out, ", beside %.0f rows of others", others);
        buf_addch(out, '\n');
    }
}

static void add_gaps(const json_t *timeline, struct buf *out)
{
    const json_t *g;
    char cause[TEXT_MAX], other[TEXT_MAX];
    size_t i;
    if (json_array_size(json_object_get(timeline, "gaps")) > 0)
        buf_addstr(out, "\nSlowest gaps between tokens\n");
    json_array_foreach(json_object_get(timeline, "gaps"), i, g)
    {
        add_at(out, ms(g, "at_us"), text(g, "cause", cause));
        buf_addf(out, ": %.1f ms before token %.0f", ms(g, "us"), control_number(g, "tokens"));
        if (control_number(g, "choice") > 0)
            buf_addf(out, " of choice %.0f", control_number(g, "choice"));
        buf_addf(out, " (worker %.0f: %.0f decodes", control_number(g, "worker"),
                 control_number(g, "decodes"));
        if (control_number(g, "prefill_rows") > 0)
            buf_addf(out, ", %.0f prompt rows of others", control_number(g, "prefill_rows"));
        if (text(g, "other", other)[0])
            buf_addf(out, ", most of %s", other);
        buf_addstr(out, ")\n");
    }
}

static void add_timeline(const json_t *story, struct buf *out)
{
    const json_t *timeline = json_object_get(story, "timeline");
    const double edge = ms(story, "edge_us"), queue = ms(story, "queue_us");
    buf_addstr(out, "\nTime line (ms since its arrival)\n");
    add_at(out, 0, "arrived\n");
    if (known(story, "edge_us"))
        add_at(out, edge, "read, checked, tokenized: to the router\n");
    if (known(story, "queue_us")) {
        add_at(out, edge + queue, "first rows computed");
        buf_addf(out, ", after %.1f ms of waiting\n", queue);
    }
    add_chunks(timeline, out);
    if (known(story, "first_token_us"))
        add_at(out, ms(story, "first_token_us"), "first token\n");
    if (known(timeline, "last_token_us"))
        add_at(out, ms(timeline, "last_token_us"), "last token\n");
    if (known(story, "total_us") && !json_is_true(json_object_get(story, "live")))
        add_at(out, ms(story, "total_us"), "last byte\n");
    add_gaps(timeline, out);
}

static void add_parts(const struct explain_parts *p, struct buf *out)
{
    buf_addstr(out, "\nWhere the time went\n");
    for (int i = 0; i < PART_COUNT; i++)
        if (p->us[i] > 0)
            buf_addf(out, "  %10.1f ms %3.0f %%  %s\n", p->us[i] / 1000,
                     p->total_us > 0 ? p->us[i] / p->total_us * 100 : 0,
                     explain_part_name((enum explain_part)i));
}

void explain_text(const json_t *story, struct buf *out)
{
    struct explain_parts parts;
    explain_measure(story, &parts);
    add_head(story, out);
    add_route(story, out);
    add_timeline(story, out);
    add_parts(&parts, out);
    buf_addch(out, '\n');
    explain_verdict(story, &parts, out);
}
