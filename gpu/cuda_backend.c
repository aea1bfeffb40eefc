/* cuda_backend.c - set-up of the CUDA backend, its row-wise operations and products, the vtable.
 *
 * Tensors  the caller's buffers are [max_rows][cols] floats for what is summed in F32 (x, qkv, delta,
 *   logits) and hold elements, [max_rows][gpu_stride(cols)], for what is the input of a product: the
 *   output of rms_norm, attention and gate_up. Which it is follows from the operation.
 * embed()  only notes the table: the rms_norm that follows looks up and normalizes in one pass. */
#include <stdio.h>
#include <stdlib.h>

#include "gpu/cuda_int.h"

static const uint64_t DEFAULT_TIMEOUT_US = 30ull * 1000000u;

enum { SPLIT_BLOCKS_PER_PROCESSOR = 2 };

int cuda_alloc(struct cuda_backend *c, size_t bytes, void **out, struct err *e)
{
    BUG_ON(c->sealed);
    int rc = gpu_alloc(c->gpu, bytes, out, e);
    if (!rc)
        c->own_bytes += bytes;
    return rc;
}

static int memory(struct backend *be, struct device_memory *out, struct err *e)
{
    struct cuda_backend *c = cuda_backend(be);
    uint64_t left = 0;
    int rc = gpu_memory_left(c->gpu, &left, e);
    if (rc)
        return rc;
    *out = (struct device_memory){.total_bytes = gpu_describe(c->gpu)->memory_bytes,
                                  .free_bytes = left,
                                  .own_bytes = c->own_bytes};
    return 0;
}

static int seal(struct backend *be, struct err *e)
{
    struct cuda_backend *c = cuda_backend(be);
    (void)e;
    gpu_loader_free(c->loader);
    c->loader = NULL;
    gpu_pinned_free(c->gpu, c->staging);
    c->staging = NULL;
    c->sealed = true;
    return 0;
}

static size_t kv_block_bytes(struct backend *be, const struct attn_shape *s)
{
    (void)be;
    return (size_t)2 * KV_BLOCK_TOKENS * s->n_layers * s->n_kv_heads * s->head_dim *
           sizeof(uint16_t);
}

/* With its memory: the work space, then room for gate and up. */
static int open_blas(struct cuda_backend *c, struct err *e)
{
    const uint32_t rows = (uint32_t)u64_min(c->limits.max_rows, BLAS_PAIRS_ROWS);
    const size_t pairs_bytes = (size_t)rows * c->widest_pairs * sizeof(uint16_t);
    int rc = cuda_alloc(c, BLAS_WORKSPACE_BYTES + pairs_bytes, &c->blas_memory, e);
    if (rc) {
        err_prefix(e, "work space of cuBLASLt: ");
        return rc;
    }
    const struct blas_opts o = {
        .library = c->library,
        .stream = c->stream,
        .flavour = c->flavour,
        .timeout_us = c->timeout_us,
        .workspace = c->blas_memory,
        .workspace_bytes = BLAS_WORKSPACE_BYTES,
        .pairs = pairs_bytes > 0 ? (uint8_t *)c->blas_memory + BLAS_WORKSPACE_BYTES : NULL,
        .pairs_rows = rows};
    return blas_new(&o, &c->blas, e);
}

/* Parts, then counters, which begin at zero. */
static int open_split(struct cuda_backend *c, struct err *e)
{
    const uint32_t n = gpu_describe(c->gpu)->n_processors * SPLIT_BLOCKS_PER_PROCESSOR;
    const size_t parts_bytes = (size_t)2 * n * GPU_SPLIT_ROWS * GPU_SKINNY * sizeof(float);
    const size_t arrived_bytes = (size_t)2 * n * sizeof(uint32_t);
    void *p;
    int rc = cuda_alloc(c, parts_bytes + arrived_bytes, &p, e);
    if (rc) {
        err_prefix(e, "work space of products: ");
        return rc;
    }
    c->split = (struct gpu_linear_split){
        .parts = p, .arrived = (uint32_t *)((uint8_t *)p + parts_bytes), .n_blocks = n};
    rc = gpu_zero(c->stream, c->split.arrived, arrived_bytes);
    return rc ? err_set(e, LLMD_EPOISONED, "%s", gpu_fault(c->gpu)) : 0;
}

