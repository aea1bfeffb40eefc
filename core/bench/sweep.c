#include "core/bench/sweep.h"

double level_power(const struct level *l)
{
    double mean_s = histogram_mean(&l->m->e2e) / 1e6;
    return mean_s > 0 ? measure_per_s(l->m, l->m->output_tokens) / mean_s : 0;
}

uint32_t sweep_knee(const struct level *levels, uint32_t n)
{
    uint32_t best = n;
    double most = 0;
    for (uint32_t i = 0; i < n; i++)
        if (level_power(&levels[i]) > most) {
            most = level_power(&levels[i]);
            best = i;
        }
    return best;
}
