/* load.c - from a model's weights in the page cache to a backend that is ready for requests, by the
 * engine's own load: weights, the largest step, the KV cache, recorded decodes. Tokenizer and edge, which
 * a server starts meanwhile, are left out. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/engine/profile.h"
#include "core/util/clock.h"
#include "tests/gpu/device/rig.h"

/* Where the next tensor goes; with no memory, how much there is. */
struct file {
    uint8_t *at;
    size_t used;
};

static struct host_tensor tensor(struct file *f, const char *name, enum dtype t, uint64_t rows,
                                 uint64_t cols)
{
    enum { ALIGN = 64 };
    struct host_tensor h = {.name = name, .dtype = t, .rows = rows, .cols = cols};
    size_t row_bytes = 0;
    if (!dtype_row_bytes(t, cols, &row_bytes))
        exit(2);
    h.data = f->at ? f->at + f->used : NULL;
    f->used += (rows * row_bytes + ALIGN - 1) / ALIGN * ALIGN;
    return h;
}

/* The tensors of a model of that shape, in the order of such files. */
static void lay_out(const struct shape *s, struct file *f, struct model_weights *w)
{
    const uint64_t q = (uint64_t)s->n_heads * s->head_dim, h = s->hidden;
    const uint64_t kv = (uint64_t)s->n_kv_heads * s->head_dim;
    f->used = 0;
    w->embed = tensor(f, "embed", DTYPE_BF16, s->vocab, h);
    for (uint32_t i = 0; i < s->n_layers; i++) {
        struct layer_weights *l = &w->layers[i];
        l->attn_norm = tensor(f, "attn_norm", DTYPE_F32, 1, h);
        l->q = tensor(f, "q", DTYPE_BF16, q, h);
        l->k = tensor(f, "k", DTYPE_BF16, kv, h);
        l->v = tensor(f, "v", DTYPE_BF16, kv, h);
        if (s->qkv_bias) {
            l->q_bias = tensor(f, "q_bias", DTYPE_BF16, 1, q);
            l->k_bias = tensor(f, "k_bias", DTYPE_BF16, 1, kv);
            l->v_bias = tensor(f, "v_bias", DTYPE_BF16, 1, kv);
        }
        if (s->qk_norm) {
            l->q_norm = tensor(f, "q_norm", DTYPE_F32, 1, s->head_dim);
            l->k_norm = tensor(f, "k_norm", DTYPE_F32, 1, s->head_dim);
        }
        l->o = tensor(f, "o", DTYPE_BF16, h, q);
        l->ffn_norm = tensor(f, "ffn_norm", DTYPE_F32, 1, h);
        l->gate = tensor(f, "gate", DTYPE_BF16, s->ffn, h);
        l->up = tensor(f, "up", DTYPE_BF16, s->ffn, h);
        l->down = tensor(f, "down", DTYPE_BF16, h, s->ffn);
    }
    w->final_norm = tensor(f, "final_norm", DTYPE_F32, 1, h);
    w->lm_head = s->tied ? w->embed : tensor(f, "lm_head", DTYPE_BF16, s->vocab, h);
    w->total_bytes = f->used;
}

/* --- the page cache --- */

enum { FILLERS = 16 };
struct filling {
    uint64_t *from, *end;
};

/* Small numbers in BF16 and in F32 alike. */
static void *fill(void *arg)
{
    const struct filling *a = arg;
    for (uint64_t *p = a->from; p < a->end; p++)
        *p = 0x3c003c103c203c00u + ((uint64_t)(p - a->from) * 0x9e3779b97f4a7c15u >> 60 << 48);
    return NULL;
}

/* A file in memory with all its pages, mapped as a model's is. */
static uint8_t *page_cache(size_t bytes)
{
    const int fd = memfd_create("weights", MFD_CLOEXEC);
    pthread_t threads[FILLERS];
    struct filling parts[FILLERS];
    if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0)
        exit(2);
    uint64_t *all = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (all == MAP_FAILED)
        exit(2);
    const size_t words = bytes / sizeof(*all);
    for (size_t i = 0; i < FILLERS; i++) {
        parts[i] = (struct filling){all + words * i / FILLERS, all + words * (i + 1) / FILLERS};
        if (pthread_create(&threads[i], NULL, fill, &parts[i]) != 0)
            exit(2);
    }
    for (size_t i = 0; i < FILLERS; i++)
        (void)pthread_join(threads[i], NULL);
    (void)munmap(all, bytes);
    uint8_t *mapped = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    (void)close(fd);
    if (mapped == MAP_FAILED)
        exit(2);
    return mapped;
}

