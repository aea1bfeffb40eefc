#include "core/bench/response.h"

#include <string.h>
#include <strings.h>

#include "core/util/printable.h"

void response_reset(struct response *r)
{
    struct buf line = r->line;
    buf_clear(&line);
    *r = (struct response){.line = line};
}

void response_fini(struct response *r)
{
    buf_fini(&r->line);
}

/* "HTTP/1.1 200 OK" */
static int take_status(struct response *r, const char *line, size_t n, struct err *e)
{
    static const char version[] = "HTTP/1.";
    size_t k = strlen(version);
    if (n < k + 5 || memcmp(line, version, k) != 0 || (line[k] != '0' && line[k] != '1') ||
        line[k + 1] != ' ') {
        char shown[64];
        printable_text(line, n, "", shown, sizeof(shown));
        return err_set(e, LLMD_EPARSE, "the server does not speak HTTP/1.1, it sent '%s'", shown);
    }
    int status = 0;
    for (size_t i = k + 2; i < k + 5; i++) {
        if (line[i] < '0' || line[i] > '9')
            return err_set(e, LLMD_EPARSE, "the server sent a status that is no number");
        status = 10 * status + (line[i] - '0');
    }
    if (status < 100 || (n > k + 5 && line[k + 5] != ' '))
        return err_set(e, LLMD_EPARSE, "the server sent a status that is no number");
    r->status = status;
    r->keep_alive = line[k] == '1';
    r->state = RESPONSE_HEADER;
    return 0;
}

static bool is_name(const char *s, size_t n, const char *name)
{
    return n == strlen(name) && strncasecmp(s, name, n) == 0;
}

/* Whether a list of tokens ("keep-alive, Upgrade") holds one. */
static bool has_token(const char *s, size_t n, const char *token)
{
    while (n > 0) {
        const char *comma = memchr(s, ',', n);
        size_t k = comma ? (size_t)(comma - s) : n, from = 0, to = k;
        while (from < to && (s[from] == ' ' || s[from] == '\t'))
            from++;
        while (to > from && (s[to - 1] == ' ' || s[to - 1] == '\t'))
            to--;
        if (is_name(s + from, to - from, token))
            return true;
        k += comma != NULL;
        s += k;
        n -= k;
    }
    return false;
}

static int take_length(struct response *r, const char *s, size_t n, struct err *e)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9' || __builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(s[i] - '0'), &v))
            return err_set(e, LLMD_EPARSE, "the server sent a Content-Length that is no number");
    }
    if (n == 0 || (r->has_length && v != r->left))
        return err_set(e, LLMD_EPARSE, "the server sent an empty or a second Content-Length");
    r->has_length = true;
    r->left = v;
    return 0;
}

static int take_field(struct response *r, const char *line, size_t n, struct err *e)
{
    const char *colon = memchr(line, ':', n);
    if (!colon || colon == line)
        return err_set(e, LLMD_EPARSE, "the server sent a header line without a name");
    const char *value = colon + 1, *end = line + n;
    size_t n_name = (size_t)(colon - line);
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    size_t n_value = (size_t)(end - value);
    if (is_name(line, n_name, "content-length"))
        return take_length(r, value, n_value, e);
    if (is_name(line, n_name, "transfer-encoding")) {
        if (!is_name(value, n_value, "chunked"))
            return err_set(e, LLMD_EPARSE, "the server uses a transfer coding other than chunked");
        r->chunked = true;
    } else if (is_name(line, n_name, "connection")) {
        if (has_token(value, n_value, "close"))
            r->keep_alive = false;
        else if (has_token(value, n_value, "keep-alive"))
            r->keep_alive = true;
    }
    return 0;
}

/* The empty line behind the header: what follows? */
static void end_header(struct response *r)
{
    if (r->status / 100 == 1)
        response_reset(r);
    else if (r->status == 204 || r->status == 304)
        r->state = RESPONSE_DONE;
    else if (r->chunked)
        r->state = RESPONSE_CHUNK_SIZE;
    else if (r->has_length)
        r->state = r->left > 0 ? RESPONSE_LENGTH : RESPONSE_DONE;
    else {
        r->state = RESPONSE_UNTIL_END;
        r->keep_alive = false;
    }
}

