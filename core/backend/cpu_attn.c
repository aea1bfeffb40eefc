/* cpu_attn.c - rotary embedding, KV cache writes and the split of attention over the team.
 *
 * Rotary tables  the angle of position p and pair i is p * inv_freq[i]. Position
 *   p = 256 h + l uses cos and sin of both parts, in double, and the addition theorem; the result,
 *   times rope_scale, is rounded to float once. Tables: rope_low[256][half], rope_high[ceil(context / 256)][half],
 *   each entry a (cos, sin) pair. begin() makes the rows of the step from them.
 * Tasks  begin() also lists the attention tasks, the same for every layer: of a sequence and KV
 *   head, up to ATTN_MAX_QUERIES / group rows, the longest contexts first. When there are too few
 *   for the team (a single decode), each is split: its scores by blocks of the context, then the
 *   mixing of its values by columns, so that every key and value is read by one thread only.
 * Windows  a layer's tasks begin at the KV block of the first position that their first row sees:
 *   what lies before is neither scored nor mixed, so a step costs no more than its windows. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/backend/cpu_int.h"

enum {
    ROPE_SPAN = 256,
    ALONE_ROWS = 4,   /* fewer rows are done faster than the team is told */
    SPLIT_TASKS = 2,  /* per thread: fewer tasks than that are split */
    MIX_COLUMNS = 32, /* the least that a part of a split task mixes */
    TASKS_PER_THREAD = 4,
    SCORES_CACHED = 1 << 18, /* floats: half of a common second-level cache */
};

void cpu_attn_layout(struct cpu_backend *c, const struct attn_shape *s, struct attn_layout *out)
{
    const bool f32 = c->compute == COMPUTE_F32;
    *out = (struct attn_layout){.n_heads = s->n_heads,
                                .n_kv_heads = s->n_kv_heads,
                                .head_dim = s->head_dim,
                                .group = s->n_heads / s->n_kv_heads,
                                .f32 = f32,
                                .scale = 1.0f / sqrtf((float)s->head_dim)};
    out->kv_head_bytes = (size_t)2 * s->head_dim * KV_BLOCK_TOKENS * (f32 ? 4 : 2);
    out->kv_layer_bytes = out->kv_head_bytes * s->n_kv_heads;
    out->kv_block_bytes = out->kv_layer_bytes * s->n_layers;
}

static void rope_fill(double *row, const struct attn_shape *s, double position)
{
    for (uint32_t i = 0; i < s->head_dim / 2; i++) {
        double angle = position * s->inv_freq[i];
        row[2 * i] = cos(angle);
        row[2 * i + 1] = sin(angle);
    }
}

static int rope_reserve(struct cpu_backend *c, const struct attn_shape *s)
{
    const uint32_t spans = s->max_context / ROPE_SPAN + 1;
    c->rope_low = calloc((size_t)ROPE_SPAN * s->head_dim, sizeof(double));
    c->rope_high = calloc((size_t)spans * s->head_dim, sizeof(double));
    /* A vector of the last row may reach half its width beyond it. */
    c->cos_sin = calloc((size_t)c->limits.max_rows * s->head_dim + 8, 2 * sizeof(float));
    if (!c->rope_low || !c->rope_high || !c->cos_sin)
        return -LLMD_ENOMEM;
    for (uint32_t p = 0; p < ROPE_SPAN; p++)
        rope_fill(c->rope_low + (size_t)p * s->head_dim, s, p);
    for (uint32_t h = 0; h < spans; h++)
        rope_fill(c->rope_high + (size_t)h * s->head_dim, s, (double)h * ROPE_SPAN);
    return 0;
}

static int windows_reserve(struct cpu_backend *c, const struct attn_shape *s)
{
    c->windows = calloc(s->n_layers, sizeof(*c->windows));
    if (!c->windows)
        return -LLMD_ENOMEM;
    bool all = !s->windows;
    for (uint32_t i = 0; i < s->n_layers && s->windows; i++) {
        c->windows[i] = s->windows[i];
        c->widest_window = (uint32_t)u64_max(c->widest_window, s->windows[i]);
        all |= s->windows[i] == 0;
    }
    if (all)
        c->widest_window = 0;
    return 0;
}

