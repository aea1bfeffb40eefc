/* logs.c - `llmd logs`: rows of the request log, filtered, followed, or as percentiles. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/args.h"
#include "cmd/commands.h"
#include "cmd/log_place.h"
#include "cmd/logs_print.h"
#include "cmd/logs_stats.h"
#include "core/store/query.h"
#include "core/store/when.h"
#include "core/util/clock.h"

enum { DEFAULT_LIMIT = 20, FOLLOW_POLL_US = 200 * 1000, NO_WORKER = UINT32_MAX };

struct logs {
    const char *directory, *config;
    const char *since, *until, *last, *key, *model, *status, *finish, *id;
    uint32_t worker, limit;
    double slow_ms;
    bool follow, json, csv, stats, details, all;

    struct store_filter filter;
    struct buf place, line;
};

/* ---- options ---- */

/* "200" or "4xx". */
static int parse_status(const char *text, struct store_filter *f, struct err *e)
{
    char *end;
    long v = strtol(text, &end, 10);
    if (end == text + 1 && strcmp(end, "xx") == 0 && v >= 1 && v <= 5) {
        f->status_min = v * 100;
        f->status_max = v * 100 + 99;
        return 0;
    }
    if (end != text + 3 || *end != '\0' || v < 100 || v > 599)
        return err_set(e, LLMD_EINVAL, "'%.20s' is no HTTP status; write 503 or 5xx", text);
    f->status_min = f->status_max = v;
    return 0;
}

static int make_filter(struct logs *l, struct err *e)
{
    struct store_filter *f = &l->filter;
    const int64_t now_us = (int64_t)clock_wall_us();
    int64_t span;
    int rc = 0;
    *f = (struct store_filter){.id = l->id, .key = l->key, .model = l->model, .finish = l->finish};
    f->has_worker = l->worker != NO_WORKER;
    f->worker = l->worker;
    f->slow_us = (int64_t)(l->slow_ms * 1000);
    if (l->since)
        rc = when_moment(l->since, now_us, &f->since_us, e);
    if (rc == 0 && l->until)
        rc = when_moment(l->until, now_us, &f->until_us, e);
    if (rc == 0 && l->last) {
        rc = when_span(l->last, &span, e);
        f->since_us = rc == 0 && now_us > span ? now_us - span : 0;
    }
    if (rc == 0 && l->status)
        rc = parse_status(l->status, f, e);
    return rc;
}

static int parse(struct logs *l, int argc, char **argv)
{
    const struct arg_option options[] = {
        {"config", 'c', ARG_STRING, "FILE", "configuration file that names the log's directory",
         &l->config, 0, 0},
        {"directory", 'd', ARG_STRING, "PATH", "the log's directory, also a copy of one",
         &l->directory, 0, 0},
        {"since", 0, ARG_STRING, "WHEN", "requests that arrived then or later", &l->since, 0, 0},
        {"until", 0, ARG_STRING, "WHEN", "requests that arrived before", &l->until, 0, 0},
        {"last", 'l', ARG_STRING, "SPAN", "requests of the last 30s, 15m, 2h, 3d, 1w", &l->last, 0,
         0},
        {"id", 0, ARG_STRING, "ID", "one request, by the reply's id or X-Request-Id", &l->id, 0, 0},
        {"key", 'k', ARG_STRING, "NAME", "of this key", &l->key, 0, 0},
        {"model", 'm', ARG_STRING, "NAME", "for this model", &l->model, 0, 0},
        {"worker", 'w', ARG_UINT, "N", "that this worker had last", &l->worker, 0, 65535},
        {"status", 0, ARG_STRING, "CODE", "with this HTTP status: 503, 5xx", &l->status, 0, 0},
        {"finish", 0, ARG_STRING, "WORD", "that ended so: stop, length, abort, error", &l->finish,
         0, 0},
        {"slow", 0, ARG_NUMBER, "MS", "that took at least so long", &l->slow_ms, 0, 1e12},
        {"limit", 'n', ARG_UINT, "N", "the latest N (default 20, with --stats all)", &l->limit, 1,
         UINT32_MAX},
        {"all", 'a', ARG_FLAG, NULL, "all that match", &l->all, 0, 0},
        {"follow", 'f', ARG_FLAG, NULL, "then those that come in", &l->follow, 0, 0},
        {"json", 'j', ARG_FLAG, NULL, "one JSON object per line", &l->json, 0, 0},
        {"details", 0, ARG_FLAG, NULL, "with --json: the routes and time lines too", &l->details, 0,
         0},
        {"csv", 0, ARG_FLAG, NULL, "comma-separated values", &l->csv, 0, 0},
        {"stats", 's', ARG_FLAG, NULL, "percentiles of all, by model, worker and key", &l->stats, 0,
         0},
    };
    const struct arg_spec spec = {
        .command = "llmd logs",
        .operands = "",
        .about = "Shows the request log, while a server writes it or from a copy.",
        .options = options,
        .n_options = ARRAY_LEN(options),
        .max_operands = 0,
        .footer = "WHEN: 2026-11-21, 2026-11-21T09:30, 09:30 (UTC), or 15m for so long ago.\n"
                  "Without --directory and --config, /etc/llmd.conf says where the log is.\n"
                  "Exit codes: 0 done, 1 failed, 2 usage.",
    };
    struct err e = {0};
    int first, rc = args_or_exit(&spec, argc, argv, &first);
    if (rc >= 0)
        return rc;
    if (l->json + l->csv > 1 || (l->stats && (l->csv || l->follow)))
        return args_usage_error(&spec, "these options exclude each other: %s",
                                l->stats ? "--stats and --csv or --follow" : "--json and --csv");
    if (l->last && l->since)
        return args_usage_error(&spec, "these options exclude each other: --last and --since");
    if (make_filter(l, &e) != 0)
        return args_usage_error(&spec, "%s", e.msg);
    return -1;
}

