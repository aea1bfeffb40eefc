#include "cmd/logs_stats.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/err.h"
#include "core/util/json.h"
#include "core/util/printable.h"

enum { NEVER = UINT32_MAX, MAX_GROUPS = UINT16_MAX - 1, ALL = -1 };

static const struct {
    enum store_field field;
    const char *name, *head;
} times[STATS_N_TIMES] = {
    {STORE_queue_us, "queue", "QUEUE"},
    {STORE_first_token_us, "first_token", "FIRST TOKEN"},
    {STORE_slowest_gap_us, "slowest_gap", "SLOWEST GAP"},
    {STORE_total_us, "total", "TOTAL"},
};
static const char *const groupings[STATS_N_GROUPINGS] = {"model", "worker", "key"};
static const int percentiles[] = {50, 95, 99};

uint64_t stats_fields(void)
{
    uint64_t bits = 0;
    const enum store_field others[] = {STORE_model,         STORE_worker,       STORE_key,
                                       STORE_status,        STORE_finish,       STORE_prompt_tokens,
                                       STORE_cached_tokens, STORE_output_tokens};
    for (int i = 0; i < STATS_N_TIMES; i++)
        bits |= 1ull << times[i].field;
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        bits |= 1ull << others[i];
    return bits;
}

/* ---- in ---- */

static int find_group(struct stats_grouping *g, const char *name, uint16_t *out)
{
    for (uint32_t i = 0; i < g->n; i++)
        if (strcmp(g->groups[i].name, name) == 0) {
            *out = (uint16_t)i;
            return 0;
        }
    if (g->n == MAX_GROUPS)
        return -LLMD_ELIMIT;
    if (g->n == g->cap) {
        uint32_t cap = g->cap ? g->cap * 2 : 16;
        struct stats_group *grown = realloc(g->groups, cap * sizeof(*grown));
        if (!grown)
            return -LLMD_ENOMEM;
        g->groups = grown;
        g->cap = cap;
    }
    char *copy = strdup(name);
    if (!copy)
        return -LLMD_ENOMEM;
    g->groups[g->n] = (struct stats_group){.name = copy};
    *out = (uint16_t)g->n++;
    return 0;
}

static void count(struct stats_group *g, const struct store_row *row, bool failed)
{
    g->n++;
    g->n_failed += failed;
    g->prompt_tokens += row->prompt_tokens > 0 ? (uint64_t)row->prompt_tokens : 0;
    g->cached_tokens += row->cached_tokens > 0 ? (uint64_t)row->cached_tokens : 0;
    g->output_tokens += row->output_tokens > 0 ? (uint64_t)row->output_tokens : 0;
}

static struct stats_row *next_row(struct stats *s)
{
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 1024;
        struct stats_row *grown = realloc(s->rows, cap * sizeof(*grown));
        if (!grown)
            return NULL;
        s->rows = grown;
        s->cap = cap;
    }
    return &s->rows[s->n];
}

int stats_add(void *ctx, const struct store_row *row)
{
    struct stats *s = ctx;
    struct stats_row *to = next_row(s);
    char worker[24] = "-";
    if (!to)
        return -LLMD_ENOMEM;
    if (row->worker >= 0)
        snprintf(worker, sizeof(worker), "%lld", (long long)row->worker);
    const char *names[STATS_N_GROUPINGS] = {row->model ? row->model : "-", worker,
                                            row->key ? row->key : "-"};
    to->failed = row->status >= 400 || (row->finish && strcmp(row->finish, "error") == 0);
    for (int i = 0; i < STATS_N_TIMES; i++) {
        int64_t us = store_row_int(row, times[i].field);
        to->times_us[i] = us < 0 ? NEVER : (uint32_t)u64_min((uint64_t)us, NEVER - 1u);
    }
    for (int i = 0; i < STATS_N_GROUPINGS; i++) {
        int rc = find_group(&s->groupings[i], names[i], &to->groups[i]);
        if (rc != 0)
            return rc;
        count(&s->groupings[i].groups[to->groups[i]], row, to->failed);
    }
    count(&s->all, row, to->failed);
    s->n++;
    return 0;
}

/* ---- out ---- */

/* Sorts n numbers by their bytes; other is as long. */
static void sort_u32(uint32_t *v, uint32_t *other, size_t n)
{
    for (int shift = 0; shift < 32; shift += 8) {
        size_t at[257] = {0};
        for (size_t i = 0; i < n; i++)
            at[(v[i] >> shift & 255) + 1]++;
        for (int b = 0; b < 256; b++)
            at[b + 1] += at[b];
        for (size_t i = 0; i < n; i++)
            other[at[v[i] >> shift & 255]++] = v[i];
        memcpy(v, other, n * sizeof(*v));
    }
}

/* Percentiles in milliseconds of one time of one group (grouping ALL: of all); NAN: it never happened.
 * scratch: [2][s->n]. */
