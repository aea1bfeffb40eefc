#include "cmd/listeners.h"

#include <stdlib.h>

static void add(struct listeners *l, const struct config *c, const char *const *addresses,
                uint32_t n, bool admin)
{
    for (uint32_t i = 0; i < n; i++)
        l->all[l->n++] = (struct edge_listener){
            .address = addresses[i], .tls = config_is_tls(c, addresses[i]), .admin = admin};
}

int listeners_init(struct listeners *l, const struct config *c, struct err *e)
{
    *l =
        (struct listeners){.all = calloc((size_t)c->n_listen + c->n_admin_listen, sizeof(*l->all))};
    if (!l->all)
        return err_set(e, LLMD_ENOMEM, "out of memory for the listeners");
    add(l, c, c->listen, c->n_listen, false);
    add(l, c, c->admin_listen, c->n_admin_listen, true);
    return 0;
}

void listeners_fini(struct listeners *l)
{
    free(l->all);
    *l = (struct listeners){.n = 0};
}
