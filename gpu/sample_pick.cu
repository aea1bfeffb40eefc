/* sample_pick.cu - the choice of a token among a row of logits, without sorting them.
 *
 * Three kernels. The first finds the maximum of each 64 logits that are allowed; the second, for rows that
 * need it, the sum of each 64's weights; the third, a block per row, chooses. It looks only at blocks of
 * logits that can matter, and finds the k-th best, the end of the nucleus and the drawn token by the same
 * search: a histogram over an interval of keys tells which of its 1,024 parts holds the wanted one,
 * and becomes the next interval. Weights are counted in units of 2^-44, so that sums do not depend on
 * an order.
 *
 * What is drawn equals core/engine/sampler_math.c's choice but where a sum of weights lies within about
 * 2^-44 of a bound. */
#include "gpu/flavour.cuh"
#include "gpu/sample.cuh"

enum {
    BLOCK = GPU_SAMPLE_BLOCK,
    SCAN_THREADS = 256,
    SCAN_WARPS = SCAN_THREADS / 32,
    BINS_LOG2 = 10,
    BINS = 1 << BINS_LOG2,
    SEGMENT = BINS / 32,
    GROUP = 64, /* sums that one thread adds */
    MAX_GROUPS = GPU_MAX_VOCAB / BLOCK / GROUP,
};

/* What of a row's parameters takes which way. */
static GPU_FN bool cuts_by_rank(const struct gpu_sample &a, const struct gpu_sample_row &r)
{
    return r.top_k > 0 && r.top_k < a.vocab;
}

static GPU_FN bool takes_all(const struct gpu_sample &a, const struct gpu_sample_row &r)
{
    return !cuts_by_rank(a, r) && r.min_p <= 0.0f && r.top_p >= 1.0f;
}

/* --- blocks of logits --- */

/* A warp per block. */
GPU_KERNEL(SCAN_THREADS) static void max_kernel(struct gpu_sample a)
{
    gpu_await_previous();
    const struct gpu_sample_row r = a.rows[gpu_block().y];
    const uint32_t n_blocks = sample_blocks(a.vocab);
    const uint32_t b = gpu_block().x * SCAN_WARPS + gpu_warp();
    if (b >= n_blocks || r.row == GPU_NO_ROW)
        return;
    const float *logits = a.logits + static_cast<size_t>(r.row) * a.vocab;
    const uint32_t *mask = sample_mask(a, r);
    float max = -INFINITY;
#pragma unroll
    for (uint32_t h = 0; h < 2; h++) {
        const uint32_t i = b * BLOCK + h * 32 + gpu_lane();
        if (i < a.vocab)
            max = sample_max(max, sample_logit(logits, mask, i));
    }
    max = sample_warp_max(max);
    if (gpu_lane() == 0)
        a.block_max[static_cast<size_t>(gpu_block().y) * n_blocks + b] = max;
}

/* Four lanes per block, each with every fourth logit. */
GPU_KERNEL(SAMPLE_THREADS) static void sum_kernel(struct gpu_sample a)
{
    gpu_await_previous();
    const struct gpu_sample_row r = a.rows[gpu_block().y];
    const uint32_t n_blocks = sample_blocks(a.vocab);
    if (r.row == GPU_NO_ROW || r.inv_temperature <= 0.0f || cuts_by_rank(a, r) || r.min_p > 0.0f)
        return;
    const float *logits = a.logits + static_cast<size_t>(r.row) * a.vocab;
    const float *maxima = a.block_max + static_cast<size_t>(gpu_block().y) * n_blocks;
    const uint32_t *mask = sample_mask(a, r);
    float max = -INFINITY;
    for (uint32_t i = gpu_thread(); i < n_blocks; i += SAMPLE_THREADS)
        max = sample_max(max, maxima[i]);
    max = sample_block_max(max);
    const uint32_t b = gpu_block().x * (SAMPLE_THREADS / 4) + gpu_thread() / 4;
    float sum = 0;
    for (uint32_t i = 0; i < BLOCK; i += 4) {
        const uint32_t at = b * BLOCK + i + gpu_thread() % 4;
        const float logit = at < a.vocab ? sample_logit(logits, mask, at) : -INFINITY;
        sum = gpu_add(sum, sample_weight(logit, max, r.inv_temperature));
    }
    sum = gpu_add(sum, gpu_shfl_xor(sum, 2));
    sum = gpu_add(sum, gpu_shfl_xor(sum, 1));
    if (b < n_blocks && gpu_thread() % 4 == 0)
        a.block_sum[static_cast<size_t>(gpu_block().y) * n_blocks + b] = sum;
}

