/* cpu_quant.c - see cpu_quant_int.h. */
#include "core/backend/cpu_quant_int.h"

#include <string.h>

#include "core/backend/dequant.h"
#include "core/util/half.h"

static uint16_t load_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

/* Twelve bytes hold eight 6-bit scales and eight 6-bit minima: the low six bits of the first four
 * of each, then the low nibbles of the others, whose upper two bits sit atop the first. */
static void q4_k_scales(const uint8_t *s, struct k_block *out)
{
    for (uint32_t j = 0; j < 4; j++) {
        out->scale[j] = (int8_t)(s[j] & 63);
        out->min[j] = s[j + 4] & 63;
        out->scale[j + 4] = (int8_t)((s[j + 8] & 15) | (s[j] >> 6) << 4);
        out->min[j + 4] = (uint8_t)(s[j + 8] >> 4 | (s[j + 4] >> 6) << 4);
    }
}

void q4_k_split(const uint8_t *block, struct k_block *out)
{
    out->d = load_u16(block);
    out->dmin = load_u16(block + 2);
    q4_k_scales(block + 4, out);
    const uint8_t *q = block + 16;
    for (uint32_t i = 0; i < 128; i++) {
        uint32_t at = i / 32 * 64 + i % 32;
        out->q[at] = q[i] & 15;
        out->q[at + 32] = q[i] >> 4;
    }
}

void q6_k_split(const uint8_t *block, struct k_block *out)
{
    const uint8_t *low = block, *high = block + 128;
    for (uint32_t half = 0; half < 2; half++, low += 64, high += 32) {
        uint8_t *q = out->q + half * 128;
        for (uint32_t l = 0; l < 32; l++) {
            q[l] = (uint8_t)((low[l] & 15) | (high[l] & 3) << 4);
            q[l + 32] = (uint8_t)((low[l + 32] & 15) | (high[l] >> 2 & 3) << 4);
            q[l + 64] = (uint8_t)(low[l] >> 4 | (high[l] >> 4 & 3) << 4);
            q[l + 96] = (uint8_t)(low[l + 32] >> 4 | (high[l] >> 6) << 4);
        }
    }
    memcpy(out->scale, block + 192, 16);
    out->d = load_u16(block + 208);
    out->dmin = 0;
}

static void dequantize_q4(enum dtype t, const uint8_t *p, uint32_t cols, float *out)
{
    const uint32_t head = t == DTYPE_Q4_1 ? 4 : 2;
    for (uint32_t k = 0; k < cols; k += 32, p += head + 16, out += 32) {
        const float d = f32_from_f16(load_u16(p));
        const float m = t == DTYPE_Q4_1 ? f32_from_f16(load_u16(p + 2)) : -8.0f * d;
        for (uint32_t i = 0; i < 16; i++) {
            out[i] = (float)(p[head + i] & 15) * d + m;
            out[i + 16] = (float)(p[head + i] >> 4) * d + m;
        }
    }
}

static void dequantize_q8_0(const uint8_t *p, uint32_t cols, float *out)
{
    for (uint32_t k = 0; k < cols; k += 32, p += 34, out += 32) {
        const float d = f32_from_f16(load_u16(p));
        for (uint32_t i = 0; i < 32; i++)
            out[i] = (float)(int8_t)p[2 + i] * d;
    }
}

static void dequantize_k(enum dtype t, const uint8_t *p, uint32_t cols, float *out)
{
    struct k_block b;
    for (uint32_t k = 0; k < cols; k += 256, p += dtype_block_bytes(t), out += 256) {
        if (t == DTYPE_Q4_K)
            q4_k_split(p, &b);
        else
            q6_k_split(p, &b);
        const float d = f32_from_f16(b.d), dmin = f32_from_f16(b.dmin);
        for (uint32_t i = 0; i < 256; i++) {
            const uint32_t sub = i / (t == DTYPE_Q4_K ? 32 : 16);
            const float scale = d * (float)b.scale[sub];
            out[i] = t == DTYPE_Q4_K ? scale * b.q[i] - dmin * (float)b.min[sub]
                                     : scale * (float)(b.q[i] - 32);
        }
    }
}

void dequantize_row(enum dtype t, const void *row, uint32_t cols, float *out)
{
    const uint8_t *p = row;
    switch (t) {
    case DTYPE_F32:
        memcpy(out, row, cols * sizeof(*out));
        break;
    case DTYPE_F16:
        for (uint32_t k = 0; k < cols; k++)
            out[k] = f32_from_f16(load_u16(p + 2 * (size_t)k));
        break;
    case DTYPE_BF16:
        for (uint32_t k = 0; k < cols; k++)
            out[k] = f32_from_bf16(load_u16(p + 2 * (size_t)k));
        break;
    case DTYPE_Q8_0:
        dequantize_q8_0(p, cols, out);
        break;
    case DTYPE_Q4_0:
    case DTYPE_Q4_1:
        dequantize_q4(t, p, cols, out);
        break;
    case DTYPE_Q4_K:
    case DTYPE_Q6_K:
        dequantize_k(t, p, cols, out);
        break;
    case DTYPE_COUNT:
        break;
    }
}
