/* edge_reader.c - how long tokens take from their push to a client's read.
 *
 *   edge_reader [-s] [-e FILE] [-p US] PORT STREAMS SECONDS TABLE PID
 *
 * Opens STREAMS streams at 127.0.0.1:PORT (-s: over TLS; -p: one each US microseconds), waits until all
 * have a token, and a second, and then looks for SECONDS at when each token is read. The server PID
 * notes its pushes in TABLE (push_table.h). -e: one chunk as it came, for edge_sender, goes to FILE.
 *
 * One line: streams, tokens, p50_us, p99_us, max_us; together: tokens read with another of the same
 * stream, in percent; cpu_us: CPU time of the threads edge* per token; threads and rss_kib of the
 * server. Exit 1 when a token was lost or a stream ended. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "core/util/base.h"
#include "tests/bench/edge/push_table.h"

enum {
    EVENTS_MAX = 256,
    READ_BYTES = 32 * 1024,
    WARM_NS = 1000 * 1000 * 1000,
};

static const uint64_t START_MAX_NS = 30ull * 1000 * 1000 * 1000;

/* Once in each event that carries a token. */
static const char mark[] = ",\"text\":";

struct stream {
    int fd;
    SSL *ssl;
    uint32_t n_matched; /* bytes of the mark at the end of what was read */
    uint32_t n_tokens;
};

struct reader {
    struct push_table *table;
    struct stream streams[PUSH_STREAMS];
    uint32_t n_streams, n_started;
    int epoll_fd;
    SSL_CTX *tls;
    uint64_t from_ns, to_ns; /* pushes of this time are looked at; 0: not yet known */
    uint32_t *us_x10;        /* [n_samples] */
    size_t n_samples, cap_samples;
    uint64_t n_together;
    const char *event_path;
    const char *faults;
};

struct server {
    uint64_t edge_ns;
    uint32_t n_threads;
};

static void die(const char *what)
{
    fprintf(stderr, "edge_reader: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- the server, from outside ---- */

static bool read_file(const char *path, char *out, size_t size)
{
    FILE *f = fopen(path, "r");
    if (!f)
        return false;
    size_t n = fread(out, 1, size - 1, f);
    out[n] = '\0';
    fclose(f);
    return n > 0;
}

static struct server look_at(long pid)
{
    struct server s = {0};
    char path[320], text[256];
    snprintf(path, sizeof(path), "/proc/%ld/task", pid);
    DIR *d = opendir(path);
    if (!d)
        die(path);
    for (const struct dirent *entry; (entry = readdir(d));) {
        snprintf(path, sizeof(path), "/proc/%ld/task/%.20s/comm", pid, entry->d_name);
        if (entry->d_name[0] == '.' || !read_file(path, text, sizeof(text)))
            continue;
        s.n_threads++;
        if (strncmp(text, "edge", 4) != 0)
            continue;
        snprintf(path, sizeof(path), "/proc/%ld/task/%.20s/schedstat", pid, entry->d_name);
        if (read_file(path, text, sizeof(text)))
            s.edge_ns += strtoull(text, NULL, 10);
    }
    closedir(d);
    return s;
}

static unsigned long rss_kib(long pid)
{
    char path[64], text[4096];
    snprintf(path, sizeof(path), "/proc/%ld/status", pid);
    if (!read_file(path, text, sizeof(text)))
        return 0;
    const char *at = strstr(text, "VmRSS:");
    return at ? strtoul(at + 6, NULL, 10) : 0;
}

/* ---- streams ---- */

static void open_stream(struct reader *r, uint32_t index, uint16_t port)
{
    struct stream *s = &r->streams[index];
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char body[256], request[512];
    int on = 1;
    int n =
        snprintf(body, sizeof(body),
                 "{\"model\":\"sim\",\"stream\":true,\"prompt\":\"Tell a story.\",\"max_tokens\":"
                 "%d,\"ignore_eos\":true,\"seed\":%u}",
                 PUSH_TOKENS, index + 1); /* a seed of 0 is the warm-up of a worker */
    n = snprintf(request, sizeof(request),
                 "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                 "application/json\r\nContent-Length: %d\r\n\r\n%s",
                 n, body);
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->fd < 0 || connect(s->fd, (struct sockaddr *)&a, sizeof(a)) != 0)
        die("connect");
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (r->tls) {
        s->ssl = SSL_new(r->tls);
        SSL_set_fd(s->ssl, s->fd);
        if (SSL_connect(s->ssl) != 1 || SSL_write(s->ssl, request, n) != n)
            die("TLS");
    } else if (write(s->fd, request, (size_t)n) != n)
        die("write");
    fcntl(s->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = s};
    if (epoll_ctl(r->epoll_fd, EPOLL_CTL_ADD, s->fd, &ev) != 0)
        die("epoll");
}

static void keep_sample(struct reader *r, uint64_t ns)
{
    if (r->n_samples == r->cap_samples) {
        r->cap_samples = r->cap_samples ? r->cap_samples * 2 : 65536;
        r->us_x10 = realloc(r->us_x10, r->cap_samples * sizeof(*r->us_x10));
        if (!r->us_x10)
            die("memory");
    }
    r->us_x10[r->n_samples++] = (uint32_t)u64_min(ns / 100, UINT32_MAX);
}

/* The stream's next token was read. */
static bool take_token(struct reader *r, struct stream *s, uint64_t now_ns)
{
    const struct push_row *row = &r->table->rows[s - r->streams];
    const uint32_t k = s->n_tokens++;
    if (k == 0)
        r->n_started++;
    if (k >= atomic_load_explicit(&row->n, memory_order_acquire) || row->at_ns[k] > now_ns) {
        r->faults = "a token was read before it was pushed";
        return false;
    }
    const bool counts = r->from_ns && row->at_ns[k] >= r->from_ns && row->at_ns[k] < r->to_ns;
    if (counts)
        keep_sample(r, now_ns - row->at_ns[k]);
    return counts;
}

static void take_bytes(struct reader *r, struct stream *s, const char *data, size_t n)
{
    const uint64_t now_ns = push_now_ns();
    uint32_t counted = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        if (data[i] != mark[s->n_matched])
            s->n_matched = data[i] == mark[0]; /* which stands nowhere else in it */
        else if (++s->n_matched == sizeof(mark) - 1) {
            s->n_matched = 0;
            all++;
            counted += take_token(r, s, now_ns);
        }
    }
    if (all > 1)
        r->n_together += counted;
    if (r->event_path && r->from_ns && all == 1) {
        FILE *f = fopen(r->event_path, "wb");
        if (!f || fwrite(data, 1, n, f) != n || fclose(f) != 0)
            die(r->event_path);
        r->event_path = NULL;
    }
}

