/* api_metrics.c - GET /metrics: the registry, and what is counted outside of it. Nothing here waits for
 * a worker. */
#include "core/edge/api.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/edge/process_metrics.h"
#include "core/edge/respond.h"
#include "core/observe/metrics.h"

static const char text_type[] = "text/plain; version=0.0.4; charset=utf-8";
static const char open_type[] = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/* The quality that a media range of an Accept header asks for; 1 where it says nothing. */
static double quality(const char *parameters, size_t n)
{
    for (size_t i = 0; i + 3 < n; i++)
        if (parameters[i] == ';') {
            const char *p = parameters + i + 1;
            p += strspn(p, " \t");
            if (strncasecmp(p, "q=", 2) == 0)
                return strtod(p + 2, NULL);
        }
    return 1;
}

/* Whether the client wants OpenMetrics at least as much as text. */
static bool wants_openmetrics(const char *accept)
{
    static const char open_name[] = "application/openmetrics-text", text_name[] = "text/plain";
    double open = 0, text = 0;
    while (accept && *accept) {
        accept += strspn(accept, ", \t");
        const size_t n = strcspn(accept, ","), n_name = strcspn(accept, ";, \t");
        double *best = NULL;
        if (n_name == sizeof(open_name) - 1 && strncasecmp(accept, open_name, n_name) == 0)
            best = &open;
        else if (n_name == sizeof(text_name) - 1 && strncasecmp(accept, text_name, n_name) == 0)
            best = &text;
        if (best) {
            const double q = quality(accept + n_name, n - n_name);
            *best = q > *best ? q : *best;
        }
        accept += n;
    }
    return open > 0 && open >= text;
}

enum MHD_Result api_metrics(struct exchange *ex)
{
    const char *accept =
        MHD_lookup_connection_value(ex->mhd, MHD_HEADER_KIND, MHD_HTTP_HEADER_ACCEPT);
    const bool open = wants_openmetrics(accept);
    const struct edge_limits *l = &ex->catalog->limits;
    const uint32_t style =
        (open ? METRICS_OPEN : METRICS_TEXT) | (l->underscore_metrics ? METRICS_UNDERSCORES : 0u);
    struct edge *edge = ex->conn->loop->edge;
    struct buf body = {0};
    edge_metrics_price(&edge->metrics, l->price_per_hour);
    if (edge->opts.metrics)
        metrics_write(edge->opts.metrics, style, &body);
    if (ex->sees_keys)
        key_states_write(ex->catalog, style, &body);
    process_metrics_write(style, &body);
    metrics_write_end(style, &body);
    return respond_body(ex, MHD_HTTP_OK, open ? open_type : text_type, &body);
}