int cpu_attn_reserve(struct cpu_backend *c, const struct attn_shape *s, uint32_t n_kv_blocks,
                     struct err *e)
{
    const uint32_t threads = cpu_team_size(c->team);
    c->scratch_floats = (attn_scratch_floats(&c->layout, s->max_context) + 1023) / 1024 * 1024;
    c->score_floats = (attn_score_floats(&c->layout, s->max_context) + 1023) / 1024 * 1024;
    if (!size_mul(c->layout.kv_block_bytes, n_kv_blocks, &c->kv.bytes) ||
        !size_mul(c->scratch_floats * sizeof(float), threads, &c->scratch.bytes) ||
        !size_mul(c->score_floats * sizeof(float), SPLIT_TASKS * (size_t)threads, &c->scores.bytes))
        return err_set(e, LLMD_ENOMEM, "%u KV blocks are more than memory can address",
                       n_kv_blocks);
    c->kv.p = pages_new(c->kv.bytes);
    if (!c->kv.p)
        return err_set(e, LLMD_ENOMEM, "cannot reserve %zu MiB for the KV cache",
                       c->kv.bytes >> 20);
    c->scratch.p = pages_new(c->scratch.bytes);
    c->scores.p = pages_new(c->scores.bytes);
    c->tasks = calloc((size_t)c->limits.max_rows * s->n_heads, sizeof(*c->tasks));
    if (!c->scratch.p || !c->scores.p || !c->tasks || rope_reserve(c, s) < 0 ||
        windows_reserve(c, s) < 0)
        return err_set(e, LLMD_ENOMEM, "cannot allocate the work space of %u rows and %u tokens",
                       c->limits.max_rows, s->max_context);
    return 0;
}

void cpu_attn_release(struct cpu_backend *c)
{
    pages_free(c->kv.p, c->kv.bytes);
    pages_free(c->scratch.p, c->scratch.bytes);
    pages_free(c->scores.p, c->scores.bytes);
    free(c->tasks);
    free(c->windows);
    free(c->rope_low);
    free(c->rope_high);
    free(c->cos_sin);
}

/* cos[head_dim], sin[head_dim] of one row: sin carries the sign of the element it is added to. */
static void rope_row(const struct cpu_backend *c, uint32_t position, float *out)
{
    const uint32_t hd = c->shape.head_dim, half = hd / 2;
    const double scale = c->shape.rope_scale;
    const double *low = c->rope_low + (size_t)(position % ROPE_SPAN) * hd;
    const double *high = c->rope_high + (size_t)(position / ROPE_SPAN) * hd;
    for (uint32_t i = 0; i < half; i++) {
        const double cl = low[2 * i], sl = low[2 * i + 1], ch = high[2 * i], sh = high[2 * i + 1];
        const float cos = (float)(scale * (ch * cl - sh * sl));
        const float sin = (float)(scale * (sh * cl + ch * sl));
        const uint32_t a = c->shape.rope_interleaved ? 2 * i : i;
        const uint32_t b = c->shape.rope_interleaved ? 2 * i + 1 : i + half;
        out[a] = out[b] = cos;
        out[hd + a] = -sin;
        out[hd + b] = sin;
    }
}

/* Rows of a task: as many as share a conversion of the keys and values, but few enough that
 * their scores stay in the cache and every thread gets a few tasks. */
static uint32_t task_rows(const struct cpu_backend *c, uint32_t context)
{
    const uint32_t group = c->layout.group, tasks = TASKS_PER_THREAD * cpu_team_size(c->team);
    uint64_t rows = ATTN_MAX_QUERIES / group;
    if (c->widest_window)
        context = (uint32_t)u64_min(context, c->widest_window + rows + KV_BLOCK_TOKENS);
    rows = u64_min(rows, SCORES_CACHED / ((uint64_t)context * group));
    rows = u64_min(rows, (uint64_t)c->batch->n_rows * c->layout.n_kv_heads / tasks);
    return (uint32_t)u64_max(rows, 1);
}

