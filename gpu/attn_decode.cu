/* attn_decode.cu - attention of single rows: the heads of a group are the 16 rows of the matrix
 * instruction, and the context is split into parts of GPU_SPLIT positions, each for one block.
 *
 * The warps of a block take 16 positions each of a tile; their results are merged in order. The block
 * that finishes last for a sequence merges the parts, in order: the split, and so a row's bits, depend
 * on its position alone. */
#include "gpu/attn.cuh"

template <int HD> struct decode_size {
    enum {
        TILE = attn_size<HD>::WARPS * 16, /* positions */
        STAGE = 2 * TILE * attn_size<HD>::PITCH,
    };
};

/* Result of one row over some positions: out is not yet divided by sum. */
struct part {
    float max, sum, out;
};

static GPU_FN void part_add(struct part *to, float max, float sum, float out)
{
    const float top = fmaxf(to->max, max);
    const float base = top == -INFINITY ? 0.0f : top;
    const float old_scale = gpu_exp2(to->max - base), new_scale = gpu_exp2(max - base);
    to->max = top;
    to->sum = to->sum * old_scale + sum * new_scale;
    to->out = to->out * old_scale + out * new_scale;
}

/* What the warps found, in shared memory. */
template <int HD> struct warp_parts {
    float out[attn_size<HD>::WARPS][16][HD];
    float max[attn_size<HD>::WARPS][16], sum[attn_size<HD>::WARPS][16];
};

template <int HD>
static GPU_FN void leave_part(const struct attn_rows<HD> &r, struct warp_parts<HD> *to)
{
    const uint32_t w = gpu_warp(), g = gpu_lane() / 4, t = gpu_lane() % 4;
#pragma unroll
    for (uint32_t h = 0; h < 2; h++) {
#pragma unroll
        for (uint32_t j = 0; j < HD / 8; j++) {
            to->out[w][g + 8 * h][j * 8 + 2 * t] = r.out[j][2 * h];
            to->out[w][g + 8 * h][j * 8 + 2 * t + 1] = r.out[j][2 * h + 1];
        }
        if (t == 0) {
            to->max[w][g + 8 * h] = r.max[h];
            to->sum[w][g + 8 * h] = r.sum[h];
        }
    }
}

template <int HD>
static GPU_FN struct part merge_warps(const struct warp_parts<HD> *from, uint32_t row, uint32_t d)
{
    struct part p = {-INFINITY, 0, 0};
    for (uint32_t w = 0; w < attn_size<HD>::WARPS; w++)
        part_add(&p, from->max[w][row], from->sum[w][row], from->out[w][row][d]);
    return p;
}

/* Heads first_head.. (at most 16) of one row of the batch. */
struct decode_rows {
    uint32_t row, first_head, n_heads;
};

template <class E>
static GPU_FN void decode_store(const struct gpu_attn &a, uint32_t row, uint32_t head, uint32_t d,
                                const struct part &p)
{
    E *out = static_cast<E *>(a.out) + static_cast<size_t>(row) * a.out_stride;
    gpu_from_f32(p.out / p.sum, &out[static_cast<size_t>(head) * a.kv.head_dim + d]);
}

/* The block's result: to the output when it is the only part, else to the work space. */
template <class F, int HD>
static GPU_FN void finish_part(const struct gpu_attn &a, const struct gpu_attn_item &item,
                               const struct decode_rows &rows, const struct warp_parts<HD> *from)
{
    const uint32_t hd = a.kv.head_dim;
    for (uint32_t i = gpu_thread(); i < rows.n_heads * hd; i += attn_size<HD>::THREADS) {
        const uint32_t r = i / hd, d = i % hd, head = rows.first_head + r;
        const struct part p = merge_warps<HD>(from, r, d);
        if (item.n_parts == 1) {
            decode_store<typename F::elem>(a, rows.row, head, d, p);
            continue;
        }
        const size_t at = static_cast<size_t>(item.first + item.part) * a.kv.n_heads + head;
        a.partial[at * hd + d] = p.out;
        if (d == 0) {
            a.partial_max[2 * at] = p.max;
            a.partial_max[2 * at + 1] = p.sum;
        }
    }
}

template <class F, int HD>
static GPU_FN void merge_parts(const struct gpu_attn &a, const struct gpu_attn_item &item,
                               const struct decode_rows &rows)
{
    const uint32_t hd = a.kv.head_dim;
    for (uint32_t i = gpu_thread(); i < rows.n_heads * hd; i += attn_size<HD>::THREADS) {
        const uint32_t d = i % hd, head = rows.first_head + i / hd;
        struct part p = {-INFINITY, 0, 0};
        for (uint32_t k = 0; k < item.n_parts; k++) {
            const size_t at = static_cast<size_t>(item.first + k) * a.kv.n_heads + head;
            part_add(&p, gpu_load_fresh(&a.partial_max[2 * at]),
                     gpu_load_fresh(&a.partial_max[2 * at + 1]),
                     gpu_load_fresh(&a.partial[at * hd + d]));
        }
        decode_store<typename F::elem>(a, rows.row, head, d, p);
    }
}

/* True in the block that comes last of a sequence's parts; resets the counter for the next launch. */
static GPU_FN bool arrive_last(uint32_t *counter, uint32_t n_parts)
{
    GPU_SHARED(uint32_t, order, 1);
    gpu_fence();
    gpu_sync_block();
    if (gpu_thread() == 0) {
        *order = gpu_atomic_add(counter, 1);
        if (*order + 1 == n_parts)
            *counter = 0;
        gpu_fence();
    }
    gpu_sync_block();
    return *order + 1 == n_parts;
}

