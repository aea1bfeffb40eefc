/* cpu_linear.c - splits a product over the team: first the packing of its input by rows, then the
 * tiles of the weight. Never over K, so that the split cannot change a result. */
#include "core/backend/cpu_int.h"

enum {
    CHUNKS_PER_THREAD = 4, /* a thread that lags leaves its share to the others */
    PACK_ALONE_ROWS = 4,   /* fewer rows are packed faster than the team is told */
};

struct linear_run {
    struct cpu_backend *c;
    const struct weight *w;
    const float *in;
    size_t in_stride;
    struct linear_job job;  /* of part 0, column 0 */
    bool quantized, floats; /* packed inputs wanted */
    uint32_t n_tiles, n_chunks;
};

static void pack_chunk(void *ctx, uint32_t chunk, uint32_t thread)
{
    const struct linear_run *r = ctx;
    const struct cpu_kernels *k = &r->c->kernels;
    const uint32_t first = chunk * ACT_ROWS, cols = r->w->cols;
    const uint32_t n = (uint32_t)u64_min(r->job.n_rows - first, ACT_ROWS);
    const uint32_t capacity = act_rows(r->job.n_rows);
    const float *in = r->in + first * r->in_stride;
    (void)thread;
    if (r->quantized)
        k->pack_q8(in, r->in_stride, n, cols, capacity,
                   r->job.q + (size_t)chunk * (cols / GROUP) * act_group_bytes(capacity));
    if (r->floats)
        k->pack_f32(in, r->in_stride, n, cols, (float *)r->c->act_x.p + (size_t)first * cols);
}

/* Tiles a..b-1 of the job's part, whose rows have the biases (NULL: none). */
static void part_tiles(const struct linear_run *r, const struct linear_job *job, const float *bias,
                       uint32_t a, uint32_t b)
{
    const uint32_t col = a * TILE_ROWS;
    const uint32_t end = (uint32_t)u64_min(job->w->rows, (uint64_t)b * TILE_ROWS);
    r->c->kernels.linear(job, a, b);
    if (bias)
        r->c->kernels.add_bias(job->out + col, job->out_stride, job->n_rows, bias + col, end - col);
}

/* Tiles first..end-1, counted over all parts. */
static void linear_tiles(const struct linear_run *r, uint32_t first, uint32_t end, uint32_t thread)
{
    const uint32_t n_parts = r->job.up ? 1 : r->w->n_parts;
    struct linear_job job = r->job;
    if (r->c->lin_scratch_bytes > 0)
        job.scratch = (uint8_t *)r->c->lin_scratch.p + thread * r->c->lin_scratch_bytes;
    const float *bias = r->w->bias; /* of this part */
    uint32_t base = 0;              /* tiles before it */
    for (uint32_t i = 0; i < n_parts && base < end; i++) {
        const struct tiles *t = &r->w->parts[i];
        const uint32_t a = (uint32_t)u64_max(first, base);
        const uint32_t b = (uint32_t)u64_min(end, base + t->n_tiles);
        job.w = t;
        if (a < b)
            part_tiles(r, &job, bias, a - base, b - base);
        base += t->n_tiles;
        job.out += t->rows;
        bias = bias ? bias + t->rows : NULL;
    }
}

static void linear_chunk(void *ctx, uint32_t chunk, uint32_t thread)
{
    const struct linear_run *r = ctx;
    linear_tiles(r, (uint32_t)((uint64_t)r->n_tiles * chunk / r->n_chunks),
                 (uint32_t)((uint64_t)r->n_tiles * (chunk + 1) / r->n_chunks), thread);
}

void cpu_linear_rows(struct cpu_backend *c, const float *in, size_t in_stride, uint32_t n_rows,
                     const struct weight *w, float *out, size_t out_stride)
{
    struct linear_run r = {.c = c, .w = w, .in = in, .in_stride = in_stride};
    const bool pair = w->role == WEIGHT_GATE_UP;
    r.job = (struct linear_job){.up = pair ? &w->parts[1] : NULL,
                                .q = c->act_q.p,
                                .x = c->act_x.p,
                                .n_rows = n_rows,
                                .out = out,
                                .out_stride = out_stride};
    for (uint32_t i = 0; i < w->n_parts; i++) {
        if (tiles_quantized(w->parts[i].dtype))
            r.quantized = true;
        else
            r.floats = true;
        if (i == 0 || !pair)
            r.n_tiles += w->parts[i].n_tiles;
    }
    const uint32_t blocks = round_up_u32(n_rows, ACT_ROWS) / ACT_ROWS;
    if (n_rows < PACK_ALONE_ROWS)
        pack_chunk(&r, 0, 0);
    else
        cpu_team_run(c->team, blocks, pack_chunk, &r);
    const uint32_t threads = cpu_team_size(c->team);
    r.n_chunks =
        threads == 1 ? 1 : (uint32_t)u64_min(r.n_tiles, (uint64_t)CHUNKS_PER_THREAD * threads);
    cpu_team_run(c->team, r.n_chunks, linear_chunk, &r);
}
