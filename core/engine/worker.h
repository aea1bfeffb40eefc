/* worker.h - a worker: one thread that owns one device and runs the engine's step loop on it.
 *
 * This header is all that router and supervisor know of the engine.
 *
 *   STARTING -> LOADING (weights) -> WARMING (generates one real token) -> READY
 *   READY -> DRAINING (finishes what it has, takes no more) -> DEAD
 *   SUSPECT is READY in the eyes of who watches: no worker says it of itself
 *   any -> DEAD (device or internal error); its requests end with an error item
 *
 * Thread     worker_submit, worker_status, worker_drain, worker_stop: any thread.
 *            Callbacks run on the worker's thread, outside every lock, and must not block.
 * Ownership  worker_submit moves one reference of the request on success. */
#pragma once
#include "core/request/prefix_hash.h"
#include "core/util/base.h"
#include "core/util/err.h"

struct backend;
struct model;
struct metrics;
struct request;
struct worker;
struct shared_weights;

enum worker_state {
    WORKER_STARTING,
    WORKER_LOADING,
    WORKER_WARMING,
    WORKER_READY,
    WORKER_SUSPECT,
    WORKER_DRAINING,
    WORKER_DEAD,
    WORKER_STATES, /* how many there are */
};
const char *worker_state_name(enum worker_state s);

/* How far the weights are. */
struct load_progress {
    uint64_t done_bytes, total_bytes; /* of the model's tensors; total 0: it has not begun */
    uint64_t elapsed_us;              /* 0 for weights that another worker loaded */
};
uint32_t load_percent(const struct load_progress *p);    /* 100: all */
double load_mib_per_s(const struct load_progress *p);    /* 0: not known */
double load_seconds_left(const struct load_progress *p); /* negative: not known */

/* What a worker publishes once per step, and when its state changes. */
struct worker_status {
    enum worker_state state;
    struct load_progress load;
    uint64_t n_steps;          /* heartbeat: grows while it makes progress */
    uint64_t heartbeat_us;     /* clock_now_us() of the last publication */
    uint32_t n_running;        /* sequences in the batch */
    uint32_t n_waiting;        /* sequences admitted or in the inbox, not yet running */
    uint64_t n_prefill_tokens; /* prompt tokens still to compute */
    uint32_t n_kv_blocks, n_free_kv_blocks; /* free counts evictable cached blocks too */
    uint64_t generated_tokens;              /* since start */

    /* Of the requests that were told as started: what a newcomer finds before it. */
    uint32_t n_seqs, n_prefilling; /* not paused; of those: with rows to compute before a token */
    uint64_t n_owed_tokens;        /* these rows */
    uint64_t n_owed_blocks;        /* KV blocks that they will still take */
    uint64_t n_idle_kv_blocks;     /* held by paused sequences, but to be had */
    uint64_t step_began_us;        /* 0: it is not in a step */
    uint64_t step_limit_us;        /* what that step may take at worst, by the steps before; 0: who
                                    * knows */
    double prefill_us_per_token;   /* measured; 0: not yet */
    double decode_us_per_seq;      /* what one more sequence adds to a step; 0: not yet */
    double decode_step_us;         /* mean time of the last steps that only decoded, and */
    double decode_step_seqs;       /* mean number of their sequences; 0: there was none yet */
};

/* What a worker tells once per step, and when its state changes. Borrowed for the call. */
struct worker_report {
    struct worker_status status;
    const struct prefix_change *changes; /* of its prefix cache, in order */
    uint32_t n_changes;
    bool changes_anew; /* the changes hold all that is cached: forget what you knew */
};

struct worker_callbacks {
    void *ctx;
    void (*published)(void *ctx, struct worker *w, const struct worker_report *r);
    void (*ready)(void *ctx, struct worker *w);
    /* The first row of the request is about to be computed: reports count it from now on. */
    void (*started)(void *ctx, struct worker *w, struct request *r);
    /* The worker has nothing more to do with the request: it ended, failed, or moved away. */
    void (*over)(void *ctx, struct worker *w, struct request *r);
    /* A fault ended the worker. It touches no stream any more that another producer attaches to
     * during this call; what is left of its requests fails afterwards. */
    void (*dying)(void *ctx, struct worker *w, const struct err *why);
    void (*dead)(void *ctx, struct worker *w, const struct err *why); /* the last call */
};

