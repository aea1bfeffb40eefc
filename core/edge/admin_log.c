/* admin_log.c - GET /admin/v1/log, /admin/v1/log/ID: the request log, searched; the story of one request.
 *
 * Files are read by a thread of their own (edge->searches), one search at a time; a loop never waits for a
 * disk. A search that takes longer than SEARCH_US gives up. */
#include <stdlib.h>
#include <string.h>

#include "core/edge/admin_int.h"
#include "core/edge/api.h"
#include "core/edge/later.h"
#include "core/edge/respond.h"
#include "core/router/router.h"
#include "core/store/explain.h"
#include "core/store/query.h"
#include "core/store/store.h"
#include "core/util/clock.h"
#include "core/util/json.h"

enum {
    LIMIT = 50,
    LIMIT_MAX = 500,
    SEARCH_US = 3 * 1000000,
    DAY_S = 86400,
    TEXT_MAX = 256,
};

struct search {
    struct later later; /* first */
    struct router *router;
    const char *directory; /* the store's */
    struct store_filter filter;
    char id[TEXT_MAX], key[TEXT_MAX], model[TEXT_MAX], finish[TEXT_MAX];
    uint32_t limit;
    bool one; /* the story of id */
    uint64_t until_us;
    size_t at[LIMIT_MAX]; /* where rows end in `rows` */
    uint32_t n;
    struct buf rows, reply;
    struct err error;
};

/* ---- on the thread ---- */

static bool is_over(void *ctx)
{
    struct search *s = ctx;
    return clock_now_us() >= s->until_us || atomic_load(&s->later.job.abandoned);
}

static int take_row(void *ctx, const struct store_row *row)
{
    struct search *s = ctx;
    store_row_json(row, s->one, &s->rows);
    s->at[s->n++] = s->rows.len;
    return s->rows.failed ? err_set(&s->error, LLMD_ENOMEM, "out of memory; ask for fewer rows")
                          : 0;
}

static int ask_log(struct search *s)
{
    const uint64_t details = 1ull << STORE_route | 1ull << STORE_timeline;
    const uint64_t all = (1ull << STORE_N_FIELDS) - 1;
    struct store_reader *reader = NULL;
    int rc = store_reader_open(s->directory, &reader, &s->error);
    if (rc != 0)
        return rc;
    store_reader_stop_when(reader, is_over, s);
    rc = store_query(reader, &s->filter, s->one ? STORE_ALL : all & ~details, s->limit, take_row, s,
                     &s->error);
    store_reader_free(reader);
    return rc;
}

/* They came oldest first. */
static void list_rows(struct search *s)
{
    buf_addf(&s->reply, "{\"limit\":%u,\"rows\":[", s->limit);
    for (uint32_t i = s->n; i > 0; i--) {
        const size_t from = i > 1 ? s->at[i - 2] : 0;
        buf_addstr(&s->reply, i < s->n ? ",\n" : "");
        buf_add(&s->reply, s->rows.data + from, s->at[i - 1] - from);
    }
    buf_addstr(&s->reply, "]}");
}

/* One that is with the server, or was a moment ago. */
static json_t *ask_router(const struct search *s)
{
    static const char *const prefixes[] = {"", "chatcmpl-", "cmpl-"};
    json_t *record = NULL, *story = NULL;
    for (size_t i = 0; !record && i < ARRAY_LEN(prefixes); i++) {
        struct buf id = {0}, text = {0};
        buf_addf(&id, "%s%s", prefixes[i], s->id);
        if (!router_record_json(s->router, buf_str(&id), &text) || text.failed ||
            json_parse(buf_str(&text), text.len, &record, NULL) != 0)
            record = NULL;
        buf_fini(&id);
        buf_fini(&text);
    }
    if (record)
        story = explain_live_story(record);
    json_decref(record);
    return story;
}

static void tell(struct search *s)
{
    json_t *story = NULL;
    if (s->n > 0)
        (void)!json_parse(buf_str(&s->rows), s->rows.len, &story, &s->error);
    else
        story = ask_router(s);
    if (story)
        explain_json(story, &s->reply);
    else
        (void)!err_set(&s->error, LLMD_ENOTFOUND,
                       "neither the request log nor the server knows a request of that id");
    json_decref(story);
}

static void work(struct prep_job *job)
{
    struct search *s = (struct search *)job;
    int rc = s->directory[0] ? ask_log(s) : 0;
    if (s->one && (rc == 0 || rc == -LLMD_ENOTFOUND)) {
        err_clear(&s->error);
        tell(s);
    } else if (rc == 0)
        list_rows(s);
    if (s->reply.failed)
        (void)!err_set(&s->error, LLMD_ENOMEM, "out of memory; ask for fewer rows");
}

static void release(struct later *l)
{
    struct search *s = (struct search *)l;
    buf_fini(&s->rows);
    buf_fini(&s->reply);
}

/* ---- on the loop ---- */

static const char *argument(struct exchange *ex, const char *name)
{
    return MHD_lookup_connection_value(ex->mhd, MHD_GET_ARGUMENT_KIND, name);
}

static int read_text(struct exchange *ex, const char *name, char to[TEXT_MAX], const char **out,
                     struct err *e)
{
    const char *value = argument(ex, name);
    if (!value || !*value)
        return 0;
    if (strlen(value) >= TEXT_MAX)
        return err_set_param(e, LLMD_EINVAL, name, "%s is too long", name);
    memcpy(to, value, strlen(value) + 1);
    *out = to;
    return 0;
}

