#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "core/bench/client_int.h"
#include "core/util/clock.h"

enum { REFUSAL_MAX = 4096, FIRST_GAPS = 256 };

/* ---- what the answer says ---- */

static void add_gap(struct client *c, uint64_t us)
{
    if (c->n_gaps == c->cap_gaps) {
        uint32_t cap = c->cap_gaps ? 2 * c->cap_gaps : FIRST_GAPS;
        uint32_t *more = realloc(c->gaps, cap * sizeof(*more));
        if (!more) {
            c->out_of_memory = true;
            return;
        }
        c->gaps = more;
        c->cap_gaps = cap;
    }
    c->gaps[c->n_gaps++] = (uint32_t)u64_min(us, UINT32_MAX);
}

static void on_text(void *ctx)
{
    struct client *c = ctx;
    if (c->first_us == 0)
        c->first_us = *c->now_us;
    else
        add_gap(c, *c->now_us - c->last_us);
    c->last_us = *c->now_us;
    (*c->n_pieces)++;
}

struct receiving {
    struct client *client;
    struct err *err;
};

static int on_body(void *ctx, const char *bytes, size_t n)
{
    struct receiving *r = ctx;
    struct client *c = r->client;
    if (c->response.status / 100 == 2)
        return answer_feed(&c->answer, bytes, n, r->err);
    buf_add(&c->refusal, bytes, (size_t)u64_min(n, REFUSAL_MAX - c->refusal.len));
    return 0;
}

void client_init(struct client *c, uint32_t index, int epoll, uint64_t *now_us)
{
    *c = (struct client){.conn = {.fd = -1}, .index = index, .epoll = epoll, .now_us = now_us};
    c->answer.on_text = on_text;
    c->answer.ctx = c;
}

static void disconnect(struct client *c)
{
    conn_close(&c->conn); /* closing takes it out of the epoll set */
    c->interest = 0;
    c->used_before = false;
}

void client_fini(struct client *c)
{
    disconnect(c);
    buf_fini(&c->history);
    buf_fini(&c->request);
    buf_fini(&c->body);
    buf_fini(&c->refusal);
    response_fini(&c->response);
    answer_fini(&c->answer);
    free(c->gaps);
}

/* ---- the end of a request ---- */

static void fill_sample(const struct client *c, struct sample *out)
{
    const struct answer *a = &c->answer;
    uint64_t end = *c->now_us;
    *out = (struct sample){
        .outcome = OUTCOME_OK,
        .ttft_us = (c->first_us ? c->first_us : end) - c->due_us,
        .e2e_us = end - c->due_us,
        .text_us = c->last_us - c->first_us,
        .gaps = c->gaps,
        .n_gaps = c->n_gaps,
        .n_pieces = a->n_pieces,
        .has_usage = a->has_usage,
        .prompt_tokens = a->prompt_tokens,
        .cached_tokens = a->cached_tokens,
        .completion_tokens = a->completion_tokens,
    };
}

void client_abort(struct client *c, enum outcome why, const char *message, struct sample *out)
{
    fill_sample(c, out);
    out->outcome = why;
    out->message = message;
    disconnect(c);
    c->state = CLIENT_IDLE;
}

static enum client_verdict fail(struct client *c, enum outcome why, const struct err *e,
                                struct sample *out)
{
    snprintf(c->message, sizeof(c->message), "%.*s", (int)sizeof(c->message) - 1, e->msg);
    client_abort(c, why, c->message, out);
    return CLIENT_OVER;
}

/* The response is whole: what was it? */
static enum client_verdict finish(struct client *c, struct sample *out)
{
    struct err e = {0};
    struct answer *a = &c->answer;
    if (c->response.status / 100 != 2) {
        answer_error_text(buf_str(&c->refusal), c->refusal.len, c->message, sizeof(c->message));
        fill_sample(c, out);
        out->outcome = OUTCOME_STATUS;
        out->status = c->response.status;
        out->message = c->message;
    } else if (answer_end(a, &e) != 0)
        return fail(c, e.code == LLMD_EIO ? OUTCOME_BROKEN : OUTCOME_MALFORMED, &e, out);
    else if (a->error) {
        client_abort(c, OUTCOME_EVENT, a->message, out);
        return CLIENT_OVER;
    } else if (a->n_pieces == 0) {
        err_set(&e, LLMD_EPARSE, "the answer holds no text");
        return fail(c, OUTCOME_MALFORMED, &e, out);
    } else
        fill_sample(c, out);
    c->used_before = true;
    c->state = CLIENT_IDLE;
    if (!c->response.keep_alive)
        disconnect(c);
    return CLIENT_OVER;
}

/* ---- the connection ---- */

static bool watch(struct client *c, bool write)
{
    uint32_t wanted = write ? EPOLLOUT : EPOLLIN;
    if (c->interest == wanted)
        return true;
    struct epoll_event event = {.events = wanted, .data.u32 = c->index};
    int op = c->interest ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    c->interest = wanted;
    return epoll_ctl(c->epoll, op, c->conn.fd, &event) == 0;
}

