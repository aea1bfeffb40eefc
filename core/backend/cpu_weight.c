/* cpu_weight.c - checks the tensors of a model file and packs them into tiles. */
#include <stdlib.h>
#include <string.h>

#include "core/backend/cpu_int.h"
#include "core/backend/cpu_pack_int.h"
#include "core/backend/dequant.h"

/* Keeps every index into a row, and rows times 16 lanes, within 32 bits. */
enum { MAX_ROWS = 1 << 27, MAX_COLS = 1 << 24 };

static int check_part(const struct host_tensor *p, struct err *e)
{
    size_t row_bytes;
    if (p->rows == 0 || p->cols == 0 || p->rows > MAX_ROWS || p->cols > MAX_COLS)
        return err_set(
            e, LLMD_EUNSUPPORTED, "%s: %llu x %llu: the CPU takes 1 to %d rows of 1 to %d columns",
            p->name, (unsigned long long)p->rows, (unsigned long long)p->cols, MAX_ROWS, MAX_COLS);
    if (!dtype_row_bytes(p->dtype, p->cols, &row_bytes))
        return err_set(e, LLMD_EUNSUPPORTED, "%s: %llu columns: %s needs a multiple of %u", p->name,
                       (unsigned long long)p->cols, dtype_name(p->dtype),
                       dtype_block_elems(p->dtype));
    return 0;
}

static int check_parts(enum weight_role role, const struct host_tensor *parts, uint32_t n,
                       struct err *e)
{
    uint64_t rows = 0;
    for (uint32_t i = 0; i < n; i++) {
        int rc = check_part(&parts[i], e);
        if (rc < 0)
            return rc;
        rows += parts[i].rows;
        if (parts[i].cols != parts[0].cols ||
            (role == WEIGHT_GATE_UP && parts[i].rows != parts[0].rows))
            return err_set(e, LLMD_EUNSUPPORTED,
                           "%s is %llu x %llu, which does not fit %s, %llu x %llu", parts[i].name,
                           (unsigned long long)parts[i].rows, (unsigned long long)parts[i].cols,
                           parts[0].name, (unsigned long long)parts[0].rows,
                           (unsigned long long)parts[0].cols);
    }
    if (role == WEIGHT_VECTOR && parts[0].rows != 1)
        return err_set(e, LLMD_EUNSUPPORTED, "%s has %llu rows: a vector has one", parts[0].name,
                       (unsigned long long)parts[0].rows);
    if (rows > MAX_ROWS)
        return err_set(e, LLMD_EUNSUPPORTED, "%s: more than %d rows with its neighbours",
                       parts[0].name, MAX_ROWS);
    return 0;
}

static bool any_bias(const struct host_tensor *biases, uint32_t n)
{
    for (uint32_t i = 0; biases && i < n; i++)
        if (biases[i].data)
            return true;
    return false;
}

static int check_biases(enum weight_role role, const struct host_tensor *parts, uint32_t n,
                        const struct host_tensor *biases, struct err *e)
{
    for (uint32_t i = 0; biases && i < n; i++) {
        size_t row_bytes;
        if (!biases[i].data)
            continue;
        if (role != WEIGHT_LINEAR)
            return err_set(e, LLMD_EUNSUPPORTED, "%s: a bias of %s is not supported",
                           biases[i].name, parts[i].name);
        if (biases[i].rows != 1 || biases[i].cols != parts[i].rows ||
            !dtype_row_bytes(biases[i].dtype, biases[i].cols, &row_bytes))
            return err_set(e, LLMD_EUNSUPPORTED, "%s: %llu x %llu does not fit the %llu rows of %s",
                           biases[i].name, (unsigned long long)biases[i].rows,
                           (unsigned long long)biases[i].cols, (unsigned long long)parts[i].rows,
                           parts[i].name);
    }
    return 0;
}

/* Shapes and strides of all parts; data pointers relative to NULL. Returns the bytes needed. */
static size_t plan(const struct cpu_backend *c, struct weight *w, const struct host_tensor *parts)
{
    size_t offsets[WEIGHT_MAX_PARTS], total = 0;
    for (uint32_t i = 0; i < w->n_parts; i++) {
        struct tiles *t = &w->parts[i];
        t->dtype = c->compute == COMPUTE_F32 ? DTYPE_F32 : parts[i].dtype;
        t->rows = (uint32_t)parts[i].rows;
        t->cols = (uint32_t)parts[i].cols;
        t->n_tiles = round_up_u32(t->rows, TILE_ROWS) / TILE_ROWS;
        t->stride = (group_layout(t->dtype, t->cols).total_bytes + 63) / 64 * 64;
        offsets[i] = w->role == WEIGHT_GATE_UP ? (i ? w->parts[0].stride : 0) : total;
        total += t->stride * t->n_tiles;
    }
    for (uint32_t i = 0; i < w->n_parts; i++)
        w->parts[i].data = (const uint8_t *)(uintptr_t)offsets[i];
    if (w->role == WEIGHT_GATE_UP) /* tile by tile, gate then up */
        w->parts[0].stride = w->parts[1].stride = w->parts[0].stride + w->parts[1].stride;
    return total;
}