/* Tasks of one sequence, from its last rows to its first. */
static void list_tasks(struct cpu_backend *c, uint32_t seq)
{
    const struct batch_seq *s = &c->batch->seqs[seq];
    const uint32_t group = c->layout.group, rows = task_rows(c, s->first_pos + s->n_rows);
    for (uint32_t end = s->n_rows; end > 0;) {
        const uint32_t n = end % rows ? end % rows : rows;
        end -= n;
        for (uint32_t h = 0; h < c->layout.n_heads; h += group)
            c->tasks[c->n_tasks++] = (struct attn_task){.seq = seq,
                                                        .row = s->first_row + end,
                                                        .n_rows = n,
                                                        .first_head = h,
                                                        .n_heads = group};
    }
}

static void rope_chunk(void *ctx, uint32_t chunk, uint32_t thread)
{
    struct cpu_backend *c = ctx;
    const struct batch *b = c->batch;
    (void)thread;
    for (uint32_t r = chunk * ALONE_ROWS; r < b->n_rows && r < (chunk + 1) * ALONE_ROWS; r++)
        rope_row(c, b->positions[r], c->cos_sin + (size_t)r * 2 * c->shape.head_dim);
}

void cpu_attn_begin(struct cpu_backend *c)
{
    const struct batch *b = c->batch;
    c->n_tasks = 0;
    for (uint32_t i = 0; i < b->n_seqs; i++)
        list_tasks(c, i);
    cpu_team_run(c->team, round_up_u32(b->n_rows, ALONE_ROWS) / ALONE_ROWS, rope_chunk, c);
}

struct kv_run {
    struct cpu_backend *c;
    uint32_t rows_each;
    uint8_t *layer;
    float *qkv;
    size_t stride;
    const float *q_norm, *k_norm; /* [head_dim], or NULL */
    float eps;
};

/* Each of n adjacent heads in place. */
static void norm_heads(const struct cpu_backend *c, float *x, uint32_t n, const float *w, float eps)
{
    const uint32_t hd = c->layout.head_dim;
    for (uint32_t h = 0; h < n; h++, x += hd)
        c->kernels.rms_norm(x, NULL, w, hd, eps, x);
}

static void kv_chunk(void *ctx, uint32_t chunk, uint32_t thread)
{
    const struct kv_run *r = ctx;
    const struct cpu_backend *c = r->c;
    const struct attn_layout *l = &c->layout;
    const struct batch *b = c->batch;
    const uint32_t hd = l->head_dim;
    (void)thread;
    for (uint32_t i = chunk * r->rows_each; i < b->n_rows && i < (chunk + 1) * r->rows_each; i++) {
        float *q = r->qkv + i * r->stride;
        float *k = q + (size_t)l->n_heads * hd, *v = k + (size_t)l->n_kv_heads * hd;
        if (r->q_norm) {
            norm_heads(c, q, l->n_heads, r->q_norm, r->eps);
            norm_heads(c, k, l->n_kv_heads, r->k_norm, r->eps);
        }
        c->kernels.rope(q, c->cos_sin + (size_t)i * 2 * hd, l->n_heads + l->n_kv_heads, hd,
                        c->shape.rope_interleaved);
        c->kernels.kv_write(l, k, v, r->layer + b->slots[i] / KV_BLOCK_TOKENS * l->kv_block_bytes,
                            b->slots[i] % KV_BLOCK_TOKENS);
    }
}

int cpu_rope_kv(struct backend *be, uint32_t layer, struct tensor *qkv, const struct weight *q_norm,
                const struct weight *k_norm, float eps)
{
    struct cpu_backend *c = cpu_backend(be);
    struct kv_run r = {.c = c, .qkv = qkv->data, .stride = qkv->cols, .eps = eps};
    BUG_ON(!q_norm != !k_norm);
    if (q_norm) {
        BUG_ON(q_norm->cols != c->layout.head_dim || k_norm->cols != c->layout.head_dim);
        r.q_norm = q_norm->vector;
        r.k_norm = k_norm->vector;
    }
    r.layer = (uint8_t *)c->kv.p + layer * c->layout.kv_layer_bytes;
    /* Tokens of one block share cache lines: a prefill's go to one thread together. */
    r.rows_each = c->batch->n_rows >= 4 * KV_BLOCK_TOKENS ? KV_BLOCK_TOKENS : ALONE_ROWS;
    cpu_team_run(c->team, round_up_u32(c->batch->n_rows, r.rows_each) / r.rows_each, kv_chunk, &r);
    return 0;
}