/* "503", "5xx" */
static int read_status(struct exchange *ex, struct store_filter *f, struct err *e)
{
    const char *v = argument(ex, "status");
    if (!v || !*v)
        return 0;
    const bool digits = strlen(v) == 3 && v[0] >= '1' && v[0] <= '5';
    if (digits && strcmp(v + 1, "xx") == 0) {
        f->status_min = (v[0] - '0') * 100;
        f->status_max = f->status_min + 99;
    } else if (digits && strspn(v, "0123456789") == 3)
        f->status_min = f->status_max = strtol(v, NULL, 10);
    else
        return err_set_param(e, LLMD_EINVAL, "status", "status must be like 503 or 5xx");
    return 0;
}

static int read_number(struct exchange *ex, const char *name, uint64_t max, uint64_t *out,
                       struct err *e)
{
    const char *value = argument(ex, name);
    if (!value || !*value)
        return 0;
    int rc = admin_query(ex, name, out, e);
    if (rc == 0 && *out > max)
        rc = err_set_param(e, LLMD_EINVAL, name, "%s must be at most %llu", name,
                           (unsigned long long)max);
    return rc;
}

static int read_filter(struct exchange *ex, struct search *s, struct err *e)
{
    const uint64_t far = (uint64_t)INT64_MAX / 2000000;
    struct store_filter *f = &s->filter;
    uint64_t since = clock_wall_us() / 1000000 - DAY_S, until = 0, worker = UINT64_MAX;
    uint64_t slow_ms = 0, limit = LIMIT;
    int rc = read_text(ex, "id", s->id, &f->id, e);
    if (rc == 0)
        rc = read_text(ex, "key", s->key, &f->key, e);
    if (rc == 0)
        rc = read_text(ex, "model", s->model, &f->model, e);
    if (rc == 0)
        rc = read_text(ex, "finish", s->finish, &f->finish, e);
    if (rc == 0)
        rc = read_status(ex, f, e);
    if (rc == 0)
        rc = read_number(ex, "since", far, &since, e);
    if (rc == 0)
        rc = read_number(ex, "until", far, &until, e);
    if (rc == 0)
        rc = read_number(ex, "worker", UINT32_MAX, &worker, e);
    if (rc == 0)
        rc = read_number(ex, "slow_ms", far, &slow_ms, e);
    if (rc == 0)
        rc = read_number(ex, "limit", LIMIT_MAX, &limit, e);
    if (rc != 0)
        return rc;
    /* an id is looked for in all days */
    f->since_us = f->id && !argument(ex, "since") ? 0 : (int64_t)since * 1000000;
    f->until_us = (int64_t)until * 1000000;
    f->has_worker = worker != UINT64_MAX;
    f->worker = f->has_worker ? (int64_t)worker : 0;
    f->slow_us = (int64_t)slow_ms * 1000;
    s->limit = (uint32_t)u64_max(limit, 1);
    return 0;
}

static int read_id(struct exchange *ex, struct search *s, struct err *e)
{
    const char *id = ex->url + strlen("/admin/v1/log/");
    if (strlen(id) >= sizeof(s->id))
        return err_set(e, LLMD_ENOTFOUND, "no request has so long an id");
    memcpy(s->id, id, strlen(id) + 1);
    s->filter.id = s->id;
    s->one = true;
    s->limit = 1;
    return 0;
}

static enum MHD_Result start(struct exchange *ex, bool one)
{
    const struct edge_opts *o = exchange_opts(ex);
    struct err e = {0};
    struct search *s = calloc(1, sizeof(*s));
    if (!s) {
        err_set(&e, LLMD_ENOMEM, "out of memory for a search");
        return respond_error(ex, &e);
    }
    s->router = o->router;
    s->directory = o->store ? store_directory(o->store) : "";
    s->until_us = clock_now_us() + SEARCH_US;
    s->later.pool = &ex->conn->loop->edge->searches;
    int rc = one ? read_id(ex, s, &e) : read_filter(ex, s, &e);
    if (rc == 0 && !one && !s->directory[0])
        rc = err_set(&e, LLMD_ENOTFOUND, "there is no request log (store.directory is \"\")");
    if (rc != 0) {
        free(s);
        return respond_error(ex, &e);
    }
    if (later_give(ex, &s->later, work, release, &e) != 0)
        return respond_error(ex, &e);
    exchange_suspend(ex);
    return MHD_YES;
}

static enum MHD_Result answer(struct exchange *ex, bool one)
{
    if (!ex->later)
        return start(ex, one);
    struct search *s = (struct search *)later_take(ex);
    if (!s) { /* woken too early */
        exchange_suspend(ex);
        return MHD_YES;
    }
    const struct err e = s->error;
    struct buf reply = s->reply;
    s->reply = (struct buf){0};
    later_leave(ex);
    if (e.code == 0)
        return respond_json(ex, MHD_HTTP_OK, &reply);
    buf_fini(&reply);
    return respond_error(ex, &e);
}

enum MHD_Result admin_log(struct exchange *ex)
{
    return answer(ex, false);
}

enum MHD_Result admin_log_entry(struct exchange *ex)
{
    return answer(ex, true);
}
