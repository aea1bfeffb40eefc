/* cpu_quant_int.h - the block formats of model files: what each of their bits means.
 *
 * Source  GGUF's block layouts (the authors' ggml-common.h, ggml-quants.c), written anew. */
#pragma once
#include "core/util/base.h"
#include "core/util/tensor.h"

/* One super block of 256 values of Q4_K or Q6_K, taken apart. */
struct k_block {
    uint8_t q[256];   /* 0..15 or 0..63 */
    uint16_t d, dmin; /* F16; dmin Q4_K only */
    int8_t scale[16]; /* Q4_K: 8 of 6 bits; Q6_K: 16, each for 16 values */
    uint8_t min[8];   /* Q4_K */
};

void q4_k_split(const uint8_t *block, struct k_block *out); /* 144 bytes */
void q6_k_split(const uint8_t *block, struct k_block *out); /* 210 bytes */
