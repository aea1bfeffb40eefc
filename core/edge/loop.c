/* loop.c - one thread: epoll over libmicrohttpd's epoll, the waker, the control eventfd, the
 * listeners, the clients' sockets and the hang-up watches.
 *
 * Everything that touches a connection happens here, in this order per turn: events are only
 * noted (tokens pulled, suspended connections resumed, the gone marked), clients' bytes go up,
 * libmicrohttpd runs until it wants to wait, its bytes go down. It closes connections only while it
 * runs, so no event of the turn can name a connection that another event of the turn freed. */
#include <errno.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/edge/edge_int.h"
#include "core/edge/front.h"
#include "core/edge/generation.h"
#include "core/edge/head_scan.h"
#include "core/edge/page_stream.h"
#include "core/observe/log.h"
#include "core/util/clock.h"

enum {
    SWEEP_US = 500 * 1000,
    EVENTS_MAX = 256,
    TAKE_MAX = 64,
    RUNS_MAX = 8,                /* passes of libmicrohttpd per turn; a token needs two */
    NEW_GRACE_US = 500 * 1000,   /* after a stop, for the first request of who has just come */
    STOP_GRACE_US = 1000 * 1000, /* for replies to be written after a stop, and again to close */
};

/* libmicrohttpd reports each closed connection and failed socket option; only what says that it
 * cannot go on is worth a line. */
static void __attribute__((format(printf, 2, 0))) mhd_log(void *cls, const char *fmt, va_list ap)
{
    const struct loop *l = cls;
    char line[256];
    /* Of the socket pairs it also reports, three times a reply, that they are no TCP sockets. */
    if (!log_enabled(LOG_DEBUG) || strncmp(fmt, "Setting %s option", 17) == 0 ||
        strncmp(fmt, "Failed to push", 14) == 0)
        return;
    int n = vsnprintf(line, sizeof(line), fmt, ap);
    while (n > 0 && (size_t)n < sizeof(line) && line[n - 1] == '\n')
        line[--n] = '\0';
    char quoted[512];
    log_debug("edge", "libmicrohttpd loop=%u says=%s", l->index,
              log_quote(line, quoted, sizeof(quoted)));
}

static int watch(struct loop *l, int fd, uint64_t event, struct err *e)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = event};
    if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0)
        return 0;
    return err_set(e, LLMD_EIO, "cannot watch a descriptor: %s", strerror(errno));
}

static int start_daemon(struct loop *l, struct err *e)
{
    uint32_t max_conns = l->control ? CONTROL_CONNECTIONS : l->edge->opts.max_connections;
    struct MHD_OptionItem items[] = {
        {MHD_OPTION_CONNECTION_LIMIT, (intptr_t)max_conns + 1, NULL},
        {MHD_OPTION_CONNECTION_TIMEOUT, l->control ? CONTROL_PATIENCE_S : 0, NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, SCAN_CONN_BYTES, NULL},
        {MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL},
        {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)exchange_completed, l},
        {MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)conn_notify, l},
        {MHD_OPTION_URI_LOG_CALLBACK, (intptr_t)exchange_request_line, l},
        {MHD_OPTION_END, 0, NULL},
    };
    unsigned flags =
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG;
    /* The logger comes first: it must be set before anything is reported. */
    l->daemon =
        MHD_start_daemon(flags, 0, NULL, NULL, exchange_handle, l, MHD_OPTION_EXTERNAL_LOGGER,
                         mhd_log, l, MHD_OPTION_ARRAY, items, MHD_OPTION_END);
    if (!l->daemon)
        return err_set(e, LLMD_EIO, "libmicrohttpd does not start");
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(l->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    return watch(l, info->epoll_fd, EVENT_MHD, e);
}

static int open_listeners(struct loop *l, struct err *e)
{
    for (uint32_t i = 0; i < l->n_listen; i++) {
        int rc = listener_socket(&l->edge->listeners[i], &l->listen_fds[i], e);
        if (rc != 0)
            return rc;
    }
    return accept_watch(l, e);
}

