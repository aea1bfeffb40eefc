/* skinny.cu - products of up to GPU_SKINNY rows: the weights are the left operand of the matrix
 * instruction (m16), the rows of the input its right one (n8), so that little is padded.
 *
 * The work is a line of chunks, COLS columns of TILE weight rows each, tile after tile; every block
 * takes an equal stretch of it (stream-K, Osama et al., arXiv:2301.03598), so that all of the device
 * reads until the end. Weights and input come through shared memory in a pipeline of copies: TILE rows
 * share what is read of the input, and (STAGES - 1) 16 KiB of weights are under way in each block.
 *
 * A tile that lies in one stretch is stored by its block. Of another, each block leaves its part in
 * memory, and the one that comes last adds them in the order of the columns. Where stretches begin
 * depends on the weight and the device, not on the number of rows: neither do a row's bits. */
#include "gpu/linear.cuh"

enum {
    SKINNY_THREADS = 256,
    SKINNY_WARPS = SKINNY_THREADS / 32,
    TILE = GPU_SPLIT_ROWS, /* rows of the weight: 16 for each warp */
    COLS = 64,             /* of a chunk */
    UNITS = COLS / 8,      /* of 16 bytes in a row of it */
    CHUNKS_LEAST = 2,      /* of a stretch */
};
static_assert(TILE == SKINNY_WARPS * 16, "a warp has 16 rows of the tile");

template <class F, int NT> struct skinny_stage {
    enum {
        STAGES = F::STAGES == 1 ? 1 : 4,
        WEIGHTS = TILE * COLS, /* elements; the input's rows come after them */
        SIZE = WEIGHTS + NT * 8 * COLS,
    };
};

/* How the line of chunks is cut. */
struct skinny_cut {
    uint32_t n_chunks; /* of a tile */
    uint32_t total;
    uint32_t n_blocks;
};

static GPU_FN uint32_t cut_begin(const struct skinny_cut &c, uint32_t block)
{
    return static_cast<uint32_t>(static_cast<uint64_t>(block) * c.total / c.n_blocks);
}

/* The block whose stretch holds a chunk. */
static GPU_FN uint32_t cut_owner(const struct skinny_cut &c, uint32_t chunk)
{
    return static_cast<uint32_t>(((static_cast<uint64_t>(chunk) + 1) * c.n_blocks - 1) / c.total);
}

/* A block has two places for parts: of its first tile, and of its last. */
static GPU_FN uint32_t cut_place(const struct skinny_cut &c, uint32_t block, uint32_t tile)
{
    return 2 * block + (cut_begin(c, block) / c.n_chunks == tile ? 0 : 1);
}

/* Where 16 bytes of a chunk's row lie: matrix loads of eight rows meet no bank twice. */
static GPU_FN uint32_t skinny_at(uint32_t row, uint32_t unit)
{
    return row * COLS + (unit ^ row % UNITS) * 8;
}

template <class F>
static GPU_FN void copy_weights(const struct gpu_linear &a, const struct skinny_cut &c,
                                uint32_t chunk, typename F::elem *stage)
{
    using E = typename F::elem;
    const uint32_t w_rows = linear_w_rows(a), first = chunk / c.n_chunks * TILE;
#pragma unroll
    for (uint32_t j = 0; j < TILE * UNITS / SKINNY_THREADS; j++) {
        const uint32_t i = gpu_thread() + j * SKINNY_THREADS, row = i / UNITS, unit = i % UNITS;
        const uint32_t col = chunk % c.n_chunks * COLS + unit * 8;
        const bool valid = first + row < w_rows && col < a.k;
        const size_t at = static_cast<size_t>(first + row) * a.k + col;
        F::copy(stage + skinny_at(row, unit), static_cast<const E *>(a.w) + (valid ? at : 0),
                valid);
    }
}

template <class F, int NT>
static GPU_FN void copy_input(const struct gpu_linear &a, const struct skinny_cut &c,
                              uint32_t chunk, typename F::elem *stage)
{
    using E = typename F::elem;
    E *to = stage + skinny_stage<F, NT>::WEIGHTS;
    for (uint32_t i = gpu_thread(); i < NT * 8 * UNITS; i += SKINNY_THREADS) {
        const uint32_t row = i / UNITS, unit = i % UNITS;
        const uint32_t col = chunk % c.n_chunks * COLS + unit * 8;
        const bool valid = row < a.n_rows && col < a.k;
        const size_t at = static_cast<size_t>(row) * a.in_stride + col;
        F::copy(to + skinny_at(row, unit), static_cast<const E *>(a.in) + (valid ? at : 0), valid);
    }
}

