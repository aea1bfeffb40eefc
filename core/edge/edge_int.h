/* edge_int.h - what the files of the edge share: loop, connection, exchange.
 *
 *   edge  1 -> N loop      one thread, one libmicrohttpd daemon, one waker, own listeners; and one
 *                          more such loop for the control socket alone
 *   loop  1 -> n front     one connection of a client (front.h)
 *   front 1 -> 0..1 conn   its record in libmicrohttpd, from its first head on; a connection of the
 *                          control socket has no front
 *   conn  1 -> 0..1 exchange   one HTTP request and its reply; at most one at a time (pipelined
 *                          requests wait in libmicrohttpd)
 *   exchange 1 -> 0..1 generation   what chat and completions need (generation.h)
 *
 * Thread  everything below a loop belongs to that loop's thread; only the atomics of struct edge,
 *         its read-only part and the pointer to the catalogue of now are shared. */
#pragma once
#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>

#include "core/edge/access.h"
#include "core/edge/address_counts.h"
#include "core/edge/catalog.h"
#include "core/edge/edge.h"
#include "core/edge/edge_metrics.h"
#include "core/edge/framing.h"
#include "core/edge/gate.h"
#include "core/edge/listen.h"
#include "core/edge/prep.h"
#include "core/edge/slots.h"
#include "core/edge/trace_context.h"
#include "core/edge/unix_socket.h"
#include "core/request/stream.h"
#include "core/util/base.h"
#include "core/util/buf.h"
#include "core/util/clock.h"
#include "core/util/lock.h"

struct conn;
struct exchange;
struct front;
struct generation;
struct later;
struct page;
struct page_stream;
struct route;

/* Epoll data of everything that is no connection; listener i is EVENT_LISTEN + i. */
enum { EVENT_MHD, EVENT_WAKER, EVENT_CONTROL, EVENT_LISTEN };

enum {
    REQUEST_ID_BYTES = 129,
    IDS_AT_ONCE = 64, /* random numbers that OpenSSL is asked for */
    CONTROL_CONNECTIONS = 64,
    CONTROL_PATIENCE_S = 120, /* silence on the control socket */
};

/* What the names of a loop's slots mean. */
enum slot_kind {
    SLOT_CONN = 1, /* struct conn: its client hung up */
    SLOT_CLIENT,   /* struct front: the client's socket */
    SLOT_PAIR,     /* struct front: room towards libmicrohttpd */
};

struct loop {
    struct edge *edge;
    uint32_t index;
    bool control; /* of the control socket */
    pthread_t thread;
    bool running;
    int epoll_fd;
    int control_fd;  /* eventfd: drain or stop was asked for */
    int *listen_fds; /* [n_listen], -1 when closed */
    uint32_t n_listen;
    bool accepting; /* listeners are watched */
    struct MHD_Daemon *daemon;
    struct waker waker;
    struct prep_inbox prepared; /* by other threads; wakes by the waker's descriptor */
    struct front *fronts;       /* all open connections; of the control socket: none */
    uint32_t n_fronts;
    struct front *touched;     /* to be pumped */
    struct front *handed_over; /* to libmicrohttpd, right now */
    struct buf scanned;        /* of the front at hand; kept for its memory, as */
    struct buf answers;        /* replies to it by the front itself, */
    struct buf gathered;       /* the pieces of a chunk, */
    struct buf spans;          /* those of the request that ends */
    uint32_t n_handshakes;     /* steps of TLS handshakes in this turn */
    struct conn *conns;        /* those that libmicrohttpd has */
    uint32_t n_conns;
    struct exchange *exchanges; /* all requests being answered */
    struct page_stream *streams;
    atomic_uint n_streams; /* for page_stream_wake */
    struct slots slots;
    uint64_t ids[IDS_AT_ONCE]; /* random numbers, the first n_ids not used yet */
    uint32_t n_ids;
    char date[CLOCK_HTTP_DATE_SIZE]; /* of the second date_s since 1970 */
    uint64_t date_s;
    uint64_t next_sweep_us;
    atomic_ullong beat_us; /* when it last swept: others see by it that it goes round */
};

