/* cpu_kern_avx2.c - the kernels for AVX2, FMA and F16C (compiled with these flags). */
#include "core/backend/cpu_kern_attn_int.h"
#include "core/backend/cpu_kern_linear_int.h"
#include "core/backend/cpu_kern_ops_int.h"

const struct cpu_kernels cpu_kernels_avx2 = {
    .name = "avx2",
    .pack_q8 = kern_pack_q8,
    .pack_f32 = kern_pack_f32,
    .linear = kern_linear,
    .add_bias = kern_add_bias,
    .rms_norm = kern_rms_norm,
    .rope = kern_rope,
    .kv_write = kern_kv_write,
    .attention = kern_attention,
    .attn_scores = kern_attn_scores,
    .attn_mix = kern_attn_mix,
};
