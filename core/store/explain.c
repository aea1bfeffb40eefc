#include "core/store/explain.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/json.h"
#include "core/util/printable.h"

enum { TEXT_MAX = 256 };

static const char *const names[PART_COUNT] = {
    [PART_EDGE] = "edge",
    [PART_QUEUE] = "queue",
    [PART_PREFILL] = "prefill",
    [PART_PREFILL_OTHERS] = "prefill beside others",
    [PART_DECODE] = "decode",
    [PART_BATCH] = "batch",
    [PART_GAP_PREFILL] = "prefill of others",
    [PART_STALL] = "stall",
    [PART_CLIENT] = "slow client",
    [PART_PREEMPTION] = "preemption",
    [PART_MIGRATION] = "migration",
};

const char *explain_part_name(enum explain_part p)
{
    return names[p];
}

/* Gap causes as the time line names them, and the part each belongs to. */
static const struct {
    const char *cause;
    enum explain_part part;
} causes[] = {
    {"step", PART_DECODE},         {"batch", PART_BATCH},   {"prefill", PART_GAP_PREFILL},
    {"stall", PART_STALL},         {"client", PART_CLIENT}, {"preemption", PART_PREEMPTION},
    {"migration", PART_MIGRATION},
};

static double number(const json_t *object, const char *name)
{
    return json_number_value(json_object_get(object, name));
}

/* A number that must not be negative; 0 when it is not known. */
static double amount(const json_t *object, const char *name)
{
    return fmax(0, number(object, name));
}

/* A member as text that is fit for a terminal, cut; "" when it is no string. */
static const char *text(const json_t *object, const char *name, char out[TEXT_MAX])
{
    const json_t *v = json_object_get(object, name);
    const char *s = json_string_value(v);
    printable_text(s ? s : "", json_string_length(v), "", out, TEXT_MAX);
    return out;
}

/* Of several choices the gaps overlap: they are shares of the time from first to last token. */
static void measure_decode(const json_t *timeline, double decode_us, struct explain_parts *out)
{
    const json_t *parts = json_object_get(timeline, "part_us");
    double sum = 0;
    for (size_t i = 0; i < ARRAY_LEN(causes); i++)
        sum += amount(parts, causes[i].cause);
    for (size_t i = 0; i < ARRAY_LEN(causes) && sum > 0; i++)
        out->us[causes[i].part] += amount(parts, causes[i].cause) / sum * decode_us;
}

static void measure_prefill(const json_t *timeline, double prefill_us, struct explain_parts *out)
{
    const json_t *chunk;
    size_t i;
    double own = 0;
    json_array_foreach(json_object_get(timeline, "chunks"), i, chunk)
    {
        const double rows = amount(chunk, "rows"), all = amount(chunk, "step_rows");
        own += all > 0 ? amount(chunk, "us") * rows / all : 0;
    }
    out->us[PART_PREFILL] = own > 0 ? fmin(own, prefill_us) : prefill_us;
    out->us[PART_PREFILL_OTHERS] = prefill_us - out->us[PART_PREFILL];
}

/* Of one that lives: its tokens are paused, for its client takes none. */
static bool waits_for_client(const json_t *story)
{
    const char *who = json_string_value(json_object_get(story, "waits_for"));
    return who && strcmp(who, "client") == 0;
}

void explain_measure(const json_t *story, struct explain_parts *out)
{
    const json_t *timeline = json_object_get(story, "timeline");
    const double first = amount(story, "first_token_us"), last = amount(timeline, "last_token_us");
    *out = (struct explain_parts){.total_us = amount(story, "total_us")};
    out->us[PART_EDGE] = amount(story, "edge_us");
    out->us[PART_QUEUE] = amount(story, "queue_us");
    measure_prefill(timeline, amount(story, "prefill_us"), out);
    if (last > 0) {
        measure_decode(timeline, fmax(0, last - first), out);
        if (!json_is_true(json_object_get(story, "live")) || waits_for_client(story))
            out->us[PART_CLIENT] += fmax(0, out->total_us - last);
    }
    for (int i = 1; i < PART_COUNT; i++)
        if (out->us[i] > out->us[out->most])
            out->most = (enum explain_part)i;
}

/* ---- the sentence ---- */

/* "812.0 of 1020.3 ms (80 %)" */
static void add_share(const struct explain_parts *p, struct buf *out)
{
    const double us = p->us[p->most];
    buf_addf(out, "%.1f of %.1f ms (%.0f %%)", us / 1000, p->total_us / 1000,
             p->total_us > 0 ? us / p->total_us * 100 : 0);
}

/* The slowest gap of that cause; NULL. */
static const json_t *slowest(const json_t *story, const char *cause)
{
    const json_t *gap;
    size_t i;
    json_array_foreach(json_object_get(json_object_get(story, "timeline"), "gaps"), i, gap)
    {
        const char *is = json_string_value(json_object_get(gap, "cause"));
        if (is && strcmp(is, cause) == 0)
            return gap;
    }
    return NULL;
}

