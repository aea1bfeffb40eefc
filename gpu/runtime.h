/* runtime.h - a GPU as the backend sees it: memory, streams, events, graphs.
 *
 * Implemented by runtime.cu over the CUDA runtime, and by tests/gpu/host/runtime.cc, which computes
 * on the host. No CUDA type is seen outside of these and device.cuh.
 *
 * Order   what is enqueued on a stream runs in that order, later. Only gpu_stream_wait(),
 *         gpu_event_wait() and a gpu_event_done() that says yes tell that it has run; until then what
 *         it reads must stay as it is, and what it writes must not be read.
 * Faults  a fault of a kernel is sticky: from then on every call for that device fails with EPOISONED
 *         and gpu_fault() says what happened. CUDA demands that the process ends. A wait that times
 *         out is such a fault. Nothing is freed then: that would wait for what never ends.
 * Thread  a device and all that belongs to it: one thread.
 * Errors  EPOISONED; ENOMEM for memory that is not there; EUNSUPPORTED from gpu_open. */
#pragma once
#ifdef __cplusplus
extern "C" { /* core's headers are C, too */
#endif
#include "core/util/base.h"
#include "core/util/err.h"

struct gpu;
struct gpu_stream;
struct gpu_event;
struct gpu_graph;

struct gpu_info {
    char name[64];
    uint32_t capability; /* major * 10 + minor: 90 for an H200 */
    uint32_t n_processors;
    uint32_t max_shared_bytes; /* of one block */
    uint64_t memory_bytes;
};

/* How many there are, at least one. EUNSUPPORTED, with the reason and its mend: there is no driver,
 * it is too old, or there is no device. Any thread. */
MUST_CHECK int gpu_count(uint32_t *out, struct err *e);
/* Where it is on the PCI bus, as NVML writes it: "00000000:01:00.0". Any thread. */
enum { GPU_PCI_SIZE = 32 };
MUST_CHECK int gpu_pci(uint32_t index, char out[GPU_PCI_SIZE], struct err *e);
/* EUNSUPPORTED also when there is no such device. */
MUST_CHECK int gpu_open(uint32_t index, struct gpu **out, struct err *e);
void gpu_close(struct gpu *g); /* after all that belongs to it; NULL is fine */
const struct gpu_info *gpu_describe(const struct gpu *g);
MUST_CHECK int gpu_memory_left(struct gpu *g, uint64_t *out_bytes, struct err *e);
/* NULL while nothing happened. */
const char *gpu_fault(const struct gpu *g);

/* --- memory: 256-byte aligned, zeroed --- */

MUST_CHECK int gpu_alloc(struct gpu *g, size_t bytes, void **out, struct err *e);
void gpu_free(struct gpu *g, void *p); /* NULL is fine; waits for the device */
/* Host memory that copies may use. */
MUST_CHECK int gpu_pinned_alloc(struct gpu *g, size_t bytes, void **out, struct err *e);
void gpu_pinned_free(struct gpu *g, void *p);

/* --- streams --- */

MUST_CHECK int gpu_stream_new(struct gpu *g, struct gpu_stream **out, struct err *e);
/* Kernels begin early where the device can (from compute capability 9.0 on); false: never. At first:
 * where it can. */
void gpu_stream_chain(struct gpu_stream *s, bool early);
void gpu_stream_free(struct gpu_stream *s); /* waits for it; NULL is fine */
MUST_CHECK int gpu_copy_in(struct gpu_stream *s, void *device, const void *pinned, size_t bytes);
MUST_CHECK int gpu_copy_out(struct gpu_stream *s, void *pinned, const void *device, size_t bytes);
MUST_CHECK int gpu_zero(struct gpu_stream *s, void *device, size_t bytes);
/* Until everything enqueued has run. Polls: a device that hangs costs a time-out, not the thread. */
MUST_CHECK int gpu_stream_wait(struct gpu_stream *s, uint64_t timeout_us, struct err *e);

/* --- events --- */

MUST_CHECK int gpu_event_new(struct gpu *g, struct gpu_event **out, struct err *e);
void gpu_event_free(struct gpu_event *ev);
MUST_CHECK int gpu_event_record(struct gpu_event *ev, struct gpu_stream *s);
/* What is enqueued on s afterwards waits for the event. */
MUST_CHECK int gpu_event_order(struct gpu_event *ev, struct gpu_stream *s);
/* 1: passed, 0: not yet, or an error. */
MUST_CHECK int gpu_event_done(struct gpu_event *ev);
/* Until it has passed, as gpu_stream_wait(). */
MUST_CHECK int gpu_event_wait(struct gpu_event *ev, uint64_t timeout_us, struct err *e);

/* --- graphs: what is enqueued between begin and end is recorded instead of run --- */

MUST_CHECK int gpu_capture_begin(struct gpu_stream *s);
MUST_CHECK int gpu_capture_end(struct gpu_stream *s, struct gpu_graph **out, struct err *e);
MUST_CHECK int gpu_graph_launch(struct gpu_graph *graph, struct gpu_stream *s);
void gpu_graph_free(struct gpu_graph *graph); /* NULL is fine */

/* --- for device.cuh --- */

void *gpu_stream_handle(struct gpu_stream *s);
/* True when kernels may begin before those in front of them have ended. */
bool gpu_stream_chains(const struct gpu_stream *s);
/* Notes a failed launch; the first writer wins. */
void gpu_stream_fault(struct gpu_stream *s, const char *what, const char *why);

#ifdef __cplusplus
}
#endif
