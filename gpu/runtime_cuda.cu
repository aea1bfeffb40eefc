/* runtime_cuda.cu - runtime.h over the CUDA runtime, which is linked statically and opens the driver
 * when the first device is asked for. */
#include "gpu/runtime.h"

#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct gpu {
    struct gpu_info info;
    int index;
    char fault[256]; /* "" while nothing happened */
};

struct gpu_stream {
    struct gpu *gpu;
    cudaStream_t stream;
    cudaEvent_t reached; /* of gpu_stream_wait */
    bool chains;
};

struct gpu_event {
    struct gpu *gpu;
    cudaEvent_t event;
};

struct gpu_graph {
    struct gpu *gpu;
    cudaGraphExec_t exec;
};

/* --- errors --- */

static void note(struct gpu *g, const char *what, const char *why)
{
    if (g->fault[0] == 0)
        snprintf(g->fault, sizeof(g->fault), "cuda:%d: %s: %s", g->index, what, why);
}

/* 0, or notes the fault. */
static int check(struct gpu *g, const char *what, cudaError_t rc)
{
    if (rc == cudaSuccess)
        return 0;
    note(g, what, cudaGetErrorString(rc));
    return -LLMD_EPOISONED;
}

static int check_err(struct gpu *g, const char *what, cudaError_t rc, struct err *e)
{
    if (check(g, what, rc) == 0)
        return 0;
    return err_set(e, LLMD_EPOISONED, "%s", g->fault);
}

void gpu_stream_fault(struct gpu_stream *s, const char *what, const char *why)
{
    note(s->gpu, what, why);
}

const char *gpu_fault(const struct gpu *g)
{
    return g->fault[0] ? g->fault : NULL;
}

/* --- the device --- */

int gpu_count(uint32_t *out, struct err *e)
{
    int n = 0, driver = 0;
    const cudaError_t rc = cudaGetDeviceCount(&n);
    if (rc == cudaSuccess && n > 0) {
        *out = static_cast<uint32_t>(n);
        return 0;
    }
    if (rc == cudaErrorInsufficientDriver) {
        (void)cudaDriverGetVersion(&driver);
        if (driver == 0)
            return err_set(e, LLMD_EUNSUPPORTED,
                           "no NVIDIA driver is loaded; install one (580 or newer), or use device "
                           "\"cpu\"");
        return err_set(e, LLMD_EUNSUPPORTED,
                       "the NVIDIA driver is made for CUDA %d.%d, llmd needs %d.%d (driver 580 or "
                       "newer)",
                       driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000,
                       CUDART_VERSION % 1000 / 10);
    }
    if (rc == cudaSuccess || rc == cudaErrorNoDevice)
        return err_set(e, LLMD_EUNSUPPORTED,
                       "no NVIDIA GPU is visible to this process (see "
                       "CUDA_VISIBLE_DEVICES and the device files' rights)");
    return err_set(e, LLMD_EUNSUPPORTED, "CUDA does not start: %s", cudaGetErrorString(rc));
}

static int describe(struct gpu *g, struct err *e)
{
    struct cudaDeviceProp p;
    const int rc = check_err(g, "properties", cudaGetDeviceProperties(&p, g->index), e);
    if (rc)
        return rc;
    snprintf(g->info.name, sizeof(g->info.name), "%.63s", p.name);
    g->info.capability = static_cast<uint32_t>(p.major * 10 + p.minor);
    g->info.n_processors = static_cast<uint32_t>(p.multiProcessorCount);
    g->info.max_shared_bytes = static_cast<uint32_t>(p.sharedMemPerBlockOptin);
    g->info.memory_bytes = p.totalGlobalMem;
    if (g->info.capability < 75)
        return err_set(e, LLMD_EUNSUPPORTED,
                       "cuda:%d is a %s of compute capability %d.%d; llmd needs 7.5 or newer",
                       g->index, p.name, p.major, p.minor);
    return 0;
}

int gpu_pci(uint32_t index, char out[GPU_PCI_SIZE], struct err *e)
{
    const cudaError_t rc = cudaDeviceGetPCIBusId(out, GPU_PCI_SIZE, static_cast<int>(index));
    if (rc == cudaSuccess)
        return 0;
    return err_set(e, LLMD_EUNSUPPORTED, "cuda:%u: %s", index, cudaGetErrorString(rc));
}

int gpu_open(uint32_t index, struct gpu **out, struct err *e)
{
    uint32_t n = 0;
    int rc = gpu_count(&n, e);
    if (rc)
        return rc;
    if (index >= n)
        return err_set(e, LLMD_EUNSUPPORTED, "there is no cuda:%u; the machine has %u GPU%s", index,
                       n, n == 1 ? "" : "s");
    struct gpu *g = static_cast<struct gpu *>(calloc(1, sizeof(*g)));
    if (!g)
        return err_set(e, LLMD_ENOMEM, "out of memory for a GPU");
    g->index = static_cast<int>(index);
    rc = describe(g, e);
    if (!rc)
        rc = check_err(g, "open", cudaSetDevice(g->index), e);
    if (!rc)
        rc = check_err(g, "open", cudaFree(NULL), e); /* makes the context now */
    if (rc) {
        free(g);
        return rc;
    }
    *out = g;
    return 0;
}

