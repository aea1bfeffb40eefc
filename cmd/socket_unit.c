#include "cmd/socket_unit.h"

#include "core/util/endpoint.h"

/* "*:8080" is the IPv6 socket that takes IPv4 as well: *any_both. */
static void add(const char *address, bool *any_both, struct buf *out)
{
    struct endpoint p;
    char text[128];
    if (endpoint_parse(address, &p, NULL) != 0 || (!p.path && endpoint_port(&p) == 0))
        return;
    *any_both |= p.both;
    if (!p.path)
        endpoint_write(&p.ip, p.n_ip, text, sizeof(text));
    buf_addf(out, "ListenStream=%s\n", p.path ? p.path : text);
}

void socket_unit_add(const struct config *c, struct buf *out)
{
    struct buf lines = {0};
    bool any_both = false;
    for (uint32_t i = 0; i < c->n_listen; i++)
        add(c->listen[i], &any_both, &lines);
    for (uint32_t i = 0; i < c->n_admin_listen; i++)
        add(c->admin_listen[i], &any_both, &lines);
    if (lines.len > 0)
        buf_addf(out,
                 "# Made from the configuration by llmd check --print-sockets.\n[Socket]\n"
                 "ListenStream=\n%sBindIPv6Only=%s\n",
                 buf_str(&lines), any_both ? "both" : "ipv6-only");
    out->failed |= lines.failed;
    buf_fini(&lines);
}
