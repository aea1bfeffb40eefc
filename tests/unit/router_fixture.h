/* router_fixture.h - a router over simulated workers of the tiny model, and requests to it. */
#pragma once
#include "core/router/router.h"
#include "tests/unit/llama_fixture.h"

enum { WORLD_OPTS = 64, WORLD_WORKERS = 8 };

struct world {
    struct router *router;
    struct worker_opts opts[WORLD_OPTS]; /* of all workers ever: the router keeps pointers */
    uint32_t n_opts;
    uint32_t n; /* workers that there are */
};

/* With the model "tiny", or none when o is NULL. */
static inline void world_init(struct world *w, const struct router_model_opts *o)
{
    *w = (struct world){.n = 0};
    assert_int_equal(router_new(&w->router, NULL), 0);
    if (o)
        assert_int_equal(router_add_model(w->router, "tiny", o, NULL), 0);
}

/* Ends all. False: a thread hangs; see router_shutdown(). */
static inline bool world_end(struct world *w)
{
    const bool clean = router_shutdown(w->router, clock_now_us() + PATIENCE_US);
    router_free(w->router);
    return clean;
}

static inline void world_fini(struct world *w)
{
    assert_true(world_end(w));
}

/* --- workers --- */

/* Options of one more, to be changed before it is started. */
static inline struct worker_opts *world_add(struct world *w)
{
    assert_true(w->n_opts < WORLD_OPTS && w->n < WORLD_WORKERS);
    struct worker_opts *o = &w->opts[w->n_opts++];
    *o = sim_worker_opts(&llama);
    o->index = w->n++;
    return o;
}

/* False: nobody has that index. */
static inline bool world_find(struct world *w, uint32_t index, struct router_worker_view *out)
{
    struct router_worker_view v[WORLD_WORKERS];
    const uint32_t n = router_workers(w->router, v, WORLD_WORKERS);
    assert_int_equal(n, w->n);
    for (uint32_t i = 0; i < n; i++)
        if (v[i].index == index) {
            *out = v[i];
            return true;
        }
    return false;
}

static inline struct router_worker_view world_view(struct world *w, uint32_t index)
{
    struct router_worker_view v;
    assert_true(world_find(w, index, &v));
    return v;
}

static inline bool world_is(struct world *w, uint32_t index, enum worker_state state,
                            uint32_t n_starts)
{
    const struct router_worker_view v = world_view(w, index);
    return v.status.state == state && v.n_starts >= n_starts;
}

/* Until it is in that state and was started so many times. */
static inline void world_wait_start(struct world *w, uint32_t index, enum worker_state state,
                                    uint32_t n_starts)
{
    assert_soon(world_is(w, index, state, n_starts));
}

static inline void world_wait_state(struct world *w, uint32_t index, enum worker_state state)
{
    world_wait_start(w, index, state, 0);
}

/* Until all they had is over, as far as the router knows. */
static inline void world_wait_idle(struct world *w)
{
    for (uint32_t i = 0; i < w->n; i++)
        assert_soon(world_view(w, i).n_bound == 0);
}

static inline bool world_is_ready(struct world *w)
{
    struct router_worker_view v[WORLD_WORKERS];
    uint32_t n_up = 0;
    assert_int_equal(router_workers(w->router, v, WORLD_WORKERS), w->n);
    for (uint32_t i = 0; i < w->n; i++)
        n_up += v[i].status.state == WORKER_READY;
    return n_up == w->n;
}

/* Until all are, at once. */
static inline void world_wait_ready(struct world *w)
{
    assert_soon(world_is_ready(w));
}

/* All that were added, until they are ready. */
static inline void world_start(struct world *w)
{
    for (uint32_t i = 0; i < w->n_opts; i++)
        assert_int_equal(router_start_worker(w->router, "tiny", &w->opts[i], NULL), 0);
    world_wait_ready(w);
}

/* --- requests --- */

/* A request to "tiny"; its number determines its prompt and so its text. That is longer than a stream
 * holds: it is not over before it is read. */
static inline void reader_init_number(struct reader *rd, uint32_t number)
{
    uint32_t prompt[40];
    for (uint32_t i = 0; i < 40; i++)
        prompt[i] = (number * 13 + i) % 200;
    reader_init(rd, NULL, prompt, 20 + number % 20, 70 + number % 20, 1);
    rd->r->model = "tiny";
}

/* What became of it. */
static inline int world_try(struct world *w, struct reader *rd, struct err *e)
{
    const int rc = router_submit(w->router, request_ref(rd->r), e);
    if (rc)
        request_unref(rd->r);
    return rc;
}

/* Looks who waited too long. True: this one is over. */
static inline bool world_expired(struct world *w, struct reader *rd)
{
    router_expire(w->router);
    return reader_ended(rd);
}

static inline void world_submit(struct world *w, struct reader *rd)
{
    struct err e = {0};
    if (world_try(w, rd, &e) != 0)
        fail_msg("refused: %s", e.msg);
}

/* Reads it to its whole end. */
static inline void reader_finish(struct reader *rd)
{
    reader_wait(rd);
    assert_int_equal(rd->finish[0], FINISH_LENGTH);
    reader_fini(rd);
}

/* Reads what there is. True: that was the end, and the text is the expected one. */
static inline bool reader_ended_as(struct reader *rd, const struct reader *expected)
{
    if (!reader_ended(rd))
        return false;
    assert_same_text(rd, expected);
    return true;
}
