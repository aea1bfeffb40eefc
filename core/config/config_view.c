/* config_view.c - the configuration option by option: what is in force, what the file says now, and what a
 * change needs. For the status page. */
#include <string.h>

#include "core/config/config_int.h"
#include "core/util/json.h"

struct view {
    struct buf *out;
    bool any_section, any_option;
    uint32_t n_pending;
};

/* A value in the file's syntax as a JSON string. */
static void add_value(const void *base, const struct config_option *o, struct buf *out)
{
    struct buf text = {0};
    config_add_value(&text, base, o);
    json_add_cstr(out, buf_str(&text));
    out->failed |= text.failed;
    buf_fini(&text);
}

static void add_default(const struct config_option *o, struct buf *out)
{
    struct buf text = {0};
    if (o->default_text)
        config_add_default(&text, o);
    json_add_cstr(out, o->default_text ? buf_str(&text) : NULL);
    out->failed |= text.failed;
    buf_fini(&text);
}

/* now: what the file says; NULL: nothing. */
static void add_option(struct view *v, const void *base, const void *now,
                       const struct config_option *o)
{
    static const char *const reloads[] = {
        [CONFIG_RESTART] = "restart", [CONFIG_LIVE] = "live", [CONFIG_ROLL] = "roll"};
    struct buf *out = v->out;
    const bool pending = now && !config_same_value(base, now, o);
    buf_addf(out, "%s{\"name\":\"%s\",\"value\":", v->any_option ? ",\n" : "", o->name);
    v->any_option = true;
    v->n_pending += pending;
    add_value(base, o, out);
    buf_addstr(out, ",\"default\":");
    add_default(o, out);
    buf_addf(out,
             ",\"is_default\":%s,\"unit\":", config_value_is_default(base, o) ? "true" : "false");
    json_add_cstr(out, o->unit);
    buf_addf(out, ",\"reload\":\"%s\",\"pending\":", reloads[o->reload]);
    if (pending)
        add_value(now, o, out);
    else
        buf_addstr(out, "null");
    buf_addstr(out, ",\"help\":");
    json_add_cstr(out, o->help);
    buf_addch(out, '}');
}

/* base NULL: the file has it, and nothing else does. */
static void add_section(struct view *v, enum config_scope scope, const char *title,
                        const void *base, const void *now, bool compares)
{
    const char *name = config_scope_name(scope);
    struct buf *out = v->out;
    buf_addf(out, "%s{\"scope\":\"%s\",\"name\":", v->any_section ? ",\n" : "",
             name ? name : "top");
    v->any_section = true;
    json_add_cstr(out, title);
    const char *pending = !compares || (base && now) ? NULL : base ? "removed" : "added";
    v->n_pending += pending != NULL;
    buf_addstr(out, ",\"pending\":");
    json_add_cstr(out, pending);
    buf_addstr(out, ",\"options\":[");
    v->any_option = false;
    for (uint32_t i = 0; i < config_n_options; i++)
        if (config_options[i].scope == scope)
            add_option(v, base ? base : now, base ? now : NULL, &config_options[i]);
    buf_addstr(out, "]}");
}

static const struct config_key *find_key(const struct config *c, const char *name)
{
    for (uint32_t i = 0; c && i < c->n_keys; i++)
        if (strcmp(c->keys[i].name, name) == 0)
            return &c->keys[i];
    return NULL;
}

static const struct config_model *find_model(const struct config *c, const char *name)
{
    for (uint32_t i = 0; c && i < c->n_models; i++)
        if (strcmp(c->models[i].name, name) == 0)
            return &c->models[i];
    return NULL;
}

static void add_named(struct view *v, const struct config *c, const struct config *now)
{
    for (uint32_t i = 0; i < c->n_keys; i++)
        add_section(v, CONFIG_KEY, c->keys[i].name, &c->keys[i], find_key(now, c->keys[i].name),
                    now != NULL);
    for (uint32_t i = 0; now && i < now->n_keys; i++)
        if (!find_key(c, now->keys[i].name))
            add_section(v, CONFIG_KEY, now->keys[i].name, NULL, &now->keys[i], true);
    for (uint32_t i = 0; i < c->n_models; i++)
        add_section(v, CONFIG_MODEL, c->models[i].name, &c->models[i],
                    find_model(now, c->models[i].name), now != NULL);
    for (uint32_t i = 0; now && i < now->n_models; i++)
        if (!find_model(c, now->models[i].name))
            add_section(v, CONFIG_MODEL, now->models[i].name, NULL, &now->models[i], true);
}

void config_view_json(const struct config *c, const struct config *now, const char *fault,
                      struct buf *out)
{
    const bool tls = config_has_tls(c), tls_now = now && config_has_tls(now);
    struct view v = {.out = out};
    buf_addstr(out, "{\"file\":");
    json_add_cstr(out, c->path);
    buf_addstr(out, ",\"fault\":");
    json_add_cstr(out, fault);
    buf_addstr(out, ",\"sections\":[");
    add_section(&v, CONFIG_TOP, NULL, c, now, now != NULL);
    add_section(&v, CONFIG_STORE, NULL, &c->store, now ? &now->store : NULL, now != NULL);
    add_section(&v, CONFIG_TRACES, NULL, &c->traces, now ? &now->traces : NULL, now != NULL);
    if (tls || tls_now)
        add_section(&v, CONFIG_TLS, NULL, tls ? &c->tls : NULL, tls_now ? &now->tls : NULL,
                    now != NULL);
    add_named(&v, c, now);
    buf_addf(out, "],\"pending\":%u}", v.n_pending);
}