struct edge {
    struct edge_opts opts;  /* without what is served: */
    struct lock catalog_mu; /* rank LEAF; guards the pointer alone */
    struct catalog *catalog;
    struct catalog *old; /* that requests may still hold; the owner's */
    struct lock tls_mu;  /* rank LEAF; guards the pointer alone */
    struct tls *tls;     /* of new connections; NULL */
    struct loop *loops;  /* [n_loops] */
    uint32_t n_loops;
    struct loop control_loop; /* running only when there is a control socket */
    struct unix_socket control_socket;
    struct listener *listeners; /* [opts.n_listen] */
    bool has_admin_listener;
    struct gate gate;
    struct prep prep;
    struct prep searches; /* one thread that reads the request log */
    struct edge_metrics metrics;
    struct key_states key_states; /* the owner's */
    atomic_uint prefix_epoch;     /* how often operators had what is cached of prompts forgotten */
    struct page *page;            /* page.h */
    uint64_t started_us;
    struct lock addresses_mu; /* rank LEAF; guards: */
    struct address_counts addresses;
    atomic_uint n_conns;      /* of the loops, without the control socket's; so also: */
    atomic_uint n_exchanges;  /* until their replies have left */
    atomic_ullong n_requests; /* for generation, that are over */
    atomic_ullong n_failed;   /* of those: the server's fault */
    atomic_bool draining, stopping;
    atomic_bool closing; /* the control loop is to end too */
};

struct conn {
    struct loop *loop;
    struct conn *prev, *next;
    struct front *front; /* the client; NULL when it is gone, and of the control socket */
    const struct edge_listener *listener; /* it came to; NULL: the control socket */
    struct exchange *exchange;            /* NULL between two requests */
    int fd;                               /* libmicrohttpd's; open as long as the record exists */
    uint32_t slot;                        /* in loop->slots */
    bool watched;                         /* for a hang-up */
    bool peer_may;                        /* control socket: its user may use it */
    uid_t peer_uid;
    uint64_t line_us;     /* when the last request line came */
    uint64_t deadline_us; /* when it is shut down; 0: never */
};

/* Why a request is answered with an error before its body was looked at. */
enum refusal {
    REFUSE_NOT,
    REFUSE_FRAMING,
    REFUSE_ACCESS,
    REFUSE_PATH,
    REFUSE_METHOD,
    REFUSE_DRAINING,
    REFUSE_SIZE,
};

struct exchange {
    struct conn *conn;
    struct MHD_Connection *mhd;
    bool suspended;               /* in libmicrohttpd; cleared by exactly one resume */
    bool gone;                    /* the client hung up: nothing more can be sent */
    bool chunks;                  /* a stream's reply comes in chunks: HTTP/1.1 */
    bool drain_body;              /* when refused: read the body before the reply */
    uint64_t n_body, n_reply;     /* bytes of the bodies */
    struct exchange *prev, *next; /* in loop->exchanges */
    struct catalog *catalog;      /* of when it was admitted */
    const struct route *route;    /* NULL: no such path */
    const char *url, *method;     /* libmicrohttpd's */
    const struct edge_key *key;   /* that it presented, of the catalog; NULL: none */
    struct key_hold hold;         /* of the limits of that key */
    struct limit_refusal limited; /* what a limit of the key refused it for */
    uint64_t started_us;
    enum refusal refusal;
    enum access_verdict access;
    struct caller caller;       /* who asks */
    bool sees_keys;             /* may know what each key used */
    const char *refusal_detail; /* a constant; NULL */
    unsigned refusal_status;    /* of REFUSE_FRAMING */
    unsigned status;            /* of the reply; 0 while there is none */
    struct buf body;
    struct buf kept_body;          /* of one whose key wants it logged */
    struct generation *generation; /* NULL for other routes */
    struct page_stream *stream;    /* of the status page; NULL */
    bool uncounted;                /* a drain does not wait for it */
    struct later *later;           /* work on another thread; NULL: none */
    bool placed;                   /* a worker has the request: the headers x-llmd-* say so */
    uint32_t worker, n_cached_tokens;
    char id[REQUEST_ID_BYTES];  /* X-Request-Id, the client's or ours */
    struct trace_context trace; /* of the client's traceparent, or begun here */
};

/* edge.c */
/* The catalogue of now, with a reference. */
struct catalog *edge_catalog(struct edge *edge);
struct edge_limits edge_limits(struct edge *edge);
/* What a new TLS connection speaks, with a reference: SSL_CTX_free() it. */
struct ssl_ctx_st *edge_tls_context(struct edge *edge);