void gpu_close(struct gpu *g)
{
    free(g);
}

const struct gpu_info *gpu_describe(const struct gpu *g)
{
    return &g->info;
}

int gpu_memory_left(struct gpu *g, uint64_t *out_bytes, struct err *e)
{
    size_t left = 0, all = 0;
    const int rc = check_err(g, "memory", cudaMemGetInfo(&left, &all), e);
    if (!rc)
        *out_bytes = left;
    return rc;
}

/* --- memory --- */

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<uint64_t>(t.tv_sec) * 1000000 + static_cast<uint64_t>(t.tv_nsec) / 1000;
}

/* The streams of the backend do not wait for the one that this runs on: so the host does. */
static int zero_now(struct gpu *g, void *p, size_t bytes, struct err *e)
{
    const uint64_t PATIENCE_US = 30000000, began_us = now_us();
    const struct timespec nap = {0, 50000};
    int rc = check_err(g, "memory", cudaMemsetAsync(p, 0, bytes, cudaStreamPerThread), e);
    while (!rc) {
        const cudaError_t q = cudaStreamQuery(cudaStreamPerThread);
        if (q == cudaSuccess)
            return 0;
        if (q != cudaErrorNotReady)
            return check_err(g, "memory", q, e);
        if (now_us() - began_us >= PATIENCE_US) {
            note(g, "memory", "no answer");
            return err_set(e, LLMD_EPOISONED, "%s", g->fault);
        }
        nanosleep(&nap, NULL);
    }
    return rc;
}

int gpu_alloc(struct gpu *g, size_t bytes, void **out, struct err *e)
{
    void *p = NULL;
    const cudaError_t rc = cudaMalloc(&p, bytes);
    if (rc == cudaErrorMemoryAllocation || (rc == cudaSuccess && !p)) {
        size_t left = 0, all = 0;
        (void)cudaGetLastError(); /* not a fault */
        (void)cudaMemGetInfo(&left, &all);
        return err_set(e, LLMD_ENOMEM, "cuda:%d: %zu MiB do not fit the %zu MiB left", g->index,
                       bytes >> 20, left >> 20);
    }
    int r = check_err(g, "memory", rc, e);
    if (!r)
        r = zero_now(g, p, bytes, e);
    if (r)
        return r;
    *out = p;
    return 0;
}

void gpu_free(struct gpu *g, void *p)
{
    if (!gpu_fault(g))
        (void)check(g, "free", cudaFree(p));
}

int gpu_pinned_alloc(struct gpu *g, size_t bytes, void **out, struct err *e)
{
    void *p = NULL;
    const cudaError_t rc = cudaHostAlloc(&p, bytes, cudaHostAllocDefault);
    if (rc == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError();
        return err_set(e, LLMD_ENOMEM, "cannot pin %zu MiB of memory", bytes >> 20);
    }
    const int r = check_err(g, "pinned memory", rc, e);
    if (r)
        return r;
    memset(p, 0, bytes);
    *out = p;
    return 0;
}

void gpu_pinned_free(struct gpu *g, void *p)
{
    if (!gpu_fault(g))
        (void)check(g, "free", cudaFreeHost(p));
}

/* --- streams --- */

int gpu_stream_new(struct gpu *g, struct gpu_stream **out, struct err *e)
{
    struct gpu_stream *s = static_cast<struct gpu_stream *>(calloc(1, sizeof(*s)));
    if (!s)
        return err_set(e, LLMD_ENOMEM, "out of memory for a stream");
    s->gpu = g;
    gpu_stream_chain(s, true);
    int rc =
        check_err(g, "stream", cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking), e);
    if (!rc)
        rc = check_err(g, "stream", cudaEventCreateWithFlags(&s->reached, cudaEventDisableTiming),
                       e);
    if (rc) {
        gpu_stream_free(s);
        return rc;
    }
    *out = s;
    return 0;
}

void gpu_stream_free(struct gpu_stream *s)
{
    if (!s)
        return;
    if (s->reached)
        (void)check(s->gpu, "stream", cudaEventDestroy(s->reached));
    if (s->stream)
        (void)check(s->gpu, "stream", cudaStreamDestroy(s->stream));
    free(s);
}

void gpu_stream_chain(struct gpu_stream *s, bool early)
{
    s->chains = early && s->gpu->info.capability >= 90;
}

bool gpu_stream_chains(const struct gpu_stream *s)
{
    return s->chains;
}

void *gpu_stream_handle(struct gpu_stream *s)
{
    return s->stream;
}