static void measure(const struct stats *s, int grouping, uint16_t group, int time,
                    uint32_t *scratch, double out_ms[ARRAY_LEN(percentiles)])
{
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++)
        if ((grouping == ALL || s->rows[i].groups[grouping] == group) &&
            s->rows[i].times_us[time] != NEVER)
            scratch[n++] = s->rows[i].times_us[time];
    sort_u32(scratch, scratch + s->n, n);
    for (size_t p = 0; p < ARRAY_LEN(percentiles); p++) {
        size_t rank = (n * (size_t)percentiles[p] + 99) / 100; /* nearest rank, from 1 */
        out_ms[p] = n == 0 ? NAN : (double)scratch[rank - 1] / 1000;
    }
}

typedef void write_fn(const struct stats *s, int grouping, uint16_t group,
                      const struct stats_group *g, uint32_t *scratch, struct buf *out);

static void each_group(const struct stats *s, write_fn *write, struct buf *out)
{
    uint32_t *scratch = malloc(2 * (s->n + 1) * sizeof(*scratch));
    if (!scratch) {
        out->failed = true;
        return;
    }
    write(s, ALL, 0, &s->all, scratch, out);
    for (int i = 0; i < STATS_N_GROUPINGS; i++)
        for (uint32_t k = 0; k < s->groupings[i].n; k++)
            write(s, i, (uint16_t)k, &s->groupings[i].groups[k], scratch, out);
    free(scratch);
}

static void write_line(const struct stats *s, int grouping, uint16_t group,
                       const struct stats_group *g, uint32_t *scratch, struct buf *out)
{
    char name[64];
    const char *of = g->name ? g->name : "all";
    if (group == 0 && grouping != ALL)
        buf_addch(out, '\n');
    printable_text(of, strlen(of), "", name, sizeof(name));
    buf_addf(out, "%-7s%-26.26s%9llu%8llu%7.1f%%", grouping == ALL ? "" : groupings[grouping], name,
             (unsigned long long)g->n, (unsigned long long)g->n_failed,
             g->prompt_tokens ? 100.0 * (double)g->cached_tokens / (double)g->prompt_tokens : 0.0);
    for (int t = 0; t < STATS_N_TIMES; t++) {
        double ms[ARRAY_LEN(percentiles)];
        measure(s, grouping, group, t, scratch, ms);
        buf_addstr(out, "  ");
        for (size_t p = 0; p < ARRAY_LEN(ms); p++)
            if (isnan(ms[p]))
                buf_addf(out, "%9s", "-");
            else
                buf_addf(out, "%9.1f", ms[p]);
    }
    buf_addch(out, '\n');
}

void stats_table(const struct stats *s, struct buf *out)
{
    buf_addf(out, "%-33s%9s%8s%8s", "milliseconds", "REQUESTS", "FAILED", "CACHED");
    for (int t = 0; t < STATS_N_TIMES; t++)
        buf_addf(out, "  %27s", times[t].head);
    buf_addf(out, "\n%58s", "");
    for (int t = 0; t < STATS_N_TIMES; t++) {
        buf_addstr(out, "  ");
        for (size_t p = 0; p < ARRAY_LEN(percentiles); p++)
            buf_addf(out, "%7s%d", "p", percentiles[p]);
    }
    buf_addch(out, '\n');
    each_group(s, write_line, out);
}

static void write_object(const struct stats *s, int grouping, uint16_t group,
                         const struct stats_group *g, uint32_t *scratch, struct buf *out)
{
    buf_addstr(out, "{\"by\":");
    json_add_cstr(out, grouping == ALL ? "all" : groupings[grouping]);
    buf_addstr(out, ",\"name\":");
    json_add_cstr(out, g->name);
    buf_addf(out,
             ",\"requests\":%llu,\"failed\":%llu,\"prompt_tokens\":%llu,\"cached_tokens\":%llu,"
             "\"output_tokens\":%llu",
             (unsigned long long)g->n, (unsigned long long)g->n_failed,
             (unsigned long long)g->prompt_tokens, (unsigned long long)g->cached_tokens,
             (unsigned long long)g->output_tokens);
    for (int t = 0; t < STATS_N_TIMES; t++) {
        double ms[ARRAY_LEN(percentiles)];
        measure(s, grouping, group, t, scratch, ms);
        buf_addf(out, ",\"%s_ms\":{", times[t].name);
        for (size_t p = 0; p < ARRAY_LEN(ms); p++) {
            buf_addf(out, "%s\"p%d\":", p ? "," : "", percentiles[p]);
            json_add_double(out, ms[p]);
        }
        buf_addch(out, '}');
    }
    buf_addstr(out, "}\n");
}

void stats_json(const struct stats *s, struct buf *out)
{
    each_group(s, write_object, out);
}

void stats_fini(struct stats *s)
{
    for (int i = 0; i < STATS_N_GROUPINGS; i++) {
        for (uint32_t k = 0; k < s->groupings[i].n; k++)
            free(s->groupings[i].groups[k].name);
        free(s->groupings[i].groups);
    }
    free(s->rows);
}