static int reserve(struct backend *be, const struct attn_shape *shape,
                   const struct backend_limits *limits, uint32_t n_kv_blocks, struct err *e)
{
    struct cuda_backend *c = cuda_backend(be);
    BUG_ON(c->reserved || !shape->inv_freq);
    c->shape = *shape;
    c->shape.inv_freq = NULL;
    c->shape.windows = NULL;
    c->limits = *limits;
    int rc = cuda_attn_reserve(c, shape, n_kv_blocks, e);
    if (!rc && !c->pinned)
        rc = open_split(c, e);
    if (!rc && c->library && limits->max_rows > GPU_SKINNY)
        rc = open_blas(c, e);
    c->reserved = rc == 0;
    return rc;
}

static int tensor_new(struct backend *be, uint32_t max_rows, uint32_t cols, struct tensor *out,
                      struct err *e)
{
    struct cuda_backend *c = cuda_backend(be);
    const size_t as_elements = gpu_stride(cols) * sizeof(uint16_t);
    const size_t row_bytes = (size_t)u64_max(cols * sizeof(float), as_elements);
    void *p;
    BUG_ON(c->n_tensors == CUDA_TENSORS_MAX);
    if (max_rows == 0 || cols == 0)
        return err_set(e, LLMD_EINVAL, "a buffer of %u x %u is empty", max_rows, cols);
    int rc = cuda_alloc(c, max_rows * row_bytes, &p, e);
    if (rc) {
        err_prefix(e, "an activation buffer of %u x %u: ", max_rows, cols);
        return rc;
    }
    c->tensors[c->n_tensors++] = p;
    *out = (struct tensor){.data = p, .max_rows = max_rows, .cols = cols};
    return 0;
}

static int logits_to_host(struct backend *be, const struct tensor *logits, const float **out,
                          struct err *e)
{
    struct cuda_backend *c = cuda_backend(be);
    void *p;
    BUG_ON(c->host_logits);
    int rc =
        gpu_pinned_alloc(c->gpu, (size_t)logits->max_rows * logits->cols * sizeof(float), &p, e);
    if (rc)
        return rc;
    c->host_logits = p;
    c->device_logits = logits->data;
    c->vocab = logits->cols;
    *out = c->host_logits;
    return 0;
}

/* --- a step --- */

static int embed(struct backend *be, const struct weight *w, struct tensor *x)
{
    struct cuda_backend *c = cuda_backend(be);
    BUG_ON(w->role != WEIGHT_EMBED || x->cols != w->cols);
    const struct batch *b = c->step.batch;
    for (uint32_t i = 0; i < b->n_rows; i++)
        BUG_ON(b->tokens[i] >= (b->follows ? c->sampler.rows_max : w->rows));
    c->looked_up = cuda_replays(c) ? NULL : w;
    return 0;
}

static int rms_norm(struct backend *be, struct tensor *x, const struct tensor *residual,
                    const struct weight *w, float eps, struct tensor *out)
{
    struct cuda_backend *c = cuda_backend(be);
    BUG_ON(!w->vector || w->cols != x->cols || out->cols != x->cols || (c->looked_up && residual));
    const struct gpu_norm a = {.x = x->data,
                               .residual = residual ? residual->data : NULL,
                               .table = c->looked_up ? c->looked_up->data : NULL,
                               .tokens = c->step.tokens,
                               .sampled = c->sampler.sampled,
                               .w = w->vector,
                               .out = out->data,
                               .out_stride = gpu_stride(out->cols),
                               .n_rows = c->step.n_rows,
                               .cols = x->cols,
                               .padded = gpu_stride(x->cols),
                               .eps = eps};
    c->looked_up = NULL;
    return cuda_replays(c) ? 0 : gpu_rms_norm(c->stream, c->flavour, &a);
}

