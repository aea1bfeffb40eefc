/* cpu_pack.c - see cpu_pack_int.h. */
#include "core/backend/cpu_pack_int.h"

#include <string.h>

#include "core/backend/cpu_quant_int.h"
#include "core/backend/dequant.h"
#include "core/util/half.h"

enum { QUAD = 4, LANE_BYTES = TILE_ROWS * QUAD };

/* Lane l of a tile whose groups are laid out as g says. */
struct lane {
    uint8_t *tile;
    const struct group_layout *g;
    uint32_t l;
};

static uint8_t *lane_values(const struct lane *at, uint32_t group)
{
    return at->tile + group * at->g->q_bytes + (size_t)at->l * QUAD;
}

static uint8_t *lane_scales(const struct lane *at, uint32_t group)
{
    return at->tile + at->g->s_offset + group * at->g->s_bytes;
}

static uint8_t *lane_supers(const struct lane *at, uint32_t super)
{
    return at->tile + at->g->d_offset + super * at->g->d_bytes;
}

/* Q4_0, Q4_1: sixteen bytes whose halves are columns i and 16 + i, as the tile wants them. */
static void pack_q4(const struct lane *at, enum dtype t, const uint8_t *row, uint32_t groups)
{
    const uint32_t head = t == DTYPE_Q4_1 ? 4 : 2;
    for (uint32_t g = 0; g < groups; g++, row += head + 16) {
        uint8_t *v = lane_values(at, g), *s = lane_scales(at, g);
        for (uint32_t j = 0; j < 4; j++)
            memcpy(v + (size_t)j * LANE_BYTES, row + head + (size_t)j * QUAD, QUAD);
        memcpy(s + (size_t)2 * at->l, row, 2);
        if (t == DTYPE_Q4_1)
            memcpy(s + 32 + (size_t)2 * at->l, row + 2, 2);
    }
}

static void pack_q8_0(const struct lane *at, const uint8_t *row, uint32_t groups)
{
    for (uint32_t g = 0; g < groups; g++, row += 34) {
        uint8_t *v = lane_values(at, g);
        for (uint32_t j = 0; j < 8; j++) {
            uint32_t quad;
            memcpy(&quad, row + 2 + (size_t)j * QUAD, QUAD);
            quad ^= 0x80808080u; /* two's complement to value + 128 */
            memcpy(v + (size_t)j * LANE_BYTES, &quad, QUAD);
        }
        memcpy(lane_scales(at, g) + (size_t)2 * at->l, row, 2);
    }
}

/* Low nibbles of 32 values. */
static void pack_nibbles(uint8_t *v, const uint8_t *q)
{
    for (uint32_t i = 0; i < 16; i++)
        v[i / QUAD * LANE_BYTES + i % QUAD] = (uint8_t)((q[i] & 15) | (q[i + 16] & 15) << 4);
}

/* Bits 4 and 5 of 32 values. */
static void pack_pairs(uint8_t *v, const uint8_t *q)
{
    for (uint32_t h = 0; h < 2; h++)
        for (uint32_t b = 0; b < QUAD; b++) {
            uint32_t bits = 0;
            for (uint32_t i = 0; i < 4; i++)
                bits |= (uint32_t)(q[16 * h + 4 * i + b] >> 4) << (2 * i);
            v[h * LANE_BYTES + b] = (uint8_t)bits;
        }
}

static void pack_q4_k(const struct lane *at, const uint8_t *row, uint32_t supers)
{
    struct k_block b;
    for (uint32_t s = 0; s < supers; s++, row += 144) {
        q4_k_split(row, &b);
        for (uint32_t i = 0; i < SUPER_GROUPS; i++) {
            uint32_t g = s * SUPER_GROUPS + i;
            pack_nibbles(lane_values(at, g), b.q + (size_t)i * GROUP);
            lane_scales(at, g)[at->l] = (uint8_t)b.scale[i];
            lane_scales(at, g)[16 + at->l] = b.min[i];
        }
        memcpy(lane_supers(at, s) + (size_t)2 * at->l, &b.d, 2);
        memcpy(lane_supers(at, s) + 32 + (size_t)2 * at->l, &b.dmin, 2);
    }
}

static void pack_q6_k(const struct lane *at, const uint8_t *row, uint32_t supers)
{
    struct k_block b;
    for (uint32_t s = 0; s < supers; s++, row += 210) {
        q6_k_split(row, &b);
        for (uint32_t i = 0; i < SUPER_GROUPS; i++) {
            uint32_t g = s * SUPER_GROUPS + i;
            pack_nibbles(lane_values(at, g), b.q + (size_t)i * GROUP);
            pack_pairs(lane_values(at, g) + (size_t)4 * LANE_BYTES, b.q + (size_t)i * GROUP);
            memcpy(lane_scales(at, g) + at->l, &b.scale[2 * i], 1);
            memcpy(lane_scales(at, g) + 16 + at->l, &b.scale[2 * i + 1], 1);
        }
        memcpy(lane_supers(at, s) + (size_t)2 * at->l, &b.d, 2);
    }
}

/* Any type as F32, 256 columns at a time: a multiple of every block. */
static void pack_f32(float *out, uint32_t l, enum dtype t, const uint8_t *row, uint32_t cols)
{
    float piece[256];
    for (uint32_t k = 0; k < cols; k += 256) {
        uint32_t n = (uint32_t)u64_min(cols - k, 256);
        dequantize_row(t, row + (size_t)k / dtype_block_elems(t) * dtype_block_bytes(t), n, piece);
        for (uint32_t i = 0; i < n; i++)
            out[(size_t)(k + i) * TILE_ROWS + l] = piece[i];
    }
}

