#include "core/request/stream.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/request/request.h"
#include "core/util/clock.h"

enum { PUSHES_BEFORE_WAKE = 8, RING_MIN = 64, RING_PER_CHOICE = 4, CHOICES_MAX = 1 << 20 };

int waker_init(struct waker *w, struct err *e)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return err_set(e, LLMD_EIO, "cannot create an eventfd: %s", strerror(errno));
    *w = (struct waker){.event_fd = fd};
    lock_init(&w->mu, LOCK_RANK_WAKER);
    return 0;
}

/* Unlinks the oldest request; its link's reference passes to the caller. w->mu is held. */
static struct request *pop_ready(struct waker *w)
{
    struct request *r = w->first;
    if (!r)
        return NULL;
    w->first = r->stream.ready_next;
    if (!w->first)
        w->last = NULL;
    r->stream.ready_next = NULL;
    r->stream.linked = false;
    return r;
}

void waker_fini(struct waker *w)
{
    struct request *r;
    for (;;) {
        lock_take(&w->mu);
        r = pop_ready(w);
        lock_drop(&w->mu);
        if (!r)
            break;
        request_unref(r);
    }
    lock_fini(&w->mu);
    close(w->event_fd);
    w->event_fd = -1;
}

uint32_t waker_take(struct waker *w, struct request *out[], uint32_t max)
{
    /* Drained before it is disarmed: a producer that arms in between leaves a pending event and an
     * unarmed waker, one wake-up too many. The other order could leave it armed without an event,
     * asleep for ever (I4). */
    uint64_t count;
    while (read(w->event_fd, &count, sizeof(count)) < 0 && errno == EINTR)
        ;

    uint32_t n = 0;
    lock_take(&w->mu);
    w->armed = false;
    while (n < max && w->first)
        out[n++] = pop_ready(w);
    lock_drop(&w->mu);
    return n;
}

/* Writes the eventfd of each that has something and was not told. */
static void wake_all(const struct waker_set *set)
{
    static const uint64_t one = 1;

    for (uint32_t i = 0; i < set->n; i++) {
        struct waker *w = set->items[i];
        lock_take(&w->mu);
        bool wake = w->first && !w->armed;
        if (wake)
            w->armed = true;
        lock_drop(&w->mu);
        /* EAGAIN: the counter is at its end, so the eventfd is readable anyway. */
        while (wake && write(w->event_fd, &one, sizeof(one)) < 0 && errno == EINTR)
            ;
    }
}

void waker_set_flush(struct waker_set *set)
{
    wake_all(set);
    set->n = set->n_pushes = 0;
}

/* A push to w. Called without locks: it may wake, and a full set is flushed early. */
static void touch(struct waker_set *set, struct waker *w)
{
    uint32_t i = 0;
    while (i < set->n && set->items[i] != w)
        i++;
    if (i == WAKER_SET_MAX)
        waker_set_flush(set);
    if (i >= set->n)
        set->items[set->n++] = w;
    if (++set->n_pushes == PUSHES_BEFORE_WAKE)
        wake_all(set);
}

/* What the request's logprobs and scores need beside the ring. */
static int init_logprobs(struct request *r, uint32_t cap)
{
    struct stream *s = &r->stream;
    const uint32_t n_logprobs = sampling_n_logprobs(&r->sampling);
    const uint32_t n_scores = sampling_n_scores(&r->sampling);
    if (n_logprobs > 0) {
        s->logprobs = arena_array(&r->arena, (size_t)cap * n_logprobs, sizeof(*s->logprobs));
        if (!s->logprobs)
            return -LLMD_ENOMEM;
        s->n_logprobs = n_logprobs;
    }
    if (n_scores == 0)
        return 0;
    struct stream_scores *sc = arena_array(&r->arena, 1, sizeof(*sc));
    if (!sc)
        return -LLMD_ENOMEM;
    *sc = (struct stream_scores){
        .n_each = n_scores,
        .n = 1,
        .logprobs = arena_array(&r->arena, (size_t)r->n_prompt * n_scores, sizeof(*sc->logprobs)),
        .ranks = arena_array(&r->arena, r->n_prompt, sizeof(*sc->ranks)),
    };
    s->scores = sc;
    if (!sc->logprobs || !sc->ranks)
        return -LLMD_ENOMEM;
    sc->logprobs[0] = (struct token_logprob){r->prompt[0], 0}; /* the rest is set as it comes */
    return 0;
}

