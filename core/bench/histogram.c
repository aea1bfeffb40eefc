#include "core/bench/histogram.h"

enum { SUB = 1 << HISTOGRAM_SUB_BITS };

static uint32_t index_of(uint64_t us)
{
    if (us < 2 * SUB)
        return (uint32_t)us;
    uint32_t octave = 63 - (uint32_t)__builtin_clzll(us) - HISTOGRAM_SUB_BITS;
    if (octave >= HISTOGRAM_OCTAVES)
        return ((HISTOGRAM_OCTAVES + 1) << HISTOGRAM_SUB_BITS) - 1;
    return (octave << HISTOGRAM_SUB_BITS) + (uint32_t)(us >> octave);
}

void histogram_bucket(uint32_t index, uint64_t *out_from_us, uint64_t *out_width_us)
{
    uint32_t octave = index < 2 * SUB ? 0 : (index >> HISTOGRAM_SUB_BITS) - 1;
    *out_from_us = (uint64_t)(index - (octave << HISTOGRAM_SUB_BITS)) << octave;
    *out_width_us = (uint64_t)1 << octave;
}

void histogram_add(struct histogram *h, uint64_t us)
{
    if (h->n == 0 || us < h->min_us)
        h->min_us = us;
    if (us > h->max_us)
        h->max_us = us;
    h->n++;
    h->sum_us += us;
    h->counts[index_of(us)]++;
}

double histogram_mean(const struct histogram *h)
{
    return h->n ? (double)h->sum_us / (double)h->n : 0;
}

double histogram_quantile(const struct histogram *h, double q)
{
    if (h->n == 0)
        return 0;
    if (q >= 1)
        return (double)h->max_us;
    uint64_t rank = (uint64_t)(q * (double)(h->n - 1) + 0.5), seen = 0;
    uint32_t i = 0;
    while (seen + h->counts[i] <= rank)
        seen += h->counts[i++];
    uint64_t from, width;
    histogram_bucket(i, &from, &width);
    double v = (double)from + (double)(width - 1) / 2;
    return v < (double)h->min_us   ? (double)h->min_us
           : v > (double)h->max_us ? (double)h->max_us
                                   : v;
}
