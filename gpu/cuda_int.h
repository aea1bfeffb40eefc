/* cuda_int.h - the CUDA backend's own structures, shared by its files (cuda_*.c). */
#pragma once
#include "core/backend/backend.h"
#include "gpu/cuda.h"
#include "gpu/kernels.h"
#include "gpu/loader.h"
#include "gpu/runtime.h"

struct weight {
    struct gpu *gpu;
    enum weight_role role;
    uint32_t rows, cols; /* of the product; gate and up count once */
    void *data;          /* elements [rows padded to GPU_ROWS][gpu_stride(cols)] */
    float *vector;       /* WEIGHT_VECTOR: [cols], instead of data */
    float *bias;         /* [rows], or NULL */
    size_t bytes;
};

/* What a step needs to be told, in pinned memory; copied to the device in one piece. */
struct cuda_step {
    uint8_t *pinned;        /* [STEPS_IN_FLIGHT][bytes] */
    uint8_t *host, *device; /* [bytes]; the host's: this step's of the pinned */
    size_t bytes, used;
    size_t fixed_bytes, tables_at; /* of a step that is a graph: what is copied, in two pieces */
    const struct batch *batch;     /* NULL: between steps */
    uint32_t n_rows, n_out;        /* that the operations compute: the batch's, or a graph's */
    /* On the device. */
    const uint32_t *tokens, *positions, *slots, *out_rows, *tables;
    const struct gpu_seq *seqs;
    const struct gpu_attn_item *prefill, *decode;
    uint32_t n_prefill, n_decode;
    const uint32_t *n_now; /* on the device: n_decode of a step that is a graph, else NULL */
    const struct gpu_attn_item *host_decode; /* the same items, to be cut into waves */
};

/* Whose tokens a step samples: the caller's arrays. */
struct cuda_sampled {
    const struct sample_row *rows; /* [n_rows]; NULL: nothing is begun */
    uint32_t n_rows;
    uint32_t *out_ids;
};

/* Memory of the operation `sample`, and what it has begun. */
struct cuda_sampler {
    uint32_t vocab, rows_max;
    size_t bytes;
    uint8_t *pinned;        /* [STEPS_IN_FLIGHT][bytes] rows, lists and masks */
    uint8_t *host, *device; /* [bytes]; the host's: this step's of the pinned */
    float *raw_bias, *raw_seen, *block_max, *block_sum;
    uint32_t *ids; /* [STEPS_IN_FLIGHT][rows_max], pinned: kernels write this ring */
    uint32_t
        *sampled; /* [rows_max] on the device: those of the last step, which the next may be fed */
    struct sample_logprobs *logprobs;      /* [rows_max] */
    struct sample_logprobs *host_logprobs; /* [STEPS_IN_FLIGHT][rows_max], pinned */
    struct cuda_sampled now;               /* of the step under construction */
};

/* Recorded steps of decodes, see cuda_graph.c. */
enum cuda_mode { CUDA_EAGER, CUDA_RECORD, CUDA_REPLAY };
enum { CUDA_GRAPHS = 13 };
struct cuda_graphs {
    bool on;
    enum cuda_mode mode; /* of this step */
    bool launched;       /* this step's graph */
    uint32_t index;      /* of the step's size */
    struct gpu_graph *of[CUDA_GRAPHS];
};

enum { CUDA_TENSORS_MAX = 32 };

struct cuda_backend {
    struct backend base;
    struct backend_ops ops; /* base's: as cuda_opts wants them */
    struct gpu *gpu;
    struct gpu_stream *stream;
    enum gpu_flavour flavour;
    bool pinned;
    uint64_t timeout_us;
    const struct blas_library *library; /* NULL: our kernels alone */
    uint32_t widest_pairs; /* of the gate_up weights: rows of one, as gpu_pairs_stride() */
    struct gpu_linear_split split;
    struct blas *blas; /* of reserve; NULL: none */
    bool resized;      /* the KV cache has its size */
    void *blas_memory;
    struct gpu_loader *loader; /* NULL: no weight yet, or none any more */
    uint8_t *staging;          /* pinned, small things on their way */
    uint64_t own_bytes;        /* of device memory */
    bool sealed;               /* nothing is allocated any more */

