/* cuda_worker_case.h - what the tests of a worker on the stand-in share: the machine, the worker's
 * options, prompts and requests. A test opens `model` itself. */
#pragma once
#include "gpu/cuda.h"
#include "tests/gpu/host/control.h"
#include "tests/unit/worker_fixture.h"

#define FOLDER "tests/golden/data/tiny/"

enum {
    PREAMBLE = 36, /* tokens that several prompts begin with */
    N_REQUESTS = 8,
    N_GREEDY = 4, /* the first ones */
    N_LONG = 3,   /* whose answers are long: they grow into a second block */
    LONG_ANSWER = 8,
    SHORT_ANSWER = 3,
    MAX_PROMPT = 60,
    MAX_LEN = 112,
    N_BLOCKS = 64,
    MEMORY = 24 << 20, /* of each GPU */
};

static uint64_t step_timeout_us;

static struct model *model;
static uint32_t prompts[N_REQUESTS][MAX_PROMPT];
static const uint32_t n_prompt[N_REQUESTS] = {14, 15, 13, PREAMBLE + 7, PREAMBLE + 7, 32, 1, 60};

/* --- devices --- */

static inline int open_pinned(uint32_t gpu, struct backend **out, struct err *e)
{
    const struct cuda_opts o = {
        .device = gpu, .pin_kernels = true, .step_timeout_us = step_timeout_us};
    return cuda_backend_new(&o, out, e);
}

static inline void reset_machine(void)
{
    step_timeout_us = 60000000; /* the stand-in is slow, not stuck */
    stand_in_set_capability(90);
    stand_in_set_memory(MEMORY);
    stand_in_set_gpus(2);
    for (uint32_t i = 0; i < STAND_IN_GPUS; i++)
        stand_in_break_kernel(i, STAND_IN_ENDLESS, 0);
}

static inline struct worker_opts base_opts(void)
{
    return (struct worker_opts){
        .model_name = "tiny",
        .model = model,
        .device = DEVICE_CUDA,
        .open_gpu = open_pinned,
        .n_threads = 1,
        .isa = "auto",
        .compute_f32 = true,
        .max_model_len = MAX_LEN,
        .max_num_seqs = N_REQUESTS,
        .max_num_batched_tokens = 48,
        .kv_cache_blocks = N_BLOCKS,
        .enable_prefix_caching = true,
        .max_queue = 64,
    };
}

/* --- requests --- */

static inline void make_prompts(void)
{
    uint64_t x = 88172645463325252u;
    for (uint32_t i = 0; i < N_REQUESTS; i++)
        for (uint32_t k = 0; k < n_prompt[i]; k++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            const bool shared = i >= N_LONG && k < PREAMBLE;
            prompts[i][k] = shared ? (k * 29 + 7) % 256 : (uint32_t)(x >> 33) % 256;
        }
}

static inline void request_make(struct reader *rd, uint32_t i)
{
    reader_init(rd, NULL, prompts[i], n_prompt[i], i < N_LONG ? LONG_ANSWER : SHORT_ANSWER,
                i == N_REQUESTS - 1 ? 2 : 1);
    rd->r->model = "tiny";
    struct sampling_params *p = &rd->r->sampling;
    p->seed = 77 + i;
    p->temperature = i < N_GREEDY ? 0 : 0.9f;
    if (i == N_GREEDY) {
        p->top_p = 0.8f;
        p->top_k = 40;
    }
    if (i == N_GREEDY + 1)
        p->repetition_penalty = 1.3f;
}
