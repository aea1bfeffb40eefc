#include "core/edge/worker_json.h"

#include <math.h>
#include <stdlib.h>

#include "core/edge/page_rates.h"
#include "core/util/clock.h"
#include "core/util/json.h"

/* v with one decimal; below 0: unknown. */
static void add_tenths(struct buf *out, double v)
{
    json_add_double(out, v >= 0 ? round(v * 10) / 10 : NAN);
}

void worker_json_load(const struct load_progress *p, struct buf *out)
{
    double rate = load_mib_per_s(p);
    buf_addf(out, "\"loaded_percent\":%u,\"loaded_bytes\":%llu,\"total_bytes\":%llu,",
             load_percent(p), (unsigned long long)p->done_bytes,
             (unsigned long long)p->total_bytes);
    buf_addstr(out, "\"mib_per_s\":");
    add_tenths(out, rate > 0 ? rate : -1);
    buf_addstr(out, ",\"seconds_left\":");
    add_tenths(out, load_seconds_left(p));
}

/* Milliseconds since a moment; it may have come after now_us was read. */
static double ms_since(uint64_t us, uint64_t now_us)
{
    return now_us > us ? (double)(now_us - us) / 1e3 : 0;
}

static void add_device(const struct router_worker_view *v, const struct edge_control *control,
                       struct buf *out)
{
    static const char *const names[] = {
        [DEVICE_CPU] = "cpu", [DEVICE_SIM] = "sim", [DEVICE_CUDA] = "cuda"};
    buf_addf(out, ",\"device\":\"%s", names[v->device]);
    if (v->device != DEVICE_CUDA) {
        buf_addstr(out, "\",\"gpu\":null");
        return;
    }
    buf_addf(out, ":%u\",\"gpu\":", v->gpu);
    if (control->gpu)
        control->gpu(control->ctx, v->gpu, out);
    else
        buf_addstr(out, "null");
}

static void add_number(const char *name, double v, struct buf *out)
{
    buf_addf(out, ",\"%s\":", name);
    if (isnan(v))
        buf_addstr(out, "null");
    else
        buf_addf(out, "%.5g", v);
}

static void add_rates(const struct page_rates *rates, const struct router_worker_view *v,
                      struct buf *out)
{
    struct worker_rates r;
    page_rates_worker(rates, v->place, &r);
    add_number("tok_s", r.tok_s, out);
    add_number("prompt_tok_s", r.prompt_tok_s, out);
    add_number("hit_rate", r.hit_rate, out);
    add_number("ttft_p95", r.ttft_p95, out);
    add_number("queue_p95", r.queue_p95, out);
    add_number("preemptions", r.preemptions, out);
    add_number("kv", worker_kv_share(&v->status), out);
}

static void worker_json(const struct router_worker_view *v, const struct edge_control *control,
                        const struct page_rates *rates, uint64_t now_us, struct buf *out)
{
    const struct worker_status *s = &v->status;
    buf_addf(out, "{\"worker\":%u,\"model\":", v->index);
    json_add_cstr(out, v->model);
    add_device(v, control, out);
    buf_addf(out, ",\"state\":\"%s\",\"drained\":%s,\"error\":", worker_state_name(s->state),
             v->drained ? "true" : "false");
    json_add_cstr(out, v->error[0] ? v->error : NULL);
    buf_addf(out, ",\"poisoned\":%s,\"hanging\":%u,\"generation\":%llu,\"place\":%llu",
             v->poisoned ? "true" : "false", v->n_hanging, (unsigned long long)v->generation,
             (unsigned long long)v->place);
    buf_addf(out, ",\"starts\":%u,\"running\":%u,\"waiting\":%u,\"bound\":%u,", v->n_starts,
             s->n_running, s->n_waiting, v->n_bound);
    buf_addf(out, "\"prefill_tokens\":%llu,\"kv_blocks\":%u,\"free_kv_blocks\":%u,",
             (unsigned long long)s->n_prefill_tokens, s->n_kv_blocks, s->n_free_kv_blocks);
    buf_addf(out, "\"steps\":%llu,\"generated_tokens\":%llu,\"step_ms\":",
             (unsigned long long)s->n_steps, (unsigned long long)s->generated_tokens);
    add_tenths(out, s->step_began_us ? ms_since(s->step_began_us, now_us) : -1);
    buf_addstr(out, ",\"decode_step_ms\":");
    add_tenths(out, s->decode_step_us > 0 ? s->decode_step_us / 1e3 : -1);
    buf_addstr(out, ",\"heartbeat_ms\":");
    add_tenths(out, s->heartbeat_us ? ms_since(s->heartbeat_us, now_us) : -1);
    buf_addf(out, ",\"chosen\":%llu,\"migrated\":%llu,", (unsigned long long)v->n_chosen,
             (unsigned long long)v->n_migrated);
    worker_json_load(&s->load, out);
    if (rates)
        add_rates(rates, v, out);
    buf_addch(out, '}');
}

static int by_index(const void *a, const void *b)
{
    const struct router_worker_view *x = a, *y = b;
    return x->index < y->index ? -1 : x->index > y->index;
}

uint32_t worker_json_sort(struct router_worker_view *views, uint32_t n)
{
    n = (uint32_t)u64_min(n, WORKER_VIEWS);
    if (n > 1)
        qsort(views, n, sizeof(*views), by_index);
    return n;
}

void worker_json_list(struct router_worker_view *views, uint32_t n,
                      const struct edge_control *control, const struct page_rates *rates,
                      struct buf *out)
{
    n = worker_json_sort(views, n);
    buf_addch(out, '[');
    for (uint32_t i = 0; i < n; i++) {
        buf_addstr(out, i ? "," : "");
        worker_json(&views[i], control, rates, clock_now_us(), out);
    }
    buf_addch(out, ']');
}

void worker_json_all(struct router *r, const struct edge_control *control, struct buf *out)
{
    struct router_worker_view *views = calloc(WORKER_VIEWS, sizeof(*views));
    const uint32_t n = views ? router_workers(r, views, WORKER_VIEWS) : 0;
    out->failed |= !views;
    worker_json_list(views, n, control, NULL, out);
    free(views);
}
