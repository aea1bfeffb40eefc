/* cpu_kern_amx.c - products of many rows on Intel's matrix tiles (AMX-INT8).
 *
 * The order of every sum is that of cpu_kern_linear_int.h: a tile product computes the exact
 * integer dots of 16 tokens with 16 rows over one group of 32 columns, and the scaling that
 * follows is the same sequence of fused operations on the same lanes. So the bits are the same.
 *
 * A tile of weights is expanded once, to signed bytes and float scales, for all tokens. The tile
 * product of group g + AHEAD is under way while group g is scaled: a tile store must have left
 * the store queue before its rows can be read again. For some 300 cycles after any tile
 * instruction the second unit for fused operations is off (measured); so as few of these as can be
 * stand between tile products, and minima and activation have passes of their own, a strip of
 * tokens at a time.
 *
 * Takes    Q4_0, Q4_1, Q8_0, Q4_K; other types and few rows go to the AVX-512 kernels.
 * Thread   sets the tile configuration of the thread that calls and clears it again.
 * Memory   job->scratch: amx_scratch_bytes(). */
#include <immintrin.h>

#include "core/backend/cpu_kern_linear_int.h"

enum { AHEAD = 2, FEW_ROWS = 31, STRIP_BLOCKS = 8 };

#define AMX __attribute__((target("amx-tile,amx-int8")))

/* One group of 16 rows, expanded. */
struct amx_group {
    int8_t q[8][64]; /* [quad][lane][4]: what a tile product takes as its second operand */
    float d[TILE_ROWS];
    float m[TILE_ROWS];
};

/* Sums of one block: 16 tokens by 16 rows. */
struct amx_sums {
    float y[ACT_ROWS][TILE_ROWS];
};

struct amx_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

/* One tile of the weight, or of its second part, and the sums of a strip. */
struct amx_operand {
    bool has_min;
    uint32_t groups;
    struct amx_group *w;   /* [groups] */
    struct amx_sums *sums; /* [STRIP_BLOCKS] */
};

size_t amx_scratch_bytes(uint32_t cols)
{
    return 2 * ((size_t)cols / GROUP * sizeof(struct amx_group) +
                STRIP_BLOCKS * sizeof(struct amx_sums));
}

static bool amx_takes(const struct tiles *w)
{
    return w->dtype == DTYPE_Q4_0 || w->dtype == DTYPE_Q4_1 || w->dtype == DTYPE_Q8_0 ||
           w->dtype == DTYPE_Q4_K;
}

static ALWAYS_INLINE void amx_expand_as(const enum dtype type, const struct tiles *w, uint32_t tile,
                                        struct amx_group *out)
{
    const struct group_layout l = group_layout(type, w->cols);
    const uint8_t *data = w->data + tile * w->stride;
    const __m512i zero_point = _mm512_set1_epi8(type == DTYPE_Q8_0   ? -128
                                                : type == DTYPE_Q4_0 ? 8
                                                                     : 0);
    for (uint32_t g = 0; g < w->cols / GROUP; g++, out++) {
        struct group16 v;
        group_prefetch(data + w->stride, &l, g);
        group_load(type, data, &l, g, &v);
        UNROLL for (uint32_t j = 0; j < 8; j++)
            _mm512_store_si512(out->q[j], _mm512_sub_epi8(v.q[j], zero_point));
        v16_store(out->d, v.d);
        if (group_has_min(type))
            v16_store(out->m, group_min(type, data, &l, g));
    }
}

static void amx_expand(const struct tiles *w, uint32_t tile, struct amx_group *out)
{
    switch (w->dtype) {
    case DTYPE_Q4_0:
        amx_expand_as(DTYPE_Q4_0, w, tile, out);
        break;
    case DTYPE_Q4_1:
        amx_expand_as(DTYPE_Q4_1, w, tile, out);
        break;
    case DTYPE_Q8_0:
        amx_expand_as(DTYPE_Q8_0, w, tile, out);
        break;
    default:
        amx_expand_as(DTYPE_Q4_K, w, tile, out);
        break;
    }
}

/* Sums of a block before any product: the minima's share. */
static void amx_minima(const struct amx_operand *o, uint8_t *input, struct amx_sums *sums)
{
    v16 acc[ACT_ROWS];
    UNROLL for (uint32_t t = 0; t < ACT_ROWS; t++) acc[t] = v16_zero();
    for (uint32_t g = 0; g < o->groups && o->has_min; g++) {
        const float *ds = act_group(input, ACT_ROWS, g).ds;
        const v16 m = v16_load(o->w[g].m);
        UNROLL for (uint32_t t = 0; t < ACT_ROWS; t++) acc[t] = v16_fma(m, v16_set1(ds[t]), acc[t]);
    }
    UNROLL for (uint32_t t = 0; t < ACT_ROWS; t++) v16_store(sums->y[t], acc[t]);
}

/* dots[t][row] of group g */
AMX static ALWAYS_INLINE void amx_dots(uint8_t *input, uint32_t g, const struct amx_group *w,
                                       int32_t (*dots)[TILE_ROWS])
{
    _tile_zero(0);
    _tile_loadd(1, act_group(input, ACT_ROWS, g).q, GROUP);
    _tile_loadd(2, w[g].q, 64);
    _tile_dpbssd(0, 1, 2);
    _tile_stored(0, dots, 64);
}

