/* cuda_attn.c - KV cache, rotary tables, and what a step tells the device: begin() packs its rows,
 * block tables and the work lists of attention into one piece of pinned memory and sends that.
 *
 * Work lists  a sequence with one row is a decode: one item for each part of GPU_SPLIT positions of
 *   its context. One with more is a prefill: one item for each tile of packed rows. pin_kernels makes
 *   all of them prefills, which give a row the same bits whatever the chunk.
 * Waves  parts of decodes leave their results in a work space; when a step has more parts than fit,
 *   its decodes are launched in several waves, of whole sequences, one after the other. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/cuda_int.h"

enum {
    PARTS_AT_LEAST = 1024, /* of a wave */
    ALIGN = 16,
};

static uint32_t round_up_div(uint32_t a, uint32_t b)
{
    return (a + b - 1) / b;
}

/* --- set-up --- */

/* Parts of decodes' contexts in one wave: at least those of one sequence. */
static uint32_t max_parts(const struct attn_shape *s)
{
    return (uint32_t)u64_max(PARTS_AT_LEAST, round_up_div(s->max_context, GPU_SPLIT));
}

static void rope_fill(double *row, const struct attn_shape *s, double position)
{
    for (uint32_t i = 0; i < s->head_dim / 2; i++) {
        const double angle = position * s->inv_freq[i];
        row[2 * i] = cos(angle);
        row[2 * i + 1] = sin(angle);
    }
}

/* n rows of the angles of positions 0, step, 2 step... on the device. */
static int rope_new(struct cuda_backend *c, const struct attn_shape *s, uint32_t n, uint32_t step,
                    double **out, struct err *e)
{
    const size_t bytes = (size_t)n * s->head_dim * sizeof(double);
    void *device;
    int rc = cuda_alloc(c, bytes, &device, e);
    if (rc)
        return rc;
    *out = device;
    double *rows = malloc(bytes);
    if (!rows)
        return err_set(e, LLMD_ENOMEM, "out of memory for the rotary tables");
    for (uint32_t i = 0; i < n; i++)
        rope_fill(rows + (size_t)i * s->head_dim, s, (double)i * step);
    rc = cuda_upload(c, device, rows, bytes, e);
    free(rows);
    return rc;
}

/* Bytes of a step that is a graph, see begin_fixed(). */
static size_t fixed_bytes(const struct cuda_backend *c, const struct attn_shape *s)
{
    const size_t rows = cuda_graph_rows(c), blocks = round_up_div(s->max_context, KV_BLOCK_TOKENS);
    return rows * (4 * sizeof(uint32_t) + sizeof(struct gpu_seq) + blocks * sizeof(uint32_t)) +
           max_parts(s) * sizeof(struct gpu_attn_item) + (size_t)8 * ALIGN;
}

/* Bytes of the largest step's data. */
static size_t step_bytes(const struct attn_shape *s, const struct backend_limits *l)
{
    const size_t blocks = round_up_div(s->max_context, KV_BLOCK_TOKENS);
    const size_t parts = round_up_div(s->max_context, GPU_SPLIT);
    const size_t group = s->n_heads / s->n_kv_heads;
    const size_t tiles = l->max_rows * group / gpu_attn_tile(s->head_dim) + l->max_seqs;
    const size_t rows = 3 * (size_t)l->max_rows + l->max_out;
    return rows * sizeof(uint32_t) + l->max_seqs * (sizeof(struct gpu_seq) + blocks * 4) +
           (tiles + parts * l->max_seqs) * sizeof(struct gpu_attn_item) + (size_t)8 * ALIGN;
}

static int step_reserve(struct cuda_backend *c, const struct attn_shape *s, struct err *e)
{
    void *host, *device;
    c->step.bytes = (size_t)u64_max(step_bytes(s, &c->limits), fixed_bytes(c, s));
    int rc = gpu_pinned_alloc(c->gpu, STEPS_IN_FLIGHT * c->step.bytes, &host, e);
    if (rc)
        return rc;
    c->step.pinned = host;
    rc = cuda_alloc(c, c->step.bytes, &device, e);
    if (!rc)
        c->step.device = device;
    return rc;
}

