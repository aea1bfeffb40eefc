/* runtime.cc - gpu/runtime.h on the host.
 *
 * What is enqueued is kept in a list and carried out while somebody waits or polls, one entry per
 * poll: who reads a result too early reads what was there before. Every other wait for an event carries
 * out what is behind it, too: who reads a result too late reads what came after it. Device memory may be touched by
 * kernels and copies only: in between it is poisoned under AddressSanitizer; without, a guard behind
 * each allocation is checked after each entry. */
#include "gpu/runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

extern "C" {
#include "core/util/clock.h"
}
#include "gpu/device.cuh"
#include "tests/gpu/host/control.h"
#include "tests/gpu/host/stand_in.hh"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

enum { GUARD_BYTES = 64, GUARD = 0xa5, ALIGN = 256 };

struct entry {
    std::string name;
    std::function<const char *()> run; /* NULL, or what went wrong */
    bool kernel = false;
};

struct gpu_stream {
    struct gpu *gpu;
    std::deque<struct entry> entries;
    uint64_t n_put, n_run, n_waits;
    struct gpu_graph *capture; /* takes the entries instead */
};

struct gpu_event {
    struct gpu *gpu;
    struct gpu_stream *stream; /* NULL: not recorded */
    uint64_t at;               /* its stream's n_put then */
};

struct gpu_graph {
    std::vector<struct entry> entries;
};

struct gpu {
    struct gpu_info info;
    uint32_t index;
    std::string fault;
    bool stalled;
    uint64_t used;
    uint32_t n_streams;
    std::map<uint8_t *, size_t> memory; /* of the device */
};

struct choice {
    std::atomic<uint32_t> capability{90};
    std::atomic<uint64_t> memory_bytes{1ull << 30};
    std::atomic<uint32_t> n_gpus{1};
};

/* A kernel that is to break. */
struct breakage {
    std::atomic<uint64_t> left{0}; /* kernels up to it, itself included; 0: none */
    std::atomic<int> how{0};
};

static struct choice chosen;
static struct breakage breakages[STAND_IN_GPUS];
static std::atomic<uint64_t> n_allocations{0}, n_waits_ahead{0};

void stand_in_set_seed(uint64_t seed)
{
    stand_in::set_seed(seed);
}

void stand_in_set_capability(uint32_t capability)
{
    chosen.capability = capability;
}

void stand_in_set_memory(uint64_t bytes)
{
    chosen.memory_bytes = bytes;
}

void stand_in_set_gpus(uint32_t n)
{
    BUG_ON(n == 0 || n > STAND_IN_GPUS);
    chosen.n_gpus = n;
}

uint64_t stand_in_allocations(void)
{
    return n_allocations;
}

uint64_t stand_in_waits_ahead(void)
{
    return n_waits_ahead;
}

void stand_in_break_kernel(uint32_t device, enum stand_in_break how, uint64_t at)
{
    BUG_ON(device >= STAND_IN_GPUS);
    breakages[device].how = how;
    breakages[device].left = at;
}

void stand_in_stall(struct gpu *g)
{
    g->stalled = true;
}

uint32_t stand_in_alive(const struct gpu *g)
{
    return static_cast<uint32_t>(g->memory.size()) + g->n_streams;
}

/* --- the device --- */

static uint32_t shared_bytes_of(uint32_t capability)
{
    switch (capability) {
    case 75:
        return 64 * 1024;
    case 80:
        return 163 * 1024;
    case 90:
    case 100:
        return 227 * 1024;
    default:
        return 99 * 1024;
    }
}

int gpu_count(uint32_t *out, struct err *e)
{
    if (chosen.capability == 0)
        return err_set(e, LLMD_EUNSUPPORTED,
                       "no NVIDIA driver is loaded; install one (580 or newer), or use device "
                       "\"cpu\"");
    *out = chosen.n_gpus;
    return 0;
}

