/* cpu.c - the CPU backend: set-up and the row-wise operations. See README.md for the whole. */
#include <stdlib.h>
#include <string.h>

#include "core/backend/cpu_int.h"
#include "core/backend/cpu_isa_int.h"
#include "core/backend/cpu_pack_int.h"
#include "core/util/cpuinfo.h"

enum {
    ROWS_PER_CHUNK = 4
}; /* of row-wise work: fewer rows are done faster than the team is told */

static size_t block_bytes(struct backend *be, const struct attn_shape *shape)
{
    struct attn_layout l;
    cpu_attn_layout(cpu_backend(be), shape, &l);
    return l.kv_block_bytes;
}

static int reserve(struct backend *be, const struct attn_shape *shape,
                   const struct backend_limits *limits, uint32_t n_kv_blocks, struct err *e)
{
    struct cpu_backend *c = cpu_backend(be);
    BUG_ON(c->reserved || !shape->inv_freq);
    int rc = attn_shape_check(shape, ATTN_MAX_HEAD_DIM, "CPU", e);
    if (rc < 0)
        return rc;
    c->reserved = true;
    c->shape = *shape;
    c->shape.inv_freq = NULL;
    c->shape.windows = NULL;
    c->limits = *limits;
    cpu_attn_layout(c, shape, &c->layout);
    return cpu_attn_reserve(c, shape, n_kv_blocks, e);
}

/* Replaces m by a larger mapping when it is smaller than bytes. */
static bool mapping_grow(struct mapping *m, size_t bytes)
{
    if (m->bytes >= bytes)
        return true;
    void *p = pages_new(bytes);
    if (!p)
        return false;
    pages_free(m->p, m->bytes);
    *m = (struct mapping){.p = p, .bytes = bytes};
    return true;
}

static bool linear_scratch_grow(struct cpu_backend *c, uint32_t cols)
{
    if (!c->kernels.linear_scratch)
        return true;
    const size_t each = (c->kernels.linear_scratch(cols) + 4095) / 4096 * 4096;
    if (each <= c->lin_scratch_bytes)
        return true;
    if (!mapping_grow(&c->lin_scratch, each * cpu_team_size(c->team)))
        return false;
    c->lin_scratch_bytes = each;
    return true;
}

/* Any tensor may become the input of a product: sizes the packed inputs for it too. Their pages
 * are not touched unless a weight's type wants that kind of input. */
static int tensor_new(struct backend *be, uint32_t max_rows, uint32_t cols, struct tensor *out,
                      struct err *e)
{
    struct cpu_backend *c = cpu_backend(be);
    BUG_ON(c->n_tensors == TENSORS_MAX);
    const size_t rows = round_up_u32(max_rows, ACT_ROWS);
    struct mapping m = {.bytes = (size_t)max_rows * cols * sizeof(float)};
    if (m.bytes == 0)
        return err_set(e, LLMD_EINVAL, "a buffer of %u x %u is empty", max_rows, cols);
    m.p = pages_new(m.bytes);
    if (!m.p || !mapping_grow(&c->act_x, rows * cols * sizeof(float)) ||
        !mapping_grow(&c->act_q, rows / ACT_ROWS * (cols / GROUP) * act_group_bytes(ACT_ROWS)) ||
        !linear_scratch_grow(c, cols)) {
        pages_free(m.p, m.bytes);
        return err_set(e, LLMD_ENOMEM, "cannot allocate an activation buffer of %u x %u", max_rows,
                       cols);
    }
    c->tensors[c->n_tensors++] = m;
    *out = (struct tensor){.data = m.p, .max_rows = max_rows, .cols = cols};
    return 0;
}

static int begin(struct backend *be, const struct batch *b)
{
    struct cpu_backend *c = cpu_backend(be);
    BUG_ON(!c->reserved || b->n_rows > c->limits.max_rows);
    c->batch = b;
    cpu_team_wake(c->team);
    cpu_attn_begin(c);
    return 0;
}

/* A row-wise operation: fn(ctx, row) over n rows. */
struct rows_run {
    const struct cpu_backend *c;
    void (*fn)(const struct rows_run *r, uint32_t row);
    uint32_t n;
    struct tensor *x, *out;
    const struct tensor *in;
    const struct weight *w;
    float eps;
};

static void rows_chunk(void *ctx, uint32_t chunk, uint32_t thread)
{
    const struct rows_run *r = ctx;
    (void)thread;
    for (uint32_t i = chunk * ROWS_PER_CHUNK; i < r->n && i < (chunk + 1) * ROWS_PER_CHUNK; i++)
        r->fn(r, i);
}

static void run_rows(struct rows_run *r)
{
    cpu_team_run(r->c->team, round_up_u32(r->n, ROWS_PER_CHUNK) / ROWS_PER_CHUNK, rows_chunk, r);
}

static float *tensor_row(const struct tensor *t, uint32_t row)
{
    return t->data + (size_t)row * t->cols;
}

static void embed_row(const struct rows_run *r, uint32_t row)
{
    tiles_row(&r->w->parts[0], r->c->batch->tokens[row], tensor_row(r->x, row));
}