int gpu_copy_in(struct gpu_stream *s, void *device, const void *pinned, size_t bytes)
{
    return check(s->gpu, "copy in",
                 cudaMemcpyAsync(device, pinned, bytes, cudaMemcpyHostToDevice, s->stream));
}

int gpu_copy_out(struct gpu_stream *s, void *pinned, const void *device, size_t bytes)
{
    return check(s->gpu, "copy out",
                 cudaMemcpyAsync(pinned, device, bytes, cudaMemcpyDeviceToHost, s->stream));
}

int gpu_zero(struct gpu_stream *s, void *device, size_t bytes)
{
    return check(s->gpu, "zero", cudaMemsetAsync(device, 0, bytes, s->stream));
}

/* Steps of a millisecond are worth spinning for; what takes longer is slept on. */
static int poll(struct gpu *g, cudaEvent_t event, uint64_t timeout_us, struct err *e)
{
    enum { SPIN_US = 2000 };
    const struct timespec nap = {0, 50000};
    const uint64_t began_us = now_us();
    for (;;) {
        const cudaError_t q = cudaEventQuery(event);
        if (q == cudaSuccess)
            return 0;
        if (q != cudaErrorNotReady)
            return check_err(g, "step", q, e);
        const uint64_t waited_us = now_us() - began_us;
        if (waited_us >= timeout_us) {
            char why[64];
            snprintf(why, sizeof(why), "no answer for %llu ms",
                     static_cast<unsigned long long>(timeout_us / 1000));
            note(g, "step", why);
            return err_set(e, LLMD_EPOISONED, "%s", g->fault);
        }
        if (waited_us > SPIN_US)
            nanosleep(&nap, NULL);
    }
}

int gpu_stream_wait(struct gpu_stream *s, uint64_t timeout_us, struct err *e)
{
    const int rc = check_err(s->gpu, "stream", cudaEventRecord(s->reached, s->stream), e);
    return rc ? rc : poll(s->gpu, s->reached, timeout_us, e);
}

/* --- events --- */

int gpu_event_new(struct gpu *g, struct gpu_event **out, struct err *e)
{
    struct gpu_event *ev = static_cast<struct gpu_event *>(calloc(1, sizeof(*ev)));
    if (!ev)
        return err_set(e, LLMD_ENOMEM, "out of memory for an event");
    ev->gpu = g;
    const int rc =
        check_err(g, "event", cudaEventCreateWithFlags(&ev->event, cudaEventDisableTiming), e);
    if (rc) {
        free(ev);
        return rc;
    }
    *out = ev;
    return 0;
}

void gpu_event_free(struct gpu_event *ev)
{
    if (!ev)
        return;
    (void)check(ev->gpu, "event", cudaEventDestroy(ev->event));
    free(ev);
}

int gpu_event_record(struct gpu_event *ev, struct gpu_stream *s)
{
    return check(ev->gpu, "event", cudaEventRecord(ev->event, s->stream));
}

int gpu_event_order(struct gpu_event *ev, struct gpu_stream *s)
{
    return check(ev->gpu, "event", cudaStreamWaitEvent(s->stream, ev->event, 0));
}

int gpu_event_done(struct gpu_event *ev)
{
    const cudaError_t rc = cudaEventQuery(ev->event);
    if (rc == cudaErrorNotReady)
        return 0;
    return rc == cudaSuccess ? 1 : check(ev->gpu, "event", rc);
}

int gpu_event_wait(struct gpu_event *ev, uint64_t timeout_us, struct err *e)
{
    return poll(ev->gpu, ev->event, timeout_us, e);
}

/* --- graphs --- */

int gpu_capture_begin(struct gpu_stream *s)
{
    return check(s->gpu, "capture",
                 cudaStreamBeginCapture(s->stream, cudaStreamCaptureModeThreadLocal));
}

int gpu_capture_end(struct gpu_stream *s, struct gpu_graph **out, struct err *e)
{
    cudaGraph_t graph = NULL;
    struct gpu_graph *made = static_cast<struct gpu_graph *>(calloc(1, sizeof(*made)));
    int rc = check_err(s->gpu, "capture", cudaStreamEndCapture(s->stream, &graph), e);
    if (!made)
        rc = err_set(e, LLMD_ENOMEM, "out of memory for a graph");
    if (!rc)
        rc = check_err(s->gpu, "graph", cudaGraphInstantiate(&made->exec, graph, 0), e);
    if (graph)
        (void)check(s->gpu, "graph", cudaGraphDestroy(graph));
    if (rc) {
        free(made);
        return rc;
    }
    made->gpu = s->gpu;
    *out = made;
    return 0;
}

int gpu_graph_launch(struct gpu_graph *graph, struct gpu_stream *s)
{
    return check(s->gpu, "graph", cudaGraphLaunch(graph->exec, s->stream));
}

void gpu_graph_free(struct gpu_graph *graph)
{
    if (!graph)
        return;
    (void)check(graph->gpu, "graph", cudaGraphExecDestroy(graph->exec));
    free(graph);
}