static int windows_reserve(struct cuda_backend *c, const struct attn_shape *s, struct err *e)
{
    c->windows = calloc(s->n_layers, sizeof(*c->windows));
    if (!c->windows)
        return err_set(e, LLMD_ENOMEM, "out of memory for %u layers", s->n_layers);
    for (uint32_t i = 0; i < s->n_layers && s->windows; i++)
        c->windows[i] = s->windows[i];
    return 0;
}

/* n times `each` bytes of the device; NULL once something failed. */
static void *take(struct cuda_backend *c, size_t n, size_t each, int *rc, struct err *e)
{
    void *p = NULL;
    size_t bytes;
    if (*rc)
        return NULL;
    if (!size_mul(n, each, &bytes))
        *rc = err_set(e, LLMD_ENOMEM, "%zu times %zu bytes are more than memory can address", n,
                      each);
    else
        *rc = cuda_alloc(c, bytes, &p, e);
    return p;
}

static int kv_new(struct cuda_backend *c, const struct attn_shape *s, uint32_t n_blocks,
                  struct err *e)
{
    const size_t block_bytes = c->base.ops->kv_block_bytes(&c->base, s);
    int rc = 0;
    c->kv = take(c, n_blocks, block_bytes, &rc, e);
    c->kv_bytes = rc ? 0 : n_blocks * block_bytes;
    if (rc)
        err_prefix(e, "a KV cache of %u blocks: ", n_blocks);
    return rc;
}

int cuda_kv_resize(struct backend *be, uint32_t n_kv_blocks, struct err *e)
{
    struct cuda_backend *c = cuda_backend(be);
    BUG_ON(!c->reserved || c->step.batch || c->n_posted > 0);
    cuda_graphs_drop(c);
    gpu_free(c->gpu, c->kv);
    c->own_bytes -= c->kv_bytes;
    c->resized = true;
    return kv_new(c, &c->shape, n_kv_blocks, e);
}

/* Device memory whose size follows from shape and limits alone. */
static int buffers_reserve(struct cuda_backend *c, const struct attn_shape *s, uint32_t n_kv_blocks,
                           struct err *e)
{
    const size_t q_cols = (size_t)s->n_heads * s->head_dim, rows = c->limits.max_rows;
    const size_t counters = gpu_attn_counters(s->n_heads, s->n_kv_heads);
    int rc = 0;
    c->max_parts = max_parts(s);
    rc = kv_new(c, s, n_kv_blocks, e);
    c->q = take(c, rows, q_cols * sizeof(uint16_t), &rc, e);
    c->cos_sin = take(c, rows, s->head_dim * sizeof(float), &rc, e);
    c->partial = take(c, c->max_parts, q_cols * sizeof(float), &rc, e);
    c->partial_max = take(c, c->max_parts, 2 * s->n_heads * sizeof(float), &rc, e);
    c->arrived = take(c, c->limits.max_seqs, counters * sizeof(uint32_t), &rc, e);
    return rc;
}

int cuda_attn_reserve(struct cuda_backend *c, const struct attn_shape *s, uint32_t n_kv_blocks,
                      struct err *e)
{
    int rc = attn_shape_check(s, GPU_MAX_HEAD, "GPU", e);
    if (!rc)
        rc = windows_reserve(c, s, e);
    if (!rc)
        rc = step_reserve(c, s, e);
    if (!rc)
        rc = buffers_reserve(c, s, n_kv_blocks, e);
    if (!rc)
        rc = rope_new(c, s, GPU_ROPE_SPAN, 1, &c->rope_low, e);
    if (!rc)
        rc = rope_new(c, s, s->max_context / GPU_ROPE_SPAN + 1, GPU_ROPE_SPAN, &c->rope_high, e);
    return rc;
}

void cuda_attn_release(struct cuda_backend *c)
{
    void *const device[] = {c->kv,      c->q,       c->rope_low,    c->rope_high,  c->cos_sin,
                            c->partial, c->arrived, c->partial_max, c->step.device};
    for (size_t i = 0; i < ARRAY_LEN(device); i++)
        gpu_free(c->gpu, device[i]);
    gpu_pinned_free(c->gpu, c->step.pinned);
    free(c->windows);
}