int stream_init(struct request *r, struct waker *w, uint32_t n_choices, struct err *e)
{
    struct stream *s = &r->stream;
    BUG_ON(s->ring || n_choices == 0);
    if (n_choices > CHOICES_MAX)
        return err_set_param(e, LLMD_EINVAL, "n", "n = %u is more than %d choices", n_choices,
                             CHOICES_MAX);

    uint32_t cap = (uint32_t)u64_max(RING_MIN, (uint64_t)n_choices * RING_PER_CHOICE);
    struct stream_item *ring = arena_array(&r->arena, cap, sizeof(*ring));
    bool *finished = arena_array(&r->arena, n_choices, sizeof(*finished));
    uint32_t *n_outputs = arena_array(&r->arena, n_choices, sizeof(*n_outputs));
    if (!ring || !finished || !n_outputs || init_logprobs(r, cap) != 0)
        return err_set(e, LLMD_ENOMEM, "out of memory for a stream of %u items", cap);

    s->ring = ring;
    s->cap = cap;
    s->finished = finished;
    s->n_outputs = n_outputs;
    s->n_choices = n_choices;
    s->n_unfinished = n_choices;
    s->waker = w;
    return 0;
}

/* The producer that is to be called once s->mu is dropped. */
struct room_call {
    void (*fn)(void *ctx);
    void *ctx;
};

/* Announces a call of room(). s->mu is held. */
static struct room_call room_begin(struct stream *s)
{
    struct room_call c = {s->room, s->room_ctx};
    if (c.fn)
        atomic_fetch_add_explicit(&s->room_calls, 1, memory_order_relaxed);
    return c;
}

static void room_end(struct stream *s, struct room_call c)
{
    if (!c.fn)
        return;
    c.fn(c.ctx);
    atomic_fetch_sub_explicit(&s->room_calls, 1, memory_order_release);
}

/* A producer's stay is over (s->room was changed under s->mu): no call to it is under way when
 * this returns. Such a call only wakes somebody, so the wait is short. */
static void room_quiesce(struct stream *s)
{
    while (atomic_load_explicit(&s->room_calls, memory_order_acquire) > 0)
        sched_yield();
}

/* s->mu is held. */
static uint32_t attach(struct stream *s, void (*room)(void *ctx), void *ctx)
{
    s->room = s->n_unfinished > 0 ? room : NULL;
    s->room_ctx = ctx;
    s->starved = false;
    return ++s->epoch;
}

uint32_t stream_attach(struct request *r, void (*room)(void *ctx), void *ctx)
{
    struct stream *s = &r->stream;
    lock_take(&s->mu);
    uint32_t epoch = attach(s, room, ctx);
    lock_drop(&s->mu);
    room_quiesce(s);
    return epoch;
}

int stream_attach_from(struct request *r, uint32_t from, void (*room)(void *ctx), void *ctx,
                       uint32_t *out_epoch)
{
    struct stream *s = &r->stream;
    lock_take(&s->mu);
    bool ours = s->epoch == from;
    if (ours)
        *out_epoch = attach(s, room, ctx);
    lock_drop(&s->mu);
    if (!ours)
        return -LLMD_ECANCELLED;
    room_quiesce(s);
    return 0;
}

void stream_detach(struct request *r, uint32_t epoch)
{
    struct stream *s = &r->stream;
    lock_take(&s->mu);
    if (s->epoch == epoch)
        s->room = NULL;
    lock_drop(&s->mu);
    room_quiesce(s);
}

int stream_keep(struct request *r, uint32_t max_output)
{
    struct stream *s = &r->stream;
    size_t n_tokens, n_bytes;
    if (s->outputs)
        return 0;
    if (!size_mul(s->n_choices, max_output, &n_tokens) ||
        !size_mul(n_tokens, sizeof(*s->outputs), &n_bytes))
        return -LLMD_ENOMEM;
    uint32_t *outputs = malloc(n_bytes ? n_bytes : 1);
    if (!outputs)
        return -LLMD_ENOMEM;
    lock_take(&s->mu);
    s->outputs = outputs;
    s->max_output = max_output;
    lock_drop(&s->mu);
    return 0;
}

