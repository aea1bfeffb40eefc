#include "core/edge/gate.h"

#include <stdlib.h>

static int parse(const char *option, const char *const *text, uint32_t n, struct cidr **out,
                 uint32_t *out_n, struct err *e)
{
    struct err why = {0};
    struct cidr *all = calloc((size_t)n + 1, sizeof(*all));
    if (!all)
        return err_set(e, LLMD_ENOMEM, "out of memory for addresses");
    for (uint32_t i = 0; i < n; i++)
        if (cidr_parse(text[i], &all[i], &why) != 0) {
            free(all);
            return err_set_param(e, LLMD_EINVAL, option, "%s: %s", option, why.msg);
        }
    *out = all;
    *out_n = n;
    return 0;
}

int gate_init(struct gate *g, const char *const *allow, uint32_t n_allow,
              const char *const *proxy_from, uint32_t n_proxy_from, struct err *e)
{
    *g = (struct gate){.n_allow = 0};
    int rc = parse("allow", allow, n_allow, &g->allow, &g->n_allow, e);
    if (rc == 0)
        rc = parse("proxy_protocol_from", proxy_from, n_proxy_from, &g->proxy_from,
                   &g->n_proxy_from, e);
    if (rc != 0)
        gate_fini(g);
    return rc;
}

void gate_fini(struct gate *g)
{
    free(g->allow);
    free(g->proxy_from);
    *g = (struct gate){.n_allow = 0};
}

bool gate_admits(const struct gate *g, const struct sockaddr_storage *client)
{
    uint8_t address[16];
    return g->n_allow == 0 || !cidr_address(client, address) ||
           cidr_any_holds(g->allow, g->n_allow, address);
}

bool gate_is_proxy(const struct gate *g, const struct sockaddr_storage *peer)
{
    uint8_t address[16];
    return g->n_proxy_from > 0 && cidr_address(peer, address) &&
           cidr_any_holds(g->proxy_from, g->n_proxy_from, address);
}
