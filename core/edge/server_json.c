#include "core/edge/server_json.h"

#include "core/router/router.h"
#include "core/util/json.h"

void server_json_listeners(const struct edge *edge, struct buf *out)
{
    const struct edge_opts *o = &edge->opts;
    buf_addstr(out, "\"listen\":[");
    for (uint32_t i = 0; i < o->n_listen; i++) {
        const struct edge_listener *at = &o->listen[i];
        buf_addstr(out, i ? ",{\"address\":" : "{\"address\":");
        json_add_cstr(out, at->address);
        buf_addf(out, ",\"port\":%u,\"tls\":%s,\"admin\":%s}", edge_port(edge, i),
                 at->tls ? "true" : "false", at->admin ? "true" : "false");
    }
    buf_addstr(out, "],\"control_socket\":");
    json_add_cstr(out, edge->control_socket.lock_fd >= 0 ? edge->control_socket.path : NULL);
}

static void add_model(struct router *router, const struct edge_model *m, struct buf *out)
{
    struct router_model_view v = {0};
    bool known = m->generation > 0 ? router_model_generation(router, m->generation, &v)
                                   : router_model(router, m->name, &v);
    buf_addstr(out, "{\"name\":");
    json_add_cstr(out, m->name);
    buf_addstr(out, ",\"aliases\":[");
    for (uint32_t i = 0; i < m->n_aliases; i++) {
        buf_addstr(out, i ? "," : "");
        json_add_cstr(out, m->aliases[i]);
    }
    buf_addf(out, "],\"max_model_len\":%u,\"ready\":%s,", m->max_model_len,
             known && router_model_ready(router, m->name) ? "true" : "false");
    buf_addf(out, "\"waiting\":%u,\"waiting_tokens\":%llu,\"decisions\":%llu,\"migrations\":%llu,",
             v.n_waiting, (unsigned long long)v.n_waiting_tokens, (unsigned long long)v.n_decisions,
             (unsigned long long)v.n_migrations);
    buf_addf(out, "\"index_blocks\":%u,\"index_bytes\":%zu}", v.n_map_entries, v.map_bytes);
}

void server_json_models(struct router *r, const struct catalog *served, struct buf *out)
{
    buf_addstr(out, "\"models\":[");
    for (uint32_t i = 0; i < served->n_models; i++) {
        buf_addstr(out, i ? "," : "");
        add_model(r, &served->models[i], out);
    }
    buf_addch(out, ']');
}

void server_json_reload(const struct edge_control *c, struct buf *out)
{
    buf_addstr(out, "\"reload\":");
    if (c->reload_state)
        c->reload_state(c->ctx, out);
    else
        buf_addstr(out, "null");
}
