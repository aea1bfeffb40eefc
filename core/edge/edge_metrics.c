#include "core/edge/edge_metrics.h"

#include <stdlib.h>
#include <string.h>

#include "core/edge/routes.h"
#include "core/util/clock.h"

enum { MAX_BOUNDS = 64 };

static const char *const method_names[N_METHODS] = {"GET", "HEAD", "POST", "OPTIONS", "other"};
static const char *const class_names[STATUS_CLASSES] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"};
static const double http_bounds[] = {0.1, 0.5, 1.0};
static const double http_fine_bounds[] = {0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5,
                                          0.75, 1.0,   1.5,  2.0,   2.5, 3.0,  3.5,
                                          4.0,  4.5,   5.0,  7.5,   10,  30,   60};
static const double byte_bounds[] = {1e3, 1e4, 1e5, 1e6, 1e7};

static struct metric_counter *rejections(struct edge_metrics *m, const struct edge_model *model,
                                         const char *reason)
{
    struct buf labels = {0};
    metrics_label(&labels, "model_name", model->name);
    metrics_label(&labels, "reason", reason);
    struct metric_counter *c =
        metrics_counter(m->set, "vllm:admission_rejections_total",
                        "Requests turned away at full queues.", buf_str(&labels));
    buf_fini(&labels);
    return c;
}

void edge_metrics_model(struct edge_metrics *m, const struct edge_model *model,
                        struct model_series *s)
{
    static const double n_bounds[] = {1, 2, 5, 10, 20};
    static const struct {
        enum finish_reason reason;
        const char *name;
    } reasons[] = {{FINISH_STOP, "stop"},
                   {FINISH_LENGTH, "length"},
                   {FINISH_ABORT, "abort"},
                   {FINISH_ERROR, "error"}};
    struct buf labels = {0}, more = {0};
    *s = (struct model_series){.rejected = NULL};
    if (!m || !m->set)
        return;
    metrics_label(&labels, "model_name", model->name);
    metrics_label(&labels, "engine", "0");
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
        buf_clear(&more);
        buf_add(&more, labels.data, labels.len);
        metrics_label(&more, "finished_reason", reasons[i].name);
        s->finished[reasons[i].reason] = metrics_counter(
            m->set, "vllm:request_success_total", "Finished choices by reason.", buf_str(&more));
    }
    buf_clear(&more);
    buf_add(&more, labels.data, labels.len);
    metrics_label(&more, "finished_reason", "repetition"); /* vLLM has it, llmd never ends so */
    metrics_counter(m->set, "vllm:request_success_total", "", buf_str(&more));
    double bounds[MAX_BOUNDS];
    uint32_t n = metric_bounds_125(model->max_model_len, bounds, MAX_BOUNDS);
    const struct {
        struct metric_histogram **out;
        const char *name, *help;
    } tokens[] = {
        {&s->prompt_tokens, "vllm:request_prompt_tokens", "Prompt tokens of a request."},
        {&s->generation_tokens, "vllm:request_generation_tokens", "Generated tokens of a choice."},
        {&s->max_generation_tokens, "vllm:request_max_num_generation_tokens",
         "Generated tokens of a request's longest choice."},
        {&s->params_max_tokens, "vllm:request_params_max_tokens", "max_tokens of a request."},
    };
    for (size_t i = 0; i < ARRAY_LEN(tokens); i++)
        *tokens[i].out =
            metrics_histogram(m->set, tokens[i].name, tokens[i].help, buf_str(&labels), bounds, n);
    s->params_n = metrics_histogram(m->set, "vllm:request_params_n", "n of a request.",
                                    buf_str(&labels), n_bounds, ARRAY_LEN(n_bounds));
    s->seconds_per_token =
        metrics_histogram(m->set, "vllm:request_time_per_output_token_seconds",
                          "Time from the first token to the last, per token after the first.",
                          buf_str(&labels), metric_bounds_itl, metric_n_bounds_itl);
    s->e2e_seconds = metrics_histogram(m->set, "vllm:e2e_request_latency_seconds",
                                       "From arrival to the last token.", buf_str(&labels),
                                       metric_bounds_latency, metric_n_bounds_latency);
    s->rejected = rejections(m, model, "max_num_queued_reqs");
    rejections(m, model, "max_num_queued_tokens"); /* vLLM's; llmd's queue counts requests */
    buf_clear(&more);
    metrics_label(&more, "model", model->name);
    s->asked = metrics_counter(m->set, "vllm:num_incoming_requests_total",
                               "Requests for the model that could be read.", buf_str(&more));
    buf_fini(&labels);
    buf_fini(&more);
}