static int embed(struct backend *be, const struct weight *w, struct tensor *x)
{
    struct cpu_backend *c = cpu_backend(be);
    struct rows_run r = {.c = c, .fn = embed_row, .n = c->batch->n_rows, .w = w, .x = x};
    for (uint32_t i = 0; i < c->batch->n_rows; i++)
        BUG_ON(c->batch->tokens[i] >= w->rows);
    run_rows(&r);
    return 0;
}

static void norm_row(const struct rows_run *r, uint32_t row)
{
    r->c->kernels.rms_norm(tensor_row(r->x, row), r->in ? tensor_row(r->in, row) : NULL,
                           r->w->vector, r->x->cols, r->eps, tensor_row(r->out, row));
}

static int rms_norm(struct backend *be, struct tensor *x, const struct tensor *residual,
                    const struct weight *w, float eps, struct tensor *out)
{
    struct cpu_backend *c = cpu_backend(be);
    struct rows_run r = {.c = c,
                         .fn = norm_row,
                         .n = c->batch->n_rows,
                         .x = x,
                         .in = residual,
                         .w = w,
                         .eps = eps,
                         .out = out};
    run_rows(&r);
    return 0;
}

static int linear(struct backend *be, const struct tensor *in, const struct weight *w,
                  struct tensor *out)
{
    struct cpu_backend *c = cpu_backend(be);
    BUG_ON(in->cols != w->cols || out->cols != w->rows);
    cpu_linear_rows(c, in->data, in->cols, c->batch->n_rows, w, out->data, out->cols);
    return 0;
}

static void gather_row(const struct rows_run *r, uint32_t row)
{
    memcpy(tensor_row(r->out, row), tensor_row(r->in, r->c->batch->out_rows[row]),
           r->in->cols * sizeof(float));
}

static int gather(struct backend *be, const struct tensor *in, struct tensor *out)
{
    struct cpu_backend *c = cpu_backend(be);
    struct rows_run r = {.c = c, .fn = gather_row, .n = c->batch->n_out, .in = in, .out = out};
    run_rows(&r);
    return 0;
}

static int head(struct backend *be, struct tensor *x, const struct weight *norm, float eps,
                const struct weight *lm_head, struct tensor *logits)
{
    struct cpu_backend *c = cpu_backend(be);
    const uint32_t n = c->batch->n_out;
    struct rows_run r = {.c = c, .fn = norm_row, .n = n, .x = x, .w = norm, .eps = eps, .out = x};
    BUG_ON(x->cols != lm_head->cols || logits->cols != lm_head->rows);
    if (n == 0)
        return 0;
    run_rows(&r);
    cpu_linear_rows(c, x->data, x->cols, n, lm_head, logits->data, logits->cols);
    return 0;
}

static int finish(struct backend *be)
{
    cpu_backend(be)->batch = NULL;
    return 0;
}

static void backend_free(struct backend *be)
{
    struct cpu_backend *c = cpu_backend(be);
    cpu_team_free(c->team);
    cpu_attn_release(c);
    for (uint32_t i = 0; i < c->n_tensors; i++)
        pages_free(c->tensors[i].p, c->tensors[i].bytes);
    pages_free(c->act_q.p, c->act_q.bytes);
    pages_free(c->act_x.p, c->act_x.bytes);
    pages_free(c->lin_scratch.p, c->lin_scratch.bytes);
    slab_unref(c->slab);
    free(c);
}

static const struct backend_ops cpu_ops = {
    .kind = "cpu",
    .free = backend_free,
    .weight_new = cpu_weight_new,
    .weight_free = cpu_weight_free,
    .weight_bytes = cpu_weight_bytes,
    .kv_block_bytes = block_bytes,
    .reserve = reserve,
    .tensor_new = tensor_new,
    .begin = begin,
    .embed = embed,
    .rms_norm = rms_norm,
    .linear = linear,
    .gate_up = linear, /* the weight's role makes the difference */
    .rope_kv = cpu_rope_kv,
    .attention = cpu_attention,
    .gather = gather,
    .head = head,
    .finish = finish,
};

int cpu_backend_new(const struct cpu_opts *o, struct backend **out, struct err *e)
{
    struct cpu_kernels kernels;
    int rc = cpu_isa_choose(o->isa, &kernels, e);
    if (rc < 0)
        return rc;
    struct cpu_backend *c = calloc(1, sizeof(*c));
    if (!c)
        return err_set(e, LLMD_ENOMEM, "cannot allocate the CPU backend");
    c->base.ops = &cpu_ops;
    c->kernels = kernels;
    c->compute = o->compute;
    const uint32_t automatic = (uint32_t)u64_min(cpu_usable_cores(), CPU_TEAM_MAX);
    rc = cpu_team_new(o->n_threads ? o->n_threads : automatic, &c->team, e);
    if (rc < 0) {
        backend_free(&c->base);
        return rc;
    }
    *out = &c->base;
    return 0;
}

const char *cpu_backend_isa(const struct backend *be)
{
    return ((const struct cpu_backend *)be)->kernels.name;
}