static int product(struct cuda_backend *c, const void *in, uint32_t in_stride, uint32_t n_rows,
                   const struct weight *w, struct tensor *out)
{
    const bool gate_up = w->role == WEIGHT_GATE_UP;
    const struct gpu_linear a = {.in = in,
                                 .in_stride = in_stride,
                                 .w = w->data,
                                 .bias = w->bias,
                                 .out = out->data,
                                 .out_stride = gate_up ? gpu_stride(out->cols) : out->cols,
                                 .n_rows = n_rows,
                                 .n_out = w->rows,
                                 .k = gpu_stride(w->cols),
                                 .gate_up = gate_up,
                                 .split = c->split};
    BUG_ON(!w->data || out->cols != w->rows);
    if (cuda_replays(c))
        return 0;
    if (!c->blas || n_rows <= GPU_SKINNY)
        return gpu_linear_rows(c->stream, c->flavour, c->pinned, &a);
    /* The largest steps come before requests do, and before steps are recorded. */
    int rc = c->sealed || c->graphs.mode != CUDA_EAGER ? 0 : blas_measure(c->blas, &a);
    return rc ? rc : blas_linear_rows(c->blas, &a);
}

static int linear(struct backend *be, const struct tensor *in, const struct weight *w,
                  struct tensor *out)
{
    struct cuda_backend *c = cuda_backend(be);
    BUG_ON(in->cols != w->cols || c->looked_up);
    return product(c, in->data, gpu_stride(in->cols), c->step.n_rows, w, out);
}

static int gather(struct backend *be, const struct tensor *in, struct tensor *out)
{
    struct cuda_backend *c = cuda_backend(be);
    const struct gpu_gather a = {.in = in->data,
                                 .rows = c->step.out_rows,
                                 .out = out->data,
                                 .n = c->step.n_out,
                                 .cols = in->cols};
    return a.n > 0 && !cuda_replays(c) ? gpu_gather_rows(c->stream, &a) : 0;
}

/* The gathered rows are normalized in place: their elements take the first half of each row. */
static int head(struct backend *be, struct tensor *x, const struct weight *norm, float eps,
                const struct weight *lm_head, struct tensor *logits)
{
    struct cuda_backend *c = cuda_backend(be);
    const struct gpu_norm a = {.x = x->data,
                               .w = norm->vector,
                               .out = x->data,
                               .out_stride = 2 * x->cols,
                               .n_rows = c->step.n_out,
                               .cols = x->cols,
                               .padded = gpu_stride(x->cols),
                               .eps = eps};
    BUG_ON(x->cols != lm_head->cols || norm->cols != x->cols);
    if (a.n_rows == 0 || cuda_replays(c))
        return 0;
    int rc = gpu_rms_norm(c->stream, c->flavour, &a);
    if (!rc)
        rc = product(c, x->data, 2 * x->cols, a.n_rows, lm_head, logits);
    return rc;
}

static int post(struct backend *be)
{
    struct cuda_backend *c = cuda_backend(be);
    struct cuda_posted *p = &c->posted[c->slot];
    BUG_ON(c->graphs.mode != CUDA_EAGER && !c->graphs.launched); /* sample() was left out */
    p->sampled = c->sampler.now;
    c->sampler.now = (struct cuda_sampled){0};
    c->step.batch = NULL;
    c->looked_up = NULL;
    c->slot = (c->slot + 1) % STEPS_IN_FLIGHT;
    c->n_posted++;
    return gpu_event_record(p->done, c->stream);
}

static int collect(struct backend *be)
{
    struct cuda_backend *c = cuda_backend(be);
    BUG_ON(c->n_posted == 0);
    const uint32_t slot = (c->slot + STEPS_IN_FLIGHT - c->n_posted) % STEPS_IN_FLIGHT;
    const int rc = gpu_event_wait(c->posted[slot].done, c->timeout_us, NULL);
    if (!rc)
        cuda_sample_collect(c, slot);
    c->n_posted--;
    return rc;
}

static int finish(struct backend *be)
{
    struct cuda_backend *c = cuda_backend(be);
    const size_t bytes = (size_t)c->step.batch->n_out * c->vocab * sizeof(float);
    int rc = 0;
    BUG_ON(c->n_posted > 0);
    if (bytes > 0 && c->host_logits)
        rc = gpu_copy_out(c->stream, c->host_logits, c->device_logits, bytes);
    if (!rc)
        rc = post(be);
    return rc ? rc : collect(be);
}

/* --- life --- */