/* Health checks and scrapes would drown the rest. */
static bool route_counted(uint32_t route)
{
    return route == routes_count() || route_at(route)->access == ACCESS_KEY ||
           route_at(route)->access == ACCESS_ANY_KEY;
}

static const char *route_label(uint32_t route)
{
    return route == routes_count() ? "none" : route_at(route)->label;
}

static struct metric_counter *requests_series(struct edge_metrics *m, uint32_t route,
                                              enum http_method method, uint32_t reply)
{
    struct buf labels = {0};
    metrics_label(&labels, "handler", route_label(route));
    metrics_label(&labels, "method", method_names[method]);
    metrics_label(&labels, "status", class_names[reply]);
    struct metric_counter *c =
        metrics_counter(m->set, "http_requests_total", "HTTP requests by handler, method, status.",
                        buf_str(&labels));
    buf_fini(&labels);
    atomic_store_explicit(&m->routes[route].requests[method][reply], c, memory_order_release);
    return c;
}

static void init_route(struct edge_metrics *m, uint32_t route)
{
    struct route_series *s = &m->routes[route];
    bool unknown = route == routes_count();
    enum http_method method =
        unknown || !(route_at(route)->methods & ROUTE_POST) ? METHOD_GET : METHOD_POST;
    struct buf labels = {0};
    for (uint32_t reply = 2; reply < STATUS_CLASSES; reply++)
        if (reply != 3)
            requests_series(m, route, method, reply);
    metrics_label(&labels, "handler", route_label(route));
    s->request_bytes = metrics_histogram(m->set, "http_request_size_bytes", "Bodies of requests.",
                                         buf_str(&labels), byte_bounds, ARRAY_LEN(byte_bounds));
    s->reply_bytes = metrics_histogram(m->set, "http_response_size_bytes", "Bodies of replies.",
                                       buf_str(&labels), byte_bounds, ARRAY_LEN(byte_bounds));
    metrics_label(&labels, "method", method_names[method]);
    s->seconds = metrics_histogram(m->set, "http_request_duration_seconds",
                                   "From the request line to the end of the reply.",
                                   buf_str(&labels), http_bounds, ARRAY_LEN(http_bounds));
    buf_fini(&labels);
}

static void by_reason(struct edge_metrics *m, const char *name, const char *help,
                      const char *const reasons[], uint32_t n, struct metric_counter **out)
{
    struct buf labels = {0};
    for (uint32_t i = 0; i < n; i++) {
        buf_clear(&labels);
        metrics_label(&labels, "reason", reasons[i]);
        out[i] = metrics_counter(m->set, name, help, buf_str(&labels));
    }
    buf_fini(&labels);
}

static void init_reasons(struct edge_metrics *m)
{
    static const char *const refused[N_EDGE_REFUSED] = {[REFUSED_FULL] = "max_connections",
                                                        [REFUSED_ADDRESS_FULL] =
                                                            "max_connections_per_address",
                                                        [REFUSED_ALLOW] = "allow",
                                                        [REFUSED_PROXY] = "proxy_header"};
    static const char *const dropped[N_EDGE_DROPPED] = {[DROPPED_HEAD] = "header_timeout",
                                                        [DROPPED_BODY] = "body_timeout",
                                                        [DROPPED_IDLE] = "keepalive_timeout",
                                                        [DROPPED_WRITE] = "client_write_timeout"};
    static const char *const timeouts[N_EDGE_TIMEOUTS] = {[TIMEOUT_REQUEST] = "request_timeout",
                                                          [TIMEOUT_FIRST_TOKEN] =
                                                              "first_token_timeout",
                                                          [TIMEOUT_TOKEN] = "token_timeout"};
    by_reason(m, "llmd_edge_connections_refused_total", "Connections that were not served.",
              refused, N_EDGE_REFUSED, m->refused);
    by_reason(m, "llmd_edge_connections_dropped_total",
              "Connections closed because their clients took too long.", dropped, N_EDGE_DROPPED,
              m->dropped);
    by_reason(m, "llmd_edge_timeouts_total", "Answers that took too long.", timeouts,
              N_EDGE_TIMEOUTS, m->timeouts);
}