/* --- a step --- */

/* Room for n bytes; *out_device is where they will be on the device. */
static void *put(struct cuda_step *st, size_t n, const void **out_device)
{
    const size_t at = (st->used + ALIGN - 1) / ALIGN * ALIGN;
    BUG_ON(at + n > st->bytes);
    st->used = at + n;
    *out_device = st->device + at;
    return st->host + at;
}

static const void *put_copy(struct cuda_step *st, const uint32_t *from, size_t n)
{
    const void *device;
    void *to = put(st, n * sizeof(*from), &device);
    if (n > 0)
        memcpy(to, from, n * sizeof(*from));
    return device;
}

/* In room for max. The rows of a graph that the batch does not have are fed token 0. */
static const uint32_t *put_tokens(struct cuda_step *st, const struct batch *b, uint32_t max)
{
    const void *device;
    uint32_t *to = put(st, max * sizeof(*to), &device);
    for (uint32_t i = 0; i < b->n_rows; i++)
        to[i] = b->tokens[i] | (b->follows ? GPU_SAMPLED : 0);
    for (uint32_t i = b->n_rows; i < st->n_rows; i++)
        to[i] = 0;
    return device;
}

static uint32_t blocks_of(const struct batch_seq *s)
{
    return round_up_div(s->first_pos + s->n_rows, KV_BLOCK_TOKENS);
}

/* The sequences, and their block tables behind what there is already. */
static void put_tables(struct cuda_step *st, const struct batch *b, struct gpu_seq *seqs)
{
    const void *device;
    uint32_t n_blocks = 0;
    for (uint32_t i = 0; i < b->n_seqs; i++) {
        const struct batch_seq *s = &b->seqs[i];
        seqs[i] = (struct gpu_seq){s->first_row, s->n_rows, s->first_pos, n_blocks};
        n_blocks += blocks_of(s);
    }
    uint32_t *tables = put(st, n_blocks * sizeof(*tables), &device);
    st->tables = device;
    for (uint32_t i = 0; i < b->n_seqs; i++)
        memcpy(tables + seqs[i].table, b->seqs[i].block_table,
               blocks_of(&b->seqs[i]) * sizeof(*tables));
}

static void put_seqs(struct cuda_step *st, const struct batch *b)
{
    const void *device;
    struct gpu_seq *seqs = put(st, b->n_seqs * sizeof(*seqs), &device);
    st->seqs = device;
    put_tables(st, b, seqs);
}

static bool is_decode(const struct cuda_backend *c, const struct batch_seq *s)
{
    return s->n_rows == 1 && !c->pinned;
}

/* Items of one sequence. */
static uint32_t n_items(const struct cuda_backend *c, const struct batch_seq *s)
{
    if (is_decode(c, s))
        return s->first_pos / GPU_SPLIT + 1;
    return round_up_div(s->n_rows * (c->shape.n_heads / c->shape.n_kv_heads),
                        gpu_attn_tile(c->shape.head_dim));
}

static uint32_t count_items(const struct cuda_backend *c, const struct batch *b, bool decode)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < b->n_seqs; i++)
        if (is_decode(c, &b->seqs[i]) == decode)
            n += n_items(c, &b->seqs[i]);
    return n;
}

static void fill_items(const struct cuda_backend *c, const struct batch *b, bool decode,
                       struct gpu_attn_item *items)
{
    uint32_t wave = 0, at = 0;
    for (uint32_t i = 0; i < b->n_seqs; i++) {
        if (is_decode(c, &b->seqs[i]) != decode)
            continue;
        const uint32_t parts = n_items(c, &b->seqs[i]);
        if (wave + parts > c->max_parts)
            wave = 0;
        for (uint32_t k = 0; k < parts; k++)
            items[at++] =
                (struct gpu_attn_item){.seq = i, .part = k, .n_parts = parts, .first = wave};
        wave += parts;
    }
}

