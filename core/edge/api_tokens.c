/* api_tokens.c - POST /tokenize and /detokenize. */
#include <stdlib.h>

#include "core/edge/api.h"
#include "core/edge/later.h"
#include "core/edge/plan.h"
#include "core/edge/respond.h"
#include "core/edge/token_json.h"
#include "core/util/json.h"

static void add_tokens(const struct plan *p, struct buf *out)
{
    const struct token_list *t = &p->prompts[0].tokens;
    buf_addf(out, "{\"count\":%zu,\"max_model_len\":%u,\"tokens\":", t->n, p->model->max_model_len);
    token_json_ids(t->ids, t->n, out);
    buf_addstr(out, ",\"token_strs\":");
    if (p->return_token_strs)
        token_json_texts(p, t->ids, t->n, out);
    else
        buf_addstr(out, "null");
    buf_addch(out, '}');
}

static void add_text(const struct plan *p, struct buf *out)
{
    buf_addstr(out, "{\"prompt\":");
    json_add_str(out, p->prompts[0].text, p->prompts[0].n_text);
    buf_addch(out, '}');
}

/* What a route reads, and what of the plan it tells. */
struct tokens_route {
    int (*read)(const struct catalog *c, const struct edge_key *key, const char *body, size_t n,
                struct plan *out, struct err *e);
    void (*add)(const struct plan *p, struct buf *out);
};

struct answer {
    struct buf text;
    struct err error; /* code 0: text is the answer */
};

static void make_answer(const struct tokens_route *route, const struct catalog *c,
                        const struct edge_key *key, const struct buf *body, struct answer *out)
{
    struct plan p = {.chat = false};
    if (route->read(c, key, buf_str(body), body->len, &p, &out->error) == 0)
        route->add(&p, &out->text);
    plan_fini(&p);
}

static enum MHD_Result send_answer(struct exchange *ex, struct answer *a)
{
    exchange_leave(ex, a->error.code);
    if (a->error.code != 0)
        return respond_error(ex, &a->error);
    return respond_json(ex, MHD_HTTP_OK, &a->text);
}

/* ---- of a large body ---- */

struct tokens_later {
    struct later later; /* first */
    const struct tokens_route *route;
    struct answer answer;
};

static void work(struct prep_job *job)
{
    struct tokens_later *t = (struct tokens_later *)job;
    make_answer(t->route, t->later.catalog, t->later.key, &t->later.body, &t->answer);
}

static void release(struct later *l)
{
    buf_fini(&((struct tokens_later *)l)->answer.text);
}

static enum MHD_Result begin_later(struct exchange *ex, const struct tokens_route *route)
{
    struct answer none = {.error.code = 0};
    struct tokens_later *t = calloc(1, sizeof(*t));
    if (!t) {
        err_set(&none.error, LLMD_ENOMEM, "out of memory for the request");
        return send_answer(ex, &none);
    }
    t->route = route;
    if (later_give(ex, &t->later, work, release, &none.error) != 0)
        return send_answer(ex, &none);
    exchange_suspend(ex);
    return MHD_YES;
}

/* The body is complete, or the exchange was resumed. */
static enum MHD_Result handle(struct exchange *ex, const struct tokens_route *route)
{
    struct answer a = {.error.code = 0};
    if (ex->later) {
        struct tokens_later *t = (struct tokens_later *)later_take(ex);
        if (t)
            return send_answer(ex, &t->answer);
        exchange_suspend(ex);
        return MHD_YES;
    }
    int rc = ex->body.failed ? err_set(&a.error, LLMD_ENOMEM, "out of memory for the request body")
                             : body_check_type(ex, &a.error);
    if (rc == 0)
        rc = exchange_enter(ex, &a.error);
    if (rc == 0 && later_wanted(ex))
        return begin_later(ex, route);
    if (rc == 0)
        make_answer(route, ex->catalog, ex->key, &ex->body, &a);
    return send_answer(ex, &a);
}

enum MHD_Result api_tokenize(struct exchange *ex)
{
    static const struct tokens_route route = {plan_tokenize, add_tokens};
    return handle(ex, &route);
}

enum MHD_Result api_detokenize(struct exchange *ex)
{
    static const struct tokens_route route = {plan_detokenize_body, add_text};
    return handle(ex, &route);
}