/* ---- rows ---- */

static int put(struct logs *l, struct err *e)
{
    if (l->line.failed)
        return err_set(e, LLMD_ENOMEM, "out of memory");
    if (fwrite(buf_str(&l->line), 1, l->line.len, stdout) != l->line.len)
        return err_set(e, LLMD_EIO, "cannot write to standard output");
    return 0;
}

static int print_row(void *ctx, const struct store_row *row)
{
    struct logs *l = ctx;
    buf_clear(&l->line);
    if (l->json) {
        store_row_json(row, l->details, &l->line);
        buf_addch(&l->line, '\n');
    } else if (l->csv)
        logs_csv_row(row, &l->line);
    else
        logs_table_row(row, &l->line);
    return put(l, NULL);
}

static int print_head(struct logs *l, struct err *e)
{
    buf_clear(&l->line);
    if (l->csv)
        logs_csv_head(&l->line);
    else if (!l->json)
        logs_table_head(&l->line);
    return put(l, e);
}

/* All but those of type JSON, unless they are wanted. */
static uint64_t wanted_fields(const struct logs *l)
{
    uint64_t bits = 0;
    for (int i = 0; i < STORE_N_FIELDS; i++)
        if (store_columns[i].type != STORE_JSON)
            bits |= 1ull << i;
    return l->json && l->details ? STORE_ALL : bits;
}

static int follow(struct logs *l, struct store_reader *r, struct err *e)
{
    for (;;) {
        int rc = store_follow(r, &l->filter, print_row, l, e);
        if (rc != 0)
            return rc;
        if (fflush(stdout) != 0)
            return err_set(e, LLMD_EIO, "cannot write to standard output");
        clock_sleep_us(FOLLOW_POLL_US);
    }
}

static int ignore_row(void *ctx, const struct store_row *row)
{
    (void)ctx;
    (void)row;
    return 0;
}

static int show_rows(struct logs *l, struct store_reader *r, struct err *e)
{
    uint32_t limit = l->all ? 0 : l->limit ? l->limit : DEFAULT_LIMIT;
    int rc = print_head(l, e);
    if (rc == 0 && l->follow) /* from here on what comes in counts */
        rc = store_follow(r, &l->filter, ignore_row, NULL, e);
    if (rc == 0)
        rc = store_query(r, &l->filter, wanted_fields(l), limit, print_row, l, e);
    return rc == 0 && l->follow ? follow(l, r, e) : rc;
}

static int show_stats(struct logs *l, struct store_reader *r, struct err *e)
{
    struct stats s = {.n = 0};
    int rc = store_query(r, &l->filter, stats_fields(), l->limit, stats_add, &s, e);
    buf_clear(&l->line);
    if (rc == 0 && l->json)
        stats_json(&s, &l->line);
    else if (rc == 0)
        stats_table(&s, &l->line);
    stats_fini(&s);
    return rc == 0 ? put(l, e) : rc;
}

int cmd_logs(int argc, char **argv)
{
    struct logs l = {.worker = NO_WORKER};
    struct store_reader *reader = NULL;
    struct err e = {0};
    int rc = parse(&l, argc, argv);
    if (rc >= 0)
        return rc;
    rc = log_place_find(l.directory, l.config, &l.place, &e);
    if (rc == 0)
        rc = store_reader_open(buf_str(&l.place), &reader, &e);
    if (rc == 0)
        rc = l.stats ? show_stats(&l, reader, &e) : show_rows(&l, reader, &e);
    if (rc != 0)
        fprintf(stderr, "llmd logs: %s\n", e.msg[0] ? e.msg : err_text(rc));
    store_reader_free(reader);
    buf_fini(&l.place);
    buf_fini(&l.line);
    return rc == 0 ? EXIT_SUCCESS : EXIT_FAILED;
}
