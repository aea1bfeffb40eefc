#include "core/edge/page_snapshot.h"

#include <string.h>
#include <unistd.h>

#include "core/edge/admin_int.h"
#include "core/edge/server_json.h"
#include "core/edge/worker_json.h"
#include "core/observe/log.h"
#include "core/router/router.h"
#include "core/util/json.h"

enum { DECISIONS = 16, REQUESTS = 50, MINUTE_S = 60 };

static void add_column(enum page_column c, const struct page_sample *s, struct buf *out)
{
    const float v = s->v[c];
    buf_addf(out, ",\"%s\":", page_column_name(c));
    if (v != v)
        buf_addstr(out, "null");
    else
        buf_addf(out, "%.5g", (double)v);
}

static void add_rates(const struct snapshot_facts *f, struct buf *out)
{
    static const enum page_column minute[] = {COLUMN_ttft_p50,  COLUMN_ttft_p95, COLUMN_ttft_p99,
                                              COLUMN_itl_p50,   COLUMN_itl_p95,  COLUMN_itl_p99,
                                              COLUMN_queue_p95, COLUMN_e2e_p95,  COLUMN_hit_rate};
    static const enum page_column seconds[] = {
        COLUMN_tok_s,     COLUMN_prompt_tok_s, COLUMN_req_s,   COLUMN_failed_s,
        COLUMN_preempt_s, COLUMN_running,      COLUMN_waiting, COLUMN_kv};
    buf_addf(out, ",\"rates\":{\"window_s\":%d", MINUTE_S);
    for (size_t i = 0; i < ARRAY_LEN(minute); i++)
        add_column(minute[i], &f->minute, out);
    for (size_t i = 0; i < ARRAY_LEN(seconds); i++)
        add_column(seconds[i], &f->seconds, out);
    buf_addch(out, '}');
}

static void add_request_log(const struct edge *edge, const struct snapshot_facts *f,
                            struct buf *out)
{
    struct buf text = {0};
    buf_addf(&text, "%s%s",
             !edge->opts.store      ? "off"
             : f->request_log_fault ? "degraded: "
                                    : "ok",
             edge->opts.store && f->request_log_fault ? f->request_log_fault : "");
    buf_addstr(out, ",\"request_log\":");
    json_add_cstr(out, buf_str(&text));
    buf_fini(&text);
}

static void add_server(const struct edge *edge, const struct snapshot_facts *f, struct buf *out)
{
    buf_addf(out,
             ",\"server\":{\"connections\":%u,\"max_connections\":%u,\"answering\":%u,"
             "\"requests\":%llu,\"failed\":%llu,\"tabs\":%u,",
             atomic_load(&edge->n_conns), edge->opts.max_connections, edge_active(edge),
             (unsigned long long)atomic_load(&edge->n_requests),
             (unsigned long long)atomic_load(&edge->n_failed), atomic_load(&edge->page->n_streams));
    buf_addf(out, "\"log_level\":\"%s\",\"log_lost\":%llu", log_level_name(log_get_level()),
             (unsigned long long)log_dropped());
    add_request_log(edge, f, out);
    buf_addch(out, ',');
    server_json_listeners(edge, out);
    buf_addstr(out, "},");
    server_json_reload(&edge->opts.control, out);
}

/* The numbers of the workers on that GPU, from `first` on; false: it was told of before. */
static bool add_gpu_workers(const struct snapshot_facts *f, uint32_t first, struct buf *out)
{
    const uint32_t gpu = f->workers[first].gpu;
    for (uint32_t i = 0; i < first; i++)
        if (f->workers[i].device == DEVICE_CUDA && f->workers[i].gpu == gpu)
            return false;
    buf_addf(out, "%s{\"gpu\":%u,\"workers\":[", out->data[out->len - 1] == '[' ? "" : ",", gpu);
    for (uint32_t i = first; i < f->n_workers; i++)
        if (f->workers[i].device == DEVICE_CUDA && f->workers[i].gpu == gpu)
            buf_addf(out, "%s%u", i > first ? "," : "", f->workers[i].index);
    buf_addch(out, ']');
    return true;
}

static void add_gpus(const struct edge_control *c, const struct snapshot_facts *f, struct buf *out)
{
    buf_addstr(out, ",\"gpus\":[");
    for (uint32_t i = 0; i < f->n_workers && !out->failed; i++) {
        struct buf members = {0};
        if (f->workers[i].device != DEVICE_CUDA || !add_gpu_workers(f, i, out))
            continue;
        if (c->gpu)
            c->gpu(c->ctx, f->workers[i].gpu, &members);
        if (members.len > 2 && members.data[0] == '{') /* the members of its object */
            buf_addf(out, ",%.*s", (int)(members.len - 2), members.data + 1);
        out->failed |= members.failed;
        buf_addch(out, '}');
        buf_fini(&members);
    }
    buf_addch(out, ']');
}

/* In JSON a line break only ever stands between values; an event's line ends at one. */
static void join_lines(struct buf *out, size_t from)
{
    for (char *at = out->data + from, *end = out->data + out->len; at < end; at++)
        if (*at == '\n')
            *at = ' ';
}

void snapshot_write(const struct edge *edge, const struct snapshot_facts *f, struct buf *out)
{
    const struct page *p = edge->page;
    const size_t from = out->len;
    buf_addf(out, "{\"process\":\"%s\",\"number\":%llu,\"time\":%.3f,\"now_us\":%llu,", p->process,
             (unsigned long long)p->number, (double)f->wall_us / 1e6,
             (unsigned long long)f->now_us);
    buf_addf(out,
             "\"version\":\"%s\",\"pid\":%d,\"uptime_seconds\":%.1f,\"verdict\":", LLMD_VERSION,
             (int)getpid(), (double)(f->now_us - edge->started_us) / 1e6);
    page_health_add_verdict(&p->health, out);
    buf_addstr(out, ",\"problems\":");
    page_health_add_problems(&p->health, out);
    add_rates(f, out);
    add_server(edge, f, out);
    buf_addch(out, ',');
    server_json_models(edge->opts.router, f->served, out);
    buf_addstr(out, ",\"workers\":");
    worker_json_list(f->workers, f->n_workers, &edge->opts.control, &p->rates, out);
    add_gpus(&edge->opts.control, f, out);
    buf_addstr(out, ",\"decisions\":");
    router_decisions(edge->opts.router, DECISIONS, out);
    buf_addstr(out, ",\"requests\":");
    admin_add_requests(edge->opts.router, REQUESTS, out);
    buf_addch(out, '}');
    if (!out->failed)
        join_lines(out, from);
}