static void backend_free(struct backend *be)
{
    struct cuda_backend *c = cuda_backend(be);
    if (c->gpu) {
        for (size_t i = 0; i < ARRAY_LEN(c->posted); i++)
            gpu_event_free(c->posted[i].done);
        gpu_stream_free(c->stream);
        cuda_graphs_drop(c);
        blas_free(c->blas);
        gpu_free(c->gpu, c->blas_memory);
        gpu_free(c->gpu, c->split.parts);
        cuda_attn_release(c);
        cuda_sample_release(c);
        for (uint32_t i = 0; i < c->n_tensors; i++)
            gpu_free(c->gpu, c->tensors[i]);
        gpu_pinned_free(c->gpu, c->host_logits);
        gpu_loader_free(c->loader);
        gpu_pinned_free(c->gpu, c->staging);
        gpu_close(c->gpu);
    }
    free(c);
}

static const struct backend_ops cuda_ops = {
    .kind = "cuda",
    .free = backend_free,
    .weight_new = cuda_weight_new,
    .weight_free = cuda_weight_free,
    .weight_bytes = cuda_weight_bytes,
    .kv_block_bytes = kv_block_bytes,
    .reserve = reserve,
    .memory = memory,
    .kv_resize = cuda_kv_resize,
    .seal = seal,
    .tensor_new = tensor_new,
    .logits_to_host = logits_to_host,
    .decode_size = cuda_decode_size,
    .begin = cuda_begin,
    .embed = embed,
    .rms_norm = rms_norm,
    .linear = linear,
    .gate_up = linear, /* the weight's role makes the difference */
    .rope_kv = cuda_rope_kv,
    .attention = cuda_attention,
    .gather = gather,
    .head = head,
    .sample_reserve = cuda_sample_reserve,
    .sample = cuda_sample,
    .sample_reads_how = true,
    .finish = finish,
    .post = post,
    .collect = collect,
    .fault = cuda_backend_fault,
};

static int open_device(struct cuda_backend *c, const struct cuda_opts *o, struct err *e)
{
    void *staging;
    int rc = gpu_open(o->device, &c->gpu, e);
    if (!rc)
        rc = gpu_stream_new(c->gpu, &c->stream, e);
    for (size_t i = 0; i < ARRAY_LEN(c->posted) && !rc; i++)
        rc = gpu_event_new(c->gpu, &c->posted[i].done, e);
    if (!rc)
        rc = gpu_pinned_alloc(c->gpu, CUDA_STAGING_BYTES, &staging, e);
    if (rc)
        return rc;
    c->staging = staging;
    gpu_stream_chain(c->stream, !o->no_chains);
    const uint32_t own = gpu_describe(c->gpu)->capability;
    const uint32_t capability = o->force_capability ? o->force_capability : own;
    if (capability > own)
        return err_set(e, LLMD_EINVAL, "a GPU of capability %u.%u cannot be told to be %u.%u",
                       own / 10, own % 10, capability / 10, capability % 10);
    c->flavour = capability < 80 ? GPU_FLAVOUR_SM75 : GPU_FLAVOUR_SM80;
    return 0;
}

int cuda_backend_new(const struct cuda_opts *o, struct backend **out, struct err *e)
{
    struct cuda_backend *c = calloc(1, sizeof(*c));
    if (!c)
        return err_set(e, LLMD_ENOMEM, "cannot allocate the CUDA backend");
    c->ops = cuda_ops;
    c->base.ops = &c->ops;
    if (o->host_logits)
        c->ops.sample = NULL;
    else
        c->ops.logits_to_host = NULL;
    if (o->host_logits || o->no_overlap) {
        c->ops.post = NULL;
        c->ops.collect = NULL;
    }
    c->pinned = o->pin_kernels;
    c->library = o->pin_kernels ? NULL : o->blas;
    c->graphs.on = !o->no_graphs;
    c->timeout_us = o->step_timeout_us ? o->step_timeout_us : DEFAULT_TIMEOUT_US;
    int rc = open_device(c, o, e);
    if (rc) {
        backend_free(&c->base);
        return rc;
    }
    *out = &c->base;
    return 0;
}

int cuda_count(uint32_t *out, struct err *e)
{
    return gpu_count(out, e);
}

int cuda_pci(uint32_t device, char *out, size_t size, struct err *e)
{
    char pci[GPU_PCI_SIZE];
    int rc = gpu_pci(device, pci, e);
    if (!rc)
        snprintf(out, size, "%s", pci);
    return rc;
}

const char *cuda_backend_fault(const struct backend *be)
{
    return gpu_fault(((const struct cuda_backend *)be)->gpu);
}