static struct metric_counter *errors_series(struct edge_metrics *m, unsigned status)
{
    struct buf labels = {0}, text = {0};
    buf_addf(&text, "%u", status);
    metrics_label(&labels, "status", buf_str(&text));
    struct metric_counter *c =
        metrics_counter(m->set, "llmd_errors_total",
                        "Requests that failed, by status; 499: the client left.", buf_str(&labels));
    buf_fini(&labels);
    buf_fini(&text);
    atomic_store_explicit(&m->errors[status - EDGE_STATUS_MIN], c, memory_order_release);
    return c;
}

static void init_errors(struct edge_metrics *m)
{
    static const unsigned statuses[] = {400, 401, 403, 404, 405, 408, 413, 415,
                                        429, 431, 499, 500, 501, 503, 504};
    static const int codes[] = {
#define X(name, number, text, status, type, retryable) (number),
        LLMD_ERRORS(X)
#undef X
    };
    struct buf labels = {0};
    for (size_t i = 0; i < ARRAY_LEN(statuses); i++)
        errors_series(m, statuses[i]);
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        buf_clear(&labels);
        metrics_label(&labels, "reason", err_text(codes[i]));
        BUG_ON(codes[i] >= EDGE_ERRORS);
        m->failures[codes[i]] =
            metrics_counter(m->set, "llmd_request_failures_total",
                            "Requests for generation that failed, by reason.", buf_str(&labels));
    }
    buf_fini(&labels);
}

static void init_build(struct edge_metrics *m)
{
    struct buf labels = {0};
    metrics_label(&labels, "version", LLMD_VERSION);
    metrics_label(&labels, "compiler", __VERSION__);
    metric_set(
        metrics_gauge(m->set, "llmd_build_info", "1; the labels say what runs.", buf_str(&labels)),
        1);
    buf_fini(&labels);
    metric_set(metrics_gauge(m->set, "process_start_time_seconds",
                             "When the process began to serve, in seconds since 1970.", ""),
               (double)clock_wall_us() / 1e6);
    m->price = metrics_gauge(m->set, "llmd_price_per_hour",
                             "What the machine costs per hour, as configured; 0: not known.", "");
    metrics_rate(m->set, "vllm:current_qps",
                 "Requests per second, over 10 s before the scrape or since the one before.",
                 "vllm:num_incoming_requests_total");
    const double tokens = 1000, seconds = 3600;
    metrics_per_rate(
        m->set, "llmd_cost_per_1000_tokens",
        "What 1,000 generated tokens cost now, by that price; 0: nothing is generated.",
        "llmd_price_per_hour", tokens / seconds, "vllm:generation_tokens_total");
}

void edge_metrics_price(const struct edge_metrics *m, double per_hour)
{
    metric_set(m->price, per_hour);
}

int edge_metrics_init(struct edge_metrics *m, struct metrics *set, struct err *e)
{
    *m = (struct edge_metrics){.set = set};
    if (!m->set)
        return 0;
    m->routes = calloc(routes_count() + 1, sizeof(*m->routes));
    if (!m->routes)
        return err_set(e, LLMD_ENOMEM, "out of memory for metrics");
    for (uint32_t i = 0; i <= routes_count(); i++)
        if (route_counted(i))
            init_route(m, i);
    m->seconds = metrics_histogram(m->set, "http_request_duration_highr_seconds",
                                   "Of all handlers, with finer buckets.", "", http_fine_bounds,
                                   ARRAY_LEN(http_fine_bounds));
    m->connections = metrics_gauge(m->set, "llmd_edge_connections", "Open connections.", "");
    init_reasons(m);
    init_errors(m);
    init_build(m);
    return 0;
}