const uint32_t *stream_kept(struct request *r, uint32_t choice, uint32_t *out_n, bool *out_finished)
{
    struct stream *s = &r->stream;
    lock_take(&s->mu);
    BUG_ON(choice >= s->n_choices);
    *out_n = s->n_outputs[choice];
    *out_finished = s->finished[choice];
    lock_drop(&s->mu);
    return s->outputs ? s->outputs + (size_t)choice * s->max_output : NULL;
}

void request_cancel(struct request *r)
{
    if (atomic_exchange_explicit(&r->cancelled, true, memory_order_relaxed))
        return;
    struct stream *s = &r->stream;
    lock_take(&s->mu);
    struct room_call call = room_begin(s);
    lock_drop(&s->mu);
    room_end(s, call);
}

/* Slots for items that finish nothing: one per unfinished choice is kept back. */
static uint32_t free_slots(const struct stream *s)
{
    return s->cap - s->len - s->n_unfinished;
}

uint32_t stream_room(struct request *r, uint32_t epoch, uint32_t want)
{
    struct stream *s = &r->stream;
    BUG_ON(want > s->cap - s->n_choices); /* an empty ring would not do: starved for ever */
    lock_take(&s->mu);
    uint32_t n = want;
    if (epoch == s->epoch && !request_is_cancelled(r)) {
        n = free_slots(s);
        if (n < want)
            s->starved = true;
    }
    lock_drop(&s->mu);
    return n;
}

bool stream_starved(struct request *r)
{
    struct stream *s = &r->stream;
    lock_take(&s->mu);
    const bool starved = s->starved && s->n_unfinished > 0;
    lock_drop(&s->mu);
    return starved;
}

/* s->mu is held. */
static void keep(struct stream *s, const struct stream_item *item)
{
    uint32_t *n = &s->n_outputs[item->choice];
    if (item->token == STREAM_NO_TOKEN || !s->outputs)
        return;
    BUG_ON(*n == s->max_output);
    s->outputs[(size_t)item->choice * s->max_output + (*n)++] = item->token;
}

/* Appends; the caller saw to the room. s->mu is held. */
static void append(struct stream *s, const struct stream_item *item)
{
    const uint32_t at = (s->head + s->len) % s->cap;
    keep(s, item);
    s->ring[at] = *item;
    if (item->logprobs) {
        struct token_logprob *to = s->logprobs + (size_t)at * s->n_logprobs;
        memcpy(to, item->logprobs, s->n_logprobs * sizeof(*to));
        s->ring[at].logprobs = to;
    }
    s->len++;
    if (item->finish != FINISH_NONE) {
        s->finished[item->choice] = true;
        if (--s->n_unfinished == 0)
            s->room = NULL;
    }
}

/* Puts the request on its waker's ready list. s->mu is held. */
static void link_ready(struct request *r)
{
    struct stream *s = &r->stream;
    struct waker *w = s->waker;
    if (!w)
        return;
    lock_take(&w->mu);
    if (!s->linked) {
        request_ref(r);
        s->linked = true;
        if (w->last)
            w->last->stream.ready_next = r;
        else
            w->first = r;
        w->last = r;
    }
    lock_drop(&w->mu);
}

/* What stands in the way of this item. s->mu is held. */
static int push_verdict(struct request *r, uint32_t epoch, const struct stream_item *item)
{
    struct stream *s = &r->stream;
    BUG_ON(!s->ring || item->choice >= s->n_choices || (item->logprobs && !s->logprobs));
    if (epoch != s->epoch || s->finished[item->choice] || request_is_cancelled(r))
        return -LLMD_ECANCELLED;
    if (item->finish == FINISH_NONE && free_slots(s) == 0) {
        s->starved = true;
        return -LLMD_EFULL;
    }
    return 0;
}

int stream_push(struct request *r, uint32_t epoch, const struct stream_item *item,
                struct waker_set *touched)
{
    return stream_push_gap(r, epoch, item, NULL, touched);
}

