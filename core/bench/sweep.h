/* sweep.h - several runs side by side, and the knee among them.
 *
 * The knee is the level with the most power: output tokens per second divided by the mean E2E time.
 * Below it, more load still buys throughput; above it, load mostly buys waiting.
 * Source  L. Kleinrock, "Power and deterministic rules of thumb for probabilistic problems in computer
 *         communications", ICC 1979. */
#pragma once
#include "core/bench/measure.h"

struct level {
    uint32_t concurrency;
    double rate; /* requests per second of an open loop; 0: closed */
    struct measure *m;
};

/* Tokens per second, per second of mean E2E; 0 when nothing came whole. */
double level_power(const struct level *l);
/* Index of the knee; n: no level has any power. */
uint32_t sweep_knee(const struct level *levels, uint32_t n);
