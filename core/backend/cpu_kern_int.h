/* cpu_kern_int.h - what the CPU backend's drivers and its kernels share: the packed layouts, and
 * the table of kernels that each instruction set fills.
 *
 * Packed weights  The rows of a matrix are taken 16 at a time: a tile, whose 16 rows are the lanes
 *   of every vector. Lane l of a tile accumulates row l alone, over k in ascending order, so the
 *   result of a row depends on nothing but that row and its input. Rows past the end are zero.
 *   A tile of K columns, by type (G = K / 32 groups, S = K / 256 super groups):
 *     F32        [K][16] float
 *     F16, BF16  [K][16] uint16
 *     Q4_1       [G] { nibbles[4][16][4], d[16], m[16] as F16 }
 *     Q4_0       [G] nibbles[4][16][4];  [G] d[16] as F16
 *     Q8_0       [G] bytes[8][16][4] (value + 128);  [G] d[16] as F16
 *     Q4_K       [G] nibbles[4][16][4];  [G] { scale[16], min[16] as u8 };
 *                [S] { d[16], dmin[16] as F16 }
 *     Q6_K       [G] { nibbles[4][16][4], pairs[2][16][4] };  [G] { scale[2][16] as s8 };
 *                [S] d[16] as F16
 *   nibbles[j][l][b]: low half column 4j + b of the group, high half column 16 + 4j + b.
 *   bytes[j][l][b]: column 4j + b. pairs[h][l][b]: bits 2i, 2i+1 are bits 4, 5 of column
 *   16h + 4i + b.
 *
 * Packed input  16 rows (tokens) at a time, or R = 1, 2, 4, 8 when there are no more. Quantized
 *   types, x = d * q with |q| <= 127 for each row and group of 32 columns, on 64-byte boundaries:
 *     [G] { q[R][32] int8, d[R], ds[R] float, n8[R], n128[R], h0[R], h1[R] int32 }
 *   ds is d * sum(q), n8 and n128 are -8 and -128 * sum(q), h0 and h1 are -32 * sum(q) of each
 *   half. Float types: [K][n] where n <= 16 is the number of rows in the block.
 *
 * KV cache  [n_blocks][n_layers][n_kv_heads] { K[head_dim][16 tokens], V[16 tokens][head_dim] },
 *   F16, or F32 when the backend computes in F32. A block is contiguous over all layers, so the
 *   memory that is touched grows with the tokens that are held.
 *
 * Thread  kernels are pure functions of their arguments. */
#pragma once
#include "core/backend/batch.h"
#include "core/util/base.h"
#include "core/util/tensor.h"

enum {
    TILE_ROWS = 16,
    GROUP = 32,       /* columns that share a scale of the input, and of most weights */
    SUPER_GROUPS = 8, /* groups that share d in Q4_K and Q6_K */
    ACT_ROWS = 16,    /* rows of a packed input block */
};

/* One group of quantized input: arrays over the block's rows. */
struct act_group {
    int8_t (*q)[GROUP];
    float *d, *ds;
    int32_t *n8, *n128, *h0, *h1;
};

/* Rows that a block of packed input is laid out for. */
static inline uint32_t act_rows(uint32_t n_rows)
{
    return n_rows > 8 ? 16 : n_rows > 4 ? 8 : n_rows > 2 ? 4 : n_rows;
}

static inline size_t act_group_bytes(uint32_t rows)
{
    return ((size_t)rows * (GROUP + 6 * 4) + 63) / 64 * 64;
}

static inline struct act_group act_group(uint8_t *block, uint32_t rows, uint32_t g)
{
    uint8_t *p = block + g * act_group_bytes(rows), *arrays = p + (size_t)rows * GROUP;
    const size_t each = (size_t)rows * 4;
    return (struct act_group){.q = (int8_t(*)[GROUP])p,
                              .d = (float *)(void *)arrays,
                              .ds = (float *)(void *)(arrays + each),
                              .n8 = (int32_t *)(void *)(arrays + 2 * each),
                              .n128 = (int32_t *)(void *)(arrays + 3 * each),
                              .h0 = (int32_t *)(void *)(arrays + 4 * each),
                              .h1 = (int32_t *)(void *)(arrays + 5 * each)};
}