int gpu_pci(uint32_t index, char out[GPU_PCI_SIZE], struct err *e)
{
    if (index >= chosen.n_gpus)
        return err_set(e, LLMD_EUNSUPPORTED, "there is no cuda:%u", index);
    snprintf(out, GPU_PCI_SIZE, "00000000:%02x:00.0", index + 1);
    return 0;
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
    struct gpu *g = new struct gpu();
    g->index = index;
    snprintf(g->info.name, sizeof(g->info.name), "host stand-in");
    g->info.capability = chosen.capability;
    g->info.n_processors = 4;
    g->info.max_shared_bytes = shared_bytes_of(chosen.capability);
    g->info.memory_bytes = chosen.memory_bytes;
    *out = g;
    return 0;
}

void gpu_close(struct gpu *g)
{
    if (!g)
        return;
    BUG_ON(stand_in_alive(g) > 0);
    delete g;
}

const struct gpu_info *gpu_describe(const struct gpu *g)
{
    return &g->info;
}

int gpu_memory_left(struct gpu *g, uint64_t *out_bytes, struct err *e)
{
    (void)e;
    *out_bytes = g->info.memory_bytes - g->used;
    return 0;
}

const char *gpu_fault(const struct gpu *g)
{
    return g->fault.empty() ? nullptr : g->fault.c_str();
}

static int state_of(const struct gpu *g)
{
    return g->fault.empty() ? 0 : -LLMD_EPOISONED;
}

static void note_fault(struct gpu *g, const std::string &what)
{
    if (g->fault.empty())
        g->fault = what;
}

/* --- memory --- */

int gpu_alloc(struct gpu *g, size_t bytes, void **out, struct err *e)
{
    const size_t all = (bytes + GUARD_BYTES + ALIGN - 1) / ALIGN * ALIGN;
    if (bytes == 0 || g->used + bytes > g->info.memory_bytes)
        return err_set(e, LLMD_ENOMEM, "%zu bytes on a GPU that has %llu left", bytes,
                       static_cast<unsigned long long>(g->info.memory_bytes - g->used));
    uint8_t *p = static_cast<uint8_t *>(aligned_alloc(ALIGN, all));
    if (!p)
        return err_set(e, LLMD_ENOMEM, "out of memory for %zu bytes of a GPU", bytes);
    n_allocations++;
    memset(p, 0, bytes);
    memset(p + bytes, GUARD, all - bytes);
    ASAN_POISON_MEMORY_REGION(p, all);
    g->memory[p] = bytes;
    g->used += bytes;
    *out = p;
    return 0;
}

void gpu_free(struct gpu *g, void *p)
{
    if (!p)
        return;
    auto it = g->memory.find(static_cast<uint8_t *>(p));
    BUG_ON(it == g->memory.end());
    ASAN_UNPOISON_MEMORY_REGION(p, it->second + GUARD_BYTES);
    g->used -= it->second;
    g->memory.erase(it);
    free(p);
}

int gpu_pinned_alloc(struct gpu *g, size_t bytes, void **out, struct err *e)
{
    (void)g;
    void *p = calloc(1, bytes);
    if (!p)
        return err_set(e, LLMD_ENOMEM, "out of memory for %zu pinned bytes", bytes);
    n_allocations++;
    *out = p;
    return 0;
}

void gpu_pinned_free(struct gpu *g, void *p)
{
    (void)g;
    free(p);
}

static void open_memory(struct gpu *g)
{
    for (const auto &m : g->memory)
        ASAN_UNPOISON_MEMORY_REGION(m.first, m.second);
}

static void close_memory(struct gpu *g, const std::string &name)
{
    (void)name;
    for (const auto &m : g->memory) {
        ASAN_POISON_MEMORY_REGION(m.first, m.second);
#ifndef __SANITIZE_ADDRESS__
        for (size_t i = 0; i < GUARD_BYTES; i++)
            if (m.first[m.second + i] != GUARD)
                note_fault(g, name + ": a write beyond an allocation of " +
                                  std::to_string(m.second) + " bytes");
#endif
    }
}