/* Everything but the listeners, of which there are to be n. */
static int build(struct loop *l, struct edge *edge, uint32_t n, struct err *e)
{
    *l = (struct loop){.edge = edge, .n_listen = n, .epoll_fd = -1, .control_fd = -1};
    atomic_store(&l->beat_us, clock_now_us());
    l->waker.event_fd = -1;
    slots_init(&l->slots);
    prep_inbox_init(&l->prepared, -1);
    l->listen_fds = malloc((n + 1) * sizeof(*l->listen_fds));
    if (!l->listen_fds)
        return err_set(e, LLMD_ENOMEM, "out of memory for a loop");
    for (uint32_t i = 0; i < n; i++)
        l->listen_fds[i] = -1;
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    l->control_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->epoll_fd < 0 || l->control_fd < 0)
        return err_set(e, LLMD_EIO, "cannot create epoll: %s", strerror(errno));
    int rc = waker_init(&l->waker, e);
    l->prepared.wake_fd = l->waker.event_fd;
    if (rc == 0)
        rc = watch(l, l->waker.event_fd, EVENT_WAKER, e);
    if (rc == 0)
        rc = watch(l, l->control_fd, EVENT_CONTROL, e);
    return rc;
}

int loop_init(struct loop *l, struct edge *edge, uint32_t index, struct err *e)
{
    int rc = build(l, edge, edge->opts.n_listen, e);
    l->index = index;
    if (rc == 0)
        rc = start_daemon(l, e);
    return rc == 0 ? open_listeners(l, e) : rc;
}

int loop_init_control(struct loop *l, struct edge *edge, struct err *e)
{
    int rc = build(l, edge, 1, e);
    l->index = edge->n_loops;
    l->control = true;
    if (rc == 0)
        rc = start_daemon(l, e);
    if (rc != 0)
        return rc;
    l->listen_fds[0] = edge->control_socket.fd;
    edge->control_socket.fd = -1;
    return accept_watch(l, e);
}

bool loop_closing(const struct loop *l)
{
    const struct edge *edge = l->edge;
    if (l->control)
        return atomic_load(&edge->closing);
    return atomic_load(&edge->draining) || atomic_load(&edge->stopping);
}

