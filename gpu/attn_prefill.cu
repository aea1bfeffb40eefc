/* attn_prefill.cu - attention of many rows: a block takes 16 packed rows per warp of one sequence and
 * KV head, and walks over the positions that any of them sees, a tile of keys and values at a time,
 * through a pipeline of copies. Prompts and their later chunks are the same to it. */
#include "gpu/attn.cuh"

template <int HD> struct prefill_size {
    enum {
        ROWS = attn_size<HD>::WARPS * 16,
        TILE = HD > 128 ? 16 : 32, /* positions */
        STAGE = 2 * TILE * attn_size<HD>::PITCH,
    };
};

template <class F, int HD>
static GPU_FN void prefill_store(const struct gpu_attn &a, const struct gpu_seq &seq,
                                 uint32_t kv_head, uint32_t packed, struct attn_rows<HD> *r)
{
    using E = typename F::elem;
    attn_total(r);
#pragma unroll
    for (uint32_t h = 0; h < 2; h++) {
        const struct attn_place p = attn_find(a, seq, kv_head, packed + 8 * h);
        if (!p.valid)
            continue;
        E *out = static_cast<E *>(a.out) + static_cast<size_t>(p.row) * a.out_stride +
                 static_cast<size_t>(p.head) * a.kv.head_dim;
        const float scale = 1.0f / r->sum[h];
#pragma unroll
        for (uint32_t j = 0; j < HD / 8; j++)
#pragma unroll
            for (uint32_t i = 0; i < 2; i++) {
                const uint32_t d = j * 8 + gpu_lane() % 4 * 2 + i;
                if (d < a.kv.head_dim)
                    gpu_from_f32(r->out[j][2 * h + i] * scale, &out[d]);
            }
    }
}

template <class F, int HD>
GPU_KERNEL(attn_size<HD>::THREADS)
static void prefill_kernel(struct gpu_attn a)
{
    gpu_await_previous();
    using E = typename F::elem;
    using P = prefill_size<HD>;
    const struct gpu_attn_item item = a.items[gpu_block().x];
    const struct gpu_seq seq = a.seqs[item.seq];
    const uint32_t *table = a.tables + seq.table;
    const uint32_t kv_head = gpu_block().y,
                   n_packed = seq.n_rows * (a.kv.n_heads / a.kv.n_kv_heads);
    const uint32_t first = item.part * P::ROWS;
    const uint32_t last = first + P::ROWS < n_packed ? first + P::ROWS - 1 : n_packed - 1;
    const uint32_t from = attn_find(a, seq, kv_head, first).from;
    const uint32_t end = attn_find(a, seq, kv_head, last).end;
    const uint32_t begin = from / P::TILE * P::TILE;
    const uint32_t n = (end - begin + P::TILE - 1) / P::TILE;

    E *q = reinterpret_cast<E *>(gpu_dynamic_shared());
    E *stages = q + P::ROWS * attn_size<HD>::PITCH;
    auto copy = [&](uint32_t i) {
        E *keys = stages + i % F::STAGES * P::STAGE;
        attn_load_kv<F, HD>(a, table, kv_head, begin + i * P::TILE, P::TILE, from, end, keys,
                            keys + P::STAGE / 2);
    };
    attn_load_q<F, HD>(a, seq, kv_head, first, n_packed, P::ROWS, q);
    copy(0);
    F::copy_commit();

    const uint32_t packed = first + gpu_warp() * 16 + gpu_lane() / 4;
    struct attn_span see;
    struct attn_rows<HD> rows;
#pragma unroll
    for (uint32_t h = 0; h < 2; h++) {
        const struct attn_place p = attn_find(a, seq, kv_head, packed + 8 * h);
        see.from[h] = p.from;
        see.end[h] = p.end;
    }
    attn_clear(&rows);
    const float scale = attn_scale(a);
    const E *my_q = q + gpu_warp() * 16 * attn_size<HD>::PITCH;
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
                attn_query<HD>(my_q, k, kept[k]);
        const E *keys = stages + i % F::STAGES * P::STAGE;
        attn_tile<F, HD, P::TILE>(scale, see, begin + i * P::TILE, my_q, kept, keys,
                                  keys + P::STAGE / 2, &rows);
        gpu_sync_block(); /* the stage is read */
        if (F::STAGES == 1 && i + 1 < n)
            copy(i + 1);
    }
    F::template copy_wait<0>();
    prefill_store<F, HD>(a, seq, kv_head, packed, &rows);
}

template <class F, int HD> static int launch_size(struct gpu_stream *s, const struct gpu_attn *a)
{
    using P = prefill_size<HD>;
    const size_t elems = P::ROWS * attn_size<HD>::PITCH + size_t{F::STAGES} * P::STAGE;
    return gpu_chain(s, "attn_prefill", {a->n_items, a->kv.n_kv_heads, 1}, attn_size<HD>::THREADS,
                     elems * sizeof(typename F::elem), prefill_kernel<F, HD>, *a);
}

template <class F> static int launch_prefill(struct gpu_stream *s, const struct gpu_attn *a)
{
    if (a->kv.head_dim <= 64)
        return launch_size<F, 64>(s, a);
    return a->kv.head_dim <= 128 ? launch_size<F, 128>(s, a) : launch_size<F, 256>(s, a);
}

uint32_t gpu_attn_tile(uint32_t head_dim)
{
    const uint32_t wide = prefill_size<256>::ROWS, narrow = prefill_size<128>::ROWS;
    return head_dim > 128 ? wide : narrow;
}

int gpu_attn_prefill(struct gpu_stream *s, enum gpu_flavour f, const struct gpu_attn *a)
{
    return GPU_BY_FLAVOUR(f, launch_prefill, s, a);
}