/* --- a row --- */

/* A row that is being chosen from; the same in each thread of its block. */
struct picking {
    const float *logits;
    const uint32_t *mask; /* NULL: all tokens are allowed */
    const float *block_max, *block_sum;
    uint32_t vocab, n_blocks;
    float max, inv_temperature;
    /* The candidates: better or equal to a bound, of enough weight, before or at a cut. */
    float least_logit, least_weight;
    uint32_t cut_key, cut_id;
    uint32_t *blocks; /* shared: those that can hold candidates */
    uint32_t n_candidate_blocks;
};

static GPU_FN uint64_t weight_units(float w)
{
    return static_cast<uint64_t>(w * 17592186044416.0f); /* 2^44 */
}

enum search_by {
    BY_KEY, /* among the candidates, in the order of their logits */
    BY_ID,  /* in the order of their ids */
};

/* Looks for the first element, in some order, at which the sum of a measure reaches the target. */
struct search {
    enum search_by by;
    bool count;         /* the measure is one; else the weight */
    bool one_key;       /* only elements with this key */
    uint32_t only;      /* ... */
    uint32_t low, high; /* where it is */
    uint64_t target;    /* what is left to be reached from low on */
    bool found;
};

/* A sum of 64 bits that atomics of 32 bits make. */
struct bins {
    uint32_t *low, *high;
};

static GPU_FN void bins_add(const struct bins &b, uint32_t i, uint64_t v)
{
    const uint32_t low = static_cast<uint32_t>(v);
    const uint32_t before = gpu_atomic_add(&b.low[i], low);
    const uint32_t high = static_cast<uint32_t>(v >> 32) + (before + low < before);
    if (high != 0)
        gpu_atomic_add(&b.high[i], high);
}

static GPU_FN uint64_t bins_read(const struct bins &b, uint32_t i)
{
    return static_cast<uint64_t>(b.high[i]) << 32 | b.low[i];
}

/* Where a candidate stands in the search, and its weight; false: it is none, or stands elsewhere. */
static GPU_FN bool is_searched(const struct picking &p, const struct search &s, uint32_t id,
                               uint32_t *out_at, float *out_weight)
{
    const float logit = sample_logit(p.logits, p.mask, id);
    if (!(logit >= p.least_logit) || !(logit > -INFINITY))
        return false;
    const uint32_t key = sample_key(logit);
    if (key > p.cut_key || (key == p.cut_key && id > p.cut_id) || (s.one_key && key != s.only))
        return false;
    *out_at = s.by == BY_KEY ? key : id;
    *out_weight = sample_weight(logit, p.max, p.inv_temperature);
    return *out_at >= s.low && *out_at <= s.high && *out_weight >= p.least_weight;
}

/* Calls fn(id) for every logit of the blocks that can hold candidates, a warp per block. */
template <class Fn> static GPU_FN void for_candidates(const struct picking &p, Fn fn)
{
    for (uint32_t i = gpu_warp(); i < p.n_candidate_blocks; i += SAMPLE_WARPS)
        for (uint32_t h = 0; h < BLOCK; h += 32) {
            const uint32_t id = p.blocks[i] * BLOCK + h + gpu_lane();
            if (id < p.vocab)
                fn(id);
        }
}

