#include "cmd/listeners.h"

#include <stdlib.h>
#include <string.h>

#include "core/util/endpoint.h"

static const char admin_name[] = "admin";

static void add(struct listeners *l, const struct config *c, const char *address, bool admin)
{
    l->all[l->n++] = (struct edge_listener){
        .address = address, .tls = config_is_tls(c, address), .admin = admin};
}

/* The address that the passed socket is bound to; NULL when none is named. */
static struct edge_listener *find(const struct listeners *l, const struct passed_socket *s)
{
    for (uint32_t i = 0; i < l->n; i++) {
        struct endpoint p;
        if (endpoint_parse(l->all[i].address, &p, NULL) == 0 &&
            endpoint_matches(&p, &s->at, s->n_at))
            return &l->all[i];
    }
    return NULL;
}

/* For operators, at an address that the configuration does not name. */
static int add_admin(struct listeners *l, const struct config *c, const struct passed_socket *s,
                     struct err *e)
{
    struct endpoint p;
    int rc = endpoint_parse(s->address, &p, e);
    if (rc != 0)
        return rc;
    if (c->n_keys == 0 && !endpoint_is_local(&p))
        return err_set(
            e, LLMD_EINVAL,
            "the passed socket \"%s\" of %s is not of a loopback address, and without keys "
            "llmd serves loopback only; add key \"name\" { sha256 = \"...\" }",
            s->name, s->address);
    add(l, c, s->address, true);
    l->all[l->n - 1].inherited_fd = s->fd;
    return 0;
}

static int use(struct listeners *l, const struct config *c, const struct passed_socket *s,
               struct err *e)
{
    const bool admin = strcmp(s->name, admin_name) == 0;
    struct edge_listener *at = find(l, s);
    if (!at && admin)
        return add_admin(l, c, s, e);
    if (!at)
        return err_set(
            e, LLMD_EINVAL,
            "a socket of %s was passed (\"%s\"), but neither listen nor admin_listen names "
            "this address; name it there, or name the socket \"admin\" (FileDescriptorName=) when "
            "it is for operators. Where a package installed llmd: systemctl daemon-reload, then "
            "systemctl restart llmd.socket, which takes the addresses from the configuration",
            s->address, s->name);
    if (admin && !at->admin)
        return err_set(
            e, LLMD_EINVAL,
            "the passed socket \"admin\" is of %s, which listen names for clients; name it "
            "in admin_listen, or give the socket another name",
            s->address);
    if (at->inherited_fd > 0)
        return err_set(e, LLMD_EINVAL,
                       "two sockets of %s were passed; remove one from the socket units",
                       s->address);
    at->inherited_fd = s->fd;
    return 0;
}

int listeners_init(struct listeners *l, const struct config *c, struct err *e)
{
    *l = (struct listeners){.n = 0};
    int rc = activation_take(&l->passed, e);
    if (rc != 0)
        return rc;
    l->all = calloc((size_t)c->n_listen + c->n_admin_listen + l->passed.n, sizeof(*l->all));
    if (!l->all)
        return err_set(e, LLMD_ENOMEM, "out of memory for the listeners");
    for (uint32_t i = 0; i < c->n_listen; i++)
        add(l, c, c->listen[i], false);
    for (uint32_t i = 0; i < c->n_admin_listen; i++)
        add(l, c, c->admin_listen[i], true);
    for (uint32_t i = 0; rc == 0 && i < l->passed.n; i++)
        rc = use(l, c, &l->passed.all[i], e);
    return rc;
}

void listeners_fini(struct listeners *l)
{
    free(l->all);
    *l = (struct listeners){.n = 0};
}
