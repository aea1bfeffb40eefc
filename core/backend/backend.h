/* backend.h - the operations that a device performs for the layer loop (core/engine/forward.c).
 *
 * A backend belongs to one worker. Its operations are called in program order from that worker's
 * thread; they may run later (a device stream), but finish() returns only when everything issued
 * before is done, and collect() when that of its step is. All memory is taken during set-up: a step
 * allocates nothing.
 *
 * Determinism (cpu): the reduction over K of every output element runs in one fixed order that
 * does not depend on batch, chunk, thread count or instruction set. A token's result is the same
 * whatever else is in the batch.
 *
 * Shapes  activations are row-major F32 to the caller: struct tensor {rows used, cols}.
 *         H hidden, Q n_heads * head_dim, KV n_kv_heads * head_dim, F ffn, V vocabulary.
 * Errors  a step operation returns 0 or -LLMD_EGPU / -LLMD_EINTERNAL: the worker is then dead.
 *         -LLMD_EPOISONED: as that, and no other worker of this process can use the device either
 *         (every fault of a GPU; cpu and sim never say so).
 * Thread  confined to the worker's thread, except weight objects, which are immutable once made
 *         and may be used by several backends of the same kind at a time. */
#pragma once
#include "core/backend/batch.h"
#include "core/backend/sample.h"
#include "core/util/base.h"
#include "core/util/err.h"
#include "core/util/tensor.h"

struct backend;
struct weight; /* a matrix or vector in the layout that the backend's kernels want */

/* An activation buffer on the device. */
struct tensor {
    float *data; /* [max_rows][cols]; host memory for cpu, device memory for cuda */
    uint32_t max_rows, cols;
};

enum weight_role {
    WEIGHT_LINEAR,  /* parts' rows one after the other: Q, K, V share one product */
    WEIGHT_GATE_UP, /* parts[0] gate, parts[1] up, same shape; interleaved as op gate_up wants */
    WEIGHT_EMBED,   /* row look-up; also usable as linear (a tied lm_head) */
    WEIGHT_VECTOR,  /* [1][cols], kept in F32 */
};

enum compute_type {
    COMPUTE_AUTO, /* the device's fastest for the weights' type (cpu: int8 products) */
    COMPUTE_F32,  /* weights dequantized, F32 products and F32 KV: the reference */
};

/* What the attention and KV cache of a model look like; fixed at set-up. The arrays are read by
 * reserve() alone. */
struct attn_shape {
    uint32_t n_layers, n_heads, n_kv_heads, head_dim;
    uint32_t max_context;    /* tokens of one sequence */
    const double *inv_freq;  /* [head_dim / 2] radians per position of each rotated pair */
    float rope_scale;        /* factor of cos and sin */
    bool rope_interleaved;   /* else rotate-half (element i with i + head_dim/2) */
    const uint32_t *windows; /* [n_layers] positions that a row sees, its own included: those above
                              * its own less the window; 0: all. NULL: every layer sees all */
};

/* EUNSUPPORTED: a shape that the device's kernels do not take. device: its word in the message. */
MUST_CHECK int attn_shape_check(const struct attn_shape *s, uint32_t max_head_dim,
                                const char *device, struct err *e);

/* What a device has, when its memory is its own. */
struct device_memory {
    uint64_t total_bytes;
    uint64_t free_bytes; /* now, for everybody */
    uint64_t own_bytes;  /* that the backend holds, the KV cache included */
};

struct backend_limits {
    uint32_t max_rows; /* rows of one step */
    uint32_t max_seqs;
    uint32_t max_out; /* rows of logits of one step */
};

/* One row to sample on the device (optional operation). */
struct sample_row {
    uint32_t row;                     /* index into the step's logits rows */
    uint64_t tag;                     /* batch_seq.tag */
    uint32_t position;                /* of the token to be produced */
    struct sample_how how;            /* only where ops->sample_reads_how */
    struct sample_logprobs *logprobs; /* NULL: not wanted; only where ops->sample_reads_how */
};

struct backend_ops {
    const char *kind; /* "cpu", "sim", "cuda" */
    void (*free)(struct backend *be);

    /* --- set-up --- */
    /* Copies and repacks; the parts may be unmapped afterwards. Thread-parallel inside.
     * biases: NULL, or [n_parts] vectors with an element for each row of their part, data NULL
     * where a part has none. Only WEIGHT_LINEAR may have them. */
    int (*weight_new)(struct backend *be, enum weight_role role, const struct host_tensor *parts,
                      uint32_t n_parts, const struct host_tensor *biases, struct weight **out,
                      struct err *e);
    void (*weight_free)(struct weight *w); /* NULL is fine */
    size_t (*weight_bytes)(const struct weight *w);
    /* Bytes of one KV block of KV_BLOCK_TOKENS tokens over all layers. */
    size_t (*kv_block_bytes)(struct backend *be, const struct attn_shape *shape);
    /* Reserves the KV cache and the work space of the largest step. Once. */
    int (*reserve)(struct backend *be, const struct attn_shape *shape,
                   const struct backend_limits *limits, uint32_t n_kv_blocks, struct err *e);
    /* Optional, both or none: a device whose memory is planned as a whole. kv_resize gives the cache
     * another number of blocks and forgets what they held; after reserve(), between steps. */
    int (*memory)(struct backend *be, struct device_memory *out, struct err *e);
    int (*kv_resize)(struct backend *be, uint32_t n_kv_blocks, struct err *e);
    /* Optional: set-up ends here. From now on nothing is allocated. */
    int (*seal)(struct backend *be, struct err *e);
    /* An activation buffer of limits.max_rows (or max_out, for the logits path) rows; lives as
     * long as the backend. */
    int (*tensor_new)(struct backend *be, uint32_t max_rows, uint32_t cols, struct tensor *out,
                      struct err *e);

