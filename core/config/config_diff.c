/* config_diff.c - how two configurations differ, by way of the option table: what a reload has to do,
 * and what it says about it. */
#include <string.h>

#include "core/config/config_int.h"

void config_diff_fini(struct config_diff *d)
{
    buf_fini(&d->lines);
    buf_fini(&d->restart);
    *d = (struct config_diff){.n = 0};
}

void config_diff_add(struct config_diff *d, const char *line)
{
    buf_addf(&d->lines, "%s\n", line);
    d->n++;
}

static void add_section(struct config_diff *d, enum config_scope scope, const char *name,
                        const char *what)
{
    buf_addf(&d->lines, "%s \"%s\" %s\n", config_scope_name(scope), name, what);
    d->n++;
}

bool config_same_value(const void *a, const void *b, const struct config_option *o)
{
    struct buf x = {0}, y = {0};
    if (o->type == CONFIG_DIGEST)
        return memcmp((const char *)a + o->offset, (const char *)b + o->offset, o->size) == 0;
    config_add_value(&x, a, o);
    config_add_value(&y, b, o);
    const bool same = !x.failed && !y.failed && strcmp(buf_str(&x), buf_str(&y)) == 0;
    buf_fini(&x);
    buf_fini(&y);
    return same;
}

/* Adds the differences of one scope; `before` says whose they are. The kinds that there were, a bit
 * for each enum config_reload. */
static unsigned diff_scope(const char *before, enum config_scope scope, const void *a,
                           const void *b, struct config_diff *d)
{
    unsigned kinds = 0;
    for (uint32_t i = 0; i < config_n_options; i++) {
        const struct config_option *o = &config_options[i];
        struct buf was = {0}, is = {0};
        if (o->scope != scope || config_same_value(a, b, o))
            continue;
        kinds |= 1u << o->reload;
        config_add_value(&was, a, o);
        config_add_value(&is, b, o);
        buf_addf(&d->lines, "%s%s %s -> %s\n", before, o->name, buf_str(&was), buf_str(&is));
        d->n++;
        if (o->reload == CONFIG_RESTART)
            buf_addf(&d->restart, "%s%s%s", d->restart.len ? ", " : "", before, o->name);
        buf_fini(&was);
        buf_fini(&is);
    }
    return kinds;
}

/* Listeners that begin or cease to speak TLS are new ones. */
static void diff_tls(const struct config *a, const struct config *b, struct config_diff *out)
{
    if (config_has_tls(a) && config_has_tls(b)) {
        (void)diff_scope("tls: ", CONFIG_TLS, &a->tls, &b->tls, out);
        return;
    }
    if (config_has_tls(a) == config_has_tls(b))
        return;
    config_diff_add(out, config_has_tls(b) ? "tls added" : "tls removed");
    buf_addf(&out->restart, "%stls", out->restart.len ? ", " : "");
}

void config_diff_top(const struct config *a, const struct config *b, struct config_diff *out)
{
    (void)diff_scope("", CONFIG_TOP, a, b, out);
    (void)diff_scope("store: ", CONFIG_STORE, &a->store, &b->store, out);
    (void)diff_scope("traces: ", CONFIG_TRACES, &a->traces, &b->traces, out);
    diff_tls(a, b, out);
}

static const struct config_key *find_key(const struct config *c, const char *name)
{
    for (uint32_t i = 0; i < c->n_keys; i++)
        if (strcmp(c->keys[i].name, name) == 0)
            return &c->keys[i];
    return NULL;
}

static unsigned diff_section(enum config_scope scope, const char *name, const void *a,
                             const void *b, struct config_diff *out)
{
    struct buf before = {0};
    buf_addf(&before, "%s \"%s\": ", config_scope_name(scope), name);
    const unsigned kinds = diff_scope(buf_str(&before), scope, a, b, out);
    buf_fini(&before);
    return kinds;
}

void config_diff_keys(const struct config *a, const struct config *b, struct config_diff *out)
{
    for (uint32_t i = 0; i < a->n_keys; i++) {
        const struct config_key *k = &a->keys[i], *now = find_key(b, k->name);
        if (now)
            (void)diff_section(CONFIG_KEY, k->name, k, now, out);
        else
            add_section(out, CONFIG_KEY, k->name, "removed");
    }
    for (uint32_t i = 0; i < b->n_keys; i++)
        if (!find_key(a, b->keys[i].name))
            add_section(out, CONFIG_KEY, b->keys[i].name, "added");
}

bool config_diff_model(const struct config_model *a, const struct config_model *b,
                       struct config_diff *out)
{
    return (diff_section(CONFIG_MODEL, a->name, a, b, out) >> CONFIG_ROLL & 1) != 0;
}
