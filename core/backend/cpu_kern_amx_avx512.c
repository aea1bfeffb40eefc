/* cpu_kern_amx_avx512.c - products of many rows on Intel's matrix tiles (AMX-INT8).
 *
 * The order of every sum is that of cpu_kern_linear_int.h: a tile product computes the exact
 * integer dots of 16 tokens with 16 rows over one group of 32 columns, and the scaling that
 * follows is the same sequence of fused operations on the same lanes. So the bits are the same.
 *
 * A tile of weights is expanded once, to signed bytes and float scales, for all tokens. The tile
 * product of group g + AHEAD is under way while group g is scaled: a tile store must have left
 * the store queue before its rows can be read again.
 *
 * Takes    Q4_0, Q4_1, Q8_0, Q4_K; other types and few rows go to the AVX-512 kernels.
 * Thread   sets the tile configuration of the thread that calls and clears it again.
 * Memory   job->scratch: amx_scratch_bytes(). */
#include <immintrin.h>

#include "core/backend/cpu_kern_linear_int.h"

enum { AHEAD = 2, FEW_ROWS = 47 };

#define AMX __attribute__((target("amx-tile,amx-int8")))

/* One group of 16 rows, expanded. */
struct amx_group {
    int8_t q[8][64]; /* [quad][lane][4]: what a tile product takes as its second operand */
    float d[TILE_ROWS];
    float m[TILE_ROWS];
};

struct amx_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

size_t amx_scratch_bytes(uint32_t cols)
{
    return (size_t)cols / GROUP * 2 * sizeof(struct amx_group);
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
        v.m = v16_zero();
        group_prefetch(data + w->stride, &l, g);
        group_load(type, data, &l, g, &v);
        UNROLL for (uint32_t j = 0; j < 8; j++)
            _mm512_store_si512(out->q[j], _mm512_sub_epi8(v.q[j], zero_point));
        v16_store(out->d, v.d);
        v16_store(out->m, v.m);
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

/* dots[t][row] of group g */
AMX static ALWAYS_INLINE void amx_dots(uint8_t *input, uint32_t g, const struct amx_group *w,
                                       int32_t (*dots)[TILE_ROWS])
{
    const struct act_group a = act_group(input, ACT_ROWS, g);
    _tile_zero(0);
    _tile_loadd(1, a.q, GROUP);
    _tile_loadd(2, w[g].q, 64);
    _tile_dpbssd(0, 1, 2);
    _tile_stored(0, dots, 64);
}

/* acc[t] += the group's dots, scaled; then its minimum. */
static ALWAYS_INLINE void amx_scale(const bool has_min, const struct act_group *a,
                                    const struct amx_group *w, const int32_t (*dots)[TILE_ROWS],
                                    v16 *acc)
{
    const v16 d = v16_load(w->d), m = v16_load(w->m);
    UNROLL for (uint32_t t = 0; t < ACT_ROWS; t++)
    {
        v16 p = v16_from_i(_mm512_load_si512(dots[t]));
        acc[t] = v16_fma(p, v16_mul(d, v16_set1(a->d[t])), acc[t]);
        if (has_min)
            acc[t] = v16_fma(m, v16_set1(a->ds[t]), acc[t]);
    }
}

/* One expanded tile times one packed block of 16 tokens. */
AMX static ALWAYS_INLINE void amx_block(const bool has_min, const struct amx_group *w,
                                        uint32_t groups, uint8_t *input, float (*out)[TILE_ROWS])
{
    _Alignas(64) int32_t dots[AHEAD + 1][ACT_ROWS][TILE_ROWS];
    v16 acc[ACT_ROWS];
    UNROLL for (uint32_t t = 0; t < ACT_ROWS; t++) acc[t] = v16_zero();
    for (uint32_t g = 0; g < AHEAD && g < groups; g++)
        amx_dots(input, g, w, dots[g]);
    uint32_t slot = 0;
    for (uint32_t g = 0; g < groups; g++) {
        if (g + AHEAD < groups)
            amx_dots(input, g + AHEAD, w, dots[slot == 0 ? AHEAD : slot - 1]);
        const struct act_group a = act_group(input, ACT_ROWS, g);
        amx_scale(has_min, &a, w + g, (const int32_t(*)[TILE_ROWS])dots[slot], acc);
        slot = slot == AHEAD ? 0 : slot + 1;
    }
    UNROLL for (uint32_t t = 0; t < ACT_ROWS; t++) v16_store(out[t], acc[t]);
}

AMX static void amx_product(const struct tiles *w, const struct amx_group *x, uint8_t *input,
                            float (*out)[TILE_ROWS])
{
    if (w->dtype == DTYPE_Q4_1 || w->dtype == DTYPE_Q4_K)
        amx_block(true, x, w->cols / GROUP, input, out);
    else
        amx_block(false, x, w->cols / GROUP, input, out);
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

static void amx_tile(const struct linear_job *job, uint32_t tile, struct amx_group *scratch)
{
    float y[ACT_ROWS][TILE_ROWS], up[ACT_ROWS][TILE_ROWS];
    const uint32_t groups = job->w->cols / GROUP, col = tile * TILE_ROWS;
    const uint32_t width = (uint32_t)u64_min(job->w->rows - col, TILE_ROWS);
    amx_expand(job->w, tile, scratch);
    if (job->up)
        amx_expand(job->up, tile, scratch + groups);
    for (uint32_t r = 0; r < job->n_rows; r += ACT_ROWS) {
        uint8_t *a = job->q + (size_t)(r / ACT_ROWS) * groups * act_group_bytes(ACT_ROWS);
        const uint32_t n = (uint32_t)u64_min(job->n_rows - r, ACT_ROWS);
        amx_product(job->w, scratch, a, y);
        if (job->up)
            amx_product(job->up, scratch + groups, a, up);
        for (uint32_t t = 0; t < n; t++) {
            v16 v = v16_load(y[t]);
            if (job->up)
                v = v16_mul(v16_silu(v), v16_load(up[t]));
            v16_store_n(job->out + (r + t) * job->out_stride + col, v, width);
        }
    }
}

void amx_linear(const struct linear_job *job, uint32_t first_tile, uint32_t end_tile)
{
    if (job->n_rows <= FEW_ROWS || !amx_takes(job->w) || (job->up && !amx_takes(job->up))) {
        cpu_kernels_avx512.linear(job, first_tile, end_tile);
        return;
    }
    amx_configure();
    for (uint32_t tile = first_tile; tile < end_tile; tile++)
        amx_tile(job, tile, job->scratch);
    amx_release();
}
