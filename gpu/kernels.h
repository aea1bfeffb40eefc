/* kernels.h - the operations of a layer on a GPU; each launches one kernel on a stream.
 *
 * "elements" are BF16 or F16, as the flavour says; all else is F32. Rows of elements are padded to
 * gpu_stride(cols), weights' rows to GPU_ROWS: what lies there is zero.
 *
 * Memory  everything is device memory, 16-byte aligned, and stays until the stream has passed.
 * Errors  0, or -LLMD_EPOISONED: gpu_fault() tells.
 * Checked against: double arithmetic, tests/gpu/test_gpu_*.c. */
#pragma once
#ifdef __cplusplus
extern "C" { /* core's headers are C, too */
#endif
#include "core/backend/batch.h"
#include "core/backend/sample.h"
#include "core/util/base.h"
#include "gpu/runtime.h"

enum gpu_flavour {
    GPU_FLAVOUR_SM80, /* BF16 */
    GPU_FLAVOUR_SM75, /* F16: for devices without BF16 products */
};

enum {
    GPU_PAD = 32,         /* columns of a row of elements */
    GPU_ROWS = 16,        /* rows of a weight */
    GPU_MAX_COLS = 12288, /* of a row that is normalized */
    GPU_MAX_HEAD = 256,
    GPU_SPLIT = 256,      /* positions of a decode's context that one block attends to */
    GPU_SKINNY = 64,      /* rows up to which products stream the weights */
    GPU_SPLIT_ROWS = 128, /* of a weight, whose products the blocks of such a kernel share */
};
static const uint32_t GPU_NO_SLOT = 0xffffffffu, GPU_NO_ROW = 0xffffffffu,
                      GPU_NO_MASK = 0xffffffffu;
/* Among a step's tokens: bit 31 and i stand for the i-th that was sampled before, see gpu_fed_token(). */
static const uint32_t GPU_SAMPLED = 0x80000000u;
/* An entry of `seen` that is no token: the one that the row is fed, seen once more. */
static const uint32_t GPU_FED = 0xffffffffu;

static inline uint32_t gpu_stride(uint32_t cols)
{
    return (cols + GPU_PAD - 1) / GPU_PAD * GPU_PAD;
}

/* x[r] = table[tokens[r]] (when there is a table), else x[r] += residual[r] (when there is one);
 * out[r] = x[r] / rms(x[r]) * w, then zeros. out may be x itself with a stride of 2 cols. cols is at
 * most GPU_MAX_COLS. */
struct gpu_norm {
    float *x;                         /* [n_rows][cols] */
    const float *residual;            /* [n_rows][cols] */
    const void *table;                /* elements [vocab][padded] */
    const uint32_t *tokens, *sampled; /* see gpu_fed_token() */
    const float *w;                   /* [cols] */
    void *out;                     /* elements [n_rows][out_stride], of which padded are written */
    uint32_t out_stride;           /* elements */
    uint32_t n_rows, cols, padded; /* padded: gpu_stride(cols) */
    float eps;
};
MUST_CHECK int gpu_rms_norm(struct gpu_stream *s, enum gpu_flavour f, const struct gpu_norm *a);

/* out[i] = in[rows[i]] */
struct gpu_gather {
    const float *in;
    const uint32_t *rows; /* [n] */
    float *out;           /* [n][cols] */
    uint32_t n, cols;
};
MUST_CHECK int gpu_gather_rows(struct gpu_stream *s, const struct gpu_gather *a);

/* Where blocks of gpu_linear_skinny() leave what others add up; one launch after the other uses it. */
struct gpu_linear_split {
    float *parts;      /* [2 n_blocks][GPU_SPLIT_ROWS][GPU_SKINNY] */
    uint32_t *arrived; /* [2 n_blocks], zero between launches */
    uint32_t n_blocks; /* of a launch, at most: two for each processor are all at work at once */
};

/* out = in w^T (+ bias). With gate_up, rows of w come in sixteens: eight of the gate, the same
 * eight of up; out[r][i] = silu(gate i) * up i, as elements. */
struct gpu_linear {
    const void *in; /* elements [n_rows][in_stride] */
    uint32_t in_stride;
    const void *w;     /* elements [n_out, or 2 n_out interleaved, padded to GPU_ROWS][k] */
    const float *bias; /* [n_out], or NULL */
    void *out;         /* F32 [n_rows][out_stride]; elements with gate_up */
    uint32_t out_stride;
    uint32_t n_rows, n_out, k; /* k: padded */
    bool gate_up;
    struct gpu_linear_split split; /* gpu_linear_skinny's; also of gpu_linear_rows, unless pinned */
};
/* The kernel for the number of rows; pinned: always the same one (gpu_linear_tile), so that a row's
 * bits do not depend on the others'. */
MUST_CHECK int gpu_linear_rows(struct gpu_stream *s, enum gpu_flavour f, bool pinned,
                               const struct gpu_linear *a);
MUST_CHECK int gpu_linear_gemv(struct gpu_stream *s, enum gpu_flavour f,
                               const struct gpu_linear *a); /* one or two rows */
MUST_CHECK int gpu_linear_skinny(struct gpu_stream *s, enum gpu_flavour f,
                                 const struct gpu_linear *a); /* up to GPU_SKINNY rows */
MUST_CHECK int gpu_linear_tile(struct gpu_stream *s, enum gpu_flavour f,
                               const struct gpu_linear *a);

/* out[r][i] = silu(gate i) * up i, of rows that hold them interleaved by eights, as a gate_up weight's
 * product. Outputs are written by eights: what lies beyond n is the SiLU of the weight's padding, zero. */
static inline uint32_t gpu_pairs_stride(uint32_t n)
{
    return (2 * n + GPU_ROWS - 1) / GPU_ROWS * GPU_ROWS;
}
struct gpu_pairs {
    const void *in;                 /* elements [n_rows][in_stride] */
    void *out;                      /* elements [n_rows][out_stride] */
    uint32_t in_stride, out_stride; /* in_stride: gpu_pairs_stride(n) */
    uint32_t n_rows, n;
};
MUST_CHECK int gpu_silu_pairs(struct gpu_stream *s, enum gpu_flavour f, const struct gpu_pairs *a);

/* The KV cache: [block][layer][key, value][kv head][KV_BLOCK_TOKENS][head_dim] elements. */
struct gpu_kv {
    void *data;
    uint32_t n_layers, layer;
    uint32_t n_heads, n_kv_heads, head_dim;
};

/* cos and sin of the step's rows, from tables in double: low[p % 256], high[p / 256], each of
 * head_dim / 2 pairs (cos, sin) of an angle; their sum's, times scale, go to out. */
struct gpu_rope_rows {
    const double *low, *high;
    const uint32_t *positions; /* [n_rows] */
    float *out;                /* [n_rows][head_dim / 2][2] */
    uint32_t n_rows, head_dim;
    double scale;
};
enum { GPU_ROPE_SPAN = 256 };
MUST_CHECK int gpu_rope_table(struct gpu_stream *s, const struct gpu_rope_rows *a);

/* Heads of q and k are normalized (when there are norms) and rotated; q goes to `q`, keys and values
 * to their slots. */
struct gpu_rope {
    struct gpu_kv kv;
    const float *qkv;             /* [n_rows][(n_heads + 2 n_kv_heads) head_dim] */
    const float *cos_sin;         /* of gpu_rope_table */
    const uint32_t *slots;        /* [n_rows]; GPU_NO_SLOT: a row that is there to fill up */
    const float *q_norm, *k_norm; /* [head_dim], or NULL */
    void *q;                      /* elements [n_rows][n_heads head_dim] */
    uint32_t n_rows;
    float eps;
    bool interleaved;
};
MUST_CHECK int gpu_rope_kv(struct gpu_stream *s, enum gpu_flavour f, const struct gpu_rope *a);

/* --- attention --- */

struct gpu_seq {
    uint32_t first_row, n_rows, first_pos;
    uint32_t table; /* of its block table in gpu_attn.tables */
};

/* A tile of rows (token x head of the group) of a prefill, or a part of a decode's context. */
struct gpu_attn_item {
    uint32_t seq;
    uint32_t part;    /* number of the tile, or of the part of GPU_SPLIT positions */
    uint32_t n_parts; /* decode: of the sequence */
    uint32_t first;   /* decode: its part 0 in the work space */
};

struct gpu_attn {
    struct gpu_kv kv;
    const void *q; /* elements [n_rows][n_heads head_dim], rotated */
    void *out;     /* elements [n_rows][out_stride] */
    uint32_t out_stride;
    uint32_t window; /* 0: all */
    const struct gpu_seq *seqs;
    const uint32_t *tables;
    const struct gpu_attn_item *items; /* [n_items] */
    uint32_t n_items;
    const uint32_t
        *n_now;         /* decode: how many there are, told on the device; n_items is then how many
                            * run at a time. NULL: n_items */
    float *partial;     /* decode: [parts][n_heads][head_dim] */
    float *partial_max; /* decode: [parts][n_heads][2], maximum and sum */
    uint32_t *arrived;  /* decode: [seqs][gpu_attn_counters(kv)], zero before and after */
};

/* Rows that a tile of a prefill has. */
uint32_t gpu_attn_tile(uint32_t head_dim);
/* Counters of one sequence. */
static inline uint32_t gpu_attn_counters(uint32_t n_heads, uint32_t n_kv_heads)
{
    return n_kv_heads * ((n_heads / n_kv_heads + 15) / 16);
}
MUST_CHECK int gpu_attn_prefill(struct gpu_stream *s, enum gpu_flavour f, const struct gpu_attn *a);
/* Sequences of one row. */
MUST_CHECK int gpu_attn_decode(struct gpu_stream *s, enum gpu_flavour f, const struct gpu_attn *a);

/* --- sampling: core/backend/sample.h, with the arithmetic of core/engine/sampler_int.h --- */

enum {
    GPU_SAMPLE_BLOCK = 64,      /* logits that have one maximum and one sum */
    GPU_MAX_VOCAB = 512 * 1024, /* weights of so many tokens add up in 64 bits */
};

struct gpu_sample_row {
    uint32_t row;          /* of the logits; GPU_NO_ROW: nothing to sample */
    float inv_temperature; /* 0: greedy */
    float top_p, min_p;
    uint32_t top_k;
    float presence_penalty, frequency_penalty, repetition_penalty;
    uint32_t choice, n_generated;
    uint32_t seed[2]; /* lower half, upper half */
    uint32_t first_bias, n_bias;
    uint32_t first_seen, n_seen;
    uint32_t first_mask; /* its first word, or GPU_NO_MASK */
    uint32_t logprobs;   /* 0: not wanted; else 1 + n_top */
    uint32_t to;         /* where its token goes in `ids` */
};

/* The rows of one launch; a row of logits at most once. The logits are changed, and the entry of `seen`
 * that is GPU_FED, which is the last of its row: row i of the logits is then row i of the step. */
struct gpu_sample {
    float *logits; /* [][vocab] */
    uint32_t vocab, n_rows;
    const struct gpu_sample_row *rows; /* [n_rows] */
    const struct sample_bias *bias;
    struct sample_seen *seen;
    const uint32_t *masks;
    const uint32_t *tokens;     /* the step's, for GPU_FED */
    float *raw_bias, *raw_seen; /* what the logits of these tokens were */
    float *block_max;           /* [n_rows][gpu_sample_blocks(vocab)] */
    float *block_sum;           /* likewise */
    uint32_t *ids;              /* out, where each row says; pinned memory is fine */
    uint32_t *sampled;          /* out, by row of the logits: the same on the device; a step's first
                                 * launch finds those of the step before, see `tokens` */
    struct sample_logprobs *logprobs; /* out [n_rows], where wanted */
};

static inline uint32_t gpu_sample_blocks(uint32_t vocab)
{
    return (vocab + GPU_SAMPLE_BLOCK - 1) / GPU_SAMPLE_BLOCK;
}

/* Launches in this order: log probabilities (if any row wants them), bias and penalties (if any row
 * has them), then the maxima, weights and the choice. */
MUST_CHECK int gpu_sample_logprobs(struct gpu_stream *s, const struct gpu_sample *a);
MUST_CHECK int gpu_sample_adjust(struct gpu_stream *s, const struct gpu_sample *a);
MUST_CHECK int gpu_sample_pick(struct gpu_stream *s, const struct gpu_sample *a);

#ifdef __cplusplus
}
#endif
