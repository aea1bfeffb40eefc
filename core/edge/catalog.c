#include "core/edge/catalog.h"

#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/printable.h"

static bool copy_names(struct arena *a, const char *const *from, uint32_t n,
                       const char *const **out)
{
    const char **to = arena_array(a, n, sizeof(*to));
    *out = to;
    bool good = to || n == 0;
    for (uint32_t i = 0; good && i < n; i++)
        good = (to[i] = arena_strdup(a, from[i])) != NULL;
    return good;
}

static bool copy_model(struct arena *a, const struct edge_model *from, struct edge_model *to)
{
    *to = *from;
    to->name = arena_strdup(a, from->name);
    return to->name && copy_names(a, from->aliases, from->n_aliases, &to->aliases);
}

static bool copy_key(struct arena *a, const struct edge_key *from, struct edge_key *to)
{
    *to = *from;
    to->name = arena_strdup(a, from->name);
    return to->name && copy_names(a, from->models, from->n_models, &to->models);
}

static bool copy(const struct edge_served *s, struct catalog *c)
{
    struct edge_key *keys = arena_array(&c->arena, s->n_keys, sizeof(*keys));
    struct edge_model *models = arena_array(&c->arena, s->n_models, sizeof(*models));
    c->series = arena_array(&c->arena, s->n_models, sizeof(*c->series));
    if ((!keys && s->n_keys > 0) || ((!models || !c->series) && s->n_models > 0))
        return false;
    bool good = true;
    for (uint32_t i = 0; good && i < s->n_keys; i++)
        good = copy_key(&c->arena, &s->keys[i], &keys[i]);
    for (uint32_t i = 0; good && i < s->n_models; i++)
        good = copy_model(&c->arena, &s->models[i], &models[i]);
    c->keys = keys;
    c->n_keys = s->n_keys;
    c->models = models;
    c->n_models = s->n_models;
    c->share_prefixes = s->share_prefixes;
    c->limits = s->limits;
    return good;
}

/* All or none: what was taken is given back by catalog_free. */
static bool take_states(struct catalog *c, struct key_states *all)
{
    if (!all)
        return true;
    c->all_states = all;
    c->states = arena_array(&c->arena, c->n_keys, sizeof(struct key_state *));
    bool good = c->states || c->n_keys == 0;
    for (uint32_t i = 0; good && i < c->n_keys; i++)
        good = (c->states[i] = key_states_take(all, &c->keys[i])) != NULL;
    return good;
}

int catalog_new(const struct edge_served *s, struct edge_metrics *metrics,
                struct key_states *states, struct catalog **out, struct err *e)
{
    struct catalog *c = calloc(1, sizeof(*c));
    if (!c)
        return err_set(e, LLMD_ENOMEM, "out of memory for what is served");
    atomic_store(&c->refs, 1);
    arena_init(&c->arena, 0);
    if (!copy(s, c) || !take_states(c, states)) {
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
    if (c->states)
        key_states_drop(c->all_states, c->states, c->n_keys);
    arena_fini(&c->arena);
    free(c);
}

static bool has_name(const struct edge_model *m, const char *name)
{
    bool found = strcmp(m->name, name) == 0;
    for (uint32_t i = 0; !found && i < m->n_aliases; i++)
        found = strcmp(m->aliases[i], name) == 0;
    return found;
}

bool catalog_may_use(const struct edge_key *key, const struct edge_model *model)
{
    bool may = !key || key->n_models == 0;
    for (uint32_t i = 0; !may && i < key->n_models; i++)
        may = has_name(model, key->models[i]);
    return may;
}

const struct edge_model *catalog_find(const struct catalog *c, const struct edge_key *key,
                                      const char *name)
{
    for (uint32_t i = 0; i < c->n_models; i++) {
        const struct edge_model *m = &c->models[i];
        if ((!*name || has_name(m, name)) && catalog_may_use(key, m))
            return m;
    }
    return NULL;
}

int catalog_no_model(const struct catalog *c, const struct edge_key *key, const char *name,
                     struct err *e)
{
    struct buf names = {0};
    char shown[100];
    printable_text(name, strlen(name), "", shown, sizeof(shown));
    for (uint32_t i = 0; i < c->n_models; i++) {
        if (!catalog_may_use(key, &c->models[i]))
            continue;
        buf_addf(&names, "%s%s", names.len > 0 ? ", " : "", c->models[i].name);
        for (uint32_t j = 0; j < c->models[i].n_aliases; j++)
            buf_addf(&names, ", %s", c->models[i].aliases[j]);
    }
    int rc =
        err_set_param(e, LLMD_ENOTFOUND, "model", "The model `%s` does not exist. Valid names: %s.",
                      shown, buf_str(&names));
    buf_fini(&names);
    return rc;
}

struct key_use *catalog_key_use(const struct catalog *c, const struct edge_key *key)
{
    return key && c->states ? &c->states[key - c->keys]->use : NULL;
}

uint64_t catalog_prefix_salt(const struct catalog *c, const struct edge_key *key, uint64_t salt)
{
    /* A tag that no cache_salt begins with: it has an '/'. Then two fields of fixed size, so that two
     * pairs are never one text. */
    struct {
        char tag[16];
        uint8_t digest[sizeof(key->sha256)];
        uint64_t salt;
    } text = {.tag = "llmd/prefix/key", .salt = salt};
    unsigned char out[SHA256_DIGEST_LENGTH];
    if (!key || c->share_prefixes)
        return salt;
    memcpy(text.digest, key->sha256, sizeof(text.digest));
    SHA256((const unsigned char *)&text, sizeof(text), out);
    memcpy(&salt, out, sizeof(salt));
    return salt | 1; /* 0 means none */
}