static void init_tls(struct edge_metrics *m)
{
    static const char *const reasons[N_TLS_OUTCOMES] = {
        [TLS_CLOSED] = "closed",   [TLS_TIMEOUT] = "timeout",    [TLS_PLAIN] = "plain_http",
        [TLS_VERSION] = "version", [TLS_CIPHER] = "cipher",      [TLS_ALPN] = "alpn",
        [TLS_ALERT] = "alert",     [TLS_MALFORMED] = "malformed"};
    for (int is_1_3 = 0; is_1_3 < 2; is_1_3++)
        for (int resumed = 0; resumed < 2; resumed++) {
            struct buf labels = {0};
            metrics_label(&labels, "protocol", is_1_3 ? "TLSv1.3" : "TLSv1.2");
            metrics_label(&labels, "resumed", resumed ? "true" : "false");
            m->tls_shaken[is_1_3][resumed] =
                metrics_counter(m->set, "llmd_tls_handshakes_total",
                                "TLS handshakes that succeeded.", buf_str(&labels));
            buf_fini(&labels);
        }
    for (int i = 0; i < N_TLS_OUTCOMES; i++) {
        struct buf labels = {0};
        if (!reasons[i])
            continue;
        metrics_label(&labels, "reason", reasons[i]);
        m->tls_failed[i] =
            metrics_counter(m->set, "llmd_tls_handshake_failures_total",
                            "TLS handshakes that failed, by reason.", buf_str(&labels));
        buf_fini(&labels);
    }
    m->tls_expiry = metrics_gauge(m->set, "llmd_tls_certificate_expiry_seconds",
                                  "When the certificate expires, in seconds since 1970.", "");
}

void edge_metrics_tls(struct edge_metrics *m, int64_t expires)
{
    if (!m->set)
        return;
    if (!m->tls_expiry)
        init_tls(m);
    metric_set(m->tls_expiry, (double)expires);
}

void edge_metrics_fini(struct edge_metrics *m)
{
    free(m->routes);
}

void edge_metrics_asked(const struct model_series *s)
{
    metric_add(s->asked, 1);
}

void edge_metrics_choice(const struct model_series *s, const struct choice_figures *f)
{
    metric_add(s->finished[f->finish], 1);
    metric_observe_traced(s->e2e_seconds, f->seconds, f->trace_id);
    metric_observe(s->prompt_tokens, f->n_prompt);
    metric_observe(s->generation_tokens, f->n_generated);
    metric_observe(s->params_max_tokens, f->max_tokens);
}

void edge_metrics_request(const struct model_series *s, const struct request_figures *f)
{
    metric_observe(s->params_n, f->n);
    metric_observe(s->max_generation_tokens, f->n_longest);
    if (f->n_longest > 1)
        metric_observe(s->seconds_per_token, f->decode_seconds / (double)(f->n_longest - 1));
}

void edge_metrics_rejected(const struct model_series *s)
{
    metric_add(s->rejected, 1);
}

static void count_error(struct edge_metrics *m, const struct http_figures *f)
{
    unsigned status = f->error != 0 ? (unsigned)err_http_status(f->error) : f->status;
    if (f->status >= EDGE_STATUS_MIN) /* what the client saw */
        status = f->status;
    else if (f->status == 0)
        status = err_http_status(LLMD_ECANCELLED);
    const uint32_t at = status - EDGE_STATUS_MIN;
    if (f->error > 0 && f->error < EDGE_ERRORS)
        metric_add(m->failures[f->error], 1);
    if (status < EDGE_STATUS_MIN || at >= EDGE_STATUSES)
        return;
    struct metric_counter *c = atomic_load_explicit(&m->errors[at], memory_order_acquire);
    metric_add(c ? c : errors_series(m, status), 1);
}

void edge_metrics_http(struct edge_metrics *m, const struct http_figures *f)
{
    if (!m->set || !route_counted(f->route))
        return;
    enum http_method method = METHOD_GET;
    while (method < METHOD_OTHER && strcmp(f->method, method_names[method]) != 0)
        method++;
    uint32_t reply = f->status / 100 < STATUS_CLASSES ? f->status / 100 : 0;
    struct route_series *s = &m->routes[f->route];
    struct metric_counter *c =
        atomic_load_explicit(&s->requests[method][reply], memory_order_acquire);
    metric_add(c ? c : requests_series(m, f->route, method, reply), 1);
    metric_observe(s->seconds, f->seconds);
    metric_observe(m->seconds, f->seconds);
    metric_observe(s->request_bytes, (double)f->request_bytes);
    metric_observe(s->reply_bytes, (double)f->reply_bytes);
    count_error(m, f);
}