/* acc[t] += the group's dots, scaled. */
static ALWAYS_INLINE void amx_scale(const float *act_d, const struct amx_group *w,
                                    const int32_t (*dots)[TILE_ROWS], v16 *acc)
{
    const v16 d = v16_load(w->d);
    UNROLL for (uint32_t t = 0; t < ACT_ROWS; t++)
    {
        v16 p = v16_from_i(_mm512_load_si512(dots[t]));
        acc[t] = v16_fma(p, v16_mul(d, v16_set1(act_d[t])), acc[t]);
    }
}

/* The products of one tile with one packed block of 16 tokens. */
AMX static void amx_products(const struct amx_operand *o, uint8_t *input, struct amx_sums *sums)
{
    _Alignas(64) int32_t dots[AHEAD + 1][ACT_ROWS][TILE_ROWS];
    const struct amx_group *w = o->w;
    v16 acc[ACT_ROWS];
    UNROLL for (uint32_t t = 0; t < ACT_ROWS; t++) acc[t] = v16_load(sums->y[t]);
    for (uint32_t g = 0; g < AHEAD && g < o->groups; g++)
        amx_dots(input, g, w, dots[g]);
    uint32_t slot = 0;
    for (uint32_t g = 0; g < o->groups; g++) {
        if (g + AHEAD < o->groups)
            amx_dots(input, g + AHEAD, w, dots[slot == 0 ? AHEAD : slot - 1]);
        amx_scale(act_group(input, ACT_ROWS, g).d, w + g, (const int32_t(*)[TILE_ROWS])dots[slot],
                  acc);
        slot = slot == AHEAD ? 0 : slot + 1;
    }
    UNROLL for (uint32_t t = 0; t < ACT_ROWS; t++) v16_store(sums->y[t], acc[t]);
}

AMX static void amx_configure(void)
{
    struct amx_config c = {.palette = 1};
    c.rows[0] = ACT_ROWS; /* dots */
    c.row_bytes[0] = 64;
    c.rows[1] = ACT_ROWS; /* input */
    c.row_bytes[1] = GROUP;
    c.rows[2] = 8; /* weights */
    c.row_bytes[2] = 64;
    _tile_loadconfig(&c);
}

AMX static void amx_release(void)
{
    _tile_release();
}

/* n tokens of a strip to the output; with a second operand, silu(first) * second. */
static void amx_finish(const struct amx_sums *y, const struct amx_sums *up, uint32_t n, float *out,
                       size_t stride, uint32_t width)
{
    for (uint32_t t = 0; t < n; t++) {
        v16 v = v16_load(y[t / ACT_ROWS].y[t % ACT_ROWS]);
        if (up)
            v = v16_mul(v16_silu(v), v16_load(up[t / ACT_ROWS].y[t % ACT_ROWS]));
        v16_store_n(out + t * stride, v, width);
    }
}

/* Rows first .. first + n - 1 of the job, at most a strip. */
static void amx_strip(const struct linear_job *job, const struct amx_operand *ops, uint32_t n_ops,
                      uint32_t tile, uint32_t first, uint32_t n)
{
    const uint32_t col = tile * TILE_ROWS, n_blocks = round_up_u32(n, ACT_ROWS) / ACT_ROWS;
    const uint32_t width = (uint32_t)u64_min(job->w->rows - col, TILE_ROWS);
    const size_t block_bytes = ops->groups * act_group_bytes(ACT_ROWS);
    uint8_t *input = job->q + first / ACT_ROWS * block_bytes;
    for (uint32_t i = 0; i < n_ops; i++)
        for (uint32_t b = 0; b < n_blocks; b++)
            amx_minima(&ops[i], input + b * block_bytes, &ops[i].sums[b]);
    for (uint32_t i = 0; i < n_ops; i++)
        for (uint32_t b = 0; b < n_blocks; b++)
            amx_products(&ops[i], input + b * block_bytes, &ops[i].sums[b]);
    amx_finish(ops[0].sums, n_ops > 1 ? ops[1].sums : NULL, n,
               job->out + first * job->out_stride + col, job->out_stride, width);
}

void amx_linear(const struct linear_job *job, uint32_t first_tile, uint32_t end_tile)
{
    if (job->n_rows <= FEW_ROWS || !amx_takes(job->w) || (job->up && !amx_takes(job->up))) {
        cpu_kernels_avx512.linear(job, first_tile, end_tile);
        return;
    }
    const struct tiles *w[2] = {job->w, job->up};
    const uint32_t groups = job->w->cols / GROUP, n_ops = job->up ? 2 : 1;
    struct amx_group *expanded = job->scratch;
    struct amx_sums *sums = (struct amx_sums *)(expanded + (size_t)2 * groups);
    struct amx_operand ops[2];
    for (uint32_t i = 0; i < n_ops; i++)
        ops[i] = (struct amx_operand){.has_min = group_has_min(w[i]->dtype),
                                      .groups = groups,
                                      .w = expanded + (size_t)i * groups,
                                      .sums = sums + (size_t)i * STRIP_BLOCKS};
    amx_configure();
    for (uint32_t tile = first_tile; tile < end_tile; tile++) {
        for (uint32_t i = 0; i < n_ops; i++)
            amx_expand(w[i], tile, ops[i].w);
        for (uint32_t r = 0; r < job->n_rows; r += STRIP_BLOCKS * ACT_ROWS)
            amx_strip(job, ops, n_ops, tile, r,
                      (uint32_t)u64_min(job->n_rows - r, STRIP_BLOCKS * ACT_ROWS));
    }
    amx_release();
}
