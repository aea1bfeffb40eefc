/* skinny.cu - products of up to GPU_SKINNY rows: the weights are the left operand of the matrix
 * instruction (m16), the rows of the input its right one (n8), so that nothing is padded to 16.
 *
 * A block takes 16 rows of the weight; its warps share the columns, 32 at a time in turns, and add
 * their sums in the order of the warps at the end: a row's bits do not depend on how many there are.
 * Operands go straight from memory into fragments: which columns a lane's elements stand for does
 * not matter as long as both operands agree, so each lane takes 8 adjacent ones of 32. */
#include "gpu/linear.cuh"

enum {
    SKINNY_THREADS = 256,
    SKINNY_WARPS = SKINNY_THREADS / 32,
    CHUNK = 32, /* columns of a warp's turn */
    TURNS = 2,  /* whose loads are issued together */
};

/* Lane's 8 columns of row g and g + 8 of the weight, and the same of one row in each eight. */
template <int NT> struct operands {
    struct gpu_16b w[2];
    struct gpu_16b x[NT];
};

template <class E, int NT>
static GPU_FN void load_w(const struct gpu_linear &a, uint32_t k, struct operands<NT> *o)
{
    const uint32_t g = gpu_lane() / 4, at = k + gpu_lane() % 4 * 8;
    const E *w = static_cast<const E *>(a.w) +
                 (static_cast<size_t>(gpu_block().x) * GPU_ROWS + g) * a.k + at;
    o->w[0] = gpu_load_once(w);
    o->w[1] = gpu_load_once(w + static_cast<size_t>(8) * a.k);
}

template <class E, int NT>
static GPU_FN void load_x(const struct gpu_linear &a, uint32_t k, struct operands<NT> *o)
{
    const uint32_t g = gpu_lane() / 4, at = k + gpu_lane() % 4 * 8;
#pragma unroll
    for (uint32_t j = 0; j < NT; j++) {
        const uint32_t row = j * 8 + g < a.n_rows ? j * 8 + g : a.n_rows - 1;
        o->x[j] = *reinterpret_cast<const struct gpu_16b *>(
            static_cast<const E *>(a.in) + static_cast<size_t>(row) * a.in_stride + at);
    }
}

template <class F, int NT>
static GPU_FN void multiply(const struct operands<NT> &o, float sums[NT][4])
{
#pragma unroll
    for (uint32_t half = 0; half < 2; half++) {
        const uint32_t a[4] = {o.w[0].w[2 * half], o.w[1].w[2 * half], o.w[0].w[2 * half + 1],
                               o.w[1].w[2 * half + 1]};
#pragma unroll
        for (uint32_t j = 0; j < NT; j++)
            F::mma(sums[j], a, &o.x[j].w[2 * half]);
    }
}

/* Adds the warps' sums and stores: thread t has one pair of weight rows for one row of the input. */
template <class E, int NT>
static GPU_FN void reduce(const struct gpu_linear &a, const float sums[NT][4])
{
    GPU_SHARED(float, parts, SKINNY_WARPS *NT * 4 * 32);
#pragma unroll
    for (uint32_t j = 0; j < NT; j++)
#pragma unroll
        for (uint32_t r = 0; r < 4; r++)
            parts[((gpu_warp() * NT + j) * 4 + r) * 32 + gpu_lane()] = sums[j][r];
    gpu_sync_block();
    for (uint32_t i = gpu_thread(); i < 8 * NT * 8; i += SKINNY_THREADS) {
        const uint32_t g = i % 8, row = i / 8; /* of the weight and the input */
        const uint32_t lane = g * 4 + row % 8 / 2;
        float pair[2] = {0, 0};
        for (uint32_t w = 0; w < SKINNY_WARPS; w++)
#pragma unroll
            for (uint32_t p = 0; p < 2; p++)
                pair[p] += parts[((w * NT + row / 8) * 4 + 2 * p + row % 2) * 32 + lane];
        if (row < a.n_rows)
            linear_store<E>(a, row, gpu_block().x * GPU_ROWS + g, pair[0], pair[1]);
    }
}

/* The first weights are on their way before the kernel that makes the input has ended. */
template <class F, int NT> GPU_KERNEL(SKINNY_THREADS) static void skinny_kernel(struct gpu_linear a)
{
    using E = typename F::elem;
    const uint32_t stride = SKINNY_WARPS * CHUNK;
    float sums[NT][4] = {};
    struct operands<NT> o[TURNS];
    uint32_t k = gpu_warp() * CHUNK;
#pragma unroll
    for (uint32_t j = 0; j < TURNS; j++)
        if (k + j * stride < a.k)
            load_w<E, NT>(a, k + j * stride, &o[j]);
    gpu_await_previous();
    while (k < a.k) {
#pragma unroll
        for (uint32_t j = 0; j < TURNS; j++)
            if (k + j * stride < a.k)
                load_x<E, NT>(a, k + j * stride, &o[j]);
#pragma unroll
        for (uint32_t j = 0; j < TURNS; j++)
            if (k + j * stride < a.k)
                multiply<F, NT>(o[j], sums);
        k += TURNS * stride;
#pragma unroll
        for (uint32_t j = 0; j < TURNS; j++)
            if (k + j * stride < a.k)
                load_w<E, NT>(a, k + j * stride, &o[j]);
    }
    reduce<E, NT>(a, sums);
}

template <class F> static int launch_skinny(struct gpu_stream *s, const struct gpu_linear *a)
{
    const uint32_t w_rows = a->n_out * (a->gate_up ? 2 : 1);
    const struct gpu_dim grid = {(w_rows + GPU_ROWS - 1) / GPU_ROWS, 1, 1};
    if (a->n_rows <= 8)
        return gpu_chain(s, "skinny8", grid, SKINNY_THREADS, 0, skinny_kernel<F, 1>, *a);
    if (a->n_rows <= 16)
        return gpu_chain(s, "skinny16", grid, SKINNY_THREADS, 0, skinny_kernel<F, 2>, *a);
    if (a->n_rows <= 32)
        return gpu_chain(s, "skinny32", grid, SKINNY_THREADS, 0, skinny_kernel<F, 4>, *a);
    return gpu_chain(s, "skinny64", grid, SKINNY_THREADS, 0, skinny_kernel<F, 8>, *a);
}

int gpu_linear_skinny(struct gpu_stream *s, enum gpu_flavour f, const struct gpu_linear *a)
{
    return GPU_BY_FLAVOUR(f, launch_skinny, s, a);
}
