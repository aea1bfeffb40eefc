/* perf.h - what the parts of run.sh perf share: how long things take, and what the device could do. */
#pragma once
#include "tests/gpu/device/rig.h"

/* How much is measured. */
struct effort {
    uint32_t batches[3], context, prefill, ttft, n_blocks;
    uint64_t least_us; /* of one measurement */
    uint32_t most_runs;
    size_t read_bytes;
    uint32_t square;   /* side of the matrices whose product is the ceiling */
    uint32_t in_a_row; /* graphs that are launched before the device is waited for */
};

/* Measured in the same run. */
struct ceilings {
    double bytes;      /* read, per second */
    double operations; /* of cuBLASLt's products, per second; negative: it is not there */
};

/* Seconds that fn takes, after two runs that are not counted. */
double time_of(const struct effort *f, void (*fn)(void *), void *ctx);
/* Prints a member: a number, or null where there is none. */
void put(const char *name, double v);

/* perf_kernels.c: each kernel of a step: microseconds of all layers, share of the step, and the part of
 * what the ceilings allow (bytes or operations, whichever takes longer). */
void kernels_of_decodes(struct rig *r, struct step *s, const struct effort *f,
                        const struct ceilings *c, uint32_t n, uint32_t context);
void kernels_of_prompt(struct rig *r, struct step *s, const struct effort *f,
                       const struct ceilings *c, uint32_t n);
/* Of all layers, for rows that follow `first` others. */
double prefill_attention_operations(const struct shape *s, uint32_t first, uint32_t n);
