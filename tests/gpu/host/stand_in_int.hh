/* stand_in_int.hh - the state of the stand-in: one machine per OS thread. */
#pragma once
#include "gpu/device.cuh"
#include "tests/gpu/host/fiber.hh"
#include "tests/gpu/host/stand_in.hh"

#include <deque>
#include <vector>

namespace stand_in
{

enum thread_state { READY, AT_BARRIER, IN_WARP, ENDED };

/* A cp.async that has been begun and not been waited for. */
struct pending_copy {
    uint8_t *to;
    const uint8_t *from; /* NULL: zeros */
    uint32_t group;
};

struct thread {
    struct fiber fiber;
    uint32_t index;
    bool awaited; /* gpu_await_previous() */
    enum thread_state state;
    const char *waits_for;
    struct site at;
    std::deque<struct pending_copy> copies; /* by group */
    uint32_t group;                         /* the one that is open */
};

struct warp {
    struct lane_data lanes[WARP];
    uint32_t n_arrived;
    const char *what;
    struct site at;
};

/* An array of the block's shared memory. */
struct shared_array {
    const void *key;
    size_t offset, bytes;
};

struct machine {
    struct limits limits;
    uint64_t random = 1;

    /* the launch */
    const char *kernel;
    struct gpu_dim grid;
    uint32_t n_threads;
    size_t dynamic_bytes;
    const std::function<void()> *body;
    bool faulted;
    char message[1024];

    /* the block */
    struct gpu_dim block;
    struct fiber scheduler;
    std::deque<struct thread> threads; /* of the largest block so far; they do not move */
    std::vector<struct warp> warps;
    std::vector<uint32_t> ready; /* threads */
    struct thread *current;
    uint32_t n_ended, n_at_barrier;
    struct site barrier;

    /* shared memory, see shared.cc */
    uint8_t *arena;
    size_t arena_bytes, used;
    std::vector<struct shared_array> arrays;

    ~machine();
};

struct machine *the_machine();
/* Notes a fault of the block; the first one counts. */
void fault_at(struct machine *m, const char *text);

/* shared.cc */
void shared_reserve(struct machine *m);
void shared_begin(struct machine *m);
void shared_end(struct machine *m);
void shared_fini(struct machine *m);
void copies_begin(struct thread *t);
void copies_end(struct machine *m, struct thread *t);

} // namespace stand_in
