/* edge_sender.c - the least that can send tokens: what edge.sh holds llmd's edge against.
 *
 *   edge_sender PORT STREAMS SCHEDULE TABLE EVENT [CERTIFICATE KEY]
 *
 * Takes STREAMS connections, reads each request up to its seed, and then pushes tokens at the times of
 * SCHEDULE, a table that llmd's workers filled: one thread sleeps, notes each push in TABLE and writes
 * an eventfd once per burst; the other waits in epoll and writes the bytes of the file EVENT, one
 * chunk as llmd wrote it, once per token. Ends when the last client has left. Prints "port N" when it
 * listens; PORT 0 takes any. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "core/util/base.h"
#include "tests/bench/edge/push_table.h"

enum {
    EVENTS_MAX = 256,
    REQUEST_MAX = 4096,
    BURST_NS = 50 * 1000, /* pushes that follow each other so closely share a wake-up */
};

struct push {
    uint64_t at_ns;
    uint32_t stream;
};

struct sender {
    struct push *schedule; /* [n_pushes], by time */
    size_t n_pushes;
    struct push_table *table;
    pthread_mutex_t mu;
    uint32_t *due, *taken; /* streams with a token; due and n_due are guarded by mu */
    size_t n_due, n_taken;
    int event_fd, epoll_fd;
    SSL_CTX *tls;
    struct client {
        int fd;
        SSL *ssl;
    } clients[PUSH_STREAMS]; /* by stream; fd 0: none */
    char event[1024];
    size_t n_event;
};

static void die(const char *what)
{
    fprintf(stderr, "edge_sender: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void *or_die(void *p)
{
    if (!p)
        die("memory");
    return p;
}

static int by_time(const void *a, const void *b)
{
    const uint64_t x = ((const struct push *)a)->at_ns, y = ((const struct push *)b)->at_ns;
    return x < y ? -1 : x > y;
}

static void read_schedule(struct sender *s, const char *path)
{
    struct push_table *from = or_die(push_table_open(path));
    for (uint32_t i = 0; i < PUSH_STREAMS; i++)
        s->n_pushes += atomic_load(&from->rows[i].n);
    s->schedule = or_die(calloc(s->n_pushes + 1, sizeof(*s->schedule)));
    s->due = or_die(calloc(s->n_pushes + 1, sizeof(*s->due)));
    s->taken = or_die(calloc(s->n_pushes + 1, sizeof(*s->taken)));
    size_t n = 0;
    for (uint32_t i = 0; i < PUSH_STREAMS; i++)
        for (uint32_t k = 0; k < atomic_load(&from->rows[i].n); k++)
            s->schedule[n++] = (struct push){from->rows[i].at_ns[k], i};
    qsort(s->schedule, s->n_pushes, sizeof(*s->schedule), by_time);
}

static void read_event(struct sender *s, const char *path)
{
    FILE *f = or_die(fopen(path, "rb"));
    s->n_event = fread(s->event, 1, sizeof(s->event), f);
    fclose(f);
}

/* ---- the producer ---- */

static void *push_all(void *arg)
{
    struct sender *s = arg;
    pthread_setname_np(pthread_self(), "push");
    const uint64_t began = push_now_ns(), first = s->n_pushes ? s->schedule[0].at_ns : 0;
    for (size_t i = 0; i < s->n_pushes;) {
        static const uint64_t one = 1;
        const uint64_t due = began + (s->schedule[i].at_ns - first);
        const struct timespec t = {(time_t)(due / 1000000000u), (long)(due % 1000000000u)};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
            ;
        do {
            push_table_note(s->table, s->schedule[i].stream);
            pthread_mutex_lock(&s->mu);
            s->due[s->n_due++] = s->schedule[i].stream;
            pthread_mutex_unlock(&s->mu);
            i++;
        } while (i < s->n_pushes && s->schedule[i].at_ns - s->schedule[i - 1].at_ns < BURST_NS);
        if (write(s->event_fd, &one, sizeof(one)) < 0)
            die("eventfd");
    }
    return NULL;
}

/* ---- the sender ---- */

static void client_write(struct client *c, const char *data, size_t n)
{
    if (c->fd == 0)
        return;
    if (c->ssl)
        SSL_write(c->ssl, data, (int)n);
    else if (send(c->fd, data, n, MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != ECONNRESET)
        die("send");
}

static void send_due(struct sender *s)
{
    uint64_t count;
    if (read(s->event_fd, &count, sizeof(count)) < 0)
        die("eventfd");
    pthread_mutex_lock(&s->mu);
    uint32_t *due = s->due;
    s->due = s->taken;
    s->taken = due;
    s->n_taken = s->n_due;
    s->n_due = 0;
    pthread_mutex_unlock(&s->mu);
    for (size_t i = 0; i < s->n_taken; i++)
        client_write(&s->clients[s->taken[i]], s->event, s->n_event);
}

/* The stream is named by the seed in the body. */
static uint32_t read_request(struct client *c)
{
    char request[REQUEST_MAX];
    size_t n = 0;
    for (;;) {
        ssize_t k = c->ssl ? SSL_read(c->ssl, request + n, (int)(sizeof(request) - n - 1))
                           : read(c->fd, request + n, sizeof(request) - n - 1);
        if (k <= 0)
            die("request");
        n += (size_t)k;
        request[n] = '\0';
        const char *head = strstr(request, "\r\n\r\n");
        const char *seed = head ? strstr(head, "\"seed\":") : NULL;
        if (seed && strchr(seed, '}'))
            return (uint32_t)strtoul(seed + 7, NULL, 10) - 1;
    }
}

static void take_client(struct sender *s, int listen_fd)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n";
    struct client c = {.fd = accept(listen_fd, NULL, NULL)};
    int on = 1;
    if (c.fd < 0)
        die("accept");
    setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (s->tls) {
        c.ssl = or_die(SSL_new(s->tls));
        SSL_set_fd(c.ssl, c.fd);
        if (SSL_accept(c.ssl) != 1)
            die("TLS");
    }
    const uint32_t stream = read_request(&c);
    BUG_ON(stream >= PUSH_STREAMS);
    s->clients[stream] = c;
    client_write(&c, head, sizeof(head) - 1);
    struct epoll_event ev = {.events = EPOLLRDHUP, .data.u32 = stream};
    epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, c.fd, &ev);
}

static void drop_client(struct sender *s, uint32_t stream)
{
    struct client *c = &s->clients[stream];
    SSL_free(c->ssl);
    close(c->fd);
    *c = (struct client){.fd = 0};
}

static void serve(struct sender *s, int listen_fd, uint32_t n_streams)
{
    enum { EVENT_LISTEN = PUSH_STREAMS, EVENT_TOKENS };
    struct epoll_event events[EVENTS_MAX];
    struct epoll_event ev = {.events = EPOLLIN, .data.u32 = EVENT_LISTEN};
    uint32_t n_taken = 0, n_left = 0;
    pthread_t producer;
    epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, listen_fd, &ev);
    ev.data.u32 = EVENT_TOKENS;
    epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, s->event_fd, &ev);
    while (n_left < n_streams) {
        int n = epoll_wait(s->epoll_fd, events, EVENTS_MAX, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.u32 == EVENT_TOKENS)
                send_due(s);
            else if (events[i].data.u32 != EVENT_LISTEN) {
                drop_client(s, events[i].data.u32);
                n_left++;
            } else {
                take_client(s, listen_fd);
                if (++n_taken == n_streams && pthread_create(&producer, NULL, push_all, s) != 0)
                    die("thread");
            }
        }
    }
}