/* Which bin holds the target, and what lies before it: by one thread, over 32 sums of 32 bins. */
static GPU_FN void find_bin(const struct bins &bins, const uint64_t *segments, uint32_t shift,
                            struct search *s)
{
    uint64_t before = 0;
    uint32_t i = 0;
    while (i < 32 && before + segments[i] < s->target)
        before += segments[i++];
    s->found = i < 32;
    if (!s->found)
        return;
    for (i *= SEGMENT; before + bins_read(bins, i) < s->target; i++)
        before += bins_read(bins, i);
    const uint32_t last = s->high;
    s->target -= before;
    s->low += i << shift;
    s->high = s->low + ((1u << shift) - 1);
    s->high = s->high < last ? s->high : last;
}

/* Narrows s to one place (low == high), or finds that the target is beyond all elements. */
static GPU_FN void run_search(const struct picking &p, struct search *s)
{
    GPU_SHARED(uint32_t, lows, BINS);
    GPU_SHARED(uint32_t, highs, BINS);
    GPU_SHARED(uint64_t, segments, 32);
    GPU_SHARED(struct search, next, 1);
    const struct bins bins = {lows, highs};
    do {
        uint32_t shift = 0;
        while ((s->high - s->low) >> shift >= BINS)
            shift++;
        for (uint32_t i = gpu_thread(); i < BINS; i += SAMPLE_THREADS)
            lows[i] = highs[i] = 0;
        gpu_sync_block();
        for_candidates(p, [&](uint32_t id) {
            uint32_t at;
            float w;
            if (is_searched(p, *s, id, &at, &w))
                bins_add(bins, (at - s->low) >> shift, s->count ? 1 : weight_units(w));
        });
        gpu_sync_block();
        if (gpu_thread() < 32) {
            uint64_t sum = 0;
            for (uint32_t i = 0; i < SEGMENT; i++)
                sum += bins_read(bins, gpu_thread() * SEGMENT + i);
            segments[gpu_thread()] = sum;
        }
        gpu_sync_block();
        if (gpu_thread() == 0) {
            *next = *s;
            find_bin(bins, segments, shift, next);
        }
        gpu_sync_block();
        *s = *next;
        gpu_sync_block(); /* it is read */
    } while (s->found && s->low < s->high);
}

/* Cuts the candidates after the one at which the measure reaches the target. */
static GPU_FN void cut(struct picking *p, bool count, uint64_t target)
{
    struct search s = {};
    s.by = BY_KEY;
    s.count = count;
    s.low = sample_key(p->max);
    s.high = p->least_logit > -INFINITY ? sample_key(p->least_logit) : sample_key(-INFINITY);
    s.target = target;
    run_search(*p, &s);
    if (!s.found)
        return; /* all stay */
    const uint32_t key = s.low;
    s.by = BY_ID;
    s.one_key = true;
    s.only = key;
    s.low = 0;
    s.high = p->vocab - 1;
    run_search(*p, &s);
    p->cut_key = key;
    p->cut_id = s.low;
}

/* The weight of all candidates. */
static GPU_FN uint64_t total_units(const struct picking &p)
{
    GPU_SHARED(uint32_t, low, 1);
    GPU_SHARED(uint32_t, high, 1);
    const struct bins total = {low, high};
    struct search all = {};
    all.by = BY_ID;
    all.high = p.vocab - 1;
    uint64_t mine = 0;
    if (gpu_thread() == 0)
        *low = *high = 0;
    gpu_sync_block();
    for_candidates(p, [&](uint32_t id) {
        uint32_t at;
        float w;
        if (is_searched(p, all, id, &at, &w))
            mine += weight_units(w);
    });
    bins_add(total, 0, mine);
    gpu_sync_block();
    mine = bins_read(total, 0);
    gpu_sync_block(); /* it is read */
    return mine;
}