void loop_poke(struct loop *l)
{
    static const uint64_t one = 1;
    while (write(l->control_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

uint64_t loop_random_id(struct loop *l)
{
    if (l->n_ids == 0 && RAND_bytes((unsigned char *)l->ids, sizeof(l->ids)) == 1)
        l->n_ids = ARRAY_LEN(l->ids);
    const uint64_t id = l->n_ids > 0 ? l->ids[--l->n_ids] : 0;
    return id != 0 ? id : clock_now_us();
}

const char *loop_date(struct loop *l)
{
    const uint64_t now_s = clock_wall_us() / 1000000;
    if (now_s != l->date_s)
        clock_http_date((int64_t)now_s, l->date);
    l->date_s = now_s;
    return l->date;
}

/* Tokens arrived: moves them to their connections' buffers. */
static void take_tokens(struct loop *l)
{
    struct request *ready[TAKE_MAX];
    uint32_t n;
    do {
        n = waker_take(&l->waker, ready, TAKE_MAX);
        for (uint32_t i = 0; i < n; i++) {
            if (i % GENERATION_FETCH == 0)
                generation_fetch(ready + i, (uint32_t)u64_min(n - i, GENERATION_FETCH));
            generation_wake(ready[i]);
            request_unref(ready[i]);
        }
    } while (n == TAKE_MAX);
}

/* An event of something that comes and goes. */
static void on_slot(struct loop *l, uint64_t name, uint32_t events)
{
    void *item = slots_find(&l->slots, name);
    if (!item)
        return;
    if (slots_kind(name) != SLOT_CONN) {
        front_event(item, slots_kind(name) == SLOT_CLIENT ? events : 0);
        return;
    }
    const struct conn *c = item;
    if (c->exchange)
        exchange_hang_up(c->exchange);
}

static void on_event(struct loop *l, uint64_t event)
{
    if (event == EVENT_WAKER) {
        take_tokens(l); /* reads the descriptor, so that nothing comes back unseen behind it */
        prep_take(&l->prepared);
    } else if (event == EVENT_CONTROL) {
        uint64_t count;
        while (read(l->control_fd, &count, sizeof(count)) < 0 && errno == EINTR)
            ;
        if (loop_closing(l))
            accept_end(l);
        page_stream_send(l);
    } else if (event >= EVENT_LISTEN)
        accept_clients(l, (uint32_t)(event - EVENT_LISTEN));
}

/* Until the next deadline, or until libmicrohttpd wants to run. */
static int wait_ms(struct loop *l, uint64_t now_us)
{
    uint64_t ms = l->next_sweep_us > now_us ? (l->next_sweep_us - now_us) / 1000 + 1 : 0;
    MHD_UNSIGNED_LONG_LONG t;
    if (l->touched)
        return 0;
    if (MHD_get_timeout(l->daemon, &t) == MHD_YES)
        ms = u64_min(ms, t);
    return (int)ms;
}

/* True when it has more to do. */
static bool run_daemon(struct loop *l)
{
    MHD_UNSIGNED_LONG_LONG t = 0;
    int n = 0;
    do
        MHD_run(l->daemon);
    while (++n < RUNS_MAX && MHD_get_timeout(l->daemon, &t) == MHD_YES && t == 0);
    return n == RUNS_MAX;
}

static void sweep(struct loop *l, uint64_t now_us)
{
    if (now_us < l->next_sweep_us)
        return;
    l->next_sweep_us = now_us + SWEEP_US;
    atomic_store_explicit(&l->beat_us, now_us, memory_order_relaxed);
    conn_sweep(l, now_us);
    front_sweep(l, now_us);
    for (struct exchange *ex = l->exchanges; ex; ex = ex->next)
        if (ex->generation)
            generation_tick(ex->generation, now_us);
    accept_resume(l);
}

static void turn(struct loop *l)
{
    struct epoll_event events[EVENTS_MAX];
    l->n_handshakes = 0;
    int n = epoll_wait(l->epoll_fd, events, EVENTS_MAX, wait_ms(l, clock_now_us()));
    for (int i = 0; i < n; i++)
        if (slots_kind(events[i].data.u64))
            on_slot(l, events[i].data.u64, events[i].events);
        else
            on_event(l, events[i].data.u64);
    front_pump(l, false);
    const bool more = run_daemon(l);
    front_pump(l, true);
    if (more)
        front_touch_busy(l);
    sweep(l, clock_now_us());
}

/* Ends what still runs: first politely, so that clients read why; then by shutting sockets. Who has just
 * connected is about to ask, and gets his 503 instead of a reset.
 * libmicrohttpd must not be stopped while a connection is suspended. */
static void wind_up(struct loop *l)
{
    struct err why = {0};
    err_set(&why, LLMD_EDRAINING, "the server is shutting down");
    accept_end(l);
    for (struct exchange *ex = l->exchanges; ex; ex = ex->next)
        if (ex->generation)
            generation_fail(ex->generation, &why);
    page_stream_end_all(l);
    uint64_t until = clock_now_us() + STOP_GRACE_US;
    while ((l->exchanges || front_any_new(l, NEW_GRACE_US)) && clock_now_us() < until)
        turn(l);
    for (struct exchange *ex = l->exchanges; ex; ex = ex->next)
        exchange_hang_up(ex);
    for (struct conn *c = l->conns; c; c = c->next)
        shutdown(c->fd, SHUT_RDWR);
    until = clock_now_us() + STOP_GRACE_US;
    while ((!front_end_all(l, false) || l->conns) && clock_now_us() < until)
        turn(l);
    front_end_all(l, true);
    MHD_stop_daemon(l->daemon);
    l->daemon = NULL;
}

static void *loop_main(void *arg)
{
    struct loop *l = arg;
    const atomic_bool *stop = l->control ? &l->edge->closing : &l->edge->stopping;
    char name[16];
    snprintf(name, sizeof(name), "edge%u", l->index);
    pthread_setname_np(pthread_self(), l->control ? "edge-control" : name);
    while (!atomic_load(stop))
        turn(l);
    wind_up(l);
    return NULL;
}

int loop_start(struct loop *l, struct err *e)
{
    int rc = pthread_create(&l->thread, NULL, loop_main, l);
    if (rc != 0)
        return err_set(e, LLMD_EIO, "cannot start a thread: %s", strerror(rc));
    l->running = true;
    return 0;
}

void loop_join(struct loop *l)
{
    if (l->running)
        pthread_join(l->thread, NULL);
    l->running = false;
}

void loop_fini(struct loop *l)
{
    if (l->daemon)
        MHD_stop_daemon(l->daemon);
    for (uint32_t i = 0; l->listen_fds && i < l->n_listen; i++)
        if (l->listen_fds[i] >= 0)
            close(l->listen_fds[i]);
    if (l->waker.event_fd >= 0)
        waker_fini(&l->waker);
    if (l->control_fd >= 0)
        close(l->control_fd);
    if (l->epoll_fd >= 0)
        close(l->epoll_fd);
    prep_inbox_fini(&l->prepared);
    free(l->listen_fds);
    slots_fini(&l->slots);
    buf_fini(&l->scanned);
    buf_fini(&l->answers);
    buf_fini(&l->gathered);
    buf_fini(&l->spans);
}
