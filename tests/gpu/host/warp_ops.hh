/* warp_ops.hh - what the collectives of a warp compute, from all lanes' inputs to all lanes'
 * outputs. Layouts are those of the PTX ISA ("Matrix Fragments for mma", "ldmatrix"). */
#pragma once
#include "tests/gpu/host/stand_in.hh"

namespace stand_in
{

struct shuffle_in {
    uint32_t value;
    uint32_t from; /* lane */
};

struct matrix_in {
    float c[4];
    uint32_t a[4];
    uint32_t b[2];
};

warp_op op_none, op_shuffle, op_ballot;
/* in: the address of a row; out: uint32_t[4] */
warp_op op_ldmatrix_x4, op_ldmatrix_x4_trans;
/* in: matrix_in; out: float[4]. Sums in double, rounded once. */
warp_op op_mma_k16_bf16, op_mma_k16_f16, op_mma_k8_f16;

} // namespace stand_in
