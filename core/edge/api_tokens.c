/* api_tokens.c - POST /tokenize and /detokenize. */
#include "core/edge/api.h"
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

/* read: plan_tokenize or plan_detokenize_body; add: what of the plan is told. */
static enum MHD_Result reply(struct exchange *ex,
                             int (*read)(const struct catalog *c, const struct edge_key *key,
                                         const char *body, size_t n, struct plan *out,
                                         struct err *e),
                             void (*add)(const struct plan *p, struct buf *out))
{
    struct plan p = {.chat = false};
    struct err e = {0};
    struct buf body = {0};
    int rc = ex->body.failed ? err_set(&e, LLMD_ENOMEM, "out of memory for the request body")
                             : body_check_type(ex, &e);
    if (rc == 0)
        rc = read(ex->catalog, ex->key, buf_str(&ex->body), ex->body.len, &p, &e);
    if (rc == 0)
        add(&p, &body);
    plan_fini(&p);
    if (rc == 0)
        return respond_json(ex, MHD_HTTP_OK, &body);
    return respond_error(ex, &e);
}

enum MHD_Result api_tokenize(struct exchange *ex)
{
    return reply(ex, plan_tokenize, add_tokens);
}

enum MHD_Result api_detokenize(struct exchange *ex)
{
    return reply(ex, plan_detokenize_body, add_text);
}