/* "1f;extension" */
static int take_chunk_size(struct response *r, const char *line, size_t n, struct err *e)
{
    uint64_t v = 0;
    size_t i = 0;
    for (; i < n && i < 15; i++) {
        char c = (char)(line[i] | 0x20);
        if (line[i] >= '0' && line[i] <= '9')
            v = 16 * v + (uint64_t)(line[i] - '0');
        else if (c >= 'a' && c <= 'f')
            v = 16 * v + (uint64_t)(c - 'a' + 10);
        else
            break;
    }
    if (i == 0 || (i < n && line[i] != ';' && line[i] != ' ' && line[i] != '\t'))
        return err_set(e, LLMD_EPARSE, "the server sent a chunk size that is no number");
    r->left = v;
    r->state = v > 0 ? RESPONSE_CHUNK_DATA : RESPONSE_TRAILER;
    return 0;
}

/* A whole line, without its end. */
static int take_line(struct response *r, const char *line, size_t n, struct err *e)
{
    switch (r->state) {
    case RESPONSE_STATUS:
        return take_status(r, line, n, e);
    case RESPONSE_HEADER:
        if (n > 0)
            return take_field(r, line, n, e);
        end_header(r);
        return 0;
    case RESPONSE_CHUNK_SIZE:
        return take_chunk_size(r, line, n, e);
    case RESPONSE_CHUNK_END:
        if (n > 0)
            return err_set(e, LLMD_EPARSE, "the server sent a chunk longer than it said");
        r->state = RESPONSE_CHUNK_SIZE;
        return 0;
    default: /* RESPONSE_TRAILER: its fields say nothing that we use */
        if (n == 0)
            r->state = RESPONSE_DONE;
        return 0;
    }
}

static bool in_body(const struct response *r)
{
    return r->state == RESPONSE_CHUNK_DATA || r->state == RESPONSE_LENGTH ||
           r->state == RESPONSE_UNTIL_END;
}

static int feed_body(struct response *r, const char *bytes, size_t n, response_body_fn on_body,
                     void *ctx, size_t *out_used)
{
    size_t k = n;
    if (r->state != RESPONSE_UNTIL_END) {
        k = (size_t)u64_min(n, r->left);
        r->left -= k;
        if (r->left == 0)
            r->state = r->state == RESPONSE_LENGTH ? RESPONSE_DONE : RESPONSE_CHUNK_END;
    }
    *out_used = k;
    return on_body(ctx, bytes, k);
}

/* Bytes up to the end of a line: the line is taken where it lies when it lies in one piece. */
static int feed_line(struct response *r, const char *bytes, size_t n, size_t *out_used,
                     struct err *e)
{
    const char *end = memchr(bytes, '\n', n);
    size_t k = end ? (size_t)(end - bytes) : n;
    *out_used = k + (end != NULL);
    bool header = r->state <= RESPONSE_HEADER || r->state == RESPONSE_TRAILER;
    r->n_header = header ? r->n_header + (uint32_t)u64_min(*out_used, RESPONSE_MAX_HEADER) : 0;
    if (r->line.len + k > RESPONSE_MAX_LINE || r->n_header > RESPONSE_MAX_HEADER)
        return err_set(e, LLMD_ETOOBIG, "the server sent a header that is too large");
    const char *line = bytes;
    if (!end || r->line.len > 0) {
        buf_add(&r->line, bytes, k);
        if (r->line.failed)
            return err_set(e, LLMD_ENOMEM, "out of memory for an answer");
        if (!end)
            return 0;
        line = r->line.data;
        k = r->line.len;
    }
    if (k > 0 && line[k - 1] == '\r')
        k--;
    int rc = take_line(r, line, k, e);
    buf_clear(&r->line);
    return rc;
}

int response_feed(struct response *r, const char *bytes, size_t n, response_body_fn on_body,
                  void *ctx, struct err *e)
{
    int rc = 0;
    while (n > 0 && rc == 0) {
        size_t used = 0;
        if (r->state == RESPONSE_DONE) {
            r->keep_alive = false;
            return 0;
        }
        rc = in_body(r) ? feed_body(r, bytes, n, on_body, ctx, &used)
                        : feed_line(r, bytes, n, &used, e);
        bytes += used;
        n -= used;
    }
    r->keep_alive = r->keep_alive && rc == 0;
    return rc;
}

int response_close(struct response *r, struct err *e)
{
    r->keep_alive = false;
    if (r->state == RESPONSE_UNTIL_END)
        r->state = RESPONSE_DONE;
    if (r->state == RESPONSE_DONE)
        return 0;
    return err_set(e, LLMD_EIO, "%s",
                   r->status ? "the server closed the connection in the middle of its answer"
                             : "the server closed the connection without an answer");
}
