/* api_models.c - GET /v1/models and /v1/models/{id}: the models that are ready, under each of
 * their names, as far as the key may use them. */
#include <string.h>

#include "core/edge/api.h"
#include "core/edge/plan.h"
#include "core/edge/respond.h"
#include "core/model/model.h"
#include "core/router/router.h"
#include "core/util/json.h"

static void add_card(struct buf *b, const struct edge_model *m, const char *name)
{
    buf_addstr(b, "{\"id\":");
    json_add_cstr(b, name);
    buf_addf(b, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"llmd\",\"root\":",
             (long long)m->created);
    json_add_cstr(b, m->model->path);
    buf_addf(b, ",\"parent\":null,\"max_model_len\":%u,\"permission\":[{\"id\":\"modelperm-",
             m->max_model_len);
    buf_addf(b,
             "%lld\",\"object\":\"model_permission\",\"created\":%lld,"
             "\"allow_create_engine\":false,\"allow_sampling\":true,\"allow_logprobs\":false,"
             "\"allow_search_indices\":false,\"allow_view\":true,\"allow_fine_tuning\":false,"
             "\"organization\":\"*\",\"group\":null,\"is_blocking\":false}]}",
             (long long)m->created, (long long)m->created);
}

static enum MHD_Result not_ready(struct exchange *ex)
{
    struct err e = {0};
    err_set(&e, LLMD_ENOTREADY, "the model is still loading; /ready says how far it is");
    return respond_error(ex, &e);
}

enum MHD_Result api_models(struct exchange *ex)
{
    const struct catalog *c = ex->catalog;
    struct router *router = exchange_opts(ex)->router;
    struct buf body = {0};
    uint32_t n = 0, n_known = 0;
    buf_addstr(&body, "{\"object\":\"list\",\"data\":[");
    for (uint32_t i = 0; i < c->n_models; i++) {
        const struct edge_model *m = &c->models[i];
        if (!catalog_may_use(ex->key, m))
            continue;
        n_known++;
        if (!router_model_ready(router, m->name))
            continue;
        for (uint32_t j = 0; j <= m->n_aliases; j++) {
            if (n++ > 0)
                buf_addch(&body, ',');
            add_card(&body, m, j == 0 ? m->name : m->aliases[j - 1]);
        }
    }
    buf_addstr(&body, "]}");
    if (n > 0 || n_known == 0)
        return respond_json(ex, MHD_HTTP_OK, &body);
    buf_fini(&body);
    return not_ready(ex);
}

enum MHD_Result api_model(struct exchange *ex)
{
    const char *name = ex->url + strlen("/v1/models/");
    const struct edge_model *m = catalog_find(ex->catalog, ex->key, name);
    if (!m) {
        struct err e = {0};
        catalog_no_model(ex->catalog, ex->key, name, &e);
        return respond_error(ex, &e);
    }
    if (!router_model_ready(exchange_opts(ex)->router, m->name))
        return not_ready(ex);
    struct buf body = {0};
    add_card(&body, m, name);
    return respond_json(ex, MHD_HTTP_OK, &body);
}
