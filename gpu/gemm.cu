/* gemm.cu - products of many rows: tiles of 128 rows of the input by 128 rows of the weight.
 *
 * Both operands are staged in shared memory, 32 columns at a time, in a pipeline of copies; rows are
 * padded by 8 elements so that the eight addresses of a matrix load lie in different banks. Eight
 * warps, 2 x 4, have 64 x 32 outputs each. A row's sums run over the columns in order, whatever the
 * number of rows. */
#include "gpu/linear.cuh"

enum {
    GEMM_THREADS = 256,
    TILE = 128,       /* rows of input and of weight */
    COLS = 32,        /* of a stage */
    PITCH = COLS + 8, /* elements from row to row */
    WARP_M = 64,
    WARP_N = 32,
    MT = WARP_M / 16,
    NT = WARP_N / 8, /* a warp's matrices */
};

/* A stage is [2 TILE][PITCH]: the input's rows, then the weight's. */
template <class F> struct gemm_pipe {
    enum { STAGES = F::STAGES == 1 ? 1 : 3 };
};

/* Begins to copy columns k..k + COLS of the tile; rows that do not exist are zero. */
template <class F>
static GPU_FN void gemm_copy(const struct gpu_linear &a, uint32_t k, typename F::elem *stage)
{
    using E = typename F::elem;
    const uint32_t w_rows = linear_w_rows(a);
#pragma unroll
    for (uint32_t j = 0; j < 2 * TILE * COLS / 8 / GEMM_THREADS; j++) {
        const uint32_t i = gpu_thread() + j * GEMM_THREADS, row = i / (COLS / 8);
        const uint32_t col = i % (COLS / 8) * 8;
        const bool is_w = row >= TILE;
        const uint32_t from = is_w ? gpu_block().y * TILE + row - TILE : gpu_block().x * TILE + row;
        const bool valid = from < (is_w ? w_rows : a.n_rows);
        const size_t stride = is_w ? a.k : a.in_stride;
        const E *src = static_cast<const E *>(is_w ? a.w : a.in) + (valid ? from * stride : 0);
        F::copy(stage + row * PITCH + col, src + k + col, valid);
    }
    F::copy_commit();
}

/* The warp's fragments of 16 columns, and their products. */
template <class F>
static GPU_FN void gemm_multiply(const typename F::elem *stage, uint32_t col, float sums[MT][NT][4])
{
    const uint32_t lane = gpu_lane(), warp = gpu_warp();
    const auto *x = stage + (warp / 4 * WARP_M) * PITCH + col;
    const auto *w = stage + (TILE + warp % 4 * WARP_N) * PITCH + col;
    uint32_t a[MT][4], b[NT][2];
#pragma unroll
    for (uint32_t i = 0; i < MT; i++) /* matrices: rows 0-7, rows 8-15, then the next columns */
        gpu_ldmatrix_x4(a[i], x + (i * 16 + lane % 16) * PITCH + lane / 16 * 8);
#pragma unroll
    for (uint32_t j = 0; j < NT; j += 2) {
        uint32_t r[4]; /* eight rows: columns 0-7, 8-15; then the next eight rows */
        gpu_ldmatrix_x4(r, w + (j * 8 + lane / 16 * 8 + lane % 8) * PITCH + lane / 8 % 2 * 8);
        b[j][0] = r[0];
        b[j][1] = r[1];
        b[j + 1][0] = r[2];
        b[j + 1][1] = r[3];
    }
#pragma unroll
    for (uint32_t i = 0; i < MT; i++)
#pragma unroll
        for (uint32_t j = 0; j < NT; j++)
            F::mma(sums[i][j], a[i], b[j]);
}

/* Matrices j and j + 1 hold weight rows of one sixteen: pairs (i, i + 8). */
template <class E>
static GPU_FN void gemm_store(const struct gpu_linear &a, const float sums[MT][NT][4])
{
    const uint32_t g = gpu_lane() / 4, t = gpu_lane() % 4;
    const uint32_t first_row = gpu_block().x * TILE + gpu_warp() / 4 * WARP_M + g;
    const uint32_t first_w = gpu_block().y * TILE + gpu_warp() % 4 * WARP_N + 2 * t;
#pragma unroll
    for (uint32_t i = 0; i < MT; i++)
#pragma unroll
        for (uint32_t j = 0; j < NT; j += 2)
#pragma unroll
            for (uint32_t r = 0; r < 4; r++) {
                const uint32_t row = first_row + i * 16 + r / 2 * 8;
                if (row < a.n_rows)
                    linear_store<E>(a, row, first_w + j * 8 + r % 2, sums[i][j][r],
                                    sums[i][j + 1][r]);
            }
}

template <class F> GPU_KERNEL(GEMM_THREADS) static void gemm_kernel(struct gpu_linear a)
{
    gpu_await_previous();
    using E = typename F::elem;
    constexpr uint32_t stages = gemm_pipe<F>::STAGES;
    E *shared = reinterpret_cast<E *>(gpu_dynamic_shared());
    const uint32_t n = a.k / COLS;
    float sums[MT][NT][4] = {};
    for (uint32_t i = 0; i + 1 < stages; i++) {
        if (i < n)
            gemm_copy<F>(a, i * COLS, shared + i * 2 * TILE * PITCH);
        else
            F::copy_commit();
    }
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t next = i + stages - 1;
        if (stages == 1) {
            gpu_sync_block(); /* the stage is read */
            gemm_copy<F>(a, i * COLS, shared);
        }
        F::template copy_wait<stages == 1 ? 0 : stages - 2>();
        gpu_sync_block();
        if (stages > 1) { /* into the stage that was read before this barrier */
            if (next < n)
                gemm_copy<F>(a, next * COLS, shared + next % stages * 2 * TILE * PITCH);
            else
                F::copy_commit();
        }
        const E *stage = shared + i % stages * 2 * TILE * PITCH;
#pragma unroll
        for (uint32_t col = 0; col < COLS; col += 16)
            gemm_multiply<F>(stage, col, sums);
    }
    gemm_store<E>(a, sums);
}

template <class F> static int launch_gemm(struct gpu_stream *s, const struct gpu_linear *a)
{
    const uint32_t w_rows = a->n_out * (a->gate_up ? 2 : 1);
    const struct gpu_dim grid = {(a->n_rows + TILE - 1) / TILE, (w_rows + TILE - 1) / TILE, 1};
    const size_t stage_bytes = sizeof(typename F::elem) * 2 * TILE * PITCH;
    return gpu_chain(s, "gemm", grid, GEMM_THREADS, gemm_pipe<F>::STAGES * stage_bytes,
                     gemm_kernel<F>, *a);
}

int gpu_linear_tile(struct gpu_stream *s, enum gpu_flavour f, const struct gpu_linear *a)
{
    return GPU_BY_FLAVOUR(f, launch_gemm, s, a);
}

int gpu_linear_rows(struct gpu_stream *s, enum gpu_flavour f, bool pinned,
                    const struct gpu_linear *a)
{
    if (pinned || a->n_rows > GPU_SKINNY)
        return gpu_linear_tile(s, f, a);
    if (a->n_rows > 2)
        return gpu_linear_skinny(s, f, a);
    return gpu_linear_gemv(s, f, a);
}
