#include "core/util/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUF_MIN_CAP = 64 };

void buf_fini(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    b->failed = false;
    if (b->data)
        b->data[0] = '\0';
}

bool buf_reserve(struct buf *b, size_t n)
{
    size_t need, total;
    if (b->failed)
        return false;
    if (!size_add(b->len, n, &total) || !size_add(total, 1, &need) ||
        (b->max_len && total > b->max_len)) {
        b->failed = true;
        return false;
    }
    if (need <= b->cap)
        return true;
    size_t cap = u64_max(b->cap * 2, BUF_MIN_CAP);
    cap = u64_max(cap, need);
    char *p = realloc(b->data, cap);
    if (!p) {
        b->failed = true;
        return false;
    }
    b->data = p;
    b->cap = cap;
    b->data[b->len] = '\0';
    return true;
}

void buf_add(struct buf *b, const void *data, size_t n)
{
    if (n == 0 || !buf_reserve(b, n))
        return;
    memcpy(b->data + b->len, data, n);
    b->len += n;
    b->data[b->len] = '\0';
}

void buf_addch(struct buf *b, char c)
{
    buf_add(b, &c, 1);
}

void buf_addstr(struct buf *b, const char *s)
{
    buf_add(b, s, strlen(s));
}

/* Bytes behind the end that may be written to, the terminator's included. */
static size_t room(const struct buf *b)
{
    if (b->failed || !b->data)
        return 0;
    const size_t n = b->cap - b->len;
    return b->max_len ? (size_t)u64_min(n, b->max_len - b->len + 1) : n;
}

void buf_addf(struct buf *b, const char *fmt, ...)
{
    const size_t n_room = room(b);
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    const int n = vsnprintf(n_room ? b->data + b->len : NULL, n_room, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < n_room)
        b->len += (size_t)n;
    else {
        if (n_room > 0)
            b->data[b->len] = '\0'; /* I1 */
        if (n < 0)
            b->failed = true;
        else if (buf_reserve(b, (size_t)n)) {
            vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
            b->len += (size_t)n;
        }
    }
    va_end(again);
}

void buf_truncate(struct buf *b, size_t len)
{
    BUG_ON(len > b->len);
    b->len = len;
    if (b->data)
        b->data[len] = '\0';
}

void buf_consume(struct buf *b, size_t n)
{
    BUG_ON(n > b->len);
    if (n == 0)
        return;
    memmove(b->data, b->data + n, b->len - n + 1);
    b->len -= n;
}

const char *buf_str(const struct buf *b)
{
    return b->data ? b->data : "";
}

char *buf_steal(struct buf *b, size_t *out_len)
{
    if (!buf_reserve(b, 0)) {
        buf_fini(b);
        return NULL;
    }
    char *p = b->data;
    if (out_len)
        *out_len = b->len;
    *b = (struct buf){.max_len = b->max_len};
    return p;
}