/* loop.c */
MUST_CHECK int loop_init(struct loop *l, struct edge *edge, uint32_t index, struct err *e);
/* The loop of the control socket, which is open and becomes the loop's. */
MUST_CHECK int loop_init_control(struct loop *l, struct edge *edge, struct err *e);
MUST_CHECK int loop_start(struct loop *l, struct err *e);
/* Wakes the loop to look at draining and stopping. */
void loop_poke(struct loop *l);
/* Waits for the thread's end. */
void loop_join(struct loop *l);
/* Frees; also a half-built loop, but no zeroed one. Nothing is on its way back to it. */
void loop_fini(struct loop *l);
/* It takes no more connections, and its replies say so. */
bool loop_closing(const struct loop *l);
/* Not 0; names a request or a span. */
uint64_t loop_random_id(struct loop *l);
/* Of now, for the header Date; valid until the next call. */
const char *loop_date(struct loop *l);

/* Counts a connection of a client; false: its address has as many as it may, or memory is short. Who has
 * no IP address is never counted. */
bool edge_count_client(struct edge *edge, const struct sockaddr_storage *client);
void edge_uncount_client(struct edge *edge, const struct sockaddr_storage *client);

/* accept.c */
/* Watches the loop's listeners, or leaves them alone. */
MUST_CHECK int accept_watch(struct loop *l, struct err *e);
/* Takes waiting connections from listener i. True: there may be more. */
bool accept_clients(struct loop *l, uint32_t i);
/* Goes on after accepting stopped for a moment because descriptors ran out. */
void accept_resume(struct loop *l);
/* Closes the listeners: the last connections that the kernel took for us get their 503 first. */
void accept_end(struct loop *l);

/* conn.c */
void conn_notify(void *cls, struct MHD_Connection *mhd, void **context,
                 enum MHD_ConnectionNotificationCode code);
struct conn *conn_of(struct MHD_Connection *mhd); /* NULL when memory was short */
void conn_set_deadline(struct conn *c, uint32_t seconds);
/* Starts and ends the watch for a hang-up. */
void conn_watch(struct conn *c);
void conn_unwatch(struct conn *c);
/* Shuts down what is past its deadline. */
void conn_sweep(struct loop *l, uint64_t now_us);

/* exchange.c: the callbacks that libmicrohttpd gets, and the life of an exchange. */
enum MHD_Result exchange_handle(void *cls, struct MHD_Connection *mhd, const char *url,
                                const char *method, const char *version, const char *data,
                                size_t *n_data, void **context);
void exchange_completed(void *cls, struct MHD_Connection *mhd, void **context,
                        enum MHD_RequestTerminationCode why);
void *exchange_request_line(void *cls, const char *uri, struct MHD_Connection *mhd);
/* Neither a drain nor `answering` minds it from now on. */
void exchange_uncount(struct exchange *ex);
void exchange_suspend(struct exchange *ex);
void exchange_resume(struct exchange *ex); /* nothing when it is not suspended */
/* The client hung up, or the loop ends: stop generating, end the connection. */
void exchange_hang_up(struct exchange *ex);
/* A request is over: metrics, and its line in the log unless it has one of its own. */
void exchange_count(struct edge *edge, const struct http_figures *f, const char *id, bool log);

/* The client's address, "unix", or NULL. */
const char *exchange_client(const struct exchange *ex, char out[INET6_ADDRSTRLEN]);

/* body.c: the most that it may have. What anybody may send is small: a login. */
uint32_t body_limit(const struct exchange *ex);
/* Checks the declared length; sets refusal and drain_body. */
void body_admit(struct exchange *ex, const struct framing *f);
/* Takes a piece. False: the connection is to be dropped. */
bool body_take(struct exchange *ex, const char *data, size_t n);
/* EINVAL unless the body is said to be plain JSON. */
MUST_CHECK int body_check_type(const struct exchange *ex, struct err *e);

/* exchange_limits.c: counts the request, whose body is complete, against the limits of its key. ERATE:
 * ex->limited says when it would fit. */
MUST_CHECK int exchange_enter(struct exchange *ex, struct err *e);
/* It is over: there is room for another. Before the reply, whose headers say what is left. What ended by
 * our fault (code; 0: it did not) was no request. */
void exchange_leave(struct exchange *ex, int code);
/* ERATE, by what ex->limited says. */
int exchange_refuse_rate(const struct exchange *ex, const char *per_minute, uint32_t limit,
                         struct err *e);

static inline const struct edge_opts *exchange_opts(const struct exchange *ex)
{
    return &ex->conn->loop->edge->opts;
}

/* Of the bearer key; "" without one. */
static inline const char *exchange_key_name(const struct exchange *ex)
{
    return ex->key ? ex->key->name : "";
}