/* Rows of one type in tiles. */
struct tiles {
    enum dtype dtype;
    uint32_t rows, cols; /* of the matrix, without padding */
    uint32_t n_tiles;
    const uint8_t *data; /* tile t at data + t * stride, on a 64-byte boundary */
    size_t stride;
};

/* A product of the packed input with one or (gate and up) two sets of tiles. */
struct linear_job {
    const struct tiles *w;
    const struct tiles *up; /* NULL, or: out = silu(w x) * (up x) */
    uint8_t *q;             /* packed for quantized types: [blocks][G], act_rows(n_rows) each */
    const float *x;         /* [blocks][K][rows of the block], for float types */
    uint32_t n_rows;
    float *out; /* [n_rows][out_stride], column 0 is the first tile's row 0 */
    size_t out_stride;
    void *scratch; /* linear_scratch_bytes() of the thread that runs it */
};

struct attn_layout {
    uint32_t n_heads, n_kv_heads, head_dim;
    uint32_t group;        /* n_heads / n_kv_heads */
    bool f32;              /* KV is F32, else F16 */
    size_t kv_head_bytes;  /* K and V of one head of one block */
    size_t kv_layer_bytes; /* all heads of one layer of one block */
    size_t kv_block_bytes; /* one block, all layers */
    float scale;           /* 1 / sqrt(head_dim) */
};

/* Some query heads that share a KV head, for adjacent rows of one sequence. */
struct attn_job {
    const struct attn_layout *layout;
    const uint8_t *kv; /* the layer within block 0 */
    const uint32_t *block_table;
    uint32_t kv_head;
    uint32_t n_heads;           /* query heads */
    uint32_t first_pos, n_rows; /* positions count from the first block of the table */
    uint32_t window;            /* positions that a row sees, its own included; 0: all */
    const float *q;             /* row 0, head 0: rotated queries */
    size_t q_stride;
    float *out; /* row 0, head 0 */
    size_t out_stride;
    float *scratch; /* of the calling thread: attn_scratch_floats() */
    float *scores;  /* [n_queries][blocks * 16], shared by the parts of a job; or NULL */
};

enum {
    ATTN_MAX_QUERIES = 96,   /* n_rows * n_heads of a job, unless n_rows is 1 */
    ATTN_MAX_HEAD_DIM = 256, /* a query's stride is constant, and no multiple of a cache way */
    ATTN_QUERY_STRIDE = ATTN_MAX_HEAD_DIM + 16,
};

struct cpu_kernels {
    const char *name;
    /* Packs up to 16 rows of x into a block of [G] groups laid out for `rows`, or [K][n_rows]. */
    void (*pack_q8)(const float *x, size_t stride, uint32_t n_rows, uint32_t cols, uint32_t rows,
                    uint8_t *out);
    void (*pack_f32)(const float *x, size_t stride, uint32_t n_rows, uint32_t cols, float *out);
    void (*linear)(const struct linear_job *job, uint32_t first_tile, uint32_t end_tile);
    size_t (*linear_scratch)(uint32_t cols); /* bytes per thread; NULL: none */
    /* out[r][i] += bias[i] for i < cols */
    void (*add_bias)(float *out, size_t stride, uint32_t n_rows, const float *bias, uint32_t cols);
    /* x += residual (may be NULL); out = x / rms(x) * w */
    void (*rms_norm)(float *x, const float *residual, const float *w, uint32_t cols, float eps,
                     float *out);
    /* Rotates n_heads adjacent heads in place; cos_sin: cos[head_dim], signed sin[head_dim]. */
    void (*rope)(float *x, const float *cos_sin, uint32_t n_heads, uint32_t head_dim,
                 bool interleaved);
    /* Writes one token's keys and values [n_kv_heads][head_dim] to its slot of a block. */
    void (*kv_write)(const struct attn_layout *l, const float *k, const float *v, uint8_t *block,
                     uint32_t slot);
    void (*attention)(const struct attn_job *job);
    /* The same in two steps, for a job that several threads share: scores of KV blocks
     * first..end-1 into job->scores; when all are there, columns first..end-1 (multiples of 16)
     * of the output. */
    void (*attn_scores)(const struct attn_job *job, uint32_t first_block, uint32_t end_block);
    void (*attn_mix)(const struct attn_job *job, uint32_t first_col, uint32_t end_col);
};