int stream_push_gap(struct request *r, uint32_t epoch, const struct stream_item *item,
                    const struct trace_gap *gap, struct waker_set *touched)
{
    struct stream *s = &r->stream;
    uint64_t now_us = clock_now_us();

    lock_take(&s->mu);
    int rc = push_verdict(r, epoch, item);
    if (rc) {
        lock_drop(&s->mu);
        return rc;
    }
    if (item->token != STREAM_NO_TOKEN) {
        if (r->trace.first_token_us == 0)
            r->trace.first_token_us = now_us;
        r->trace.last_token_us = now_us;
        if (gap)
            trace_add_gap(&r->trace, gap);
    }
    append(s, item);
    link_ready(r);
    bool over = s->n_unfinished == 0;
    lock_drop(&s->mu);

    if (s->waker)
        touch(touched, s->waker);
    if (over)
        room_quiesce(s);
    return 0;
}

void stream_fail(struct request *r, uint32_t epoch, const struct err *why,
                 struct waker_set *touched)
{
    struct stream *s = &r->stream;

    lock_take(&s->mu);
    if (epoch != s->epoch || s->n_unfinished == 0) {
        lock_drop(&s->mu);
        return;
    }
    s->error = *why;
    bool cancelled = why->code == LLMD_ECANCELLED;
    for (uint32_t i = 0; i < s->n_choices; i++) {
        struct stream_item item = {.choice = i,
                                   .token = STREAM_NO_TOKEN,
                                   .stop_id = -1,
                                   .finish = cancelled ? FINISH_ABORT : FINISH_ERROR};
        if (!s->finished[i])
            append(s, &item);
    }
    link_ready(r);
    lock_drop(&s->mu);

    if (s->waker)
        touch(touched, s->waker);
    room_quiesce(s);
}

int stream_push_score(struct request *r, uint32_t epoch, const struct token_logprob *logprobs,
                      uint32_t rank)
{
    struct stream *s = &r->stream;
    lock_take(&s->mu);
    struct stream_scores *sc = s->scores;
    bool mine = epoch == s->epoch;
    if (mine) {
        BUG_ON(!sc || sc->n >= r->n_prompt);
        memcpy(sc->logprobs + (size_t)sc->n * sc->n_each, logprobs, sc->n_each * sizeof(*logprobs));
        sc->ranks[sc->n++] = rank;
    }
    lock_drop(&s->mu);
    return mine ? 0 : -LLMD_ECANCELLED;
}

uint32_t stream_n_scored(struct request *r)
{
    struct stream *s = &r->stream;
    lock_take(&s->mu);
    uint32_t n = s->scores ? s->scores->n : r->n_prompt;
    lock_drop(&s->mu);
    return n;
}

uint32_t stream_pull(struct request *r, struct stream_item *out, uint32_t max)
{
    return stream_pull_logprobs(r, out, max, NULL);
}

/* The ring's oldest item. s->mu is held. */
static void take_oldest(struct stream *s, struct stream_item *out, struct token_logprob *logprobs)
{
    *out = s->ring[s->head];
    if (out->logprobs && logprobs)
        memcpy(logprobs, out->logprobs, s->n_logprobs * sizeof(*logprobs));
    out->logprobs = out->logprobs ? logprobs : NULL;
    s->head = (s->head + 1) % s->cap;
    s->len--;
}

uint32_t stream_pull_logprobs(struct request *r, struct stream_item *out, uint32_t max,
                              struct token_logprob *logprobs)
{
    struct stream *s = &r->stream;
    struct room_call call = {NULL, NULL};
    uint32_t n = 0;

    lock_take(&s->mu);
    for (; n < max && s->len > 0; n++)
        take_oldest(s, &out[n], logprobs ? logprobs + (size_t)n * s->n_logprobs : NULL);
    if (n > 0 && s->starved) {
        s->starved = false;
        call = room_begin(s);
    }
    lock_drop(&s->mu);
    room_end(s, call);
    return n;
}

bool stream_error(struct request *r, struct err *out)
{
    struct stream *s = &r->stream;
    lock_take(&s->mu);
    bool failed = s->error.code != 0;
    if (failed)
        *out = s->error;
    lock_drop(&s->mu);
    return failed;
}
