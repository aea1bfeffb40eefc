/* admin_kv.c - GET /admin/v1/kv: what each KV block of each worker is, drawn small.
 *
 * A map has at most CELLS cells; one of several blocks shows what most of them are. It is written run by
 * run: "f120u3c40s1". */
#include <stdlib.h>
#include <string.h>

#include "core/edge/admin_int.h"
#include "core/edge/api.h"
#include "core/edge/respond.h"
#include "core/edge/worker_json.h"
#include "core/request/prefix_hash.h"
#include "core/router/router.h"
#include "core/util/json.h"

enum { CELLS = 4096, N_STATES = KV_BLOCK_SHARED + 1 };

static const char letters[] = "fcus";

struct kv_map {
    uint32_t per_cell, n_cells;
    uint32_t in_cell, cell[N_STATES]; /* blocks of the cell at hand */
    uint32_t all[N_STATES];
    int run; /* state of the run at hand; -1: none yet */
    uint32_t n_run;
    struct buf text;
};

static void end_run(struct kv_map *m)
{
    if (m->n_run > 0)
        buf_addf(&m->text, "%c%u", letters[m->run], m->n_run);
    m->n_run = 0;
}

static void end_cell(struct kv_map *m)
{
    int most = 0;
    if (m->in_cell == 0)
        return;
    for (int i = 1; i < N_STATES; i++)
        if (m->cell[i] >= m->cell[most])
            most = i;
    if (most != m->run)
        end_run(m);
    m->run = most;
    m->n_run++;
    m->n_cells++;
    m->in_cell = 0;
    memset(m->cell, 0, sizeof(m->cell));
}

static void add_block(struct kv_map *m, uint8_t state)
{
    m->all[state]++;
    m->cell[state]++;
    if (++m->in_cell == m->per_cell)
        end_cell(m);
}

/* Nothing for a worker without blocks. */
static void add_worker(struct router *r, const struct router_worker_view *v, bool first,
                       struct buf *out)
{
    uint8_t states[ROUTER_KV_AT_ONCE];
    struct kv_map m = {.run = -1};
    uint32_t n = 0;
    if (v->status.state != WORKER_DEAD)
        n = router_kv_blocks(r, v->index, 0, 0, states);
    m.per_cell = n / CELLS + (n % CELLS > 0);
    for (uint32_t at = 0; at < n;) {
        const uint32_t k = (uint32_t)u64_min(n - at, sizeof(states));
        if (router_kv_blocks(r, v->index, at, k, states) != n)
            n = at; /* another worker is in its place by now */
        for (uint32_t i = 0; at < n && i < k; i++)
            add_block(&m, states[i]);
        at += k;
    }
    end_cell(&m);
    end_run(&m);
    buf_addf(out, "%s{\"worker\":%u,\"model\":", first ? "" : ",\n", v->index);
    json_add_cstr(out, v->model);
    buf_addf(out, ",\"blocks\":%u,\"block_tokens\":%d,\"free\":%u,\"cached\":%u,\"used\":%u,", n,
             PREFIX_BLOCK_TOKENS, m.all[KV_BLOCK_FREE], m.all[KV_BLOCK_CACHED],
             m.all[KV_BLOCK_USED]);
    buf_addf(out, "\"shared\":%u,\"blocks_per_cell\":%u,\"cells\":%u,\"map\":\"%s\"}",
             m.all[KV_BLOCK_SHARED], m.per_cell, m.n_cells, buf_str(&m.text));
    out->failed |= m.text.failed;
    buf_fini(&m.text);
}

enum MHD_Result admin_kv(struct exchange *ex)
{
    struct router *r = exchange_opts(ex)->router;
    struct router_worker_view *views = calloc(WORKER_VIEWS, sizeof(*views));
    uint32_t n = views ? router_workers(r, views, WORKER_VIEWS) : 0;
    struct buf body = {.failed = !views};
    buf_addstr(&body, "{\"workers\":[");
    n = worker_json_sort(views, n);
    for (uint32_t i = 0; views && i < n; i++)
        add_worker(r, &views[i], i == 0, &body);
    buf_addstr(&body, "]}");
    free(views);
    return respond_json(ex, MHD_HTTP_OK, &body);
}
