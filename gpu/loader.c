#include "gpu/loader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/clock.h"
#include "core/util/cpuinfo.h"
#include "core/util/lock.h"

enum {
    READERS_MAX = 8,
    SLOTS_MAX = 2 * READERS_MAX,
    N_STREAMS = 2,
    CHUNK_BYTES =
        256 << 10, /* the least that a reader takes, so that all have some of a small weight */
    POLL_US = 50,
};

enum slot_state { SLOT_FREE, SLOT_FILLING, SLOT_FULL, SLOT_COPYING };

struct slot {
    enum slot_state state; /* guarded by mu; the rest is its holder's */
    uint8_t *memory;       /* [GPU_SLOT_BYTES] pinned */
    uint64_t first, end;   /* rows */
    struct gpu_event *copied;
};

struct gpu_loader {
    struct gpu *gpu;
    struct gpu_stream *streams[N_STREAMS];
    uint32_t next_stream;
    pthread_t readers[READERS_MAX];
    uint32_t n_readers, n_slots;

    struct lock mu; /* rank LEAF */
    pthread_cond_t work, filled;
    bool stop;
    struct slot slots[SLOTS_MAX];
    struct gpu_rows rows; /* what is loaded; read without the lock while a slot is filled */
    uint64_t next_row, chunk_rows; /* not yet taken by a reader */
    uint32_t n_filling;
};

/* --- readers --- */

/* A free slot with the next rows in it, NULL when the loader ends. mu is held, but not all the time. */
static struct slot *take_slot(struct gpu_loader *l)
{
    for (;;) {
        for (uint32_t i = 0; i < l->n_slots && l->next_row < l->rows.n_rows; i++) {
            struct slot *s = &l->slots[i];
            if (s->state != SLOT_FREE)
                continue;
            s->state = SLOT_FILLING;
            s->first = l->next_row;
            s->end = u64_min(s->first + l->chunk_rows, l->rows.n_rows);
            l->next_row = s->end;
            l->n_filling++;
            return s;
        }
        if (l->stop)
            return NULL;
        (void)lock_wait(&l->mu, &l->work, UINT64_MAX);
    }
}

static void *reader_main(void *arg)
{
    struct gpu_loader *l = arg;
    float *scratch = NULL;
    uint32_t n_scratch = 0;
    struct slot *s;
    (void)pthread_setname_np(pthread_self(), "llmd-load");
    lock_take(&l->mu);
    while ((s = take_slot(l)) != NULL) {
        const struct gpu_rows rows = l->rows;
        lock_drop(&l->mu);
        if (rows.n_scratch > n_scratch) {
            free(scratch);
            scratch = malloc(rows.n_scratch * sizeof(*scratch));
            n_scratch = scratch ? rows.n_scratch : 0;
        }
        const bool able = rows.n_scratch <= n_scratch;
        if (able)
            rows.fill(rows.ctx, s->first, s->end, scratch, s->memory);
        lock_take(&l->mu);
        s->state = SLOT_FULL;
        if (!able)
            s->end = s->first; /* for the owner to see */
        l->n_filling--;
        pthread_cond_signal(&l->filled);
    }
    lock_drop(&l->mu);
    free(scratch);
    return NULL;
}

/* --- the device's thread --- */

static int failed(struct gpu_loader *l, struct err *e)
{
    const char *why = gpu_fault(l->gpu);
    return err_set(e, LLMD_EPOISONED, "%s", why ? why : "the device failed");
}

static int timed_out(struct gpu_loader *l, uint64_t timeout_us, struct err *e)
{
    char why[64];
    snprintf(why, sizeof(why), "nothing moved for %llu ms", (unsigned long long)timeout_us / 1000);
    gpu_stream_fault(l->streams[0], "load", why);
    return failed(l, e);
}

/* Enqueues the copy of a slot that was filled. */
static int copy_slot(struct gpu_loader *l, struct slot *s, struct err *e)
{
    struct gpu_stream *stream = l->streams[l->next_stream++ % N_STREAMS];
    const size_t row_bytes = l->rows.row_bytes;
    if (s->end == s->first)
        return err_set(e, LLMD_ENOMEM, "out of memory for a row");
    uint8_t *to = (uint8_t *)l->rows.device + s->first * row_bytes;
    if (gpu_copy_in(stream, to, s->memory, (s->end - s->first) * row_bytes) ||
        gpu_event_record(s->copied, stream))
        return failed(l, e);
    return 0;
}

static enum slot_state state_of(struct gpu_loader *l, const struct slot *s)
{
    lock_take(&l->mu);
    const enum slot_state state = s->state;
    lock_drop(&l->mu);
    return state;
}

static void set_state(struct gpu_loader *l, struct slot *s, enum slot_state state)
{
    lock_take(&l->mu);
    s->state = state;
    if (state == SLOT_FREE)
        pthread_cond_signal(&l->work);
    lock_drop(&l->mu);
}

/* What a look at the slots found. */
struct found {
    bool moved;    /* a slot went on */
    bool awaiting; /* a copy is under way */
};

/* Moves every slot on that can be. */
static int look_at_slots(struct gpu_loader *l, struct found *out, struct err *e)
{
    *out = (struct found){.moved = false};
    for (uint32_t i = 0; i < l->n_slots; i++) {
        struct slot *s = &l->slots[i];
        const enum slot_state state = state_of(l, s);
        int rc = 0;
        if (state == SLOT_FULL) {
            rc = copy_slot(l, s, e);
            if (!rc)
                set_state(l, s, SLOT_COPYING);
        } else if (state == SLOT_COPYING) {
            rc = gpu_event_done(s->copied);
            if (rc < 0)
                return failed(l, e);
            out->awaiting |= rc == 0;
            if (rc == 0)
                continue;
            rc = 0;
            set_state(l, s, SLOT_FREE);
        } else
            continue;
        if (rc)
            return rc;
        out->moved = true;
    }
    return 0;
}

