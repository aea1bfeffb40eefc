#include "core/bench/fetch.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "core/bench/answer.h"
#include "core/bench/conn.h"
#include "core/bench/response.h"
#include "core/util/clock.h"
#include "core/util/json.h"

enum { POLL_MS = 100, PIECE = 16 << 10 };

struct exchange {
    const struct fetch *fetch;
    struct conn conn;
    struct response response;
    uint64_t deadline_us;
    struct buf *body;
    struct err *err;
};

static int wait_for(struct exchange *x, bool write)
{
    struct pollfd p = {.fd = x->conn.fd, .events = write ? POLLOUT : POLLIN};
    for (;;) {
        uint64_t now = clock_now_us();
        if (now >= x->deadline_us)
            return err_set(x->err, LLMD_ETIMEOUT, "no answer within %.0f s",
                           (double)x->fetch->timeout_us / 1e6);
        if (x->fetch->cancelled && x->fetch->cancelled(x->fetch->ctx))
            return err_set(x->err, LLMD_ECANCELLED, "interrupted");
        int n = poll(&p, 1, (int)u64_min(POLL_MS, (x->deadline_us - now) / 1000 + 1));
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return err_set(x->err, LLMD_EIO, "poll: %s", strerror(errno));
    }
}

static int connect_to(struct exchange *x)
{
    int rc = conn_open(&x->conn, x->fetch->target, x->err);
    while (rc == 0 && (rc = conn_ready(&x->conn, x->err)) == 0)
        rc = wait_for(x, conn_wants_write(&x->conn));
    return rc == 1 ? 0 : rc;
}

/* The first address that answers; what the last one failed at otherwise. */
static int connect_any(struct exchange *x)
{
    struct target *t = x->fetch->target;
    uint32_t first = t->address;
    int rc = -LLMD_ENOTFOUND;
    for (uint32_t i = 0; i < t->n_addresses; i++) {
        t->address = (first + i) % t->n_addresses;
        if (x->err)
            err_clear(x->err);
        rc = connect_to(x);
        if (rc == 0 || rc == -LLMD_ECANCELLED)
            break;
        conn_close(&x->conn);
    }
    return rc;
}

static int send_all(struct exchange *x, const struct buf *request)
{
    int rc = 0;
    for (size_t sent = 0; rc == 0 && sent < request->len;) {
        ssize_t k = conn_write(&x->conn, request->data + sent, request->len - sent, x->err);
        if (k == CONN_AGAIN)
            rc = wait_for(x, x->conn.ssl == NULL || x->conn.wants_write);
        else if (k < 0)
            rc = (int)k;
        else
            sent += (size_t)k;
    }
    return rc;
}

static int on_body(void *ctx, const char *bytes, size_t n)
{
    struct exchange *x = ctx;
    if (x->body->len + n > FETCH_MAX_BODY)
        return err_set(x->err, LLMD_ETOOBIG, "the answer is larger than %d bytes", FETCH_MAX_BODY);
    buf_add(x->body, bytes, n);
    return x->body->failed ? err_set(x->err, LLMD_ENOMEM, "out of memory") : 0;
}

static int receive(struct exchange *x)
{
    char piece[PIECE];
    int rc = 0;
    while (rc == 0 && x->response.state != RESPONSE_DONE) {
        ssize_t k = conn_read(&x->conn, piece, sizeof(piece), x->err);
        if (k == CONN_AGAIN)
            rc = wait_for(x, x->conn.wants_write);
        else if (k == 0)
            rc = response_close(&x->response, x->err);
        else if (k < 0)
            rc = (int)k;
        else
            rc = response_feed(&x->response, piece, (size_t)k, on_body, x, x->err);
    }
    return rc;
}

int fetch_perform(const struct fetch *f, const char *path, const struct buf *body, int *out_status,
                  struct buf *out_body, struct err *e)
{
    struct exchange x = {.fetch = f,
                         .conn = {.fd = -1},
                         .deadline_us = clock_now_us() + f->timeout_us,
                         .body = out_body,
                         .err = e};
    struct buf request = {0};
    target_add_request(f->target, body ? "POST" : "GET", path, body ? buf_str(body) : NULL,
                       body ? body->len : 0, &request);
    int rc = request.failed ? err_set(e, LLMD_ENOMEM, "out of memory") : connect_any(&x);
    if (rc == 0)
        rc = send_all(&x, &request);
    if (rc == 0)
        rc = receive(&x);
    *out_status = x.response.status;
    conn_close(&x.conn);
    response_fini(&x.response);
    buf_fini(&request);
    return rc;
}

int fetch_json(const struct fetch *f, const char *path, const struct buf *body, json_t **out,
               struct err *e)
{
    struct buf answer = {0};
    int status = 0;
    int rc = fetch_perform(f, path, body, &status, &answer, e);
    if (rc == 0 && status / 100 != 2) {
        char shown[ANSWER_SHOWN];
        answer_error_text(buf_str(&answer), answer.len, shown, sizeof(shown));
        int code = status == 401 || status == 403 ? LLMD_EAUTH
                   : status == 404                ? LLMD_ENOTFOUND
                                                  : LLMD_EIO;
        rc = err_set(e, code, "%s: the server answered %d: %s", path, status, shown);
    } else if (rc == 0 && (rc = json_parse(buf_str(&answer), answer.len, out, e)) != 0)
        err_prefix(e, "%s: ", path);
    buf_fini(&answer);
    return rc;
}
