#include "core/edge/catalog.h"

#include <stdlib.h>
#include <string.h>

#include "core/util/printable.h"

static bool copy_model(struct arena *a, const struct edge_model *from, struct edge_model *to)
{
    const char **aliases = arena_array(a, from->n_aliases, sizeof(*aliases));
    *to = *from;
    to->name = arena_strdup(a, from->name);
    to->aliases = aliases;
    bool good = to->name && (aliases || from->n_aliases == 0);
    for (uint32_t i = 0; good && i < from->n_aliases; i++)
        good = (aliases[i] = arena_strdup(a, from->aliases[i])) != NULL;
    return good;
}

static bool copy(const struct edge_served *s, struct catalog *c)
{
    struct edge_key *keys = arena_array(&c->arena, s->n_keys, sizeof(*keys));
    struct edge_model *models = arena_array(&c->arena, s->n_models, sizeof(*models));
    c->series = arena_array(&c->arena, s->n_models, sizeof(*c->series));
    if ((!keys && s->n_keys > 0) || !models || !c->series)
        return false;
    bool good = true;
    for (uint32_t i = 0; good && i < s->n_keys; i++) {
        keys[i] = s->keys[i];
        good = (keys[i].name = arena_strdup(&c->arena, s->keys[i].name)) != NULL;
    }
    for (uint32_t i = 0; good && i < s->n_models; i++)
        good = copy_model(&c->arena, &s->models[i], &models[i]);
    c->keys = keys;
    c->n_keys = s->n_keys;
    c->models = models;
    c->n_models = s->n_models;
    c->limits = s->limits;
    return good;
}

int catalog_new(const struct edge_served *s, struct edge_metrics *metrics, struct catalog **out,
                struct err *e)
{
    BUG_ON(s->n_models == 0);
    struct catalog *c = calloc(1, sizeof(*c));
    if (!c)
        return err_set(e, LLMD_ENOMEM, "out of memory for what is served");
    atomic_store(&c->refs, 1);
    arena_init(&c->arena, 0);
    if (!copy(s, c)) {
        catalog_free(c);
        return err_set(e, LLMD_ENOMEM, "out of memory for what is served");
    }
    for (uint32_t i = 0; i < c->n_models; i++)
        edge_metrics_model(metrics, &c->models[i], &c->series[i]);
    *out = c;
    return 0;
}

void catalog_free(struct catalog *c)
{
    if (!c)
        return;
    arena_fini(&c->arena);
    free(c);
}

const struct edge_model *catalog_find(const struct catalog *c, const char *name)
{
    for (uint32_t i = 0; i < c->n_models; i++) {
        const struct edge_model *m = &c->models[i];
        if (strcmp(m->name, name) == 0)
            return m;
        for (uint32_t j = 0; j < m->n_aliases; j++)
            if (strcmp(m->aliases[j], name) == 0)
                return m;
    }
    return NULL;
}

int catalog_no_model(const struct catalog *c, const char *name, struct err *e)
{
    struct buf names = {0};
    char shown[100];
    printable_text(name, strlen(name), "", shown, sizeof(shown));
    for (uint32_t i = 0; i < c->n_models; i++) {
        buf_addf(&names, "%s%s", i ? ", " : "", c->models[i].name);
        for (uint32_t j = 0; j < c->models[i].n_aliases; j++)
            buf_addf(&names, ", %s", c->models[i].aliases[j]);
    }
    int rc =
        err_set_param(e, LLMD_ENOTFOUND, "model", "The model `%s` does not exist. Valid names: %s.",
                      shown, buf_str(&names));
    buf_fini(&names);
    return rc;
}