/* Whether all rows are on the device. */
static bool all_done(struct gpu_loader *l)
{
    bool done;
    lock_take(&l->mu);
    done = l->next_row == l->rows.n_rows;
    for (uint32_t i = 0; i < l->n_slots; i++)
        done &= l->slots[i].state == SLOT_FREE;
    lock_drop(&l->mu);
    return done;
}

/* Until something was filled, or a copy may have come to its end. */
static void nap(struct gpu_loader *l)
{
    lock_take(&l->mu);
    (void)lock_wait(&l->mu, &l->filled, clock_now_us() + POLL_US);
    lock_drop(&l->mu);
}

/* No reader looks at the rows any more. */
static void give_up(struct gpu_loader *l)
{
    lock_take(&l->mu);
    l->next_row = l->rows.n_rows;
    while (l->n_filling > 0)
        (void)lock_wait(&l->mu, &l->filled, UINT64_MAX);
    lock_drop(&l->mu);
}

int gpu_loader_rows(struct gpu_loader *l, const struct gpu_rows *rows, uint64_t timeout_us,
                    struct err *e)
{
    BUG_ON(rows->row_bytes == 0 || rows->row_bytes > GPU_SLOT_BYTES);
    const uint64_t fit = GPU_SLOT_BYTES / rows->row_bytes;
    const uint64_t share = rows->n_rows / l->n_slots + 1;
    const uint64_t least = CHUNK_BYTES / rows->row_bytes + 1;
    lock_take(&l->mu);
    l->rows = *rows;
    l->chunk_rows = u64_min(fit, u64_max(share, least));
    l->next_row = 0;
    pthread_cond_broadcast(&l->work);
    lock_drop(&l->mu);
    uint64_t moved_us = clock_now_us();
    int rc = 0;
    while (!rc && !all_done(l)) {
        struct found found;
        rc = look_at_slots(l, &found, e);
        const uint64_t now_us = clock_now_us();
        if (found.moved || !found.awaiting) /* a file may be slow, the device may not */
            moved_us = now_us;
        if (!rc && now_us - moved_us >= timeout_us)
            rc = timed_out(l, timeout_us, e);
        else if (!rc && !found.moved)
            nap(l);
    }
    if (rc)
        give_up(l);
    return rc;
}

/* --- life --- */

static int make_slots(struct gpu_loader *l, struct err *e)
{
    int rc = 0;
    for (uint32_t i = 0; i < N_STREAMS && !rc; i++)
        rc = gpu_stream_new(l->gpu, &l->streams[i], e);
    while (l->n_slots < 2 * l->n_readers && !rc) {
        struct slot *s = &l->slots[l->n_slots];
        void *memory = NULL;
        rc = gpu_pinned_alloc(l->gpu, GPU_SLOT_BYTES, &memory, e);
        s->memory = memory;
        if (!rc)
            rc = gpu_event_new(l->gpu, &s->copied, e);
        l->n_slots++;
    }
    return rc;
}

static int start_readers(struct gpu_loader *l, uint32_t n, struct err *e)
{
    int rc = 0;
    for (l->n_readers = 0; l->n_readers < n && !rc; l->n_readers += rc == 0)
        rc = pthread_create(&l->readers[l->n_readers], NULL, reader_main, l);
    if (rc)
        return err_set(e, LLMD_EIO, "cannot start a thread that reads weights: %s", strerror(rc));
    return 0;
}

int gpu_loader_new(struct gpu *g, uint32_t n_readers, struct gpu_loader **out, struct err *e)
{
    struct gpu_loader *l = calloc(1, sizeof(*l));
    if (!l)
        return err_set(e, LLMD_ENOMEM, "out of memory for the loader");
    const uint32_t n = (uint32_t)u64_min(READERS_MAX, n_readers ? n_readers : cpu_usable_cores());
    l->gpu = g;
    l->n_readers = n;
    lock_init(&l->mu, LOCK_RANK_LEAF);
    lock_cond_init(&l->work);
    lock_cond_init(&l->filled);
    int rc = make_slots(l, e);
    l->n_readers = 0;
    if (!rc)
        rc = start_readers(l, n, e);
    if (rc) {
        gpu_loader_free(l);
        return rc;
    }
    *out = l;
    return 0;
}

void gpu_loader_free(struct gpu_loader *l)
{
    if (!l)
        return;
    lock_take(&l->mu);
    l->stop = true;
    pthread_cond_broadcast(&l->work);
    lock_drop(&l->mu);
    for (uint32_t i = 0; i < l->n_readers; i++)
        BUG_ON(pthread_join(l->readers[i], NULL) != 0);
    for (uint32_t i = 0; i < N_STREAMS; i++)
        gpu_stream_free(l->streams[i]);
    for (uint32_t i = 0; i < l->n_slots; i++) {
        gpu_event_free(l->slots[i].copied);
        gpu_pinned_free(l->gpu, l->slots[i].memory);
    }
    pthread_cond_destroy(&l->work);
    pthread_cond_destroy(&l->filled);
    lock_fini(&l->mu);
    free(l);
}