    /* Optional (NULL: logits->data is the host's own memory): the host memory that finish() fills
     * with the step's rows of these logits. Once, after tensor_new; not where there is `sample`. */
    int (*logits_to_host)(struct backend *be, const struct tensor *logits, const float **out,
                          struct err *e);

    /* Optional: steps of decodes alone are prepared (recorded) for some numbers of rows, each when it
     * is first run; kv_resize() undoes it. The number with which n decodes run, at least n; 0:
     * unprepared, and so are more than n. */
    uint32_t (*decode_size)(struct backend *be, uint32_t n);
    /* Optional: takes the memory of `sample` for these logits. Once, after tensor_new. */
    int (*sample_reserve)(struct backend *be, const struct tensor *logits, struct err *e);

    /* --- one step: begin, any of the operations, finish --- */
    int (*begin)(struct backend *be, const struct batch *b);
    /* x[r] = embed[tokens[r]]                                           x: [n_rows][H]
     * The rms_norm of x follows, with no residual (cuda does both at once). */
    int (*embed)(struct backend *be, const struct weight *embed, struct tensor *x);
    /* x[r] += residual[r] (when given); out[r] = x[r] / rms(x[r]) * w    all: [n_rows][H] */
    int (*rms_norm)(struct backend *be, struct tensor *x, const struct tensor *residual,
                    const struct weight *w, float eps, struct tensor *out);
    /* out[r] = W in[r] (+ bias, once, after the sum)  in: [n_rows][K], out: [n_rows][N] */
    int (*linear)(struct backend *be, const struct tensor *in, const struct weight *w,
                  struct tensor *out);
    /* out[r] = silu(gate in[r]) * (up in[r])          in: [n_rows][H], out: [n_rows][F] */
    int (*gate_up)(struct backend *be, const struct tensor *in, const struct weight *w,
                   struct tensor *out);
    /* Rotates q and k of qkv: [n_rows][Q + 2 KV], writes k and v to the slots; attention() alone may
     * read qkv afterwards. With
     * q_norm and k_norm [1][head_dim] (both or none), each head is divided by its rms and
     * multiplied by them first; eps belongs to that. */
    int (*rope_kv)(struct backend *be, uint32_t layer, struct tensor *qkv,
                   const struct weight *q_norm, const struct weight *k_norm, float eps);
    /* out: [n_rows][Q]; softmax(q k / sqrt(head_dim)) v over the sequence's KV blocks, as far as
     * the layer's window lets a row see. */
    int (*attention)(struct backend *be, uint32_t layer, const struct tensor *qkv,
                     struct tensor *out);
    /* out[i] = in[out_rows[i]]                        in: [n_rows][H], out: [n_out][H] */
    int (*gather)(struct backend *be, const struct tensor *in, struct tensor *out);
    /* As rms_norm and linear, over the n_out gathered rows; logits: [n_out][V]. */
    int (*head)(struct backend *be, struct tensor *x, const struct weight *norm, float eps,
                const struct weight *lm_head, struct tensor *logits);
    /* Optional (NULL: the engine samples on the host from the logits): one id per row, after head().
     * The ids, and logprobs where a row wants them, are there when finish() or collect() has returned.
     * In a step that follows, a row's penalties count the token that it is fed, too. */
    int (*sample)(struct backend *be, const struct tensor *logits, const struct sample_row *rows,
                  uint32_t n, uint32_t *out_ids);
    bool
        sample_reads_how; /* else the engine need not fill it in (sim's tokens follow from the tag) */
    /* Waits for the step. Afterwards the logits may be read on the host (see logits_to_host). */
    int (*finish)(struct backend *be);
    /* Optional, both or none, beside `sample`: a step that is not waited for. post() stands in place of
     * finish(), and returns at once; the next step may begin, also one whose tokens this one samples
     * (batch.follows). Steps run in the order in which they were posted. collect() waits for the oldest
     * of them, which no call of the driver ever does: it polls, and a step that takes too long is a
     * fault. No step ends with finish() while others are posted, and nothing is freed, unless there was
     * an error: then none is collected any more. */
    int (*post)(struct backend *be);
    int (*collect)(struct backend *be);
    /* Optional: what happened to the device; NULL while nothing has. */
    const char *(*fault)(const struct backend *be);
};

struct backend {
    const struct backend_ops *ops;
};

struct cpu_opts {
    uint32_t n_threads; /* including the worker's own; 0: one per physical core given to us */
    enum compute_type compute;
    const char *isa; /* "auto", "portable", "avx2", "avx512", "amx": for tests and comparisons */
};
/* EUNSUPPORTED when the machine lacks the named instruction set. */
MUST_CHECK int cpu_backend_new(const struct cpu_opts *o, struct backend **out, struct err *e);
/* Name of the instruction set in use, for the log: "avx512-vnni". */
const char *cpu_backend_isa(const struct backend *be);

/* sim: no arithmetic. A step takes step_us + row_us * rows; the token at a position is a pure
 * function of (tag, position), so the same request gives the same text on any worker. */
struct sim_opts {
    uint64_t step_us;
    uint64_t row_us_x1000; /* nanoseconds per row */
    uint32_t first_token;  /* produced ids lie in [first_token, first_token + n_tokens) */
    uint32_t n_tokens;
};
MUST_CHECK int sim_backend_new(const struct sim_opts *o, struct backend **out, struct err *e);