/* A warp's 16 rows of the weight by all rows of the input, over a chunk. */
template <class F, int NT>
static GPU_FN void multiply(const typename F::elem *stage, float sums[NT][4])
{
    const uint32_t lane = gpu_lane();
    const auto *x = stage + skinny_stage<F, NT>::WEIGHTS;
#pragma unroll
    for (uint32_t unit = 0; unit < UNITS; unit += 2) {
        uint32_t w[4]; /* rows 0-7, rows 8-15, then the next columns */
        gpu_ldmatrix_x4(w, stage + skinny_at(gpu_warp() * 16 + lane % 16, unit + lane / 16));
#pragma unroll
        for (uint32_t j = 0; j < NT; j += 2) {
            uint32_t b[4]; /* eight rows: columns 0-7, 8-15; then the next eight rows */
            gpu_ldmatrix_x4(b,
                            x + skinny_at(j * 8 + lane / 16 * 8 + lane % 8, unit + lane / 8 % 2));
            F::mma(sums[j], w, b);
            F::mma(sums[j + 1], w, b + 2);
        }
    }
}

/* Rows g and g + 8 of the warp's sixteen are a pair, in one thread. */
template <class E, int NT>
static GPU_FN void store_tile(const struct gpu_linear &a, uint32_t tile, const float sums[NT][4])
{
    const uint32_t g = gpu_lane() / 4, t = gpu_lane() % 4;
    const uint32_t w_row = tile * TILE + gpu_warp() * 16 + g;
#pragma unroll
    for (uint32_t j = 0; j < NT; j++)
#pragma unroll
        for (uint32_t r = 0; r < 2; r++) {
            const uint32_t row = j * 8 + 2 * t + r;
            if (row < a.n_rows && w_row < linear_w_rows(a))
                linear_store<E>(a, row, w_row, sums[j][r], sums[j][r + 2]);
        }
}

/* This thread's sums in a place for parts. */
template <int NT>
static GPU_FN float *part_of(const struct gpu_linear &a, uint32_t place, uint32_t j, uint32_t r)
{
    const uint32_t of_place = GPU_SPLIT_ROWS * GPU_SKINNY;
    return a.split.parts + static_cast<size_t>(place) * of_place +
           ((gpu_warp() * NT + j) * 4 + r) * 32 + gpu_lane();
}

/* Leaves the block's part of a tile; true in the block that leaves the last one. */
template <int NT>
static GPU_FN bool leave_part(const struct gpu_linear &a, const struct skinny_cut &c, uint32_t tile,
                              uint32_t first, uint32_t last, const float sums[NT][4])
{
    GPU_SHARED(uint32_t, order, 1);
    const uint32_t place = cut_place(c, gpu_block().x, tile);
    uint32_t *counter = a.split.arrived + cut_place(c, first, tile);
#pragma unroll
    for (uint32_t j = 0; j < NT; j++)
#pragma unroll
        for (uint32_t r = 0; r < 4; r++)
            *part_of<NT>(a, place, j, r) = sums[j][r];
    gpu_fence();
    gpu_sync_block();
    if (gpu_thread() == 0) {
        *order = gpu_atomic_add(counter, 1);
        if (*order == last - first)
            *counter = 0; /* for the next launch */
        gpu_fence();
    }
    gpu_sync_block();
    return *order == last - first;
}

template <int NT>
static GPU_FN void add_parts(const struct gpu_linear &a, const struct skinny_cut &c, uint32_t tile,
                             uint32_t first, uint32_t last, float sums[NT][4])
{
#pragma unroll
    for (uint32_t j = 0; j < NT; j++)
#pragma unroll
        for (uint32_t r = 0; r < 4; r++)
            sums[j][r] = 0;
    for (uint32_t block = first; block <= last; block++) {
        const uint32_t place = cut_place(c, block, tile);
#pragma unroll
        for (uint32_t j = 0; j < NT; j++)
#pragma unroll
            for (uint32_t r = 0; r < 4; r++)
                sums[j][r] += gpu_load_fresh(part_of<NT>(a, place, j, r));
    }
}