    /* set by reserve */
    bool reserved;
    struct attn_shape shape; /* without its arrays */
    struct backend_limits limits;
    uint32_t *windows; /* [n_layers] */
    void *kv;
    size_t kv_bytes;
    void *q;                      /* elements [max_rows][n_heads head_dim] */
    double *rope_low, *rope_high; /* see gpu_rope_rows */
    float *cos_sin;               /* [max_rows][head_dim] */
    uint32_t max_parts;           /* of one wave of decodes */
    float *partial, *partial_max; /* see gpu_attn */
    uint32_t *arrived;
    struct cuda_step step;
    struct cuda_sampler sampler;
    struct cuda_graphs graphs;
    /* Steps that were posted, a ring of n_posted; `slot` is the next one's place. */
    struct cuda_posted {
        struct gpu_event *done;
        struct cuda_sampled sampled;
    } posted[STEPS_IN_FLIGHT];
    uint32_t slot, n_posted;

    /* set by tensor_new and logits_to_host */
    void *tensors[CUDA_TENSORS_MAX];
    uint32_t n_tensors;
    float *host_logits; /* pinned */
    const float *device_logits;
    uint32_t vocab;

    const struct weight *looked_up; /* the embedding whose rows the next rms_norm takes */
};

enum { CUDA_STAGING_BYTES = 4 << 20 };

static inline struct cuda_backend *cuda_backend(struct backend *be)
{
    return (struct cuda_backend *)be;
}

/* True while a graph holds the operations of the step. */
static inline bool cuda_replays(const struct cuda_backend *c)
{
    return c->graphs.mode == CUDA_REPLAY;
}

/* Device memory, counted; the other way to it, gpu_alloc, is not for the backend. */
MUST_CHECK int cuda_alloc(struct cuda_backend *c, size_t bytes, void **out, struct err *e);

/* cuda_weight.c */
int cuda_weight_new(struct backend *be, enum weight_role role, const struct host_tensor *parts,
                    uint32_t n_parts, const struct host_tensor *biases, struct weight **out,
                    struct err *e);
void cuda_weight_free(struct weight *w);
size_t cuda_weight_bytes(const struct weight *w);
/* Copies n bytes to the device, through the staging memory, and waits. */
MUST_CHECK int cuda_upload(struct cuda_backend *c, void *device, const void *from, size_t n,
                           struct err *e);

/* cuda_attn.c: KV cache, rotary tables, the work lists of attention. */
MUST_CHECK int cuda_attn_reserve(struct cuda_backend *c, const struct attn_shape *s,
                                 uint32_t n_kv_blocks, struct err *e);
void cuda_attn_release(struct cuda_backend *c);
int cuda_kv_resize(struct backend *be, uint32_t n_kv_blocks, struct err *e);
int cuda_begin(struct backend *be, const struct batch *b);
int cuda_rope_kv(struct backend *be, uint32_t layer, struct tensor *qkv,
                 const struct weight *q_norm, const struct weight *k_norm, float eps);
int cuda_attention(struct backend *be, uint32_t layer, const struct tensor *qkv,
                   struct tensor *out);

/* cuda_sample.c */
int cuda_sample_reserve(struct backend *be, const struct tensor *logits, struct err *e);
void cuda_sample_release(struct cuda_backend *c);
int cuda_sample(struct backend *be, const struct tensor *logits, const struct sample_row *rows,
                uint32_t n, uint32_t *out_ids);
/* The step of that slot has run: gives the caller what cuda_sample() promised. */
void cuda_sample_collect(struct cuda_backend *c, uint32_t slot);

/* cuda_attn.c: the step's data to the device, where begin() has not sent it. */
int cuda_step_send(struct cuda_backend *c);

/* cuda_graph.c */
uint32_t cuda_graph_rows(const struct cuda_backend *c); /* the most that a graph can have */
uint32_t cuda_decode_size(struct backend *be, uint32_t n_rows);
/* Chooses the mode of a step whose decodes have n_parts parts; begins to record. */
int cuda_graph_begin(struct cuda_backend *c, const struct batch *b, uint32_t n_parts);
/* Everything but copies has been issued. */
int cuda_graph_end(struct cuda_backend *c);
int cuda_graph_run(struct cuda_backend *c);
/* Between steps, before memory moves that graphs hold. */
void cuda_graphs_drop(struct cuda_backend *c);
