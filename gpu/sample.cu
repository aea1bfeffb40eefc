/* sample.cu - what comes before the choice of a token: log probabilities, bias and penalties, and of
 * each 64 logits the maximum and the sum of weights, added in core/engine/sampler_math.c's order.
 *
 * Bias and penalties change the logits in place: a row is sampled once. */
#include "gpu/fed.cuh"
#include "gpu/flavour.cuh"
#include "gpu/sample.cuh"

enum { BLOCK = GPU_SAMPLE_BLOCK };

/* --- log probabilities --- */

/* The larger of two logits, of equals the lower id; id is none (~0) at first. */
struct ranked {
    float logit;
    uint32_t id;
};

static GPU_FN bool ranks_before(const struct ranked &a, const struct ranked &b)
{
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

static GPU_FN struct ranked ranked_warp(struct ranked r)
{
#pragma unroll
    for (uint32_t lanes = 16; lanes > 0; lanes /= 2) {
        const struct ranked other = {gpu_shfl_xor(r.logit, lanes),
                                     gpu_bits(gpu_shfl_xor(gpu_from_bits(r.id), lanes))};
        if (ranks_before(other, r))
            r = other;
    }
    return r;
}

/* The best of a block of logits among those that come after `last`; all lanes. */
static GPU_FN struct ranked best_of_block(const float *logits, uint32_t vocab, uint32_t block,
                                          const struct ranked &last)
{
    struct ranked best = {-INFINITY, 0xffffffffu};
#pragma unroll
    for (uint32_t h = 0; h < 2; h++) {
        const uint32_t i = block * BLOCK + h * 32 + gpu_lane();
        if (i >= vocab)
            continue;
        const struct ranked mine = {logits[i], i};
        if (ranks_before(last, mine) && ranks_before(mine, best))
            best = mine;
    }
    return ranked_warp(best);
}

/* log of the sum of e^(logit - max), in double: the same in every thread. */
static GPU_FN double log_sum(const float *logits, uint32_t vocab, float max)
{
    GPU_SHARED(double, sums, SAMPLE_THREADS);
    double sum = 0;
    for (uint32_t i = gpu_thread(); i < vocab; i += SAMPLE_THREADS)
        sum += static_cast<double>(sample_weight(logits[i], max, 1.0f));
    sums[gpu_thread()] = sum;
    for (uint32_t n = SAMPLE_THREADS / 2; n > 0; n /= 2) {
        gpu_sync_block();
        if (gpu_thread() < n)
            sums[gpu_thread()] += sums[gpu_thread() + n];
    }
    gpu_sync_block();
    return static_cast<double>(gpu_log(static_cast<float>(sums[0])));
}

/* The n best, one after the other: the best block gives its best and takes its next one's place. */
static GPU_FN void take_top(const float *logits, uint32_t vocab, uint32_t n, struct ranked *blocks,
                            float lse, struct sample_logprobs *out)
{
    GPU_SHARED(struct ranked, best, SAMPLE_WARPS);
    const uint32_t n_blocks = sample_blocks(vocab);
    for (uint32_t k = 0; k < n; k++) {
        struct ranked mine = {-INFINITY, 0xffffffffu};
        for (uint32_t b = gpu_thread(); b < n_blocks; b += SAMPLE_THREADS)
            if (ranks_before(blocks[b], mine))
                mine = blocks[b];
        mine = ranked_warp(mine);
        if (gpu_lane() == 0)
            best[gpu_warp()] = mine;
        gpu_sync_block();
        if (gpu_warp() == 0) {
            mine = ranked_warp(best[gpu_lane() % SAMPLE_WARPS]);
            const bool none = mine.id == 0xffffffffu;
            if (gpu_lane() == 0) {
                out->top_ids[k] = none ? 0 : mine.id;
                out->top[k] = mine.logit - lse;
            }
            const uint32_t block = none ? 0 : mine.id / BLOCK;
            const struct ranked next = best_of_block(logits, vocab, block, mine);
            if (gpu_lane() == 0 && !none)
                blocks[block] = next;
        }
        gpu_sync_block();
    }
}

GPU_KERNEL(SAMPLE_THREADS) static void logprobs_kernel(struct gpu_sample a)
{
    gpu_await_previous();
    const struct gpu_sample_row r = a.rows[gpu_block().x];
    if (r.row == GPU_NO_ROW || r.logprobs == 0)
        return;
    const float *logits = a.logits + static_cast<size_t>(r.row) * a.vocab;
    struct ranked *blocks = reinterpret_cast<struct ranked *>(gpu_dynamic_shared());
    float max = -INFINITY;
    for (uint32_t b = gpu_warp(); b < sample_blocks(a.vocab); b += SAMPLE_WARPS) {
        const struct ranked best = best_of_block(logits, a.vocab, b, {INFINITY, 0});
        if (gpu_lane() == 0)
            blocks[b] = best;
        max = sample_max(max, best.logit);
    }
    max = sample_block_max(max); /* a barrier: the blocks are there */
    struct sample_logprobs *out = &a.logprobs[gpu_block().x];
    const float lse = max + static_cast<float>(log_sum(logits, a.vocab, max));
    take_top(logits, a.vocab, r.logprobs - 1, blocks, lse, out);
    if (gpu_thread() == 0) {
        out->n_top = r.logprobs - 1;
        out->chosen = lse; /* the choice turns it into the token's */
    }
}

int gpu_sample_logprobs(struct gpu_stream *s, const struct gpu_sample *a)
{
    return gpu_chain(s, "logprobs", {a->n_rows, 1, 1}, SAMPLE_THREADS,
                     gpu_sample_blocks(a->vocab) * sizeof(struct ranked), logprobs_kernel, *a);
}

/* --- bias and penalties --- */

static GPU_FN float penalized(const struct gpu_sample_row &r, const struct sample_seen &t, float l)
{
    if (r.repetition_penalty != 1.0f)
        l = l > 0 ? l / r.repetition_penalty : gpu_mul(l, r.repetition_penalty);
    if (t.n_output > 0)
        l = gpu_add(l, -gpu_add(gpu_mul(r.frequency_penalty, static_cast<float>(t.n_output)),
                                r.presence_penalty));
    return l;
}

/* The token that the row is fed has been seen once more: in its own entry when it has one, else in the
 * last, which is for that. */
static GPU_FN void count_fed(const struct gpu_sample &a, const struct gpu_sample_row &r,
                             struct sample_seen *seen)
{
    GPU_SHARED(uint32_t, known, 1);
    const uint32_t last = r.n_seen - 1;
    if (r.n_seen == 0 || seen[last].id != GPU_FED)
        return;
    const uint32_t token = gpu_fed_token(a.tokens, a.sampled, r.row);
    if (gpu_thread() == 0)
        *known = 0;
    gpu_sync_block();
    for (uint32_t i = gpu_thread(); i < last; i += SAMPLE_THREADS)
        if (seen[i].id == token) {
            seen[i].n_output++;
            *known = 1;
        }
    gpu_sync_block();
    if (gpu_thread() == 0 && !*known)
        seen[last] = {token, 1, 0};
    gpu_sync_block();
}

/* One block per row. A token may have more than one bias, but is seen once. */
GPU_KERNEL(SAMPLE_THREADS) static void adjust_kernel(struct gpu_sample a)
{
    gpu_await_previous();
    const struct gpu_sample_row r = a.rows[gpu_block().x];
    if (r.row == GPU_NO_ROW || r.n_bias + r.n_seen == 0)
        return;
    float *logits = a.logits + static_cast<size_t>(r.row) * a.vocab;
    const struct sample_bias *bias = a.bias + r.first_bias;
    struct sample_seen *seen = a.seen + r.first_seen;
    count_fed(a, r, seen);
    for (uint32_t i = gpu_thread(); i < r.n_bias; i += SAMPLE_THREADS)
        a.raw_bias[r.first_bias + i] = logits[bias[i].token];
    for (uint32_t i = gpu_thread(); i < r.n_seen; i += SAMPLE_THREADS)
        if (seen[i].id != GPU_FED)
            a.raw_seen[r.first_seen + i] = logits[seen[i].id];
    gpu_sync_block();
    for (uint32_t i = gpu_thread(); i < r.n_bias; i += SAMPLE_THREADS)
        gpu_atomic_add(&logits[bias[i].token], bias[i].bias);
    gpu_sync_block();
    for (uint32_t i = gpu_thread(); i < r.n_seen; i += SAMPLE_THREADS) {
        float *l = &logits[seen[i].id];
        if (seen[i].id != GPU_FED)
            *l = penalized(r, seen[i], gpu_load_fresh(l));
    }
}

int gpu_sample_adjust(struct gpu_stream *s, const struct gpu_sample *a)
{
    return gpu_chain(s, "sample_adjust", {a->n_rows, 1, 1}, SAMPLE_THREADS, 0, adjust_kernel, *a);
}