/* The block has done what it does of a tile; its sums begin anew. */
template <class E, int NT>
static GPU_FN void finish_tile(const struct gpu_linear &a, const struct skinny_cut &c,
                               uint32_t tile, float sums[NT][4])
{
    const uint32_t first = cut_owner(c, tile * c.n_chunks);
    const uint32_t last = cut_owner(c, (tile + 1) * c.n_chunks - 1);
    const bool whole = first == last;
    if (whole || leave_part<NT>(a, c, tile, first, last, sums)) {
        if (!whole)
            add_parts<NT>(a, c, tile, first, last, sums);
        store_tile<E, NT>(a, tile, sums);
    }
#pragma unroll
    for (uint32_t j = 0; j < NT; j++)
#pragma unroll
        for (uint32_t r = 0; r < 4; r++)
            sums[j][r] = 0;
}

/* The first weights are on their way before the kernel that makes the input has ended. */
template <class F, int NT>
GPU_KERNEL_PAIR(SKINNY_THREADS)
static void skinny_kernel(struct gpu_linear a, struct skinny_cut c)
{
    using E = typename F::elem;
    using S = skinny_stage<F, NT>;
    constexpr uint32_t stages = S::STAGES, ahead = stages == 1 ? 1 : stages - 1;
    const uint32_t begin = cut_begin(c, gpu_block().x), end = cut_begin(c, gpu_block().x + 1);
    E *shared = reinterpret_cast<E *>(gpu_dynamic_shared());
    float sums[NT][4] = {};
    for (uint32_t i = 0; i < ahead; i++)
        if (begin + i < end)
            copy_weights<F>(a, c, begin + i, shared + i * S::SIZE);
    gpu_await_previous();
    for (uint32_t i = 0; i < ahead; i++) {
        if (begin + i < end)
            copy_input<F, NT>(a, c, begin + i, shared + i * S::SIZE);
        F::copy_commit();
    }
    for (uint32_t i = begin; i < end; i++) {
        const uint32_t next = i + ahead;
        E *to = shared + (next - begin) % stages * S::SIZE;
        F::template copy_wait<ahead - 1>();
        gpu_sync_block(); /* the chunk is there, and the one before it is read */
        if (stages > 1) {
            if (next < end) {
                copy_weights<F>(a, c, next, to);
                copy_input<F, NT>(a, c, next, to);
            }
            F::copy_commit();
        }
        multiply<F, NT>(shared + (i - begin) % stages * S::SIZE, sums);
        if (i + 1 == end || (i + 1) % c.n_chunks == 0)
            finish_tile<E, NT>(a, c, i / c.n_chunks, sums);
        if (stages == 1 && next < end) {
            gpu_sync_block();
            copy_weights<F>(a, c, next, to);
            copy_input<F, NT>(a, c, next, to);
        }
    }
    F::template copy_wait<0>();
}

template <class F, int NT>
static int launch_rows(struct gpu_stream *s, const char *name, const struct gpu_linear *a)
{
    const uint32_t w_rows = a->n_out * (a->gate_up ? 2 : 1);
    struct skinny_cut c = {.n_chunks = (a->k + COLS - 1) / COLS, .total = 0, .n_blocks = 1};
    c.total = c.n_chunks * ((w_rows + TILE - 1) / TILE);
    if (c.total / CHUNKS_LEAST > 1)
        c.n_blocks = c.total / CHUNKS_LEAST;
    if (c.n_blocks > a->split.n_blocks)
        c.n_blocks = a->split.n_blocks;
    using S = skinny_stage<F, NT>;
    return gpu_chain(s, name, {c.n_blocks, 1, 1}, SKINNY_THREADS,
                     size_t{S::STAGES} * S::SIZE * sizeof(typename F::elem), skinny_kernel<F, NT>,
                     *a, c);
}

template <class F> static int launch_skinny(struct gpu_stream *s, const struct gpu_linear *a)
{
    if (a->n_rows <= 16)
        return launch_rows<F, 2>(s, "skinny16", a);
    if (a->n_rows <= 32)
        return launch_rows<F, 4>(s, "skinny32", a);
    return launch_rows<F, 8>(s, "skinny64", a);
}

int gpu_linear_skinny(struct gpu_stream *s, enum gpu_flavour f, const struct gpu_linear *a)
{
    return GPU_BY_FLAVOUR(f, launch_skinny, s, a);
}