static const json_t *first_decision(const json_t *story)
{
    const json_t *record = json_array_get(json_object_get(story, "route"), 0);
    return json_array_get(json_object_get(record, "decisions"), 0);
}

/* What stood before it when it came. */
static void add_queue_reason(const json_t *story, struct buf *out)
{
    const json_t *decision = first_decision(story), *c, *best = NULL;
    char why[TEXT_MAX];
    size_t i;
    json_array_foreach(json_object_get(decision, "candidates"), i,
                       c) if (!best || amount(c, "cost") < amount(best, "cost")) best = c;
    if (!best)
        return;
    buf_addf(out, "; when it came, %s", text(decision, "why", why));
    buf_addf(out, " (worker %.0f owed %.0f prompt tokens to %.0f others and decoded for %.0f",
             amount(best, "worker"), amount(best, "owed_tokens"), amount(best, "prefilling"),
             amount(best, "decoding"));
    text(best, "bar", why);
    buf_addf(out, "%s%s)", why[0] ? ": " : "", why);
}

static void add_gap(const json_t *gap, struct buf *out)
{
    char other[TEXT_MAX];
    if (!gap)
        return;
    buf_addf(out, "; the longest gap, %.1f ms before token %.0f", amount(gap, "us") / 1000,
             amount(gap, "tokens"));
    if (amount(gap, "prefill_rows") > 0)
        buf_addf(out, ", in a step with %.0f prompt rows of others", amount(gap, "prefill_rows"));
    if (text(gap, "other", other)[0])
        buf_addf(out, ", most of them of %s", other);
}

/* ---- what its route says besides ---- */

/* The candidate that had it, of the last decision that gave it to one; NULL. */
static const json_t *chosen_candidate(const json_t *story, const json_t **out_decision)
{
    const json_t *record = json_array_get(json_object_get(story, "route"), 0);
    const json_t *decisions = json_object_get(record, "decisions"), *c;
    size_t i;
    for (size_t n = json_array_size(decisions); n > 0; n--) {
        *out_decision = json_array_get(decisions, n - 1);
        const json_t *worker = json_object_get(*out_decision, "worker");
        json_array_foreach(json_object_get(*out_decision, "candidates"), i,
                           c) if (json_is_integer(worker) &&
                                  json_equal(worker, json_object_get(c, "worker"))) return c;
    }
    return NULL;
}

static double n_with(const json_t *candidate)
{
    return amount(candidate, "prefilling") + amount(candidate, "decoding");
}

/* Another candidate, the one with the least of that; NULL: there is none. */
static const json_t *least_other(const json_t *decision, const json_t *chosen,
                                 double (*of)(const json_t *))
{
    const json_t *c, *least = NULL;
    size_t i;
    json_array_foreach(json_object_get(decision, "candidates"), i,
                       c) if (c != chosen && of(c) >= 0 && (!least || of(c) < of(least))) least = c;
    return least;
}

/* Below 0: not known. */
static double step_us(const json_t *candidate)
{
    const double us = amount(candidate, "step_us");
    return us > 0 ? us : -1;
}

/* Its worker's steps take several times as long as another's, more than its batch accounts for. */
static void add_slow_worker(const json_t *decision, const json_t *c, struct buf *out)
{
    enum { TIMES = 3, NOTICED_US = 1000 };
    const json_t *other = least_other(decision, c, step_us);
    if (!other || step_us(c) < 0)
        return;
    const double more = fmax(1, amount(c, "decoding") / fmax(1, amount(other, "decoding")));
    if (step_us(c) < TIMES * more * step_us(other) || step_us(c) - step_us(other) < NOTICED_US)
        return;
    buf_addf(
        out,
        ". Worker %.0f is slow: when it came, a step took %.1f ms there, %.1f ms on worker %.0f",
        amount(c, "worker"), step_us(c) / 1000, step_us(other) / 1000, amount(other, "worker"));
}

/* Many are where the beginning of their prompts is cached, and another worker has less to do. */
static void add_hot_prefix(const json_t *decision, const json_t *c, struct buf *out)
{
    enum { MORE = 4 };
    const json_t *other = least_other(decision, c, n_with);
    const double n_prompt = amount(decision, "prompt_tokens"), cached = amount(c, "cached_tokens");
    if (!other || 2 * cached < n_prompt || 2 * amount(other, "cached_tokens") >= n_prompt ||
        n_with(c) < MORE + n_with(other))
        return;
    buf_addf(out,
             ". It went to worker %.0f, where %.0f of its %.0f prompt tokens are cached, and %.0f "
             "others "
             "were; worker %.0f, with %.0f, had %.0f of them",
             amount(c, "worker"), cached, n_prompt, n_with(c), amount(other, "worker"),
             n_with(other), amount(other, "cached_tokens"));
}