static enum client_verdict go_on(struct client *c, bool write, struct sample *out)
{
    struct err e = {0};
    if (watch(c, write))
        return CLIENT_GOES_ON;
    err_set(&e, LLMD_EIO, "epoll_ctl failed");
    return fail(c, OUTCOME_CONNECT, &e, out);
}

static enum client_verdict open_conn(struct client *c, const struct target *t, struct sample *out)
{
    struct err e = {0};
    disconnect(c);
    if (conn_open(&c->conn, t, &e) != 0)
        return fail(c, OUTCOME_CONNECT, &e, out);
    c->state = CLIENT_OPENING;
    return go_on(c, true, out);
}

/* A connection that fails before a byte of the answer came and was used before had been closed by
 * the server in the meantime. */
static enum client_verdict broken(struct client *c, const struct err *e, struct sample *out)
{
    bool stale = c->used_before && c->response.status == 0 && c->response.line.len == 0;
    if (!stale)
        return fail(c, OUTCOME_BROKEN, e, out);
    c->n_sent = 0;
    return open_conn(c, c->conn.target, out);
}

static enum client_verdict do_send(struct client *c, struct sample *out)
{
    while (c->n_sent < c->request.len) {
        struct err e = {0};
        ssize_t k =
            conn_write(&c->conn, c->request.data + c->n_sent, c->request.len - c->n_sent, &e);
        if (k == CONN_AGAIN)
            return go_on(c, !c->conn.ssl || c->conn.wants_write, out);
        if (k < 0)
            return broken(c, &e, out);
        c->n_sent += (size_t)k;
    }
    c->state = CLIENT_READING;
    return go_on(c, false, out);
}

static enum client_verdict do_open(struct client *c, struct sample *out)
{
    struct err e = {0};
    int rc = conn_ready(&c->conn, &e);
    if (rc < 0)
        return fail(c, OUTCOME_CONNECT, &e, out);
    if (rc == 0)
        return go_on(c, conn_wants_write(&c->conn), out);
    c->state = CLIENT_SENDING;
    return do_send(c, out);
}

static enum client_verdict do_read(struct client *c, char *buffer, struct sample *out)
{
    for (;;) {
        struct err e = {0};
        struct receiving r = {c, &e};
        ssize_t k = conn_read(&c->conn, buffer, CLIENT_BUFFER, &e);
        if (k == CONN_AGAIN)
            return go_on(c, c->conn.wants_write, out);
        *c->now_us = clock_now_us();
        if (k == 0 && response_close(&c->response, &e) != 0)
            return broken(c, &e, out);
        if (k < 0)
            return broken(c, &e, out);
        *c->n_bytes += (uint64_t)k;
        if (k > 0 && response_feed(&c->response, buffer, (size_t)k, on_body, &r, &e) != 0)
            return fail(c, OUTCOME_MALFORMED, &e, out);
        if (c->out_of_memory) {
            err_set(&e, LLMD_ENOMEM, "out of memory");
            return fail(c, OUTCOME_MALFORMED, &e, out);
        }
        if (c->response.state == RESPONSE_DONE)
            return finish(c, out);
        if (!c->conn.ssl && k < CLIENT_BUFFER)
            return go_on(c, false, out); /* what comes now wakes us again */
    }
}

static void build_request(struct client *c, const struct target *t, const struct workload *w)
{
    buf_clear(&c->body);
    buf_clear(&c->request);
    workload_body(w, &c->work, &c->history, &c->body);
    target_add_request(t, "POST", workload_path(w), buf_str(&c->body), c->body.len, &c->request);
}

enum client_verdict client_start(struct client *c, const struct target *t, const struct workload *w,
                                 uint64_t due_us, struct sample *out)
{
    struct err e = {0};
    build_request(c, t, w);
    response_reset(&c->response);
    answer_reset(&c->answer);
    buf_clear(&c->refusal);
    c->answer.stream = w->o.stream;
    c->answer.keep_text = w->o.turns > 1;
    c->n_sent = 0;
    c->n_gaps = 0;
    c->first_us = c->last_us = 0;
    c->out_of_memory = false;
    c->started_us = *c->now_us = clock_now_us();
    c->due_us = due_us ? due_us : c->started_us;
    if (c->body.failed || c->request.failed || c->history.failed) {
        err_set(&e, LLMD_ENOMEM, "out of memory for a request");
        return fail(c, OUTCOME_MALFORMED, &e, out);
    }
    if (c->conn.fd < 0)
        return open_conn(c, t, out);
    c->state = CLIENT_SENDING;
    return do_send(c, out);
}

enum client_verdict client_event(struct client *c, char *buffer, struct sample *out)
{
    switch (c->state) {
    case CLIENT_OPENING:
        return do_open(c, out);
    case CLIENT_SENDING:
        return do_send(c, out);
    case CLIENT_READING:
        return do_read(c, buffer, out);
    case CLIENT_IDLE:
        break;
    }
    disconnect(c); /* the server closed a connection that rested */
    return CLIENT_GOES_ON;
}
