/* edge_metrics.h - what the edge counts: requests as clients see them, and HTTP. Tokens, queue and
 * step times are the engine's.
 *
 * All series with a finite set of labels exist at zero from the start; an HTTP series of an
 * unusual method or status comes with its first request.
 * Thread  any. */
#pragma once
#include <stdatomic.h>

#include "core/edge/edge.h"
#include "core/edge/tls_conn.h"
#include "core/observe/metrics.h"
#include "core/request/stream.h"
#include "core/util/base.h"
#include "core/util/err.h"

enum http_method { METHOD_GET, METHOD_HEAD, METHOD_POST, METHOD_OPTIONS, METHOD_OTHER, N_METHODS };
/* Why a connection is not served. */
enum edge_refused {
    REFUSED_FULL,
    REFUSED_ADDRESS_FULL,
    REFUSED_ALLOW,
    REFUSED_PROXY,
    N_EDGE_REFUSED
};
/* Why a connection is closed that its client left open. */
enum edge_dropped { DROPPED_HEAD, DROPPED_BODY, DROPPED_IDLE, DROPPED_WRITE, N_EDGE_DROPPED };
/* Which time limit ended a generation. */
enum edge_timeout { TIMEOUT_REQUEST, TIMEOUT_FIRST_TOKEN, TIMEOUT_TOKEN, N_EDGE_TIMEOUTS };
enum { STATUS_CLASSES = 6 }; /* 0: no reply (the client left), 2xx .. 5xx at 2 .. 5 */

struct model_series { /* zeroed: nothing is counted */
    struct metric_counter *asked;
    struct metric_counter *finished[FINISH_ERROR + 1]; /* by enum finish_reason */
    struct metric_histogram *e2e_seconds;
    struct metric_histogram *prompt_tokens, *generation_tokens;
    struct metric_histogram *max_generation_tokens, *params_max_tokens, *params_n;
    struct metric_histogram *seconds_per_token;
    struct metric_counter *rejected; /* queues full */
};

struct route_series {
    _Atomic(struct metric_counter *) requests[N_METHODS][STATUS_CLASSES];
    struct metric_histogram *seconds, *request_bytes, *reply_bytes;
};

enum { EDGE_STATUS_MIN = 400, EDGE_STATUSES = 200, EDGE_ERRORS = 32 };

struct edge_metrics {
    struct metrics *set;                                    /* NULL: nothing is counted */
    _Atomic(struct metric_counter *) errors[EDGE_STATUSES]; /* by status - EDGE_STATUS_MIN */
    struct metric_counter *failures[EDGE_ERRORS];           /* by enum llmd_error */
    struct metric_gauge *price;
    struct route_series *routes; /* [routes_count() + 1], the last for unknown paths */
    struct metric_histogram *seconds;
    struct metric_gauge *connections;
    struct metric_counter *refused[N_EDGE_REFUSED], *dropped[N_EDGE_DROPPED];
    struct metric_counter *timeouts[N_EDGE_TIMEOUTS];
    struct metric_counter *tls_shaken[2][2]; /* handshakes: is TLS 1.3, was resumed */
    struct metric_counter *tls_failed[N_TLS_OUTCOMES];
    struct metric_gauge *tls_expiry;
};

/* set may be NULL: nothing is counted. */
MUST_CHECK int edge_metrics_init(struct edge_metrics *m, struct metrics *set, struct err *e);
void edge_metrics_fini(struct edge_metrics *m);
/* Those of TLS, which are not there without; the certificate ends then (seconds since 1970). */
void edge_metrics_tls(struct edge_metrics *m, int64_t expires);
/* The series of a model, at zero when they are new; m may be NULL. */
void edge_metrics_model(struct edge_metrics *m, const struct edge_model *model,
                        struct model_series *out);

/* What the machine costs per hour; 0: not known. */
void edge_metrics_price(const struct edge_metrics *m, double per_hour);

/* A request for the model came. */
void edge_metrics_asked(const struct model_series *s);
/* One choice ended. */
struct choice_figures {
    const char *trace_id; /* NULL, "": none that is recorded */
    enum finish_reason finish;
    uint32_t n_prompt, n_generated, max_tokens;
    double seconds;
};
void edge_metrics_choice(const struct model_series *s, const struct choice_figures *f);
/* A request ended. */
struct request_figures {
    uint32_t n;            /* choices per prompt */
    uint32_t n_longest;    /* tokens of its longest choice */
    double decode_seconds; /* from its first token to its last */
};
void edge_metrics_request(const struct model_series *s, const struct request_figures *f);
/* A request was turned away because the queues are full. */
void edge_metrics_rejected(const struct model_series *s);

/* One HTTP exchange ended. */
struct http_figures {
    uint32_t route; /* route_index() */
    int error; /* enum llmd_error that ended a generation, which may have begun with a 200; 0 */
    const char *method;
    unsigned status; /* 0: none was sent */
    uint64_t request_bytes, reply_bytes;
    double seconds;
};
void edge_metrics_http(struct edge_metrics *m, const struct http_figures *f);
