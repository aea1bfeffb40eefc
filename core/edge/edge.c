#include "core/edge/edge.h"

#include <openssl/rand.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/edge/edge_int.h"
#include "core/edge/page.h"
#include "core/edge/tls.h"
#include "core/observe/log.h"
#include "core/util/clock.h"

enum { CORES_PER_LOOP = 4, MIN_LOOPS = 2, MAX_LOOPS = 16 };

static uint32_t choose_loops(const struct edge_opts *opts)
{
    if (opts->n_threads > 0)
        return opts->n_threads;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t n = cores > 0 ? (uint64_t)cores / CORES_PER_LOOP : 0;
    return (uint32_t)u64_min(u64_max(n, MIN_LOOPS), MAX_LOOPS);
}

static bool has_control(const struct edge *edge)
{
    return edge->control_loop.edge != NULL;
}

static int init_control(struct edge *edge, struct err *e)
{
    const char *path = edge->opts.control_socket;
    struct err why = {0};
    if (!path || !*path)
        return 0;
    int rc = unix_socket_open(&edge->control_socket, "control_socket", path, &why);
    if (rc == 0)
        return loop_init_control(&edge->control_loop, edge, e);
    if (!edge->opts.control_optional)
        return err_set_param(e, -rc, "control_socket", "%s", why.msg);
    log_warn("edge", "%s; llmd status, drain and reload will not find this server", why.msg);
    return 0;
}

static int open_listeners(struct edge *edge, struct err *e)
{
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < edge->opts.n_listen; i++) {
        rc = listener_open(&edge->listeners[i], &edge->opts.listen[i], e);
        edge->has_admin_listener |= edge->opts.listen[i].admin;
    }
    return rc;
}

static int init(struct edge *edge, struct err *e)
{
    edge->loops = calloc(choose_loops(&edge->opts), sizeof(*edge->loops));
    edge->listeners = calloc(edge->opts.n_listen + 1, sizeof(*edge->listeners));
    if (!edge->loops || !edge->listeners)
        return err_set(e, LLMD_ENOMEM, "out of memory for the edge");
    int rc = page_new(&edge->page, e);
    if (rc == 0)
        rc = edge_metrics_init(&edge->metrics, edge->opts.metrics, e);
    if (rc == 0 && edge->tls)
        edge_metrics_tls(&edge->metrics, tls_expires(edge->tls));
    if (rc == 0)
        rc = catalog_new(&edge->opts.served, &edge->metrics, &edge->key_states, &edge->catalog, e);
    edge->opts.served = (struct edge_served){.keys = NULL}; /* the catalogue has it */
    if (rc == 0)
        rc = gate_init(&edge->gate, edge->opts.allow, edge->opts.n_allow, edge->opts.proxy_from,
                       edge->opts.n_proxy_from, e);
    if (rc == 0)
        rc = prep_init(&edge->prep, edge->opts.n_prep_threads, edge->opts.metrics, e);
    if (rc == 0)
        rc = prep_init(&edge->searches, 1, NULL, e);
    if (rc == 0)
        rc = open_listeners(edge, e);
    for (uint32_t i = 0, n = choose_loops(&edge->opts); rc == 0 && i < n; i++) {
        edge->n_loops++;
        rc = loop_init(&edge->loops[i], edge, i, e);
    }
    for (uint32_t i = 0; i < edge->opts.n_listen; i++)
        listener_settle(&edge->listeners[i]);
    if (rc == 0)
        rc = init_control(edge, e);
    if (rc == 0)
        page_tick(edge); /* so that there is something to show */
    for (uint32_t i = 0; rc == 0 && i < edge->n_loops; i++)
        rc = loop_start(&edge->loops[i], e);
    if (rc == 0 && has_control(edge))
        rc = loop_start(&edge->control_loop, e);
    return rc;
}

int edge_start(const struct edge_opts *opts, struct edge **out, struct err *e)
{
    BUG_ON(opts->n_listen == 0);
    struct edge *edge = calloc(1, sizeof(*edge));
    if (!edge) {
        tls_free(opts->tls);
        return err_set(e, LLMD_ENOMEM, "out of memory for the edge");
    }
    edge->opts = *opts;
    edge->tls = opts->tls;
    edge->started_us = clock_now_us();
    lock_init(&edge->catalog_mu, LOCK_RANK_LEAF);
    lock_init(&edge->addresses_mu, LOCK_RANK_LEAF);
    if (RAND_bytes((unsigned char *)&edge->addresses.seed, sizeof(edge->addresses.seed)) != 1)
        edge->addresses.seed = edge->started_us;
    lock_init(&edge->tls_mu, LOCK_RANK_LEAF);
    edge->control_socket.fd = edge->control_socket.lock_fd = -1;
    int rc = init(edge, e);
    if (rc != 0) {
        edge_stop(edge);
        return rc;
    }
    *out = edge;
    return 0;
}

struct catalog *edge_catalog(struct edge *edge)
{
    lock_take(&edge->catalog_mu);
    struct catalog *c = catalog_ref(edge->catalog);
    lock_drop(&edge->catalog_mu);
    return c;
}

struct edge_limits edge_limits(struct edge *edge)
{
    lock_take(&edge->catalog_mu);
    const struct edge_limits l = edge->catalog->limits;
    lock_drop(&edge->catalog_mu);
    return l;
}