/* --- the load --- */

static double since(uint64_t *from_us)
{
    const uint64_t now_us = clock_now_us();
    const double seconds = (double)(now_us - *from_us) * 1e-6;
    *from_us = now_us;
    return seconds;
}

struct times {
    double open, weights, largest_step, decodes, ready;
    uint64_t decodes_bytes, total_bytes;
};

/* As core/engine/worker_load.c does it. */
static void load_model(const struct model *m, const struct backend_limits *limits,
                       uint32_t max_context, struct times *t)
{
    const struct cuda_opts o = {.blas = rig_library()};
    struct engine_weights *w = NULL;
    struct forward *f = NULL;
    struct backend *be = NULL;
    struct attn_shape shape;
    struct device_memory before, after;
    struct err e = {0};
    const uint64_t began_us = clock_now_us();
    uint64_t at_us = began_us, whole_us = began_us;
    must(cuda_backend_new(&o, &be, &e), "device", &e);
    t->open = since(&at_us);
    must(engine_weights_new(be, m, NULL, NULL, &w, &e), "weights", &e);
    t->weights = since(&at_us);
    forward_attn_shape(m, max_context, &shape);
    must(be->ops->reserve(be, &shape, limits, 1, &e), "reserve", &e);
    must(forward_new(be, m, w, &shape, limits, &f, &e), "forward", &e);
    must(profile_device(f, &shape, limits, &e), "largest step", &e);
    t->largest_step = since(&at_us);
    must(be->ops->memory(be, &before, &e), "memory", &e);
    const uint64_t blocks = before.free_bytes / 2 / be->ops->kv_block_bytes(be, &shape);
    must(be->ops->kv_resize(be, (uint32_t)blocks, &e), "KV cache", &e);
    must(be->ops->memory(be, &before, &e), "memory", &e);
    must(profile_decodes(f, be, &shape, limits, &e), "decodes", &e);
    must(be->ops->memory(be, &after, &e), "memory", &e);
    must(be->ops->seal(be, &e), "seal", &e);
    t->decodes = since(&at_us);
    t->ready = since(&whole_us);
    t->decodes_bytes = before.free_bytes - after.free_bytes;
    t->total_bytes = after.total_bytes;
    forward_free(f);
    engine_weights_unref(w);
    be->ops->free(be);
}

int load(bool tiny)
{
    const struct shape *list;
    (void)shapes(tiny, &list);
    const struct shape *s = &list[tiny ? 0 : 1]; /* Qwen2.5-7B */
    const struct backend_limits limits = {
        .max_rows = tiny ? 80 : 2048, .max_seqs = tiny ? 3 : 256, .max_out = tiny ? 3 : 256};
    const uint32_t max_context = tiny ? 64 : 8192;
    struct model m = {.path = (char *)(uintptr_t)s->name};
    struct times t = {0};
    struct file f = {0};
    (void)rig_library(); /* a server opens it while the weights are read */
    rig_model(&m, s, max_context);
    m.weights.layers = calloc(s->n_layers, sizeof(*m.weights.layers));
    if (!m.weights.layers)
        exit(2);
    lay_out(s, &f, &m.weights);
    const size_t bytes = f.used;
    f.at = page_cache(bytes);
    lay_out(s, &f, &m.weights);
    load_model(&m, &limits, max_context, &t);
    printf("{\"model\": \"%s\", \"bytes\": %zu, \"open_s\": %.4g, \"weights_s\": %.4g, "
           "\"weights_gb_per_s\": %.4g, \"largest_step_s\": %.4g, \"decodes_s\": %.4g, "
           "\"decodes_bytes\": %llu, \"device_bytes\": %llu, \"ready_s\": %.4g, \"ok\": true}\n",
           s->name, bytes, t.open, t.weights, (double)bytes / t.weights * 1e-9, t.largest_step,
           t.decodes, (unsigned long long)t.decodes_bytes, (unsigned long long)t.total_bytes,
           t.ready);
    (void)munmap(f.at, bytes);
    free(m.weights.layers);
    free(m.inv_freq);
    return 0;
}