struct pack_job {
    const struct tiles *tiles;
    const struct host_tensor *src;
    uint32_t n_chunks;
};

static void pack_chunk(void *ctx, uint32_t chunk, uint32_t thread)
{
    const struct pack_job *j = ctx;
    const struct tiles *t = j->tiles;
    (void)thread;
    const uint32_t first = (uint32_t)((uint64_t)t->n_tiles * chunk / j->n_chunks);
    const uint32_t end = (uint32_t)((uint64_t)t->n_tiles * (chunk + 1) / j->n_chunks);
    for (uint32_t i = first; i < end; i++)
        tile_pack(t, j->src, i, (uint8_t *)(uintptr_t)t->data + i * t->stride);
}

static void make_bias(struct weight *w, const struct host_tensor *biases, float *out)
{
    w->bias = out;
    for (uint32_t i = 0; i < w->n_parts; out += w->parts[i++].rows) {
        if (biases[i].data)
            dequantize_row(biases[i].dtype, biases[i].data, w->parts[i].rows, out);
        else
            memset(out, 0, w->parts[i].rows * sizeof(*out));
    }
}

static int make_tiles(struct cpu_backend *c, struct weight *w, const struct host_tensor *parts,
                      const struct host_tensor *biases, struct err *e)
{
    const size_t tile_bytes = plan(c, w, parts);
    const bool biased = any_bias(biases, w->n_parts);
    w->bytes = tile_bytes;
    for (uint32_t i = 0; i < w->n_parts && biased; i++)
        w->bytes += w->parts[i].rows * sizeof(float);
    uint8_t *data = slab_take(&c->slab, w->bytes, &w->slab);
    if (!data)
        return err_set(e, LLMD_ENOMEM, "%s: cannot allocate %zu MiB for weights", parts[0].name,
                       w->bytes >> 20);
    for (uint32_t i = 0; i < w->n_parts; i++) {
        struct tiles *t = &w->parts[i];
        t->data = data + (uintptr_t)t->data;
        struct pack_job job = {.tiles = t, .src = &parts[i]};
        job.n_chunks = (uint32_t)u64_min(t->n_tiles, 4 * (uint64_t)cpu_team_size(c->team));
        cpu_team_run(c->team, job.n_chunks, pack_chunk, &job);
        w->rows = w->role == WEIGHT_GATE_UP ? t->rows : w->rows + t->rows;
    }
    if (biased)
        make_bias(w, biases, (float *)(void *)(data + tile_bytes));
    return 0;
}

static int make_vector(struct cpu_backend *c, struct weight *w, const struct host_tensor *part,
                       struct err *e)
{
    w->bytes = part->cols * sizeof(float);
    w->vector = slab_take(&c->slab, w->bytes, &w->slab);
    if (!w->vector)
        return err_set(e, LLMD_ENOMEM, "%s: cannot allocate %zu bytes", part->name, w->bytes);
    dequantize_row(part->dtype, part->data, (uint32_t)part->cols, w->vector);
    w->rows = 1;
    return 0;
}

int cpu_weight_new(struct backend *be, enum weight_role role, const struct host_tensor *parts,
                   uint32_t n_parts, const struct host_tensor *biases, struct weight **out,
                   struct err *e)
{
    struct cpu_backend *c = cpu_backend(be);
    BUG_ON(n_parts == 0 || n_parts > WEIGHT_MAX_PARTS);
    BUG_ON(role == WEIGHT_GATE_UP && n_parts != 2);
    BUG_ON((role == WEIGHT_EMBED || role == WEIGHT_VECTOR) && n_parts != 1);
    int rc = check_parts(role, parts, n_parts, e);
    if (rc == 0)
        rc = check_biases(role, parts, n_parts, biases, e);
    if (rc < 0)
        return rc;
    struct weight *w = calloc(1, sizeof(*w));
    if (!w)
        return err_set(e, LLMD_ENOMEM, "%s: out of memory", parts[0].name);
    w->role = role;
    w->n_parts = n_parts;
    w->cols = (uint32_t)parts[0].cols;
    cpu_team_wake(c->team);
    rc = role == WEIGHT_VECTOR ? make_vector(c, w, parts, e) : make_tiles(c, w, parts, biases, e);
    if (rc < 0) {
        cpu_weight_free(w);
        return rc;
    }
    *out = w;
    return 0;
}

void cpu_weight_free(struct weight *w)
{
    if (!w)
        return;
    slab_unref(w->slab);
    free(w);
}

size_t cpu_weight_bytes(const struct weight *w)
{
    return w->bytes;
}