static uint32_t put_items(struct cuda_backend *c, const struct batch *b, bool decode,
                          const struct gpu_attn_item **out_device,
                          const struct gpu_attn_item **out_host)
{
    const uint32_t n = count_items(c, b, decode);
    const void *device;
    struct gpu_attn_item *items = put(&c->step, n * sizeof(*items), &device);
    fill_items(c, b, decode, items);
    *out_device = device;
    *out_host = items;
    return n;
}

/* Rows, tables and work lists one after the other, each as long as it is. */
static int begin_packed(struct cuda_backend *c, const struct batch *b)
{
    struct cuda_step *st = &c->step;
    const struct gpu_attn_item *host;
    st->tokens = put_tokens(st, b, b->n_rows);
    st->positions = put_copy(st, b->positions, b->n_rows);
    st->slots = put_copy(st, b->slots, b->n_rows);
    st->out_rows = put_copy(st, b->out_rows, b->n_out);
    put_seqs(st, b);
    st->n_prefill = put_items(c, b, false, &st->prefill, &host);
    st->n_decode = put_items(c, b, true, &st->decode, &st->host_decode);
    st->n_now = NULL;
    return gpu_copy_in(c->stream, st->device, st->host, st->used);
}

/* n values of the batch in room for max, the step's other rows with a value that does no harm. */
static const uint32_t *put_rows(struct cuda_step *st, const uint32_t *from, uint32_t n,
                                uint32_t max, uint32_t other)
{
    const void *device;
    uint32_t *to = put(st, max * sizeof(*to), &device);
    memcpy(to, from, n * sizeof(*to));
    for (uint32_t i = n; i < st->n_rows; i++)
        to[i] = other;
    return device;
}

/* The same for a graph: everything at the same place in each step, block tables last. How many items
 * there are is read on the device. */
static void begin_fixed(struct cuda_backend *c, const struct batch *b)
{
    enum { BLOCKS_PER_PROCESSOR = 8 };
    struct cuda_step *st = &c->step;
    const uint32_t max = cuda_graph_rows(c), n = count_items(c, b, true);
    const uint32_t at_once = gpu_describe(c->gpu)->n_processors * BLOCKS_PER_PROCESSOR;
    const void *device;
    uint32_t *n_now = put(st, sizeof(*n_now), &device);
    *n_now = n;
    st->n_now = device;
    st->tokens = put_tokens(st, b, max);
    st->positions = put_rows(st, b->positions, b->n_rows, max, 0);
    st->slots = put_rows(st, b->slots, b->n_rows, max, GPU_NO_SLOT);
    st->out_rows = put_rows(st, b->out_rows, b->n_out, max, 0);
    struct gpu_seq *seqs = put(st, max * sizeof(*seqs), &device);
    st->seqs = device;
    struct gpu_attn_item *items = put(st, c->max_parts * sizeof(*items), &device);
    fill_items(c, b, true, items);
    st->decode = device;
    st->host_decode = items;
    st->n_prefill = 0;
    st->n_decode = (uint32_t)u64_max(st->n_rows, at_once / c->shape.n_kv_heads);
    st->fixed_bytes = (size_t)((const uint8_t *)(items + n) - st->host);
    put_tables(st, b, seqs);
    st->tables_at = (size_t)((const uint8_t *)st->tables - st->device);
}

int cuda_step_send(struct cuda_backend *c)
{
    const struct cuda_step *st = &c->step;
    int rc = gpu_copy_in(c->stream, st->device, st->host, st->fixed_bytes);
    if (!rc)
        rc = gpu_copy_in(c->stream, st->device + st->tables_at, st->host + st->tables_at,
                         st->used - st->tables_at);
    return rc;
}