/* Keeps the blocks for which `can` holds. */
template <class Fn> static GPU_FN void list_blocks(struct picking *p, Fn can)
{
    GPU_SHARED(uint32_t, n, 1);
    if (gpu_thread() == 0)
        *n = 0;
    gpu_sync_block();
    for (uint32_t b = gpu_thread(); b < p->n_blocks; b += SAMPLE_THREADS)
        if (can(b))
            p->blocks[gpu_atomic_add(n, 1)] = b;
    gpu_sync_block();
    p->n_candidate_blocks = *n;
}

/* A lower bound of the k-th best logit: the k-th best maximum of a block. */
static GPU_FN float rank_bound(const struct picking &p, uint32_t k)
{
    if (k > p.n_blocks)
        return -INFINITY;
    struct picking maxima = p;
    maxima.logits = p.block_max;
    maxima.mask = nullptr;
    maxima.vocab = p.n_blocks;
    maxima.n_blocks = sample_blocks(p.n_blocks);
    list_blocks(&maxima, [](uint32_t) { return true; });
    struct search s = {};
    s.by = BY_KEY;
    s.count = true;
    s.low = sample_key(p.max);
    s.high = sample_key(-INFINITY);
    s.target = k;
    run_search(maxima, &s);
    return s.found ? gpu_from_bits(s.low & 0x80000000u ? s.low : ~s.low & 0x7fffffffu) : -INFINITY;
}

/* The sums of groups of blocks, in shared memory; returns the weight of all logits. */
static GPU_FN double sum_groups(const struct picking &p, double *groups, uint32_t *out_n)
{
    GPU_SHARED(double, total, 1);
    const uint32_t n = (p.n_blocks + GROUP - 1) / GROUP;
    for (uint32_t g = gpu_thread(); g < n; g += SAMPLE_THREADS) {
        double sum = 0;
        for (uint32_t b = g * GROUP; b < (g + 1) * GROUP && b < p.n_blocks; b++)
            sum += static_cast<double>(p.block_sum[b]);
        groups[g] = sum;
    }
    gpu_sync_block();
    if (gpu_thread() == 0) {
        *total = 0;
        for (uint32_t g = 0; g < n; g++)
            *total += groups[g];
    }
    gpu_sync_block();
    *out_n = n;
    return *total;
}

/* Candidates after top_k, min_p and top_p. */
static GPU_FN void cut_down(const struct gpu_sample &a, const struct gpu_sample_row &r,
                            struct picking *p)
{
    GPU_SHARED(double, groups, MAX_GROUPS);
    uint64_t total = 0;
    if (cuts_by_rank(a, r)) {
        p->least_logit = rank_bound(*p, r.top_k);
        list_blocks(p, [&](uint32_t b) { return p->block_max[b] >= p->least_logit; });
        cut(p, true, r.top_k);
        p->least_weight = r.min_p;
        total = total_units(*p);
    } else if (r.min_p > 0.0f) {
        list_blocks(p, [&](uint32_t b) { /* a hair below: exponentials are not quite monotonic */
                                         return sample_weight(p->block_max[b], p->max,
                                                              p->inv_temperature) >=
                                                0.999f * r.min_p;
        });
        p->least_weight = r.min_p;
        total = total_units(*p);
    } else {
        uint32_t n;
        const double sum = sum_groups(*p, groups, &n);
        const float least = static_cast<float>(0.999 * (1.0 - static_cast<double>(r.top_p)) * sum /
                                               static_cast<double>(p->vocab));
        list_blocks(p, [&](uint32_t b) { return p->block_sum[b] >= least; });
        p->least_weight = least;
        total = static_cast<uint64_t>(sum * 17592186044416.0);
    }
    if (r.top_p < 1.0f)
        cut(p, false,
            static_cast<uint64_t>(static_cast<double>(r.top_p) * static_cast<double>(total)));
}

/* --- drawing --- */

