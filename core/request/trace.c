#include "core/request/trace.h"

#include <string.h>

#include "core/util/json.h"

const char *gap_cause_name(enum gap_cause c)
{
    static const char *const names[GAP_N_CAUSES] = {
        [GAP_STEP] = "step",           [GAP_BATCH] = "batch",   [GAP_PREFILL] = "prefill",
        [GAP_STALL] = "stall",         [GAP_CLIENT] = "client", [GAP_PREEMPTION] = "preemption",
        [GAP_MIGRATION] = "migration",
    };
    return (size_t)c < GAP_N_CAUSES ? names[c] : "unknown";
}

/* Puts the gap where it belongs among the slowest, if it does. */
static void keep(struct request_trace *t, const struct trace_gap *gap)
{
    uint32_t at = t->n_gaps;
    while (at > 0 && t->gaps[at - 1].us < gap->us)
        at--;
    if (at == TRACE_GAPS)
        return;
    if (t->n_gaps < TRACE_GAPS)
        t->n_gaps++;
    memmove(&t->gaps[at + 1], &t->gaps[at], (t->n_gaps - at - 1) * sizeof(*t->gaps));
    t->gaps[at] = *gap;
}

void trace_add_gap(struct request_trace *t, const struct trace_gap *gap)
{
    for (int i = 0; i < GAP_N_CAUSES; i++)
        t->part_us[i] += gap->part_us[i];
    keep(t, gap);
}

void trace_add_chunk(struct request_trace *t, const struct trace_chunk *chunk)
{
    if (t->n_chunks < TRACE_CHUNKS) {
        t->chunks[t->n_chunks++] = *chunk;
        return;
    }
    struct trace_chunk *last = &t->chunks[TRACE_CHUNKS - 1];
    last->us = chunk->began_us + chunk->us - last->began_us;
    last->n_rows += chunk->n_rows;
    last->n_step_rows += chunk->n_step_rows;
    last->n_decodes += chunk->n_decodes;
    last->n_steps += chunk->n_steps;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

void trace_merge(struct request_trace *to, const struct request_trace *from)
{
    to->queued_us = earlier(to->queued_us, from->queued_us);
    to->scheduled_us = earlier(to->scheduled_us, from->scheduled_us);
    to->first_token_us = earlier(to->first_token_us, from->first_token_us);
    to->last_token_us = u64_max(to->last_token_us, from->last_token_us);
    to->n_cached_tokens += from->n_cached_tokens;
    to->n_preemptions += from->n_preemptions;
    to->n_migrations += from->n_migrations;
    to->worker = from->worker >= 0 ? from->worker : to->worker;
    for (int i = 0; i < GAP_N_CAUSES; i++)
        to->part_us[i] += from->part_us[i];
    for (uint32_t i = 0; i < from->n_gaps; i++)
        keep(to, &from->gaps[i]);
    if (to->n_chunks == 0) {
        memcpy(to->chunks, from->chunks, sizeof(to->chunks));
        to->n_chunks = from->n_chunks;
    }
}

static long long since(uint64_t at_us, uint64_t began_us)
{
    return (long long)at_us - (long long)began_us;
}

static void add_chunk(const struct trace_chunk *c, uint64_t began_us, struct buf *out)
{
    buf_addf(out,
             "{\"at_us\":%lld,\"us\":%llu,\"rows\":%llu,\"step_rows\":%llu,\"decodes\":%u,"
             "\"steps\":%u}",
             since(c->began_us, began_us), (unsigned long long)c->us, (unsigned long long)c->n_rows,
             (unsigned long long)c->n_step_rows, c->n_decodes, c->n_steps);
}

/* {"step":1,...}, without causes that took nothing. */
static void add_parts(const uint64_t part_us[GAP_N_CAUSES], struct buf *out)
{
    const char *comma = "";
    buf_addch(out, '{');
    for (int i = 0; i < GAP_N_CAUSES; i++) {
        if (part_us[i] == 0)
            continue;
        buf_addf(out, "%s\"%s\":%llu", comma, gap_cause_name((enum gap_cause)i),
                 (unsigned long long)part_us[i]);
        comma = ",";
    }
    buf_addch(out, '}');
}

static void add_gap(const struct trace_gap *g, uint64_t began_us, struct buf *out)
{
    buf_addf(out,
             "{\"at_us\":%lld,\"us\":%llu,\"cause\":\"%s\",\"choice\":%u,\"tokens\":%u,"
             "\"worker\":%u,\"steps\":%llu,\"decodes\":%u,\"prefill_rows\":%u",
             since(g->ended_us - g->us, began_us), (unsigned long long)g->us,
             gap_cause_name(g->cause), g->choice, g->n_tokens, g->worker,
             (unsigned long long)g->n_steps, g->n_decodes, g->n_prefill_rows);
    if (g->other[0]) {
        buf_addstr(out, ",\"other\":");
        json_add_cstr(out, g->other);
    }
    if (g->part_us[g->cause] != g->us) {
        buf_addstr(out, ",\"part_us\":");
        add_parts(g->part_us, out);
    }
    buf_addch(out, '}');
}

void trace_add_json(const struct request_trace *t, uint64_t began_us, struct buf *out)
{
    buf_addstr(out, "{\"last_token_us\":");
    if (t->last_token_us)
        buf_addf(out, "%lld", since(t->last_token_us, began_us));
    else
        buf_addstr(out, "null");
    buf_addstr(out, ",\"part_us\":");
    add_parts(t->part_us, out);
    buf_addstr(out, ",\"chunks\":[");
    for (uint32_t i = 0; i < t->n_chunks; i++) {
        buf_addstr(out, i ? "," : "");
        add_chunk(&t->chunks[i], began_us, out);
    }
    buf_addstr(out, "],\"gaps\":[");
    for (uint32_t i = 0; i < t->n_gaps; i++) {
        buf_addstr(out, i ? "," : "");
        add_gap(&t->gaps[i], began_us, out);
    }
    buf_addstr(out, "]}");
}
