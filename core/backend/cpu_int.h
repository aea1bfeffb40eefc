/* cpu_int.h - the CPU backend's own structures, shared by its drivers (cpu*.c).
 *
 * Thread  struct cpu_backend: the worker's thread; chunk functions on the team read it only.
 *         struct weight: immutable once made. */
#pragma once
#include "core/backend/backend.h"
#include "core/backend/cpu_kern_int.h"
#include "core/backend/cpu_mem_int.h"
#include "core/backend/cpu_team_int.h"

enum { WEIGHT_MAX_PARTS = 8, TENSORS_MAX = 64 };

struct weight {
    enum weight_role role;
    uint32_t rows, cols; /* of the product; gate and up count once */
    uint32_t n_parts;
    struct tiles parts[WEIGHT_MAX_PARTS];
    float *vector; /* [cols], for WEIGHT_VECTOR instead of parts */
    float *bias;   /* [rows], zero where a part has none; NULL: no part has one */
    size_t bytes;
    struct cpu_slab *slab; /* holds the data */
};

/* Rows and heads that one chunk of attention computes. */
struct attn_task {
    uint32_t seq, row; /* first row in the batch */
    uint32_t n_rows;
    uint32_t first_head, n_heads;
};

struct mapping {
    void *p;
    size_t bytes;
};

struct cpu_backend {
    struct backend base;
    struct cpu_kernels kernels;
    enum compute_type compute;
    struct cpu_team *team;
    struct cpu_slab *slab; /* weights to come */

    /* set by reserve */
    bool reserved;
    struct attn_shape shape; /* without its arrays */
    struct attn_layout layout;
    uint32_t *windows;      /* [n_layers]; 0: the layer sees all */
    uint32_t widest_window; /* of any layer; 0: one sees all */
    struct backend_limits limits;
    struct mapping kv;      /* [n_blocks][n_layers] */
    struct mapping scratch; /* [threads][scratch_floats] */
    size_t scratch_floats;
    struct mapping scores; /* [SPLIT_TASKS * threads][score_floats] */
    size_t score_floats;
    double *rope_low, *rope_high; /* see cpu_rope.c */
    float *cos_sin;               /* [max_rows][2 * head_dim], of the step */
    struct attn_task *tasks;      /* [max_rows * n_heads] */

    /* set by tensor_new */
    struct mapping tensors[TENSORS_MAX];
    uint32_t n_tensors;
    struct mapping act_q, act_x; /* packed input of the largest product */
    struct mapping lin_scratch;  /* [threads][lin_scratch_bytes] */
    size_t lin_scratch_bytes;

    /* the step */
    const struct batch *batch;
    uint32_t n_tasks;
};

static inline struct cpu_backend *cpu_backend(struct backend *be)
{
    return (struct cpu_backend *)be;
}

/* cpu_weight.c */
int cpu_weight_new(struct backend *be, enum weight_role role, const struct host_tensor *parts,
                   uint32_t n_parts, const struct host_tensor *biases, struct weight **out,
                   struct err *e);
void cpu_weight_free(struct weight *w);
size_t cpu_weight_bytes(const struct weight *w);

/* cpu_linear.c: products of n_rows rows. */
void cpu_linear_rows(struct cpu_backend *c, const float *in, size_t in_stride, uint32_t n_rows,
                     const struct weight *w, float *out, size_t out_stride);

/* cpu_attn.c: rotary tables, KV writes, attention. */
int cpu_attn_reserve(struct cpu_backend *c, const struct attn_shape *s, uint32_t n_kv_blocks,
                     struct err *e);
void cpu_attn_release(struct cpu_backend *c);
void cpu_attn_layout(struct cpu_backend *c, const struct attn_shape *s, struct attn_layout *out);
void cpu_attn_begin(struct cpu_backend *c);
int cpu_rope_kv(struct backend *be, uint32_t layer, struct tensor *qkv, const struct weight *q_norm,
                const struct weight *k_norm, float eps);
int cpu_attention(struct backend *be, uint32_t layer, const struct tensor *qkv, struct tensor *out);
