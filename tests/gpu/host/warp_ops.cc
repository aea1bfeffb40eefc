#include "tests/gpu/host/warp_ops.hh"

#include <string.h>

#include "core/util/half.h"

namespace stand_in
{

template <class T> static T input(const struct lane_data *lanes, unsigned lane)
{
    static_assert(sizeof(T) <= SLOT_BYTES, "does not fit a slot");
    T v;
    memcpy(&v, lanes[lane].in, sizeof(v));
    return v;
}

void op_none(struct lane_data lanes[WARP])
{
    (void)lanes;
}

void op_shuffle(struct lane_data lanes[WARP])
{
    for (unsigned i = 0; i < WARP; i++) {
        const unsigned from = input<struct shuffle_in>(lanes, i).from % WARP;
        const uint32_t value = input<struct shuffle_in>(lanes, from).value;
        memcpy(lanes[i].out, &value, sizeof(value));
    }
}

void op_ballot(struct lane_data lanes[WARP])
{
    uint32_t bits = 0;
    for (unsigned i = 0; i < WARP; i++)
        bits |= static_cast<uint32_t>(input<uint32_t>(lanes, i) != 0) << i;
    for (unsigned i = 0; i < WARP; i++)
        memcpy(lanes[i].out, &bits, sizeof(bits));
}

static void ldmatrix(struct lane_data lanes[WARP], bool trans)
{
    uint16_t m[4][8][8];
    for (unsigned i = 0; i < WARP; i++)
        memcpy(m[i / 8][i % 8], input<const void *>(lanes, i), sizeof(m[0][0]));
    for (unsigned i = 0; i < WARP; i++) {
        uint32_t out[4];
        for (unsigned k = 0; k < 4; k++) {
            const unsigned r = i / 4, c = 2 * (i % 4);
            const uint16_t low = trans ? m[k][c][r] : m[k][r][c];
            const uint16_t high = trans ? m[k][c + 1][r] : m[k][r][c + 1];
            out[k] = low | static_cast<uint32_t>(high) << 16;
        }
        memcpy(lanes[i].out, out, sizeof(out));
    }
}

void op_ldmatrix_x4(struct lane_data lanes[WARP])
{
    ldmatrix(lanes, false);
}

void op_ldmatrix_x4_trans(struct lane_data lanes[WARP])
{
    ldmatrix(lanes, true);
}

/* Element 0 or 1 of a word. */
static float element(uint32_t word, unsigned half, bool bf16)
{
    const uint16_t bits = static_cast<uint16_t>(half ? word >> 16 : word);
    return bf16 ? f32_from_bf16(bits) : f32_from_f16(bits);
}

static void mma(struct lane_data lanes[WARP], unsigned n_k, bool bf16)
{
    float a[16][16], b[16][8], d[16][8];
    for (unsigned i = 0; i < WARP; i++) {
        const struct matrix_in in = input<struct matrix_in>(lanes, i);
        const unsigned g = i / 4, t = i % 4;
        for (unsigned half = 0; half < 2; half++) {
            for (unsigned r = 0; r < n_k / 4; r++) /* a[r]: row g + 8 (r odd), k 8 on (r >= 2) */
                a[g + 8 * (r % 2)][2 * t + half + 8 * (r / 2)] = element(in.a[r], half, bf16);
            for (unsigned r = 0; r < n_k / 8; r++)
                b[2 * t + half + 8 * r][g] = element(in.b[r], half, bf16);
        }
        for (unsigned r = 0; r < 4; r++)
            d[g + 8 * (r / 2)][2 * t + r % 2] = in.c[r];
    }
    for (unsigned row = 0; row < 16; row++) {
        double sum[8];
        for (unsigned col = 0; col < 8; col++)
            sum[col] = static_cast<double>(d[row][col]);
        for (unsigned k = 0; k < n_k; k++)
            for (unsigned col = 0; col < 8; col++)
                sum[col] += static_cast<double>(a[row][k]) * static_cast<double>(b[k][col]);
        for (unsigned col = 0; col < 8; col++)
            d[row][col] = static_cast<float>(sum[col]);
    }
    for (unsigned i = 0; i < WARP; i++) {
        float out[4];
        for (unsigned r = 0; r < 4; r++)
            out[r] = d[i / 4 + 8 * (r / 2)][2 * (i % 4) + r % 2];
        memcpy(lanes[i].out, out, sizeof(out));
    }
}

void op_mma_k16_bf16(struct lane_data lanes[WARP])
{
    mma(lanes, 16, true);
}

void op_mma_k16_f16(struct lane_data lanes[WARP])
{
    mma(lanes, 16, false);
}

void op_mma_k8_f16(struct lane_data lanes[WARP])
{
    mma(lanes, 8, false);
}

} // namespace stand_in