extern const struct cpu_kernels cpu_kernels_portable;
extern const struct cpu_kernels cpu_kernels_avx2;
extern const struct cpu_kernels cpu_kernels_avx512;

/* AMX: the AVX-512 table with this product in the place of linear. */
void amx_linear(const struct linear_job *job, uint32_t first_tile, uint32_t end_tile);
size_t amx_scratch_bytes(uint32_t cols);

/* True for types whose product is computed in integers. */
static inline bool tiles_quantized(enum dtype t)
{
    return t != DTYPE_F32 && t != DTYPE_F16 && t != DTYPE_BF16;
}

/* Where the parts of group g of a tile begin. */
struct group_layout {
    size_t q_bytes;     /* stride of the groups' values, from offset 0 */
    size_t s_offset;    /* of group 0's scales */
    size_t s_bytes;     /* stride of the scales */
    size_t d_offset;    /* of super group 0 */
    size_t d_bytes;     /* stride of the super groups */
    size_t total_bytes; /* of the tile */
};

static inline struct group_layout group_layout(enum dtype t, uint32_t cols)
{
    const size_t g = cols / GROUP;
    struct group_layout l = {0};
    switch (t) {
    case DTYPE_Q4_1:
        return (struct group_layout){
            .q_bytes = 320, .s_offset = 256, .s_bytes = 320, .total_bytes = g * 320};
    case DTYPE_Q4_0:
        l = (struct group_layout){.q_bytes = 256, .s_bytes = 32};
        break;
    case DTYPE_Q8_0:
        l = (struct group_layout){.q_bytes = 512, .s_bytes = 32};
        break;
    case DTYPE_Q4_K:
        l = (struct group_layout){.q_bytes = 256, .s_bytes = 32, .d_bytes = 64};
        break;
    case DTYPE_Q6_K:
        l = (struct group_layout){.q_bytes = 384, .s_bytes = 32, .d_bytes = 32};
        break;
    case DTYPE_F32:
        l.total_bytes = (size_t)cols * TILE_ROWS * 4;
        return l;
    default:
        l.total_bytes = (size_t)cols * TILE_ROWS * 2;
        return l;
    }
    l.s_offset = g * l.q_bytes;
    l.d_offset = l.s_offset + g * l.s_bytes;
    l.total_bytes = l.d_offset + g / SUPER_GROUPS * l.d_bytes;
    return l;
}

static inline uint32_t round_up_u32(uint32_t n, uint32_t to)
{
    return (n + to - 1) / to * to;
}

static inline size_t attn_score_floats(const struct attn_layout *l, uint32_t context)
{
    return u64_max(ATTN_MAX_QUERIES, l->group) * round_up_u32(context, KV_BLOCK_TOKENS);
}

/* Two KV blocks in F32; per query its sum, its mix of values, itself and its scores. */
static inline size_t attn_scratch_floats(const struct attn_layout *l, uint32_t context)
{
    const size_t queries = u64_max(ATTN_MAX_QUERIES, l->group);
    return (size_t)2 * l->head_dim * KV_BLOCK_TOKENS +
           (queries + 16) * (1 + l->head_dim + ATTN_QUERY_STRIDE) + attn_score_floats(l, context);
}
