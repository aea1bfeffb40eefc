#include "core/edge/answer.h"

#include <string.h>
#include <strings.h>

/* A part of the head. */
struct words {
    const char *at;
    size_t n;
};

static bool same(struct words w, const char *text)
{
    return w.n == strlen(text) && strncasecmp(w.at, text, w.n) == 0;
}

/* Fields that change nothing here. One that is not known might. */
static bool is_harmless(struct words name)
{
    static const char *const names[] = {
        "host",          "user-agent", "accept", "accept-encoding", "accept-language",
        "cache-control", "pragma"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (same(name, names[i]))
            return true;
    return false;
}

/* Without the blanks in front. What has some behind it is not plain. */
static bool take_value(const char *from, const char *end, struct words *out)
{
    while (from < end && (*from == ' ' || *from == '\t'))
        from++;
    *out = (struct words){from, (size_t)(end - from)};
    return out->n > 0 && end[-1] != ' ' && end[-1] != '\t';
}

/* A header line, without its end. */
static bool take_line(const char *from, const char *end, bool *connection, struct plain_get *out)
{
    const char *colon = memchr(from, ':', (size_t)(end - from));
    struct words value;
    if (!colon)
        return false;
    const struct words name = {from, (size_t)(colon - from)};
    if (is_harmless(name))
        return true;
    if (!take_value(colon + 1, end, &value))
        return false;
    if (same(name, "connection") && !*connection) {
        *connection = true;
        out->close = same(value, "close");
        return out->close || same(value, "keep-alive");
    }
    if (!same(name, "x-request-id") || out->id)
        return false;
    out->id = value.at;
    out->n_id = value.n;
    return true;
}

static bool take_request_line(const char *from, const char *end, struct plain_get *out)
{
    static const char method[] = "GET ", version[] = " HTTP/1.1";
    const size_t n_method = sizeof(method) - 1, n_version = sizeof(version) - 1;
    const size_t n = (size_t)(end - from);
    if (n < n_method + n_version || memcmp(from, method, n_method) != 0 ||
        memcmp(end - n_version, version, n_version) != 0)
        return false;
    out->path = from + n_method;
    out->n_path = n - n_method - n_version;
    return !memchr(out->path, '?', out->n_path) && !memchr(out->path, '%', out->n_path);
}

bool plain_get_read(const char *head, size_t n, struct plain_get *out)
{
    const char *const end = head + n;
    const char *line_end = memchr(head, '\r', n);
    struct plain_get got = {.path = NULL};
    bool connection = false;
    if (!line_end || !take_request_line(head, line_end, &got))
        return false;
    for (;;) {
        const char *line = line_end + 2;
        line_end = line < end ? memchr(line, '\r', (size_t)(end - line)) : NULL;
        if (!line_end)
            return false;
        if (line_end == line)
            break;
        if (!take_line(line, line_end, &connection, &got))
            return false;
    }
    *out = got;
    return true;
}

void answer_write(const struct open_answer *a, const char *date, const char *id, bool close,
                  struct buf *out)
{
    buf_addstr(out, "HTTP/1.1 200 OK\r\nDate: ");
    buf_addstr(out, date);
    if (close)
        buf_addstr(out, "\r\nConnection: close");
    if (a->content_type) {
        buf_addstr(out, "\r\nContent-Type: ");
        buf_addstr(out, a->content_type);
    }
    buf_addstr(out, "\r\nX-Request-Id: ");
    buf_addstr(out, id);
    buf_addf(out, "\r\nContent-Length: %zu\r\n\r\n", a->body.len);
    buf_add(out, a->body.data, a->body.len);
}
