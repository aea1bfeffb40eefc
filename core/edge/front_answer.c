/* front_answer.c - small replies past libmicrohttpd: one read, one write, no socket pair. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/edge/front_int.h"
#include "core/edge/plan.h"
#include "core/edge/routes.h"

enum {
    PATH_BYTES = 32,
    GATHERED_BYTES = 16 * 1024,
    ANSWERS_MAX = 8, /* of one client at a time: the rest waits its turn in libmicrohttpd */
};

/* The route that a request asks for, and what it says; NULL: it is no such route. */
static const struct route *route_of(const struct plain_get *get, route_answer **out)
{
    char path[PATH_BYTES];
    if (get->n_path >= sizeof(path))
        return NULL;
    memcpy(path, get->path, get->n_path);
    path[get->n_path] = '\0';
    const struct route *r = route_find(path);
    *out = r && (r->methods & ROUTE_GET) ? route_answer_of(r) : NULL;
    return *out ? r : NULL;
}

/* As the exchange chooses it. False: what the client calls it is no name. */
static bool choose_id(struct front *f, const struct plain_get *get, char id[REQUEST_ID_BYTES])
{
    if (!get->id) {
        snprintf(id, REQUEST_ID_BYTES, "%016" PRIx64, loop_random_id(f->loop));
        return true;
    }
    if (get->n_id >= REQUEST_ID_BYTES)
        return false;
    memcpy(id, get->id, get->n_id);
    id[get->n_id] = '\0';
    return request_id_valid(id);
}

/* The route's 200; anything else is libmicrohttpd's, and asked for there again. */
static bool ask(struct loop *l, route_answer *answer, struct open_answer *out)
{
    struct err why = {0};
    struct catalog *c = edge_catalog(l->edge);
    const int rc = answer(l, c, out, &why);
    catalog_unref(c);
    return rc == 0 && out->status == MHD_HTTP_OK && !out->body.failed;
}

static void count_answer(struct front *f, const struct route *route, const char *id,
                         uint64_t n_reply, uint64_t since_us)
{
    const struct http_figures figures = {
        .route = route_index(route),
        .method = MHD_HTTP_METHOD_GET,
        .status = MHD_HTTP_OK,
        .reply_bytes = n_reply,
        .seconds = (double)(clock_now_us() - since_us) * 1e-6,
    };
    exchange_count(f->loop->edge, &figures, id, true);
}

void front_send_answers(struct front *f)
{
    struct buf *all = &f->loop->answers;
    if (all->len == 0 && !all->failed)
        return;
    if (all->failed)
        f->state = FRONT_OVER;
    else
        front_write(f, all->data, all->len);
    buf_clear(all);
    if (f->state == FRONT_OVER)
        f->deaf = true;
    else if (f->down.len == 0 && !f->all_said)
        front_settle(f);
    else
        front_touch(f);
}

bool front_answer(struct front *f, const char *head, size_t n)
{
    struct loop *l = f->loop;
    struct plain_get get;
    struct open_answer a = {.status = MHD_HTTP_OK};
    char id[REQUEST_ID_BYTES];
    if (f->pair >= 0 || f->n_answered == ANSWERS_MAX || f->head.len > 0 || f->down.len > 0 ||
        !head_scan_idle(&f->scan) || !plain_get_read(head, n, &get))
        return false;
    route_answer *answer;
    const struct route *route = route_of(&get, &answer);
    if (!route || !choose_id(f, &get, id))
        return false;
    const uint64_t now_us = clock_now_us();
    atomic_fetch_add(&l->edge->n_exchanges, 1);
    f->n_owed++;
    const bool good = ask(l, answer, &a);
    if (good) {
        f->n_answered++;
        f->all_said = f->deaf = get.close || loop_closing(l);
        f->head_deadline_us = 0;
        f->idle_deadline_us = now_us + (uint64_t)edge_limits(l->edge).keepalive_timeout_s * 1000000;
        answer_write(&a, loop_date(l), id, f->all_said, &l->answers);
        count_answer(f, route, id, a.body.len, now_us);
    } else {
        atomic_fetch_sub(&l->edge->n_exchanges, 1);
        f->n_owed--;
    }
    buf_fini(&a.body);
    if (l->answers.len >= GATHERED_BYTES)
        front_send_answers(f);
    return good;
}