static GPU_FN uint32_t draw_candidate(const struct picking &p, double u)
{
    const uint64_t total = total_units(p);
    uint64_t passed = static_cast<uint64_t>(u * static_cast<double>(total));
    passed = passed < total ? passed : total - 1;
    struct search s = {};
    s.by = BY_ID;
    s.high = p.vocab - 1;
    s.target = passed + 1; /* the first whose sum is above */
    run_search(p, &s);
    return s.low;
}

/* The first of n sums that lifts *sum above the target; the last that is not zero when none does.
 * *sum is then what lies before it. */
template <class Fn>
static GPU_FN uint32_t first_above(uint32_t n, double target, double *sum, Fn value)
{
    uint32_t found = 0;
    double before = *sum;
    for (uint32_t i = 0; i < n; i++) {
        const double v = value(i);
        if (v == 0.0)
            continue;
        found = i;
        *sum = before;
        if (before + v > target)
            break;
        before += v;
    }
    return found;
}

/* Among all logits. */
static GPU_FN uint32_t draw_any(const struct picking &p, double u)
{
    GPU_SHARED(double, groups, MAX_GROUPS);
    GPU_SHARED(float, weights, BLOCK);
    GPU_SHARED(uint32_t, chosen, 1);
    uint32_t n_groups;
    const double target = u * sum_groups(p, groups, &n_groups);
    double sum = 0;
    if (gpu_thread() == 0) {
        const uint32_t g =
            first_above(n_groups, target, &sum, [&](uint32_t i) { return groups[i]; });
        const uint32_t left = p.n_blocks - g * GROUP, full = GROUP;
        *chosen = g * GROUP + first_above(left < full ? left : full, target, &sum, [&](uint32_t i) {
                      return static_cast<double>(p.block_sum[g * GROUP + i]);
                  });
    }
    gpu_sync_block();
    const uint32_t first = *chosen * BLOCK;
    for (uint32_t i = gpu_thread(); i < BLOCK; i += SAMPLE_THREADS)
        weights[i] = first + i < p.vocab ? sample_weight(sample_logit(p.logits, p.mask, first + i),
                                                         p.max, p.inv_temperature)
                                         : 0.0f;
    gpu_sync_block();
    if (gpu_thread() == 0)
        *chosen = first + first_above(BLOCK, target, &sum,
                                      [&](uint32_t i) { return static_cast<double>(weights[i]); });
    gpu_sync_block();
    return *chosen;
}

/* The lowest id of the largest logit; 0 when all are NaN. */
static GPU_FN uint32_t pick_greedy(const struct picking &p)
{
    GPU_SHARED(uint32_t, best, 1);
    if (gpu_thread() == 0)
        *best = 0xffffffffu;
    gpu_sync_block();
    for (uint32_t b = gpu_warp(); b < p.n_blocks; b += SAMPLE_WARPS) {
        if (p.block_max[b] != p.max)
            continue;
        for (uint32_t i = b * BLOCK + gpu_lane(); i < (b + 1) * BLOCK && i < p.vocab; i += 32)
            if (sample_logit(p.logits, p.mask, i) == p.max)
                gpu_atomic_min(best, i);
    }
    gpu_sync_block();
    return *best == 0xffffffffu ? 0 : *best;
}

/* The chosen token's logit before bias and penalties, less what logprobs_kernel left; and how many are
 * larger. For that the logits become again what they were. */