int cuda_begin(struct backend *be, const struct batch *b)
{
    struct cuda_backend *c = cuda_backend(be);
    struct cuda_step *st = &c->step;
    BUG_ON(!c->reserved || st->batch || b->n_rows == 0 || b->n_rows > c->limits.max_rows ||
           b->n_seqs > c->limits.max_seqs || b->n_out > c->limits.max_out);
    BUG_ON(c->n_posted == STEPS_IN_FLIGHT || (b->follows && b->n_out != b->n_rows));
    st->batch = b;
    st->host = st->pinned + c->slot * st->bytes;
    c->sampler.host = c->sampler.pinned + c->slot * c->sampler.bytes;
    st->used = 0;
    st->n_rows = b->n_rows;
    st->n_out = b->n_out;
    int rc = cuda_graph_begin(c, b, count_items(c, b, true));
    if (rc)
        return rc;
    if (c->graphs.mode == CUDA_EAGER)
        rc = begin_packed(c, b);
    else
        begin_fixed(c, b);
    if (rc || cuda_replays(c))
        return rc;
    const struct gpu_rope_rows rows = {.low = c->rope_low,
                                       .high = c->rope_high,
                                       .positions = st->positions,
                                       .out = c->cos_sin,
                                       .n_rows = st->n_rows,
                                       .head_dim = c->shape.head_dim,
                                       .scale = (double)c->shape.rope_scale};
    return gpu_rope_table(c->stream, &rows);
}

static struct gpu_kv kv_of(const struct cuda_backend *c, uint32_t layer)
{
    return (struct gpu_kv){.data = c->kv,
                           .n_layers = c->shape.n_layers,
                           .layer = layer,
                           .n_heads = c->shape.n_heads,
                           .n_kv_heads = c->shape.n_kv_heads,
                           .head_dim = c->shape.head_dim};
}

int cuda_rope_kv(struct backend *be, uint32_t layer, struct tensor *qkv,
                 const struct weight *q_norm, const struct weight *k_norm, float eps)
{
    struct cuda_backend *c = cuda_backend(be);
    BUG_ON(!q_norm != !k_norm || layer >= c->shape.n_layers);
    BUG_ON(q_norm && (q_norm->cols != c->shape.head_dim || k_norm->cols != c->shape.head_dim));
    BUG_ON(qkv->cols != (c->shape.n_heads + 2 * c->shape.n_kv_heads) * c->shape.head_dim);
    const struct gpu_rope a = {.kv = kv_of(c, layer),
                               .qkv = qkv->data,
                               .cos_sin = c->cos_sin,
                               .slots = c->step.slots,
                               .q_norm = q_norm ? q_norm->vector : NULL,
                               .k_norm = k_norm ? k_norm->vector : NULL,
                               .q = c->q,
                               .n_rows = c->step.n_rows,
                               .eps = eps,
                               .interleaved = c->shape.rope_interleaved};
    return cuda_replays(c) ? 0 : gpu_rope_kv(c->stream, c->flavour, &a);
}

/* A wave ends where the next sequence begins the work space anew. */
static uint32_t wave_end(const struct cuda_step *st, uint32_t first)
{
    uint32_t i = first + 1;
    while (i < st->n_decode &&
           (st->host_decode[i].first != 0 || st->host_decode[i].seq == st->host_decode[first].seq))
        i++;
    return i;
}

int cuda_attention(struct backend *be, uint32_t layer, const struct tensor *qkv, struct tensor *out)
{
    struct cuda_backend *c = cuda_backend(be);
    const struct cuda_step *st = &c->step;
    (void)qkv; /* rope_kv has taken all of it */
    BUG_ON(out->cols != c->shape.n_heads * c->shape.head_dim);
    if (cuda_replays(c))
        return 0;
    struct gpu_attn a = {.kv = kv_of(c, layer),
                         .q = c->q,
                         .out = out->data,
                         .out_stride = gpu_stride(out->cols),
                         .window = c->windows[layer],
                         .seqs = st->seqs,
                         .tables = st->tables,
                         .items = st->prefill,
                         .n_items = st->n_prefill,
                         .partial = c->partial,
                         .partial_max = c->partial_max,
                         .arrived = c->arrived};
    int rc = a.n_items > 0 ? gpu_attn_prefill(c->stream, c->flavour, &a) : 0;
    if (st->n_now) {
        a.items = st->decode;
        a.n_items = st->n_decode;
        a.n_now = st->n_now;
        return gpu_attn_decode(c->stream, c->flavour, &a);
    }
    for (uint32_t first = 0, end; first < st->n_decode && !rc; first = end) {
        end = wave_end(st, first);
        a.items = st->decode + first;
        a.n_items = end - first;
        rc = gpu_attn_decode(c->stream, c->flavour, &a);
    }
    return rc;
}