static void add_route_reason(const json_t *story, struct buf *out)
{
    const json_t *decision, *c = chosen_candidate(story, &decision);
    if (!c)
        return;
    add_slow_worker(decision, c, out);
    add_hot_prefix(decision, c, out);
}

void explain_verdict(const json_t *story, const struct explain_parts *p, struct buf *out)
{
    static const char *const sentences[PART_COUNT] = {
        [PART_EDGE] = "Most of its time went into reading the request, template and tokens: ",
        [PART_QUEUE] = "It mostly waited for its turn behind others: ",
        [PART_PREFILL] = "Most of its time went into computing its own prompt: ",
        [PART_PREFILL_OTHERS] = "Its prompt mostly waited for others computed beside it: ",
        [PART_DECODE] = "Most of its time went into computing its own tokens, undisturbed: ",
        [PART_BATCH] = "Its tokens were mostly slowed by other answers in the same batch: ",
        [PART_GAP_PREFILL] = "Its tokens were mostly slowed by prompts of others: ",
        [PART_STALL] = "Its worker mostly stalled, for no reason that it knows: ",
        [PART_CLIENT] = "Its client read slowly: ",
        [PART_PREEMPTION] = "Its KV blocks were taken away and had to be computed anew: ",
        [PART_MIGRATION] = "Its worker was lost and another went on with it: ",
    };
    if (p->us[p->most] <= 0) {
        char error[TEXT_MAX];
        text(story, "error", error);
        buf_addf(out, "Nothing was computed for it%s%s.\n", error[0] ? ": " : "", error);
        return;
    }
    buf_addstr(out, sentences[p->most]);
    add_share(p, out);
    if (p->most == PART_QUEUE)
        add_queue_reason(story, out);
    for (size_t i = 0; i < ARRAY_LEN(causes); i++)
        if (causes[i].part == p->most)
            add_gap(slowest(story, causes[i].cause), out);
    add_route_reason(story, out);
    buf_addstr(out, ".\n");
}

/* ---- a request that a server still knows ---- */

/* Moves a member from one object into another, under another name. */
static void take(json_t *to, const char *name, json_t *from, const char *of)
{
    json_t *v = json_object_get(from, of);
    if (v)
        json_object_set(to, name, v);
}

static void set_us(json_t *to, const char *name, double at_ms)
{
    json_object_set_new(to, name, json_real(at_ms * 1000));
}

json_t *explain_live_story(json_t *record)
{
    json_t *story = json_object();
    if (!story)
        return NULL;
    const double submitted_us = number(record, "submitted") * 1e6;
    const double edge_ms = number(record, "edge_us") / 1000,
                 age_ms = number(record, "age_us") / 1000;
    const double started = number(record, "started_ms");
    const double first = number(record, "first_token_ms");
    const double over = number(record, "over_ms");
    take(story, "id", record, "id");
    take(story, "model", record, "model");
    take(story, "key", record, "key");
    take(story, "worker", record, "worker");
    take(story, "prompt_tokens", record, "prompt_tokens");
    take(story, "cached_tokens", record, "cached_tokens");
    take(story, "output_tokens", record, "output_tokens");
    take(story, "finish", record, "outcome");
    take(story, "error", json_object_get(record, "error"), "message");
    take(story, "timeline", record, "timeline");
    take(story, "waits_for", record, "waits_for");
    json_object_set_new(story, "live", json_true());
    json_object_set_new(story, "route", json_pack("[O]", record));
    json_object_set_new(story, "time_us", json_real(submitted_us - edge_ms * 1000));
    set_us(story, "edge_us", edge_ms);
    set_us(story, "total_us", fmax(edge_ms + over, age_ms));
    set_us(story, "queue_us", started > 0 ? started : fmax(0, age_ms - edge_ms));
    if (first > 0) {
        set_us(story, "prefill_us", first - started);
        set_us(story, "first_token_us", edge_ms + first);
    }
    return story;
}

/* ---- JSON ---- */

void explain_json(const json_t *story, struct buf *out)
{
    struct explain_parts parts;
    struct buf verdict = {0};
    char *dump = json_dumps(story, JSON_COMPACT);
    explain_measure(story, &parts);
    explain_verdict(story, &parts, &verdict);
    buf_addf(out, "{\"dominated\":\"%s\",\"dominated_us\":%.0f,\"verdict\":",
             explain_part_name(parts.most), parts.us[parts.most]);
    json_add_str(out, buf_str(&verdict), verdict.len > 0 ? verdict.len - 1 : 0);
    buf_addstr(out, ",\"parts_us\":{");
    for (int i = 0; i < PART_COUNT; i++)
        buf_addf(out, "%s\"%s\":%.0f", i ? "," : "", names[i], parts.us[i]);
    buf_addf(out, "},\"request\":%s}", dump ? dump : "null");
    out->failed |= !dump || verdict.failed;
    buf_fini(&verdict);
    free(dump);
}