static GPU_FN void finish_logprob(const struct gpu_sample &a, const struct gpu_sample_row &r,
                                  uint32_t id)
{
    GPU_SHARED(uint32_t, n_likelier, 1);
    float *logits = a.logits + static_cast<size_t>(r.row) * a.vocab;
    struct sample_logprobs *out = &a.logprobs[gpu_block().x];
    float mine = 0;
    gpu_sync_block(); /* they are read no more */
    for (uint32_t i = gpu_thread(); i < r.n_bias; i += SAMPLE_THREADS)
        logits[a.bias[r.first_bias + i].token] = a.raw_bias[r.first_bias + i];
    for (uint32_t i = gpu_thread(); i < r.n_seen; i += SAMPLE_THREADS)
        if (a.seen[r.first_seen + i].id != GPU_FED)
            logits[a.seen[r.first_seen + i].id] =
                a.raw_seen[r.first_seen + i]; /* the same number */
    if (gpu_thread() == 0)
        *n_likelier = 0;
    gpu_sync_block();
    const float raw = logits[id];
    for (uint32_t i = gpu_thread(); i < a.vocab; i += SAMPLE_THREADS)
        mine += logits[i] > raw ? 1.0f : 0.0f;
    mine = gpu_warp_sum(mine); /* whole numbers below 2^24 */
    if (gpu_lane() == 0)
        (void)gpu_atomic_add(n_likelier, static_cast<uint32_t>(mine));
    gpu_sync_block();
    if (gpu_thread() == 0) {
        out->chosen = raw - out->chosen;
        out->rank = 1 + *n_likelier;
    }
}

GPU_KERNEL_ALONE(SAMPLE_THREADS) static void pick_kernel(struct gpu_sample a)
{
    gpu_await_previous();
    const struct gpu_sample_row r = a.rows[gpu_block().x];
    if (r.row == GPU_NO_ROW)
        return;
    const uint32_t n_blocks = sample_blocks(a.vocab);
    const size_t first_block = static_cast<size_t>(gpu_block().x) * n_blocks;
    struct picking p = {};
    p.logits = a.logits + static_cast<size_t>(r.row) * a.vocab;
    p.mask = sample_mask(a, r);
    p.block_max = a.block_max + first_block;
    p.block_sum = a.block_sum + first_block;
    p.vocab = a.vocab;
    p.n_blocks = n_blocks;
    p.inv_temperature = r.inv_temperature;
    p.least_logit = -INFINITY;
    p.cut_key = p.cut_id = 0xffffffffu;
    p.blocks = reinterpret_cast<uint32_t *>(gpu_dynamic_shared());
    p.max = -INFINITY;
    for (uint32_t b = gpu_thread(); b < n_blocks; b += SAMPLE_THREADS)
        p.max = sample_max(p.max, p.block_max[b]);
    p.max = sample_block_max(p.max);

    uint32_t id;
    if (r.inv_temperature <= 0.0f || !(p.max > -INFINITY && p.max < INFINITY)) {
        id = pick_greedy(p);
    } else if (takes_all(a, r)) {
        id = draw_any(p, sample_uniform(r));
    } else {
        cut_down(a, r, &p);
        id = draw_candidate(p, sample_uniform(r));
    }
    if (r.logprobs > 0)
        finish_logprob(a, r, id);
    if (gpu_thread() == 0) {
        a.ids[r.to] = id;
        a.sampled[r.row] = id;
    }
}

int gpu_sample_pick(struct gpu_stream *s, const struct gpu_sample *a)
{
    const uint32_t n_blocks = gpu_sample_blocks(a->vocab);
    const struct gpu_dim maxima = {(n_blocks + SCAN_WARPS - 1) / SCAN_WARPS, a->n_rows, 1};
    const struct gpu_dim sums = {(n_blocks * 4 + SAMPLE_THREADS - 1) / SAMPLE_THREADS, a->n_rows,
                                 1};
    BUG_ON(a->vocab > GPU_MAX_VOCAB);
    int rc = gpu_chain(s, "sample_max", maxima, SCAN_THREADS, 0, max_kernel, *a);
    if (!rc)
        rc = gpu_chain(s, "sample_sum", sums, SAMPLE_THREADS, 0, sum_kernel, *a);
    if (!rc)
        rc = gpu_chain(s, "sample_pick", {a->n_rows, 1, 1}, SAMPLE_THREADS,
                       n_blocks * sizeof(uint32_t), pick_kernel, *a);
    return rc;
}
