/* edge.h - the HTTP side: admits, authenticates, validates and streams; knows no device and no
 * policy.
 *
 * N loop threads, each with its own listening sockets (listen.h), one external-epoll libmicrohttpd
 * daemon, one waker. A connection stays with its loop. One more loop serves the control
 * socket and nothing else: neither a full server nor a draining one locks its operator out. See
 * core/edge/README.md for the suspend/resume protocol.
 *
 * Routes  routes.c; who may use which: access.h.
 * Thread  edge_start, edge_set_catalog, edge_set_tls, edge_uses_model, edge_tick, edge_stop from the main thread. */
#pragma once
#include "core/edge/control.h"
#include "core/edge/limits.h"
#include "core/util/base.h"
#include "core/util/err.h"

struct edge;
struct metrics;
struct model;
struct router;
struct store;
struct tls;
struct traces;

/* What a key opens; access.h says which routes. */
enum key_scope { SCOPE_INFERENCE, SCOPE_ADMIN, SCOPE_READ_ONLY };

struct edge_key {
    const char *name;
    uint8_t sha256[32]; /* of the bearer token */
    enum key_scope scope;
    const char *const *models; /* [n_models] names or aliases of those it may use; none: all */
    uint32_t n_models;
    int64_t expires_s; /* refused from then on, seconds since 1970; 0: never */
    struct key_limits limits;
    int32_t priority; /* of its requests, lower first; they may ask for a later one */
    bool log_prompts; /* bodies of its requests go to the request log */
};

/* What a served model is to the edge. */
struct edge_model {
    const char *name;           /* canonical: labels, responses, router */
    const char *const *aliases; /* [n_aliases] further names that clients may use */
    uint32_t n_aliases;
    const struct model *model; /* tokenizer, template, defaults */
    uint64_t generation;       /* the router's number of it; 0: the newest of that name */
    uint32_t max_model_len;
    int64_t created; /* seconds since 1970, for /v1/models */
};

/* What /metrics tells to who is no operator. */
enum metrics_access {
    METRICS_TOTALS,    /* everything but what each key used */
    METRICS_ALL,       /* that, too: it names the keys */
    METRICS_OPERATORS, /* nothing */
};

struct edge_limits {
    uint32_t max_body_bytes;  /* more: 413 */
    bool overflow_is_too_big; /* a prompt longer than the context is answered 413, not 400 */
    enum metrics_access metrics;
    uint32_t header_timeout_s; /* head and body of a request must be in by then: */
    uint32_t body_timeout_s;
    uint32_t keepalive_timeout_s;    /* idle connection */
    uint32_t client_write_timeout_s; /* a client takes nothing of what is there for it */
    uint32_t request_timeout_s; /* from a request's head to its last token; 0: any time; so also: */
    uint32_t first_token_timeout_s;
    uint32_t token_timeout_s;             /* between two tokens */
    uint32_t max_connections_per_address; /* address_counts.h; 0: any number */
    uint32_t sse_keepalive_s;             /* comment line while nothing else was sent; 0: off */
    bool underscore_metrics;              /* /metrics has vllm:x as vllm_x as well */
    double price_per_hour;                /* of the machine, in any currency; 0: not known */
    uint64_t stall_us;                    /* /health says 503 when no step happened for so long */
};

/* An address to listen on. */
struct edge_listener {
    const char *address; /* as core/util/endpoint.h reads it; its scheme decides nothing here: */
    bool tls;
    bool admin;       /* serves operators: /admin/v1/ and what asks for no key */
    int inherited_fd; /* listens there already and becomes the edge's, > 2; 0: none */
};

/* What may change while the edge runs. */
struct edge_served {
    const struct edge_key *keys; /* [n_keys]; none: open, the caller has made sure of loopback */
    uint32_t n_keys;
    const struct edge_model *models; /* [n_models]; none: /v1/models is empty, /ready says 503 */
    uint32_t n_models;
    bool share_prefixes; /* keys share what is cached of past prompts */
    struct edge_limits limits;
};

struct edge_opts {
    const struct edge_listener *listen; /* [n_listen]; with one that is admin, /admin/v1/ answers
                                           there and on the control socket only */
    uint32_t n_listen;
    const char *const *allow; /* [n_allow] blocks of addresses; none: everybody */
    uint32_t n_allow;
    const char *const *proxy_from; /* [n_proxy_from] who sends PROXY headers */
    uint32_t n_proxy_from;
    const char *const *host_names; /* [n_host_names] by which browsers reach the status page, beside
                                      addresses and the names of the certificate */
    uint32_t n_host_names;
    const char *control_socket; /* path of a UNIX socket for /admin/v1/; NULL or "": none */
    bool control_optional;      /* warn and go on when it cannot be made */
    uint32_t n_threads;         /* loops; 0: automatic */
    uint32_t n_prep_threads;    /* that read large bodies; 0: automatic */
    struct edge_served served;
    struct tls *tls; /* of the listeners that speak it; taken over, also when the start fails */
    struct router *router;
    struct metrics *metrics;
    struct store *store;   /* the request log; NULL: none */
    bool log_prompts;      /* all bodies go there */
    struct traces *traces; /* where spans of requests go; NULL: nowhere */
    struct edge_control control;
    uint32_t max_connections; /* over all loops; more get 503 and a close */
};

/* Binds, listens and starts the loops. opts is copied, and what is served; what else it points to
 * outlives the edge. */
MUST_CHECK int edge_start(const struct edge_opts *opts, struct edge **out, struct err *e);
/* What is served from now on, copied: requests whose bodies are complete later go by it; those that run
 * go on by what they began with. Errors: ENOMEM, nothing is changed. */
MUST_CHECK int edge_set_catalog(struct edge *edge, const struct edge_served *s, struct err *e);
/* What new connections speak; NULL. Borrowed, until edge_set_tls. */
const struct tls *edge_tls(const struct edge *edge);
/* New connections speak by that one from now on; it is taken over. Only where there was one before. */
void edge_set_tls(struct edge *edge, struct tls *tls);
/* Whether the model is served, or a request that runs still needs it. */
bool edge_uses_model(struct edge *edge, const struct model *model);
/* The port that listener i was bound to (for port 0); 0 of a file. */
uint16_t edge_port(const struct edge *edge, uint32_t i);
/* What is due once a second: figures for the status page. Returns in how many microseconds it is due
 * again; earlier calls do nothing. */
uint64_t edge_tick(struct edge *edge);
/* Stops accepting and answers 503 to new requests on open connections; running streams go on, and the
 * control socket is served until edge_stop. */
void edge_drain(struct edge *edge);
/* Requests that are being answered right now, until the kernel has the end of the reply. */
uint32_t edge_active(const struct edge *edge);
/* When the loop that is the latest of all last went round (clock_now_us()); each does so twice a second.
 * From any thread. */
uint64_t edge_beat_us(const struct edge *edge);
/* Ends what still runs with an error, closes all connections, ends the threads, frees. NULL is
 * fine. The workers must have ended before (router_shutdown): they write to the loops' wakers. */
void edge_stop(struct edge *edge);
