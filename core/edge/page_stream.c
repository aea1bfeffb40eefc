#include "core/edge/page_stream.h"

#include <stdlib.h>
#include <string.h>

#include "core/edge/caller.h"
#include "core/edge/front.h"
#include "core/edge/page.h"
#include "core/edge/respond.h"

enum { SENT_PER_TURN = 4 };

struct page_stream {
    struct exchange *exchange;
    struct page_stream *prev, *next; /* in loop->streams */
    struct snapshot *at;             /* what libmicrohttpd is sending; NULL: nothing */
    size_t n_sent;                   /* of it */
    uint64_t number;                 /* of the last that it got, or missed; there was */
    bool any;                        /* one */
    bool in_body;                    /* the head of the reply has left */
    bool over;
};

static struct page *page_of(const struct page_stream *s)
{
    return s->exchange->conn->loop->edge->page;
}

static bool is_new(const struct page_stream *s, const struct snapshot *latest)
{
    return latest && (!s->any || latest->number != s->number);
}

/* It got this one, or it is left out. */
static void note(struct page_stream *s, const struct snapshot *latest, bool sent)
{
    s->number = latest->number;
    s->any = true;
    if (sent)
        s->exchange->n_reply += latest->event.len;
}

/* The next snapshot for libmicrohttpd; false: there is none that it has not. */
static bool take_next(struct page_stream *s)
{
    struct snapshot *latest = page_latest(page_of(s));
    if (!is_new(s, latest)) {
        snapshot_unref(latest);
        return false;
    }
    s->at = latest;
    s->n_sent = 0;
    note(s, latest, true);
    return true;
}

static ssize_t read_out(void *cls, uint64_t pos, char *to, size_t max)
{
    (void)pos;
    struct page_stream *s = cls;
    if (s->exchange->gone)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    s->in_body = true;
    if (!s->at && s->over)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (!s->at && !take_next(s)) {
        exchange_suspend(s->exchange);
        return 0;
    }
    const size_t n = (size_t)u64_min(s->at->event.len - s->n_sent, max);
    memcpy(to, s->at->event.data + s->n_sent, n);
    s->n_sent += n;
    if (s->n_sent == s->at->event.len) {
        snapshot_unref(s->at);
        s->at = NULL;
    }
    return (ssize_t)n;
}

static void end(struct page_stream *s)
{
    s->over = true;
    exchange_resume(s->exchange);
}

/* Past libmicrohttpd, which waits in the body, in one write; by way of it where it has just written itself,
 * or its client knows no chunks. Where the client has not taken the last one yet, this one is left out. */
static void send_one(struct page_stream *s, const struct snapshot *latest)
{
    struct exchange *ex = s->exchange;
    const struct front *front = ex->conn->front;
    if (caller_renew(ex) != ACCESS_GRANTED)
        end(s);
    else if (ex->chunks && front &&
             front_send_chunk(ex->conn->front, latest->event.data, latest->event.len))
        note(s, latest, true);
    else if (front && front->down.len > 0)
        note(s, latest, false);
    else
        exchange_resume(ex);
}

void page_stream_send(struct loop *l)
{
    struct snapshot *latest = l->streams ? page_latest(l->edge->page) : NULL;
    uint32_t n = 0;
    for (struct page_stream *s = l->streams; s && n < SENT_PER_TURN; s = s->next) {
        if (s->over || !s->in_body || !s->exchange->suspended || !is_new(s, latest))
            continue;
        send_one(s, latest);
        n++;
    }
    snapshot_unref(latest);
    if (n == SENT_PER_TURN)
        loop_poke(l); /* tokens first, then the others */
}

void page_stream_end_all(struct loop *l)
{
    for (struct page_stream *s = l->streams; s; s = s->next)
        end(s);
}

void page_stream_wake(struct edge *edge)
{
    for (uint32_t i = 0; i < edge->n_loops; i++)
        if (atomic_load(&edge->loops[i].n_streams) > 0)
            loop_poke(&edge->loops[i]);
    if (atomic_load(&edge->control_loop.n_streams) > 0)
        loop_poke(&edge->control_loop);
}

static struct page_stream *stream_new(struct exchange *ex)
{
    struct loop *l = ex->conn->loop;
    struct page_stream *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->exchange = ex;
    s->next = l->streams;
    if (l->streams)
        l->streams->prev = s;
    l->streams = s;
    ex->stream = s;
    atomic_fetch_add(&l->n_streams, 1);
    exchange_uncount(ex);
    return s;
}

enum MHD_Result page_stream_begin(struct exchange *ex)
{
    struct page *p = ex->conn->loop->edge->page;
    struct err e = {0};
    if (atomic_fetch_add(&p->n_streams, 1) >= PAGE_STREAMS_MAX)
        err_set(&e, LLMD_EFULL, "%d tabs watch this server already; close one", PAGE_STREAMS_MAX);
    struct page_stream *s = e.code == 0 ? stream_new(ex) : NULL;
    if (!s) {
        atomic_fetch_sub(&p->n_streams, 1);
        err_set(&e, LLMD_ENOMEM, "out of memory for a stream");
        return respond_error(ex, &e);
    }
    conn_watch(ex->conn);
    return respond_stream(ex, read_out, s);
}

void page_stream_free(struct exchange *ex)
{
    struct page_stream *s = ex->stream;
    struct loop *l = ex->conn->loop;
    if (!s)
        return;
    ex->stream = NULL;
    *(s->prev ? &s->prev->next : &l->streams) = s->next;
    if (s->next)
        s->next->prev = s->prev;
    atomic_fetch_sub(&l->n_streams, 1);
    atomic_fetch_sub(&l->edge->page->n_streams, 1);
    snapshot_unref(s->at);
    free(s);
}