/* --- streams --- */

static void put(struct gpu_stream *s, struct entry e)
{
    if (s->capture) {
        s->capture->entries.push_back(std::move(e));
        return;
    }
    s->entries.push_back(std::move(e));
    s->n_put++;
}

/* A kernel is about to run: is it the one that breaks? */
static const char *broken(struct gpu *g)
{
    struct breakage *b = &breakages[g->index];
    if (b->left == 0 || --b->left > 0)
        return nullptr;
    g->stalled = b->how == STAND_IN_ENDLESS;
    return g->stalled ? nullptr : "an illegal memory access was encountered";
}

/* False when nothing is left, or nothing moves any more. */
static bool run_one(struct gpu_stream *s)
{
    if (s->entries.empty() || s->gpu->stalled)
        return false;
    if (s->entries.front().kernel && s->gpu->fault.empty()) {
        const char *why = broken(s->gpu);
        if (why)
            note_fault(s->gpu, s->entries.front().name + ": " + why);
        if (s->gpu->stalled)
            return false;
    }
    struct entry e = std::move(s->entries.front());
    s->entries.pop_front();
    if (s->gpu->fault.empty()) {
        open_memory(s->gpu);
        const char *why = e.run();
        close_memory(s->gpu, e.name);
        if (why)
            note_fault(s->gpu, why);
    }
    s->n_run++;
    return true;
}

int gpu_stream_new(struct gpu *g, struct gpu_stream **out, struct err *e)
{
    (void)e;
    g->n_streams++;
    *out = new struct gpu_stream();
    (*out)->gpu = g;
    return 0;
}

void gpu_stream_free(struct gpu_stream *s)
{
    if (!s)
        return;
    while (run_one(s))
        ;
    s->gpu->n_streams--;
    delete s;
}

static int copy(struct gpu_stream *s, const char *name, void *to, const void *from, size_t bytes)
{
    put(s, {name, [=]() -> const char * {
                memcpy(to, from, bytes);
                return nullptr;
            }});
    return state_of(s->gpu);
}

int gpu_copy_in(struct gpu_stream *s, void *device, const void *pinned, size_t bytes)
{
    return copy(s, "copy in", device, pinned, bytes);
}

int gpu_copy_out(struct gpu_stream *s, void *pinned, const void *device, size_t bytes)
{
    return copy(s, "copy out", pinned, device, bytes);
}

int gpu_zero(struct gpu_stream *s, void *device, size_t bytes)
{
    put(s, {"zero", [=]() -> const char * {
                memset(device, 0, bytes);
                return nullptr;
            }});
    return state_of(s->gpu);
}

/* Until the first `at` entries have run. */
static int run_until(struct gpu_stream *s, uint64_t at, uint64_t timeout_us, struct err *e)
{
    const uint64_t until_us = clock_now_us() + timeout_us;
    while (s->n_run < at && run_one(s))
        ;
    while (s->n_run < at && s->gpu->fault.empty()) {
        if (clock_now_us() >= until_us)
            note_fault(s->gpu, "step: no answer for " + std::to_string(timeout_us / 1000) + " ms");
        clock_sleep_us(100);
    }
    if (!s->gpu->fault.empty())
        return err_set(e, LLMD_EPOISONED, "%s", s->gpu->fault.c_str());
    return 0;
}

int gpu_stream_wait(struct gpu_stream *s, uint64_t timeout_us, struct err *e)
{
    if (s->capture)
        return err_set(e, LLMD_EGPU, "a stream that records cannot be waited for");
    return run_until(s, s->n_put, timeout_us, e);
}

/* One kernel after the other, whatever was asked for. */
void gpu_stream_chain(struct gpu_stream *s, bool early)
{
    (void)s, (void)early;
}