static void pack_half(uint8_t *out, uint32_t l, const uint8_t *row, uint32_t cols)
{
    for (uint32_t k = 0; k < cols; k++)
        memcpy(out + ((size_t)k * TILE_ROWS + l) * 2, row + (size_t)k * 2, 2);
}

static void pack_row(const struct tiles *t, const struct host_tensor *src, const uint8_t *row,
                     const struct lane *at)
{
    if (t->dtype == DTYPE_F32) {
        pack_f32((float *)(void *)at->tile, at->l, src->dtype, row, t->cols);
        return;
    }
    BUG_ON(t->dtype != src->dtype);
    switch (t->dtype) {
    case DTYPE_Q4_0:
    case DTYPE_Q4_1:
        pack_q4(at, t->dtype, row, t->cols / GROUP);
        break;
    case DTYPE_Q8_0:
        pack_q8_0(at, row, t->cols / GROUP);
        break;
    case DTYPE_Q4_K:
        pack_q4_k(at, row, t->cols / GROUP / SUPER_GROUPS);
        break;
    case DTYPE_Q6_K:
        pack_q6_k(at, row, t->cols / GROUP / SUPER_GROUPS);
        break;
    default:
        pack_half(at->tile, at->l, row, t->cols);
        break;
    }
}

void tile_pack(const struct tiles *t, const struct host_tensor *src, uint32_t tile, uint8_t *out)
{
    const struct group_layout g = group_layout(t->dtype, t->cols);
    const uint32_t first = tile * TILE_ROWS;
    const uint32_t n = (uint32_t)u64_min(t->rows - first, TILE_ROWS);
    size_t row_bytes;
    BUG_ON(!dtype_row_bytes(src->dtype, src->cols, &row_bytes));
    if (n < TILE_ROWS)
        memset(out, 0, t->stride);
    for (uint32_t l = 0; l < n; l++) {
        struct lane at = {.tile = out, .g = &g, .l = l};
        pack_row(t, src, (const uint8_t *)src->data + (first + l) * row_bytes, &at);
    }
}

static float load_f16(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof(h));
    return f32_from_f16(h);
}

/* The bits of one lane of group g as 32 unsigned values. */
static void lane_unpack(const struct lane *at, enum dtype t, uint32_t g, uint8_t q[GROUP])
{
    const uint8_t *v = lane_values(at, g);
    for (uint32_t k = 0; k < GROUP; k++) {
        const uint32_t h = k / 16, i = k % 16;
        if (t == DTYPE_Q8_0) {
            q[k] = v[k / QUAD * LANE_BYTES + k % QUAD];
            continue;
        }
        q[k] = v[i / QUAD * LANE_BYTES + i % QUAD] >> (4 * h) & 15;
        if (t == DTYPE_Q6_K)
            q[k] |= (uint8_t)((v[(4 + h) * LANE_BYTES + i % QUAD] >> (i / QUAD * 2) & 3) << 4);
    }
}

static void lane_group(const struct lane *at, enum dtype t, uint32_t g, float *out)
{
    const uint8_t *s = lane_scales(at, g), *d = lane_supers(at, g / SUPER_GROUPS);
    const size_t h = (size_t)2 * at->l;
    uint8_t q[GROUP];
    lane_unpack(at, t, g, q);
    for (uint32_t k = 0; k < GROUP; k++) {
        switch (t) {
        case DTYPE_Q4_1:
            out[k] = (float)q[k] * load_f16(s + h) + load_f16(s + 32 + h);
            break;
        case DTYPE_Q4_0:
            out[k] = (float)(q[k] - 8) * load_f16(s + h);
            break;
        case DTYPE_Q8_0:
            out[k] = (float)(q[k] - 128) * load_f16(s + h);
            break;
        case DTYPE_Q4_K:
            out[k] = load_f16(d + h) * (float)s[at->l] * (float)q[k] -
                     load_f16(d + 32 + h) * (float)s[16 + at->l];
            break;
        default: /* Q6_K */
            out[k] = load_f16(d + h) * (float)(int8_t)s[k / 16 * 16 + at->l] * (float)(q[k] - 32);
            break;
        }
    }
}

void tiles_row(const struct tiles *t, uint32_t row, float *out)
{
    const uint32_t l = row % TILE_ROWS;
    uint8_t *tile = (uint8_t *)(uintptr_t)t->data + row / TILE_ROWS * t->stride;
    if (tiles_quantized(t->dtype)) {
        const struct group_layout g = group_layout(t->dtype, t->cols);
        struct lane at = {.tile = tile, .g = &g, .l = l};
        for (uint32_t i = 0; i < t->cols / GROUP; i++)
            lane_group(&at, t->dtype, i, out + (size_t)i * GROUP);
        return;
    }
    for (uint32_t k = 0; k < t->cols; k++) {
        const size_t at = (size_t)k * TILE_ROWS + l;
        uint16_t h;
        if (t->dtype == DTYPE_F32) {
            memcpy(out + k, tile + at * 4, 4);
            continue;
        }
        memcpy(&h, tile + at * 2, 2);
        out[k] = t->dtype == DTYPE_F16 ? f32_from_f16(h) : f32_from_bf16(h);
    }
}