struct ssl_ctx_st *edge_tls_context(struct edge *edge)
{
    lock_take(&edge->tls_mu);
    struct ssl_ctx_st *ctx = tls_context(edge->tls);
    lock_drop(&edge->tls_mu);
    return ctx;
}

const struct tls *edge_tls(const struct edge *edge)
{
    return edge->tls;
}

void edge_set_tls(struct edge *edge, struct tls *tls)
{
    BUG_ON(!edge->opts.tls);
    lock_take(&edge->tls_mu);
    struct tls *before = edge->tls;
    edge->tls = tls;
    lock_drop(&edge->tls_mu);
    tls_free(before);
    edge_metrics_tls(&edge->metrics, tls_expires(tls));
}

bool edge_count_client(struct edge *edge, const struct sockaddr_storage *client)
{
    const uint32_t max = edge_limits(edge).max_connections_per_address;
    struct address_block block;
    if (!address_block_of(client, &block))
        return true;
    lock_take(&edge->addresses_mu);
    int rc = address_counts_add(&edge->addresses, &block, max);
    lock_drop(&edge->addresses_mu);
    return rc == 0;
}

void edge_uncount_client(struct edge *edge, const struct sockaddr_storage *client)
{
    struct address_block block;
    if (!address_block_of(client, &block))
        return;
    lock_take(&edge->addresses_mu);
    address_counts_drop(&edge->addresses, &block);
    lock_drop(&edge->addresses_mu);
}

/* Frees the old catalogues that nobody holds any more: once without references, they stay so. */
static void drop_old(struct edge *edge)
{
    for (struct catalog **at = &edge->old; *at;) {
        struct catalog *c = *at;
        if (atomic_load_explicit(&c->refs, memory_order_acquire) > 0) {
            at = &c->next;
            continue;
        }
        *at = c->next;
        catalog_free(c);
    }
}

int edge_set_catalog(struct edge *edge, const struct edge_served *s, struct err *e)
{
    struct catalog *c;
    int rc = catalog_new(s, &edge->metrics, &edge->key_states, &c, e);
    if (rc != 0)
        return rc;
    lock_take(&edge->catalog_mu);
    struct catalog *before = edge->catalog;
    edge->catalog = c;
    lock_drop(&edge->catalog_mu);
    before->next = edge->old;
    edge->old = before;
    catalog_unref(before); /* the reference of being the current one */
    drop_old(edge);
    return 0;
}

static bool lists(const struct catalog *c, const struct model *model)
{
    for (uint32_t i = 0; i < c->n_models; i++)
        if (c->models[i].model == model)
            return true;
    return false;
}

bool edge_uses_model(struct edge *edge, const struct model *model)
{
    drop_old(edge);
    bool uses = lists(edge->catalog, model);
    for (const struct catalog *c = edge->old; c; c = c->next)
        uses |= lists(c, model);
    return uses;
}

uint16_t edge_port(const struct edge *edge, uint32_t i)
{
    return edge->listeners[i].port;
}

uint64_t edge_tick(struct edge *edge)
{
    return page_tick(edge);
}

void edge_drain(struct edge *edge)
{
    atomic_store(&edge->draining, true);
    for (uint32_t i = 0; i < edge->n_loops; i++)
        loop_poke(&edge->loops[i]);
}

uint32_t edge_active(const struct edge *edge)
{
    return atomic_load(&edge->n_exchanges);
}

uint64_t edge_beat_us(const struct edge *edge)
{
    uint64_t oldest_us = UINT64_MAX;
    for (uint32_t i = 0; i < edge->n_loops; i++)
        oldest_us =
            u64_min(oldest_us, atomic_load_explicit(&edge->loops[i].beat_us, memory_order_relaxed));
    return oldest_us;
}

/* What came back too late goes. */
static void end_loop(struct loop *l)
{
    prep_take(&l->prepared);
    loop_fini(l);
}

void edge_stop(struct edge *edge)
{
    if (!edge)
        return;
    atomic_store(&edge->draining, true);
    atomic_store(&edge->stopping, true);
    for (uint32_t i = 0; i < edge->n_loops; i++)
        if (edge->loops[i].running)
            loop_poke(&edge->loops[i]);
    for (uint32_t i = 0; i < edge->n_loops; i++)
        loop_join(&edge->loops[i]);
    atomic_store(&edge->closing, true);
    if (edge->control_loop.running)
        loop_poke(&edge->control_loop);
    loop_join(&edge->control_loop);
    prep_fini(&edge->prep); /* these write to the loops' wakers, as the workers did */
    prep_fini(&edge->searches);
    for (uint32_t i = 0; i < edge->n_loops; i++)
        end_loop(&edge->loops[i]);
    if (has_control(edge))
        end_loop(&edge->control_loop);
    unix_socket_close(&edge->control_socket);
    for (uint32_t i = 0; edge->listeners && i < edge->opts.n_listen; i++)
        listener_fini(&edge->listeners[i]);
    drop_old(edge);
    BUG_ON(edge->old); /* a request outlived its loop */
    catalog_free(edge->catalog);
    key_states_fini(&edge->key_states);
    lock_fini(&edge->catalog_mu);
    lock_fini(&edge->addresses_mu);
    address_counts_fini(&edge->addresses);
    lock_fini(&edge->tls_mu);
    tls_free(edge->tls);
    page_free(edge->page);
    edge_metrics_fini(&edge->metrics);
    gate_fini(&edge->gate);
    free(edge->loops);
    free(edge->listeners);
    free(edge);
}