bool gpu_stream_chains(const struct gpu_stream *s)
{
    (void)s;
    return false;
}

void *gpu_stream_handle(struct gpu_stream *s)
{
    return s;
}

void gpu_stream_fault(struct gpu_stream *s, const char *what, const char *why)
{
    note_fault(s->gpu, std::string(what) + ": " + why);
}

int stand_in_state(struct gpu_stream *s)
{
    return state_of(s->gpu);
}

void stand_in_enqueue(struct gpu_stream *s, const char *name, struct gpu_dim grid, uint32_t block,
                      size_t shared_bytes, std::function<void()> body)
{
    const struct stand_in::limits limits = {s->gpu->info.max_shared_bytes};
    put(s, {name,
            [=] {
                stand_in::set_limits(limits);
                return stand_in::run(name, grid, block, shared_bytes, body);
            },
            true});
}

void stand_in_call(void *stream, void (*fn)(void *), void *arg)
{
    put(static_cast<struct gpu_stream *>(stream), {"call", [=]() -> const char * {
                                                       fn(arg);
                                                       return nullptr;
                                                   }});
}

/* --- events --- */

int gpu_event_new(struct gpu *g, struct gpu_event **out, struct err *e)
{
    (void)e;
    *out = new struct gpu_event();
    (*out)->gpu = g;
    return 0;
}

void gpu_event_free(struct gpu_event *ev)
{
    delete ev;
}

int gpu_event_record(struct gpu_event *ev, struct gpu_stream *s)
{
    BUG_ON(s->capture);
    ev->stream = s;
    ev->at = s->n_put;
    return state_of(s->gpu);
}

int gpu_event_order(struct gpu_event *ev, struct gpu_stream *s)
{
    struct gpu_stream *first = ev->stream;
    const uint64_t at = ev->at;
    if (!first || first == s)
        return state_of(s->gpu);
    put(s, {"event", [=]() -> const char * {
                while (first->n_run < at && run_one(first))
                    ;
                return nullptr;
            }});
    return state_of(s->gpu);
}

int gpu_event_done(struct gpu_event *ev)
{
    if (ev->stream && ev->stream->n_run < ev->at)
        run_one(ev->stream);
    if (!ev->gpu->fault.empty())
        return -LLMD_EPOISONED;
    return !ev->stream || ev->stream->n_run >= ev->at;
}

/* Whether a kernel waits behind the event. */
static bool work_behind(const struct gpu_event *ev)
{
    const std::deque<struct entry> &all = ev->stream->entries;
    const size_t n = std::min<size_t>(ev->stream->n_put - ev->at, all.size());
    return std::any_of(all.end() - static_cast<std::ptrdiff_t>(n), all.end(),
                       [](const struct entry &e) { return e.kernel; });
}

int gpu_event_wait(struct gpu_event *ev, uint64_t timeout_us, struct err *e)
{
    BUG_ON(!ev->stream);
    n_waits_ahead += work_behind(ev);
    const int rc = run_until(ev->stream, ev->at, timeout_us, e);
    if (ev->stream->n_waits++ % 2 == 1) /* the device does not stop while the host reads */
        while (run_one(ev->stream))
            ;
    return rc;
}

/* --- graphs --- */

int gpu_capture_begin(struct gpu_stream *s)
{
    BUG_ON(s->capture);
    s->capture = new struct gpu_graph();
    return state_of(s->gpu);
}

int gpu_capture_end(struct gpu_stream *s, struct gpu_graph **out, struct err *e)
{
    (void)e;
    BUG_ON(!s->capture);
    *out = s->capture;
    s->capture = nullptr;
    return state_of(s->gpu);
}

int gpu_graph_launch(struct gpu_graph *graph, struct gpu_stream *s)
{
    for (const struct entry &e : graph->entries)
        put(s, e);
    return state_of(s->gpu);
}

void gpu_graph_free(struct gpu_graph *graph)
{
    delete graph;
}
