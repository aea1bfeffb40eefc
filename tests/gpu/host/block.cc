/* block.cc - launches: blocks in turn, their threads as fibers; barriers and collectives. */
#include "tests/gpu/host/stand_in_int.hh"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <memory>
#include <vector>

namespace stand_in
{

enum {
    MAX_THREADS = 1024,
    STACK_BYTES = 256 * 1024,
};

/* One state per OS thread; freed with it. */
struct machine *the_machine()
{
    static thread_local std::unique_ptr<struct machine> m;
    if (!m)
        m = std::make_unique<struct machine>();
    return m.get();
}

machine::~machine()
{
    for (struct thread &t : threads)
        fiber_free(&t.fiber);
    shared_fini(this);
}

void set_seed(uint64_t seed)
{
    the_machine()->random = seed * 2 + 1;
}

void set_limits(const struct limits &l)
{
    the_machine()->limits = l;
}

struct limits get_limits()
{
    return the_machine()->limits;
}

/* xorshift64* */
static uint32_t random_below(struct machine *m, uint32_t n)
{
    m->random ^= m->random >> 12;
    m->random ^= m->random << 25;
    m->random ^= m->random >> 27;
    return static_cast<uint32_t>((m->random * 2685821657736338717u >> 32) % n);
}

/* --- faults --- */

static void append(struct machine *m, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void append(struct machine *m, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    const size_t n = strlen(m->message);
    vsnprintf(m->message + n, sizeof(m->message) - n, format, ap);
    va_end(ap);
}

static void begin_message(struct machine *m)
{
    m->message[0] = 0;
    append(m, "%s, block (%u,%u,%u)", m->kernel, m->block.x, m->block.y, m->block.z);
}

/* Only the first fault of a launch counts: what follows may be its consequence. */
void fault_at(struct machine *m, const char *text)
{
    if (m->faulted)
        return;
    begin_message(m);
    append(m, ": %s", text);
    m->faulted = true;
}

void fault(struct site at, const char *format, ...)
{
    struct machine *m = the_machine();
    struct thread *self = m->current;
    char text[256];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    begin_message(m);
    append(m, ", thread %u: %s:%u: %s", self->index, at.file, at.line, text);
    m->faulted = true;
    for (;;) /* the block is given up: nobody comes back here */
        fiber_switch(&self->fiber, &m->scheduler);
}

/* --- threads taking turns --- */

static void block_thread(struct machine *m)
{
    struct thread *self = m->current;
    fiber_switch(&self->fiber, &m->scheduler);
}

static void make_ready(struct machine *m, struct thread *t)
{
    t->state = READY;
    m->ready.push_back(t->index);
}

static void thread_main()
{
    struct machine *m = the_machine();
    fiber_entered(&m->scheduler);
    (*m->body)();
    struct thread *self = m->current;
    copies_end(m, self);
    self->state = ENDED;
    m->n_ended++;
    fiber_leave(&self->fiber, &m->scheduler);
}

uint32_t thread_index()
{
    return the_machine()->current->index;
}

uint32_t n_threads()
{
    return the_machine()->n_threads;
}

const struct gpu_dim &block_index()
{
    return the_machine()->block;
}

const struct gpu_dim &grid_size()
{
    return the_machine()->grid;
}

void await_previous()
{
    the_machine()->current->awaited = true;
}

void check_awaited()
{
    if (!the_machine()->current->awaited)
        fault({"the kernel's end", 0}, "without gpu_await_previous()");
}

static bool same_site(const struct site &a, const struct site &b)
{
    return a.line == b.line && strcmp(a.file, b.file) == 0;
}

void sync_block(struct site at)
{
    struct machine *m = the_machine();
    struct thread *self = m->current;
    if (m->n_at_barrier == 0)
        m->barrier = at;
    else if (!same_site(m->barrier, at))
        fault(at, "a barrier while %u threads wait at another, %s:%u", m->n_at_barrier,
              m->barrier.file, m->barrier.line);
    self->at = at;
    self->waits_for = "the block's barrier";
    self->state = AT_BARRIER;
    if (++m->n_at_barrier == m->n_threads) {
        m->n_at_barrier = 0;
        for (uint32_t i = 0; i < m->n_threads; i++)
            make_ready(m, &m->threads[i]);
    }
    block_thread(m);
}

void collective(const char *what, warp_op *op, const void *in, size_t in_bytes, void *out,
                size_t out_bytes, struct site at)
{
    struct machine *m = the_machine();
    struct thread *self = m->current;
    struct warp *w = &m->warps[self->index / WARP];
    struct lane_data *lane = &w->lanes[self->index % WARP];
    if (w->n_arrived == 0) {
        w->what = what;
        w->at = at;
    } else if (strcmp(w->what, what) != 0) {
        fault(at, "%s while %u lanes of its warp wait in %s at %s:%u", what, w->n_arrived, w->what,
              w->at.file, w->at.line);
    }
    if (in_bytes > 0)
        memcpy(lane->in, in, in_bytes);
    self->at = at;
    self->waits_for = what;
    self->state = IN_WARP;
    if (++w->n_arrived == WARP) {
        w->n_arrived = 0;
        op(w->lanes);
        for (uint32_t i = 0; i < WARP; i++)
            make_ready(m, &m->threads[self->index / WARP * WARP + i]);
    }
    block_thread(m);
    if (out_bytes > 0)
        memcpy(out, lane->out, out_bytes);
}

/* --- a block --- */

/* Nobody can go on: tells who waits where, one line for each place. */
static void explain_deadlock(struct machine *m)
{
    begin_message(m);
    append(m, ": %u of %u threads have ended", m->n_ended, m->n_threads);
    std::vector<bool> told(m->n_threads);
    for (uint32_t i = 0; i < m->n_threads; i++) {
        const struct thread *t = &m->threads[i];
        uint32_t n = 0;
        if (t->state == ENDED || told[i])
            continue;
        for (uint32_t k = i; k < m->n_threads; k++) {
            const struct thread *other = &m->threads[k];
            if (other->state != t->state || !same_site(other->at, t->at))
                continue;
            told[k] = true;
            n++;
        }
        append(m, ", %u wait for ever in %s at %s:%u (thread %u first)", n, t->waits_for,
               t->at.file, t->at.line, i);
    }
    m->faulted = true;
}

static void begin_block(struct machine *m)
{
    m->n_ended = m->n_at_barrier = 0;
    m->ready.clear();
    for (uint32_t i = 0; i < m->n_threads / WARP; i++)
        m->warps[i].n_arrived = 0;
    for (uint32_t i = 0; i < m->n_threads; i++) {
        struct thread *t = &m->threads[i];
        fiber_reset(&t->fiber, thread_main);
        t->index = i;
        t->awaited = false;
        copies_begin(t);
        make_ready(m, t);
    }
    shared_begin(m);
}

static void run_block(struct machine *m)
{
    begin_block(m);
    while (!m->ready.empty() && !m->faulted) {
        const uint32_t k = random_below(m, static_cast<uint32_t>(m->ready.size()));
        m->current = &m->threads[m->ready[k]];
        m->ready[k] = m->ready.back();
        m->ready.pop_back();
        fiber_switch(&m->scheduler, &m->current->fiber);
    }
    if (!m->faulted && m->n_ended < m->n_threads)
        explain_deadlock(m);
    shared_end(m);
}

/* --- a launch --- */

static bool check_launch(struct machine *m, size_t shared_bytes)
{
    const struct gpu_dim &g = m->grid;
    m->block = {0, 0, 0};
    if (g.x == 0 || g.y == 0 || g.z == 0 || g.x > 0x7fffffff || g.y > 65535 || g.z > 65535)
        snprintf(m->message, sizeof(m->message), "%s: a grid of %u x %u x %u blocks", m->kernel,
                 g.x, g.y, g.z);
    else if (m->n_threads == 0 || m->n_threads > MAX_THREADS || m->n_threads % WARP != 0)
        snprintf(m->message, sizeof(m->message), "%s: blocks of %u threads", m->kernel,
                 m->n_threads);
    else if (shared_bytes > m->limits.max_shared_bytes)
        snprintf(m->message, sizeof(m->message),
                 "%s: %zu bytes of shared memory, the device has %u", m->kernel, shared_bytes,
                 m->limits.max_shared_bytes);
    else
        return true;
    m->faulted = true;
    return false;
}

static void prepare(struct machine *m)
{
    while (m->threads.size() < m->n_threads) {
        m->threads.push_back({});
        fiber_new(&m->threads.back().fiber, STACK_BYTES);
    }
    m->warps.resize(m->n_threads / WARP);
    shared_reserve(m);
}

/* Blocks in some order. */
static std::vector<uint64_t> shuffled_blocks(struct machine *m)
{
    std::vector<uint64_t> order(static_cast<uint64_t>(m->grid.x) * m->grid.y * m->grid.z);
    for (uint64_t i = 0; i < order.size(); i++) {
        const uint64_t k = random_below(m, static_cast<uint32_t>(i + 1));
        order[i] = order[k];
        order[k] = i;
    }
    return order;
}

const char *run(const char *name, const struct gpu_dim &grid, uint32_t block, size_t shared_bytes,
                const std::function<void()> &body)
{
    struct machine *m = the_machine();
    m->kernel = name;
    m->grid = grid;
    m->n_threads = block;
    m->dynamic_bytes = shared_bytes;
    m->body = &body;
    m->faulted = false;
    if (!check_launch(m, shared_bytes))
        return m->message;
    prepare(m);
    for (uint64_t i : shuffled_blocks(m)) {
        m->block = {static_cast<uint32_t>(i % grid.x), static_cast<uint32_t>(i / grid.x % grid.y),
                    static_cast<uint32_t>(i / grid.x / grid.y)};
        run_block(m);
        if (m->faulted)
            return m->message;
    }
    return nullptr;
}

} // namespace stand_in