enum worker_device { DEVICE_CPU, DEVICE_SIM, DEVICE_CUDA };

/* Makes the backend of a GPU, on the worker's thread. Given by who links gpu/, of which core knows
 * nothing. */
typedef int worker_open_gpu(uint32_t gpu, struct backend **out, struct err *e);

struct worker_opts {
    const char *model_name; /* label of metrics */
    uint32_t index;         /* within the process */
    const struct model *model;
    struct shared_weights
        *shared;             /* CPU replicas of one model share it; others load for themselves */
    struct metrics *metrics; /* may be NULL */
    enum worker_device device;
    uint32_t n_threads;              /* cpu; 0: automatic */
    const char *isa;                 /* cpu; "auto" */
    bool compute_f32;                /* cpu: F32 arithmetic instead of quantized */
    uint64_t sim_step_us;            /* sim */
    uint64_t sim_row_ns;             /* sim */
    worker_open_gpu *open_gpu;       /* cuda */
    uint32_t gpu;                    /* cuda; which of the machine's */
    uint32_t gpu_memory_percent;     /* cuda; of the device's memory, for everything; 0: 90 */
    uint32_t max_model_len;          /* tokens of prompt and output together */
    uint32_t max_num_seqs;           /* sequences in one step */
    uint32_t max_num_batched_tokens; /* rows of one step: the token budget */
    uint64_t kv_cache_bytes;         /* size of the pool; 0: see core/engine/kv_budget.h */
    uint32_t kv_cache_blocks;        /* not 0: size of the pool in blocks, wins over bytes */
    bool enable_prefix_caching;
    uint32_t max_queue;      /* requests that wait in inbox and scheduler */
    uint64_t slow_reader_us; /* see core/engine/README.md; 0: 10 s */
};

/* Weights in a backend's layout, loaded by the first worker that needs them. */
MUST_CHECK int shared_weights_new(struct shared_weights **out);
void shared_weights_unref(struct shared_weights *s);

/* Starts the thread and returns at once; ready or dead follows. opts and what it points to
 * outlive the worker. */
MUST_CHECK int worker_start(const struct worker_opts *opts, const struct worker_callbacks *cb,
                            struct worker **out, struct err *e);
/* EFULL: max_queue reached; EDRAINING; ENOTREADY; ETOOBIG: can never fit this worker's KV pool.
 * On failure the caller keeps its reference. */
MUST_CHECK int worker_submit(struct worker *w, struct request *r, struct err *e);
void worker_status(struct worker *w, struct worker_status *out);
/* What a KV block is to others. */
enum kv_block_state {
    KV_BLOCK_FREE,
    KV_BLOCK_CACHED, /* in the prefix cache alone: can be evicted */
    KV_BLOCK_USED,   /* by one sequence */
    KV_BLOCK_SHARED, /* by several */
};
/* Fills out with the states (enum kv_block_state) of blocks from..from+n-1, as far as there are such;
 * returns how many blocks there are in all, 0 before they are taken. */
uint32_t worker_kv_blocks(const struct worker *w, uint32_t from, uint32_t n, uint8_t *out);
const struct worker_opts *worker_options(const struct worker *w);
/* Makes it publish soon, though nothing may have changed. */
void worker_nudge(struct worker *w);
/* The router gave up on it (it stalls, or died): it takes nothing more, ends when it can, and
 * leaves the streams of its requests to whom they moved. */
void worker_abandon(struct worker *w);
/* Finish what is there, take nothing more, then end. */
void worker_drain(struct worker *w);
/* End now: what runs is finished with EDRAINING. */
void worker_stop(struct worker *w);
/* Waits for the thread (after drain or stop, or when dead) and frees. NULL is fine. */
void worker_free(struct worker *w);