static int listen_at(const char *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)strtoul(port, NULL, 10)),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, n) != 0 || listen(fd, PUSH_STREAMS) != 0 ||
        getsockname(fd, (struct sockaddr *)&a, &n) != 0)
        die("listen");
    printf("port %u\n", ntohs(a.sin_port));
    fflush(stdout);
    return fd;
}

static SSL_CTX *tls_context(const char *certificate, const char *key)
{
    SSL_CTX *tls = or_die(SSL_CTX_new(TLS_server_method()));
    if (SSL_CTX_use_certificate_chain_file(tls, certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1) {
        ERR_print_errors_fp(stderr);
        exit(1);
    }
    return tls;
}

int main(int argc, char **argv)
{
    static struct sender s = {.mu = PTHREAD_MUTEX_INITIALIZER};
    struct rlimit files;
    if (argc != 6 && argc != 8) {
        fprintf(stderr, "usage: edge_sender PORT STREAMS SCHEDULE TABLE EVENT [CERTIFICATE KEY]\n");
        return 2;
    }
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    pthread_setname_np(pthread_self(), "edge0");
    read_schedule(&s, argv[3]);
    s.table = or_die(push_table_open(argv[4]));
    read_event(&s, argv[5]);
    if (argc == 8)
        s.tls = tls_context(argv[6], argv[7]);
    s.event_fd = eventfd(0, EFD_CLOEXEC);
    s.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (s.event_fd < 0 || s.epoll_fd < 0)
        die("epoll");
    serve(&s, listen_at(argv[1]), (uint32_t)strtoul(argv[2], NULL, 10));
    return 0;
}