static void read_stream(struct reader *r, struct stream *s)
{
    static char data[READ_BYTES];
    ssize_t n;
    do {
        n = s->ssl ? SSL_read(s->ssl, data, sizeof(data)) : read(s->fd, data, sizeof(data));
        if (n > 0)
            take_bytes(r, s, data, (size_t)n);
    } while (n > 0 && s->ssl && SSL_pending(s->ssl) > 0);
    if (n == 0 || (n < 0 && (s->ssl ? SSL_get_error(s->ssl, (int)n) != SSL_ERROR_WANT_READ
                                    : errno != EAGAIN)))
        r->faults = "a stream ended";
}

/* Reads what comes until then, or until each stream has a token. */
static void read_until(struct reader *r, uint64_t until_ns, bool all_started)
{
    struct epoll_event events[EVENTS_MAX];
    while (!r->faults && push_now_ns() < until_ns &&
           !(all_started && r->n_started == r->n_streams)) {
        int n = epoll_wait(r->epoll_fd, events, EVENTS_MAX, 1);
        for (int i = 0; i < n; i++)
            read_stream(r, events[i].data.ptr);
    }
}

/* ---- the measurement ---- */

static int by_value(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static double quantile_us(const struct reader *r, double q)
{
    return r->n_samples ? r->us_x10[(size_t)((double)(r->n_samples - 1) * q)] / 10.0 : 0;
}

static void measure(struct reader *r, uint64_t seconds, long pid)
{
    read_until(r, push_now_ns() + START_MAX_NS, true);
    if (r->n_started < r->n_streams && !r->faults)
        r->faults = "a stream did not begin";
    read_until(r, push_now_ns() + WARM_NS, false);
    const struct server before = look_at(pid);
    r->from_ns = push_now_ns();
    r->to_ns = r->from_ns + seconds * 1000000000u;
    read_until(r, r->to_ns, false);
    const struct server after = look_at(pid);
    read_until(r, r->to_ns + WARM_NS / 4, false); /* what was pushed shortly before */
    qsort(r->us_x10, r->n_samples, sizeof(*r->us_x10), by_value);
    const double n = (double)u64_max(r->n_samples, 1);
    printf("streams=%u tokens=%zu p50_us=%.1f p99_us=%.1f max_us=%.1f together=%.2f cpu_us=%.2f "
           "threads=%u rss_kib=%lu\n",
           r->n_streams, r->n_samples, quantile_us(r, 0.5), quantile_us(r, 0.99), quantile_us(r, 1),
           100 * (double)r->n_together / n, (double)(after.edge_ns - before.edge_ns) / 1e3 / n,
           after.n_threads, rss_kib(pid));
}

static int usage(void)
{
    fprintf(stderr, "usage: edge_reader [-s] [-e FILE] [-p US] PORT STREAMS SECONDS TABLE PID\n");
    return 2;
}

int main(int argc, char **argv)
{
    static struct reader r;
    unsigned pace_us = 0;
    for (int c; (c = getopt(argc, argv, "se:p:")) != -1;) {
        if (c == 's')
            r.tls = SSL_CTX_new(TLS_client_method());
        else if (c == 'e')
            r.event_path = optarg;
        else if (c == 'p')
            pace_us = (unsigned)strtoul(optarg, NULL, 10);
        else
            return usage();
    }
    if (argc - optind != 5)
        return usage();
    argv += optind;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    r.n_streams = (uint32_t)strtoul(argv[1], NULL, 10);
    r.table = push_table_open(argv[3]);
    r.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (!r.table || r.epoll_fd < 0 || r.n_streams > PUSH_STREAMS)
        die(argv[3]);
    push_table_clear(r.table);
    for (uint32_t i = 0; i < r.n_streams; i++) {
        open_stream(&r, i, (uint16_t)strtoul(argv[0], NULL, 10));
        read_until(&r, push_now_ns() + pace_us * 1000ull, false);
    }
    measure(&r, strtoul(argv[2], NULL, 10), strtol(argv[4], NULL, 10));
    if (r.faults)
        fprintf(stderr, "edge_reader: %s\n", r.faults);
    return r.faults ? 1 : 0;
}
