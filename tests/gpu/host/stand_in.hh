/* stand_in.hh - CUDA's execution model on one OS thread: a kernel's blocks one after the other, the
 * threads of a block as fibers.
 *
 * A fiber runs until it meets a barrier or a collective of its warp that others have not reached
 * yet; which one goes on then, and the order of the blocks, follow from a seed. So a barrier that is
 * missing shows as a wrong result with one seed or another.
 *
 * What a kernel does wrong ends its launch with a message: kernel, block, thread, what, where:
 *   - a barrier or collective that not all threads (of the block, the warp) reach, or not the same
 *     one;
 *   - a thread that ends without having waited for the kernel before its own, where it must;
 *   - shared memory beyond the device's, a copy or matrix row at an odd address, too large a grid;
 *   - writes beyond an array of shared memory or an allocation (exact under AddressSanitizer, where
 *     reads are found, too; without it, at the end of the block or when memory is freed).
 * What cannot be told for sure becomes a wrong result: shared memory begins as NaN in each block, a
 * copy that nobody waited for leaves NaN (under AddressSanitizer its target may not be touched).
 *
 * Not modelled: blocks that wait for each other, memory order between threads of a warp, time.
 *
 * Thread  all state is per OS thread. */
#pragma once
#include <functional>
#include <stddef.h>
#include <stdint.h>

struct gpu_dim;

namespace stand_in
{

enum {
    WARP = 32,
    SLOT_BYTES = 64, /* what a lane gives to or takes from a collective */
};

/* Where in the kernels' source something was called. */
struct site {
    const char *file;
    unsigned line;
};

struct lane_data {
    alignas(16) uint8_t in[SLOT_BYTES];
    alignas(16) uint8_t out[SLOT_BYTES];
};

/* Computes all lanes' outputs when the last one has arrived. */
typedef void warp_op(struct lane_data lanes[WARP]);

struct limits {
    uint32_t max_shared_bytes = 99 * 1024; /* the least of the devices from sm_80 on */
};

/* Of the calling OS thread, from the next launch on. */
void set_seed(uint64_t seed);
void set_limits(const struct limits &l);
struct limits get_limits();

/* Runs a launch to its end; NULL, or what is wrong with it (valid until the next launch). */
const char *run(const char *name, const struct gpu_dim &grid, uint32_t block, size_t shared_bytes,
                const std::function<void()> &body);

/* --- called by kernels, through device.hh --- */

uint32_t thread_index();
uint32_t n_threads();
const struct gpu_dim &block_index();
const struct gpu_dim &grid_size();

void await_previous();
void check_awaited(); /* a fault when this thread has not called it */
void sync_block(struct site at);
/* `what` names the collective; all lanes must bring the same. */
void collective(const char *what, warp_op *op, const void *in, size_t in_bytes, void *out,
                size_t out_bytes, struct site at);
void *shared(const void *key, size_t bytes, size_t align, struct site at);
uint8_t *dynamic_shared();

void copy_begin(void *shared, const void *src, bool valid, struct site at);
void copy_commit();
void copy_wait(unsigned n_left);

[[noreturn]] void fault(struct site at, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

} // namespace stand_in