/* This warp's rows over its share of the positions first..end; the block copies them together. */
template <class F, int HD>
static GPU_FN void attend(const struct gpu_attn &a, const struct gpu_seq &seq, uint32_t kv_head,
                          uint32_t first_packed, uint32_t first, uint32_t end,
                          struct attn_rows<HD> *rows)
{
    using E = typename F::elem;
    using D = decode_size<HD>;
    const uint32_t *table = a.tables + seq.table;
    const struct attn_place p = attn_find(a, seq, kv_head, 0);
    const struct attn_span see = {{p.from, p.from}, {p.end, p.end}};
    const uint32_t n = first < end ? (end - first + D::TILE - 1) / D::TILE : 0;
    const uint32_t group = a.kv.n_heads / a.kv.n_kv_heads;
    E *q = reinterpret_cast<E *>(gpu_dynamic_shared());
    E *stages = q + 16 * attn_size<HD>::PITCH;
    auto copy = [&](uint32_t i) {
        E *keys = stages + i % F::STAGES * D::STAGE;
        attn_load_kv<F, HD>(a, table, kv_head, first + i * D::TILE, D::TILE, p.from, end, keys,
                            keys + D::STAGE / 2);
    };
    attn_load_q<F, HD>(a, seq, kv_head, first_packed, group, 16, q);
    if (n > 0)
        copy(0);
    F::copy_commit();
    attn_clear(rows);
    const float scale = attn_scale(a);
    uint32_t kept[attn_size<HD>::KEPT][4];
    for (uint32_t i = 0; i < n; i++) {
        if (F::STAGES > 1) {
            if (i + 1 < n)
                copy(i + 1);
            F::copy_commit();
        }
        F::template copy_wait<F::STAGES - 1>();
        gpu_sync_block();
        if (i == 0 && HD <= 128)
#pragma unroll
            for (uint32_t k = 0; k < attn_size<HD>::KEPT; k++)
                attn_query<HD>(q, k, kept[k]);
        const E *keys = stages + i % F::STAGES * D::STAGE + gpu_warp() * 16 * attn_size<HD>::PITCH;
        attn_tile<F, HD, 16>(scale, see, first + i * D::TILE + gpu_warp() * 16, q, kept, keys,
                             keys + D::STAGE / 2, rows);
        gpu_sync_block(); /* the stage is read */
        if (F::STAGES == 1 && i + 1 < n)
            copy(i + 1);
    }
    F::template copy_wait<0>();
    gpu_sync_block();
    attn_total(rows);
}

template <class F, int HD>
static GPU_FN void decode_item(const struct gpu_attn &a, const struct gpu_attn_item &item)
{
    const struct gpu_seq seq = a.seqs[item.seq];
    const uint32_t kv_head = gpu_block().y, group = a.kv.n_heads / a.kv.n_kv_heads;
    const uint32_t first_packed = gpu_block().z * 16, left = group - first_packed;
    const uint32_t context = seq.first_pos + 1;
    const uint32_t from = a.window && context > a.window ? context - a.window : 0;
    /* Tiles begin where they would without a window: at multiples of the part. */
    uint32_t first = item.part * GPU_SPLIT, end = first + GPU_SPLIT;
    end = end < context ? end : context;
    if (from > first)
        first += (from - first) / decode_size<HD>::TILE * decode_size<HD>::TILE;

    struct attn_rows<HD> rows;
    attend<F, HD>(a, seq, kv_head, first_packed, first, end, &rows);
    struct warp_parts<HD> *parts = reinterpret_cast<struct warp_parts<HD> *>(gpu_dynamic_shared());
    leave_part<HD>(rows, parts);
    gpu_sync_block();
    const struct decode_rows mine = {seq.first_row, kv_head * group + first_packed,
                                     left < 16 ? left : 16};
    finish_part<F, HD>(a, item, mine, parts);
    if (item.n_parts == 1)
        return;
    uint32_t *counter =
        a.arrived + (item.seq * gpu_grid().y + kv_head) * gpu_grid().z + gpu_block().z;
    if (arrive_last(counter, item.n_parts))
        merge_parts<F, HD>(a, item, mine);
}

/* A block takes every grid's-width-th item: a recorded launch has one size for any number of them. */
template <class F, int HD>
GPU_KERNEL(attn_size<HD>::THREADS)
static void decode_kernel(struct gpu_attn a)
{
    gpu_await_previous();
    const uint32_t n = a.n_now ? *a.n_now : a.n_items;
    for (uint32_t i = gpu_block().x; i < n; i += gpu_grid().x) {
        decode_item<F, HD>(a, a.items[i]);
        gpu_sync_block(); /* shared memory is read */
    }
}

template <class F, int HD> static int launch_size(struct gpu_stream *s, const struct gpu_attn *a)
{
    const size_t elems = 16 * attn_size<HD>::PITCH + size_t{F::STAGES} * decode_size<HD>::STAGE;
    const size_t copies = elems * sizeof(typename F::elem), parts = sizeof(struct warp_parts<HD>);
    const uint32_t group = a->kv.n_heads / a->kv.n_kv_heads;
    return gpu_chain(s, "attn_decode", {a->n_items, a->kv.n_kv_heads, (group + 15) / 16},
                     attn_size<HD>::THREADS, copies > parts ? copies : parts, decode_kernel<F, HD>,
                     *a);
}

template <class F> static int launch_decode(struct gpu_stream *s, const struct gpu_attn *a)
{
    if (a->kv.head_dim <= 64)
        return launch_size<F, 64>(s, a);
    return a->kv.head_dim <= 128 ? launch_size<F, 128>(s, a) : launch_size<F, 256>(s, a);
}

int gpu_attn_decode(struct gpu_stream *s, enum gpu_flavour f, const struct gpu_attn *a)
{
    return GPU_BY_FLAVOUR(f, launch_decode, s, a);
}