struct attn_run {
    struct cpu_backend *c;
    uint32_t window; /* of the layer */
    const uint8_t *layer;
    const float *qkv;
    size_t qkv_stride;
    float *out;
    size_t out_stride;
    uint32_t parts; /* of each task, when they are split */
};

static struct attn_job task_job(const struct attn_run *r, const struct attn_task *t,
                                uint32_t thread)
{
    const struct cpu_backend *c = r->c;
    const struct batch_seq *s = &c->batch->seqs[t->seq];
    const size_t column = (size_t)t->first_head * c->layout.head_dim;
    const uint32_t first_pos = s->first_pos + (t->row - s->first_row);
    const bool cut = r->window && first_pos >= r->window;
    const uint32_t unseen = cut ? (first_pos + 1 - r->window) / KV_BLOCK_TOKENS : 0; /* blocks */
    return (struct attn_job){
        .layout = &c->layout,
        .kv = r->layer,
        .block_table = s->block_table + unseen,
        .kv_head = t->first_head / c->layout.group,
        .n_heads = t->n_heads,
        .first_pos = first_pos - unseen * KV_BLOCK_TOKENS,
        .n_rows = t->n_rows,
        .window = r->window,
        .q = r->qkv + t->row * r->qkv_stride + column,
        .q_stride = r->qkv_stride,
        .out = r->out + t->row * r->out_stride + column,
        .out_stride = r->out_stride,
        .scratch = (float *)c->scratch.p + thread * c->scratch_floats,
    };
}

static void attn_chunk(void *ctx, uint32_t chunk, uint32_t thread)
{
    const struct attn_run *r = ctx;
    const struct attn_job job = task_job(r, &r->c->tasks[chunk], thread);
    r->c->kernels.attention(&job);
}

/* Part chunk % parts of split task chunk / parts. */
static struct attn_job split_job(const struct attn_run *r, uint32_t chunk, uint32_t thread)
{
    const uint32_t task = chunk / r->parts;
    struct attn_job job = task_job(r, &r->c->tasks[task], thread);
    job.scores = (float *)r->c->scores.p + task * r->c->score_floats;
    return job;
}

static void scores_chunk(void *ctx, uint32_t chunk, uint32_t thread)
{
    const struct attn_run *r = ctx;
    const struct attn_job job = split_job(r, chunk, thread);
    const uint32_t context = job.first_pos + job.n_rows, part = chunk % r->parts;
    const uint32_t blocks = round_up_u32(context, KV_BLOCK_TOKENS) / KV_BLOCK_TOKENS;
    const uint32_t first = blocks * part / r->parts, end = blocks * (part + 1) / r->parts;
    if (first < end)
        r->c->kernels.attn_scores(&job, first, end);
}

static void mix_chunk(void *ctx, uint32_t chunk, uint32_t thread)
{
    const struct attn_run *r = ctx;
    const struct attn_job job = split_job(r, chunk, thread);
    const uint32_t hd = r->c->layout.head_dim, part = chunk % r->parts;
    const uint32_t units = round_up_u32(hd, MIX_COLUMNS) / MIX_COLUMNS;
    const uint32_t first = units * part / r->parts, end = units * (part + 1) / r->parts;
    if (first < end)
        r->c->kernels.attn_mix(&job, first * MIX_COLUMNS, (uint32_t)u64_min(end * MIX_COLUMNS, hd));
}

int cpu_attention(struct backend *be, uint32_t layer, const struct tensor *qkv, struct tensor *out)
{
    struct cpu_backend *c = cpu_backend(be);
    const uint32_t threads = cpu_team_size(c->team);
    struct attn_run r = {.c = c,
                         .window = c->windows[layer],
                         .qkv = qkv->data,
                         .qkv_stride = qkv->cols,
                         .out = out->data,
                         .out_stride = out->cols};
    r.layer = (const uint8_t *)c->kv.p + layer * c->layout.kv_layer_bytes;
    if (threads == 1 || c->n_tasks >= SPLIT_TASKS * threads) {
        cpu_team_run(c->team, c->n_tasks, attn_chunk, &r);
        return 0;
    }
    r.parts = threads;
    cpu_team_run(c->team, c->n_tasks * r.parts, scores_chunk, &r);
    cpu_team_run(c->team, c->n_tasks * r.parts, mix_chunk, &r);
    return 0;
}
