#include "tests/gpu/device/ref.h"

#include <math.h>

#include "gpu/flavour.cuh"

enum { THREADS = 128, WARPS = THREADS / 32, ROWS = 8, MAX_HEAD_PARTS = GPU_MAX_HEAD / 32 };

/* Uniform in -1..1, of a counter: 64 bits mixed as in splitmix64. */
static GPU_FN float hashed(uint64_t seed, uint64_t i)
{
    uint64_t z = seed + (i + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return static_cast<float>(static_cast<uint32_t>(z >> 40)) / 8388608.0f - 1.0f;
}

static const float UNIFORM = 1.7320508f; /* the bound of a uniform distribution of deviation 1 */

template <class E> static GPU_FN float as_element(bool rounded, float x)
{
    E e;
    gpu_from_f32(x, &e);
    return rounded ? gpu_to_f32(e) : x;
}

/* --- weights --- */

template <class F> GPU_KERNEL(THREADS) static void matrix_kernel(struct generated m)
{
    using E = typename F::elem;
    const uint32_t row = gpu_block().x;
    const bool up = row % GPU_ROWS >= GPU_ROWS / 2;
    uint32_t from = row;
    if (m.gate_up)
        from = row / GPU_ROWS * (GPU_ROWS / 2) + row % (GPU_ROWS / 2) + (up ? m.rows / 2 : 0);
    const bool there = m.gate_up ? from - (up ? m.rows / 2 : 0) < m.rows / 2 : from < m.rows;
    E *out = static_cast<E *>(m.out) + static_cast<size_t>(row) * m.stride;
    for (uint32_t c = gpu_thread(); c < m.stride; c += THREADS) {
        const uint64_t i = static_cast<uint64_t>(from) * m.cols + c;
        gpu_from_f32(there && c < m.cols ? m.deviation * 1.7320508f * hashed(m.seed, i) : 0.0f,
                     &out[c]);
    }
}

template <class F> static int launch_matrix(const struct ref *r, const struct generated *m)
{
    return gpu_launch(r->stream, "matrix", {m->to_rows, 1, 1}, THREADS, 0, matrix_kernel<F>, *m);
}

int ref_matrix(const struct ref *r, const struct generated *m)
{
    return GPU_BY_FLAVOUR(r->flavour, launch_matrix, r, m);
}

GPU_KERNEL(THREADS)
static void vector_kernel(float *out, uint32_t n, uint64_t seed, float mean, float bound)
{
    const uint32_t i = gpu_block().x * THREADS + gpu_thread();
    if (i < n)
        out[i] = mean + bound * hashed(seed, i);
}

int ref_vector(const struct ref *r, float *out, uint32_t n, uint64_t seed, float mean,
               float deviation)
{
    return gpu_launch(r->stream, "vector", {(n + THREADS - 1) / THREADS, 1, 1}, THREADS, 0,
                      vector_kernel, out, n, seed, mean, deviation * UNIFORM);
}

/* --- operations --- */

template <class F>
GPU_KERNEL(THREADS)
static void embed_kernel(const void *table, uint32_t stride, const uint32_t *tokens, uint32_t cols,
                         float *out)
{
    using E = typename F::elem;
    const uint32_t row = gpu_block().x;
    const E *from = static_cast<const E *>(table) + static_cast<size_t>(tokens[row]) * stride;
    for (uint32_t c = gpu_thread(); c < cols; c += THREADS)
        out[static_cast<size_t>(row) * cols + c] = gpu_to_f32(from[c]);
}

template <class F>
static int launch_embed(const struct ref *r, const void *table, uint32_t stride,
                        const uint32_t *tokens, uint32_t n, uint32_t cols, float *out)
{
    return gpu_launch(r->stream, "embed", {n, 1, 1}, THREADS, 0, embed_kernel<F>, table, stride,
                      tokens, cols, out);
}

int ref_embed(const struct ref *r, const void *table, uint32_t stride, const uint32_t *tokens,
              uint32_t n, uint32_t cols, float *out)
{
    return GPU_BY_FLAVOUR(r->flavour, launch_embed, r, table, stride, tokens, n, cols, out);
}

/* A warp per row. */
template <class F>
GPU_KERNEL(32)
static void norm_kernel(bool rounded, float *x, const float *delta, const float *w, uint32_t cols,
                        float eps, float *out)
{
    using E = typename F::elem;
    const size_t first = static_cast<size_t>(gpu_block().x) * cols;
    float squares = 0;
    for (uint32_t c = gpu_lane(); c < cols; c += 32) {
        const float v =
            delta ? as_element<E>(rounded, x[first + c] + delta[first + c]) : x[first + c];
        x[first + c] = v;
        squares += v * v;
    }
    const float scale = gpu_rsqrt(gpu_warp_sum(squares) / static_cast<float>(cols) + eps);
    for (uint32_t c = gpu_lane(); c < cols; c += 32)
        out[first + c] = as_element<E>(rounded, x[first + c] * scale * w[c]);
}

template <class F>
static int launch_norm(const struct ref *r, float *x, const float *delta, const float *w,
                       uint32_t n, uint32_t cols, float eps, float *out)
{
    return gpu_launch(r->stream, "norm", {n, 1, 1}, 32, 0, norm_kernel<F>, r->rounded, x, delta, w,
                      cols, eps, out);
}

int ref_norm(const struct ref *r, float *x, const float *delta, const float *w, uint32_t n,
             uint32_t cols, float eps, float *out)
{
    return GPU_BY_FLAVOUR(r->flavour, launch_norm, r, x, delta, w, n, cols, eps, out);
}

/* Row `w_row` of the weight times ROWS rows of the input, by a warp. */
template <class E>
static GPU_FN void dots(const float *in, uint32_t first, uint32_t n, uint32_t cols, const E *w,
                        float out[ROWS])
{
#pragma unroll
    for (uint32_t i = 0; i < ROWS; i++)
        out[i] = 0;
    for (uint32_t c = gpu_lane(); c < cols; c += 32) {
        const float v = gpu_to_f32(w[c]);
#pragma unroll
        for (uint32_t i = 0; i < ROWS; i++)
            if (first + i < n)
                out[i] += v * in[static_cast<size_t>(first + i) * cols + c];
    }
#pragma unroll
    for (uint32_t i = 0; i < ROWS; i++)
        out[i] = gpu_warp_sum(out[i]);
}

/* a.in_stride is the number of columns that are no padding. */
template <class F>
GPU_KERNEL(THREADS)
static void linear_kernel(bool rounded, const float *in, struct gpu_linear a, float *out)
{
    using E = typename F::elem;
    const uint32_t o = gpu_block().x * WARPS + gpu_warp(), first = gpu_block().y * ROWS;
    if (o >= a.n_out)
        return;
    const uint32_t half = GPU_ROWS / 2;
    const uint32_t row = a.gate_up ? o / half * GPU_ROWS + o % half : o;
    const E *w = static_cast<const E *>(a.w) + static_cast<size_t>(row) * a.k;
    float sums[ROWS], ups[ROWS];
    dots<E>(in, first, a.n_rows, a.in_stride, w, sums);
    if (a.gate_up)
        dots<E>(in, first, a.n_rows, a.in_stride, w + static_cast<size_t>(half) * a.k, ups);
    for (uint32_t i = 0; i < ROWS && first + i < a.n_rows; i++) {
        float v = as_element<E>(rounded, a.bias ? sums[i] + a.bias[o] : sums[i]);
        if (a.gate_up) {
            const float gate = as_element<E>(rounded, v / (1.0f + gpu_exp2(-v * 1.44269504f)));
            v = as_element<E>(rounded, gate * as_element<E>(rounded, ups[i]));
        }
        if (gpu_lane() == 0)
            out[static_cast<size_t>(first + i) * a.n_out + o] = v;
    }
}

template <class F>
static int launch_linear(const struct ref *r, const float *in, const struct gpu_linear *w,
                         float *out)
{
    const struct gpu_dim grid = {(w->n_out + WARPS - 1) / WARPS, (w->n_rows + ROWS - 1) / ROWS, 1};
    return gpu_launch(r->stream, "linear", grid, THREADS, 0, linear_kernel<F>, r->rounded, in, *w,
                      out);
}

int ref_linear(const struct ref *r, const float *in, const struct gpu_linear *w, float *out)
{
    return GPU_BY_FLAVOUR(r->flavour, launch_linear, r, in, w, out);
}

/* A warp per head of q or k and row. */
template <class F> GPU_KERNEL(32) static void rope_kernel(bool rounded, struct ref_heads a)
{
    using E = typename F::elem;
    const uint32_t row = gpu_block().x, h = gpu_block().y, half = a.head_dim / 2;
    float *x = a.qkv + (static_cast<size_t>(row) * (a.n_heads + 2 * a.n_kv_heads) + h) * a.head_dim;
    const float *w = h < a.n_heads ? a.q_norm : a.k_norm;
    float squares = 0;
    for (uint32_t i = gpu_lane(); i < a.head_dim; i += 32)
        squares += x[i] * x[i];
    const float norm = gpu_rsqrt(gpu_warp_sum(squares) / static_cast<float>(a.head_dim) + a.eps);
    for (uint32_t i = gpu_lane(); i < half; i += 32) {
        const double angle = row * a.inv_freq[i];
        const float c = a.scale * static_cast<float>(cos(angle));
        const float s = a.scale * static_cast<float>(sin(angle));
        const float p = w ? as_element<E>(rounded, x[i] * norm * w[i]) : x[i];
        const float q = w ? as_element<E>(rounded, x[i + half] * norm * w[i + half]) : x[i + half];
        x[i] = as_element<E>(rounded, p * c - q * s);
        x[i + half] = as_element<E>(rounded, q * c + p * s);
    }
}

template <class F> static int launch_rope(const struct ref *r, const struct ref_heads *a)
{
    return gpu_launch(r->stream, "rope", {a->n, a->n_heads + a->n_kv_heads, 1}, 32, 0,
                      rope_kernel<F>, r->rounded, *a);
}

int ref_rope(const struct ref *r, const struct ref_heads *a)
{
    return GPU_BY_FLAVOUR(r->flavour, launch_rope, r, a);
}

/* A warp per head and row; keys one after the other, with a running maximum. Frameworks round the
 * weights of values before they multiply: so does `rounded`. */
template <class F>
GPU_KERNEL(32)
static void attention_kernel(bool rounded, struct ref_heads a, float *out)
{
    using E = typename F::elem;
    const uint32_t row = gpu_block().x, h = gpu_block().y;
    const uint32_t kv = h / (a.n_heads / a.n_kv_heads), heads = a.n_heads + 2 * a.n_kv_heads;
    const float *q = a.qkv + (static_cast<size_t>(row) * heads + h) * a.head_dim;
    float max = -INFINITY, sum = 0, mixed[MAX_HEAD_PARTS] = {};
    for (uint32_t p = 0; p <= row; p++) {
        const float *k = a.qkv + (static_cast<size_t>(p) * heads + a.n_heads + kv) * a.head_dim;
        const float *v = k + static_cast<size_t>(a.n_kv_heads) * a.head_dim;
        float score = 0;
        for (uint32_t i = gpu_lane(); i < a.head_dim; i += 32)
            score += q[i] * k[i];
        score = gpu_warp_sum(score) * gpu_rsqrt(static_cast<float>(a.head_dim)) * 1.44269504f;
        const float top = fmaxf(max, score), shrink = gpu_exp2(max - top);
        const float w = as_element<E>(rounded, gpu_exp2(score - top));
        sum = sum * shrink + w;
        max = top;
#pragma unroll
        for (uint32_t j = 0; j < MAX_HEAD_PARTS; j++)
            if (j * 32 + gpu_lane() < a.head_dim)
                mixed[j] = mixed[j] * shrink + w * v[j * 32 + gpu_lane()];
    }
    float *to = out + (static_cast<size_t>(row) * a.n_heads + h) * a.head_dim;
#pragma unroll
    for (uint32_t j = 0; j < MAX_HEAD_PARTS; j++)
        if (j * 32 + gpu_lane() < a.head_dim)
            to[j * 32 + gpu_lane()] = as_element<E>(rounded, mixed[j] / sum);
}

template <class F>
static int launch_attention(const struct ref *r, const struct ref_heads *a, float *out)
{
    return gpu_launch(r->stream, "attention", {a->n, a->n_heads, 1}, 32, 0, attention_kernel<F>,
                      r->rounded, *a, out);
}

int ref_attention(const struct ref *r, const struct ref_heads *a, float *out)
{
    return GPU_BY_FLAVOUR(r->flavour, launch_attention, r, a, out);
}

/* --- the device's limits, and its end --- */

GPU_KERNEL(256) static void read_kernel(const struct gpu_16b *p, size_t n, uint32_t *out)
{
    enum { AHEAD = 4 };
    const size_t step = static_cast<size_t>(gpu_grid().x) * 256;
    uint32_t x = 0;
    size_t i = static_cast<size_t>(gpu_block().x) * 256 + gpu_thread();
    for (; i + (AHEAD - 1) * step < n; i += AHEAD * step) {
        struct gpu_16b v[AHEAD];
#pragma unroll
        for (uint32_t j = 0; j < AHEAD; j++)
            v[j] = gpu_load_once(p + i + j * step);
#pragma unroll
        for (uint32_t j = 0; j < AHEAD; j++)
            x ^= v[j].w[0] ^ v[j].w[1] ^ v[j].w[2] ^ v[j].w[3];
    }
    for (; i < n; i += step)
        x ^= p[i].w[0];
    if (x == 0x5bd1e995u) /* so that the loads are not in vain */
        *out = x;
}

int ref_read(const struct ref *r, const void *p, size_t bytes, uint32_t *out)
{
    return gpu_launch(r->stream, "read", {132 * 16, 1, 1}, 256, 0, read_kernel,
                      static_cast<const struct gpu_16b *>(p), bytes / 16, out);
}

GPU_KERNEL(32) static void fault_kernel(uint32_t *p)
{
    if (gpu_thread() == 0)
        *p = 1;
}

int ref_fault(const struct ref *r)
{
    return gpu_launch(r->stream, "fault", {1, 1, 1}, 32, 0, fault_kernel,
                      reinterpret_cast<uint32_t *>(static_cast<uintptr_t>(64)));
}

GPU_KERNEL(32) static void endless_kernel(volatile uint32_t *go)
{
    while (*go == 0)
        ;
}

int ref_endless(const struct ref *r, volatile uint32_t *go)
{
    return gpu_launch(r->stream, "endless", {1, 1, 1}, 32, 0, endless_kernel, go);
}
