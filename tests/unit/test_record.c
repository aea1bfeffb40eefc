/* Records of requests: what a live one says, what is kept of one that is over, what is left out; and
 * decisions that were written, read back and made again. */
#include "core/router/record.h"

#include "core/util/json.h"
#include "tests/unit/router_fixture.h"

/* Of family f: the first half of the prompt is the family's. */
static void request_of(struct reader *rd, const char *id, uint32_t f, uint32_t n_prompt,
                       uint32_t max_tokens)
{
    static uint32_t number;
    uint32_t prompt[500];
    number++;
    for (uint32_t i = 0; i < n_prompt; i++)
        prompt[i] = (i < n_prompt / 2 ? f * 7 + i : number * 13 + i) % 200;
    reader_init(rd, NULL, prompt, n_prompt, max_tokens, 1);
    rd->r->model = "tiny";
    rd->r->key_name = "team-a";
    rd->r->id = arena_strdup(&rd->r->arena, id);
}

/* The record of that id, as the operator reads it; NULL: there is none. */
static json_t *record_of(struct world *w, const char *id)
{
    struct buf b = {0};
    json_t *v = NULL;
    if (router_record_json(w->router, id, &b))
        assert_int_equal(json_parse(b.data, b.len, &v, NULL), 0);
    buf_fini(&b);
    return v;
}

static json_t *member(const json_t *v, const char *name)
{
    json_t *m = json_object_get(v, name);
    if (!m)
        fail_msg("no member %s", name);
    return m;
}

static double number(const json_t *v, const char *name)
{
    assert_true(json_is_number(member(v, name)));
    return json_number_value(member(v, name));
}

static const char *text(const json_t *v, const char *name)
{
    return json_string_value(member(v, name));
}

/* Until the worker has said that it is done with all. */
static void wait_none_live(struct world *w)
{
    assert_soon(router_requests(w->router, NULL, 0) == 0);
}

static const struct router_model_opts two = {
    .policy = ROUTE_PREFIX, .delta = 250, .max_queue = 6, .max_migrations = 2};

static void test_from_its_start_to_its_end(void **state)
{
    (void)state;
    struct world w;
    struct reader rd[3];
    struct router_request_view v[3];
    world_init(&w, &two);
    struct worker_opts *o = world_add(&w);
    o->sim_step_us = 40000; /* the first one runs for seconds, unless it is cancelled */
    o->max_num_seqs = 1;
    world_start(&w);
    request_of(&rd[0], "first", 1, 320, 100);
    request_of(&rd[1], "second", 1, 320, 5);
    assert_null(record_of(&w, "first"));
    assert_null(router_record(w.router, rd[0].r));
    assert_int_equal(world_try(&w, &rd[0], NULL), 0);
    assert_int_equal(world_try(&w, &rd[1], NULL), 0);

    assert_int_equal(router_requests(w.router, v, 3), 2);
    assert_string_equal(v[0].id, "first");
    assert_string_equal(v[0].model, "tiny");
    assert_string_equal(v[0].key, "team-a");
    assert_int_equal(v[0].worker, 0);
    assert_int_equal(v[0].n_prompt_tokens, 320);
    assert_int_equal(v[1].worker, -1);
    assert_true(v[1].submitted_us >= v[0].submitted_us && v[1].bound_us == 0);
    assert_int_equal(router_requests(w.router, v, 1), 2);
    assert_int_equal(router_requests(w.router, NULL, 0), 2);

    json_t *j = record_of(&w, "second");
    assert_string_equal(text(j, "outcome"), "live");
    assert_true(json_is_null(member(j, "worker")) && json_is_null(member(j, "bound_ms")));
    assert_true(number(j, "queued_ms") >= 0);
    json_decref(j);
    struct buf no_memory = {.failed = true};
    assert_true(router_record_json(w.router, "second", &no_memory));
    assert_true(no_memory.failed && no_memory.len == 0);
    assert_soon(reader_pull(&rd[0], 1) > 0);
    request_cancel(rd[0].r);
    for (uint32_t i = 0; i < 2; i++)
        reader_wait(&rd[i]);
    struct route_record *rec = router_record(w.router, rd[1].r); /* at once, as the edge does */
    assert_int_equal(rec->outcome, OUTCOME_FINISHED);
    assert_int_equal(rec->n_output_tokens, 5);
    assert_true(rec->submitted_us <= rec->queued_us && rec->queued_us < rec->bound_us);
    assert_true(rec->bound_us <= rec->started_us && rec->started_us < rec->first_token_us);
    assert_true(rec->over_us >= rec->first_token_us + 4 * 40000);
    free(rec);

    wait_none_live(&w);
    j = record_of(&w, "second");
    assert_string_equal(text(j, "outcome"), "finished");
    assert_true(number(j, "worker") == 0 && number(j, "cached_tokens") == 160);
    assert_true(number(j, "over_ms") > number(j, "first_token_ms"));
    const json_t *decisions = member(j, "decisions");
    assert_int_equal(json_array_size(decisions), 2); /* it waited: once said, and counted */
    assert_true(number(json_array_get(decisions, 0), "times") >= 1);
    assert_true(json_is_null(member(json_array_get(decisions, 0), "worker")));
    assert_true(number(json_array_get(decisions, 1), "worker") == 0);
    assert_int_equal(number(j, "n_left_out"), 0);
    json_decref(j);
    assert_null(record_of(&w, "third"));
    for (uint32_t i = 0; i < 2; i++)
        reader_fini(&rd[i]);
    (void)world_end(&w);
}

static void test_refused_cancelled_failed(void **state)
{
    (void)state;
    struct world w;
    struct reader rd[3];
    struct router_model_opts o = two;
    const struct err why = {.code = LLMD_EWORKER, .msg = "it is gone"};
    o.max_queue = 1;
    world_init(&w, &o);
    struct worker_opts *wo = world_add(&w);
    wo->sim_step_us = 40000; /* the first one runs for seconds */
    wo->max_num_seqs = 1;
    world_start(&w);
    const char *const ids[] = {"runs", "waits", "too many"};
    for (uint32_t i = 0; i < 3; i++) {
        request_of(&rd[i], ids[i], i, 32, 400);
        assert_int_equal(world_try(&w, &rd[i], NULL), i < 2 ? 0 : -LLMD_EFULL);
    }
    struct route_record *rec = router_record(w.router, rd[2].r);
    assert_int_equal(rec->outcome, OUTCOME_REFUSED);
    assert_int_equal(rec->error_code, LLMD_EFULL);
    free(rec);
    assert_null(record_of(&w, "too many")); /* it was never with the router */

    request_cancel(rd[1].r);
    reader_wait(&rd[1]);
    json_t *j = record_of(&w, "waits");
    assert_string_equal(text(j, "outcome"), "cancelled");
    json_decref(j);

    while (rd[0].n_got[0] < 3)
        reader_pull(&rd[0], 1);
    router_lose(w.router, 0, &why);
    reader_wait(&rd[0]);
    j = record_of(&w, "runs");
    assert_string_equal(text(j, "outcome"), "failed");
    assert_non_null(strstr(text(member(j, "error"), "message"), "it is gone"));
    assert_int_equal(number(member(j, "error"), "status"), 503);
    const json_t *move = json_array_get(member(j, "migrations"), 0);
    assert_string_equal(text(move, "why"), "it is gone");
    assert_true(number(move, "output_tokens") >= 3);
    json_decref(j);
    for (uint32_t i = 0; i < 3; i++)
        reader_fini(&rd[i]);
    (void)world_end(&w);
}

/* By id: what runs, what waits, what shares an id; nothing else, and nothing twice. */
static void test_cancelled_by_id(void **state)
{
    (void)state;
    struct world w;
    enum { N = 40 };
    static struct reader rd[N + 2];
    struct router_model_opts o = two;
    o.max_queue = N + 2;
    world_init(&w, &o);
    struct worker_opts *wo = world_add(&w);
    wo->sim_step_us = 5000;
    wo->max_num_seqs = 2;
    world_start(&w);
    for (uint32_t i = 0; i < N + 2; i++) { /* "a" and "b" run, all other "same" wait */
        request_of(&rd[i], i == 0 ? "a" : i == 1 ? "b" : "same", i, 16, i == 1 ? 60 : 400);
        assert_int_equal(world_try(&w, &rd[i], NULL), 0);
    }
    assert_int_equal(router_cancel(w.router, "nothing"), 0);
    assert_int_equal(router_cancel(w.router, "a"), 1);
    assert_int_equal(router_cancel(w.router, "same"), N);
    assert_int_equal(router_cancel(w.router, "same"), 0);
    for (uint32_t i = 0; i < N + 2; i++) {
        struct err e = {0};
        reader_wait(&rd[i]);
        assert_int_equal(stream_error(rd[i].r, &e), i != 1);
        if (i != 1)
            assert_int_equal(e.code, LLMD_ECANCELLED);
    }
    assert_int_equal(rd[1].n_got[0], 60);
    wait_none_live(&w);
    assert_int_equal(router_cancel(w.router, "a"), 0);
    for (uint32_t i = 0; i < N + 2; i++)
        reader_fini(&rd[i]);
    (void)world_end(&w);
}

static void test_moves_are_kept(void **state)
{
    (void)state;
    struct world w;
    struct reader rd;
    world_init(&w, &two);
    for (uint32_t i = 0; i < 3; i++)
        world_add(&w)->sim_step_us = 5000;
    world_start(&w);
    request_of(&rd, "traveller", 1, 64, 200); /* not over before it is read */
    assert_int_equal(world_try(&w, &rd, NULL), 0);
    uint32_t lost[2];
    for (uint32_t i = 0; i < 2; i++) {
        struct err why = {0};
        err_set(&why, LLMD_EWORKER, "%s", i ? "stalled" : "died");
        while (rd.n_got[0] < 5 + 10 * i)
            reader_pull(&rd, 1);
        struct router_placement at;
        assert_soon(router_placed(w.router, rd.r, &at));
        lost[i] = at.worker;
        router_lose(w.router, at.worker, &why);
    }
    reader_wait(&rd);
    wait_none_live(&w);
    json_t *j = record_of(&w, "traveller");
    const json_t *moves = member(j, "migrations");
    assert_string_equal(text(j, "outcome"), "finished");
    assert_int_equal(number(j, "n_migrations"), 2);
    for (uint32_t i = 0; i < 2; i++) {
        const json_t *m = json_array_get(moves, i);
        assert_int_equal(number(m, "worker"), lost[i]);
        assert_true(number(m, "output_tokens") >= 5 + 10 * i);
        assert_string_equal(text(m, "why"), i ? "stalled" : "died");
    }
    const json_t *last = json_array_get(member(j, "decisions"), 2);
    assert_string_equal(text(last, "why"), "worker 2: no other can take it now");
    assert_int_equal(number(j, "output_tokens"), 200);
    json_decref(j);
    reader_fini(&rd);
    (void)world_end(&w);
}

/* A copy, and a copy of that, are one piece each and say the same. */
static void check_copy(const struct route_record *rec, const char *want)
{
    struct route_record *copy = malloc(record_bytes(rec)), *again = malloc(record_bytes(rec));
    struct buf b = {0};
    assert_non_null(copy);
    assert_non_null(again);
    record_copy(rec, copy);
    assert_int_equal(record_bytes(copy), record_bytes(rec));
    record_copy(copy, again);
    free(copy);
    record_add_json(again, &b);
    assert_string_equal(buf_str(&b), want);
    free(again);
    buf_fini(&b);
}

/* Decisions 1 to 6, then one more: room is taken as it is needed. */
static void test_room_grows(void **state)
{
    (void)state;
    struct request *req;
    struct decision *d = calloc(1, decision_bytes(2));
    assert_non_null(d);
    assert_int_equal(request_new(&req), 0);
    req->prompt = (uint32_t[]){1};
    req->n_prompt = 1;
    req->sampling.n = 1;
    assert_int_equal(stream_init(req, NULL, 1, NULL), 0);
    struct route_record *rec = record_begin(req, 2);
    assert_non_null(rec);
    *d = (struct decision){.n_candidates = 2, .reason = REASON_TURN, .awaited = -1};
    for (uint32_t i = 0; i <= RECORD_DECISIONS; i++) {
        struct buf b = {0};
        d->number = i;
        assert_int_equal(rec->last != NULL, i > RECORD_FIRST);
        assert_true(record_decision(rec, req, d));
        assert_int_equal(record_last_binding(rec)->number, i);
        record_add_json(rec, &b);
        check_copy(rec, buf_str(&b));
        buf_fini(&b);
    }
    assert_int_equal(rec->n_left_out, 1);

    const struct arena before = req->arena; /* without memory for more: counted, not kept */
    rec = record_begin(req, 3);
    assert_ptr_not_equal(rec, NULL);
    assert_null(rec->last);
    req->arena.max_bytes = req->arena.used_bytes;
    assert_true(req->arena.used_bytes > before.used_bytes);
    for (uint32_t i = 0; i < 4; i++) {
        d->number = i;
        assert_true(record_decision(rec, req, d));
    }
    assert_int_equal(record_n_kept(rec), RECORD_FIRST);
    assert_int_equal(rec->n_left_out, 2);
    assert_int_equal(record_last_binding(rec)->number, RECORD_FIRST - 1);
    free(d);
    request_unref(req);
}

/* More of everything than is kept. */
static void test_what_is_left_out_is_counted(void **state)
{
    (void)state;
    struct request *req;
    struct buf b = {0};
    json_t *j;
    const size_t bytes = decision_bytes(2);
    struct decision *d = calloc(1, bytes);
    assert_non_null(d);
    assert_int_equal(request_new(&req), 0);
    req->prompt = (uint32_t[]){1};
    req->n_prompt = 1;
    req->sampling.n = 1;
    assert_int_equal(stream_init(req, NULL, 1, NULL), 0);
    struct route_record *rec = record_begin(req, 2);
    assert_non_null(rec);
    *d = (struct decision){.n_candidates = 2, .n_prompt_tokens = 1, .awaited = -1};
    for (uint32_t i = 0; i < 20; i++) { /* bound at even numbers; between, five times nobody */
        d->number = i;
        d->reason = i % 2 ? REASON_NONE : REASON_TURN;
        d->chosen = i % 2 ? -1 : 1;
        for (uint32_t k = 0; k < (i % 2 ? 5u : 1u); k++)
            assert_int_equal(record_decision(rec, req, d), k == 0);
        record_event(&rec->moves, req, i, "gone");
    }
    assert_int_equal(record_n_kept(rec), RECORD_DECISIONS);
    assert_int_equal(rec->n_decisions, 60);
    assert_int_equal(rec->n_left_out, 60 - 3 * 6);
    const uint64_t kept[] = {0, 1, 16, 17, 18, 19};
    for (uint32_t i = 0; i < RECORD_DECISIONS; i++) {
        uint64_t n_times, first_us;
        assert_int_equal(record_kept(rec, i, &n_times, &first_us)->number, kept[i]);
        assert_int_equal(n_times, i % 2 ? 5 : 1);
    }
    assert_int_equal(record_last_binding(rec)->number, 18);
    assert_true(record_bytes(rec) == record_max_bytes(rec));
    record_add_json(rec, &b);
    assert_int_equal(json_parse(b.data, b.len, &j, NULL), 0);
    assert_int_equal(json_array_size(member(j, "migrations")), RECORD_EVENTS);
    assert_int_equal(number(json_array_get(member(j, "migrations"), 0), "worker"), 16);
    json_decref(j);
    check_copy(rec, buf_str(&b));

    assert_ptr_equal(record_begin(req, 1), rec); /* submitted again: no other piece of memory */
    assert_int_equal(record_n_kept(rec), 0);
    assert_true(record_decision(rec, req, d)); /* as large as there is room */
    d->n_candidates = 3;
    assert_true(record_decision(rec, req, d));
    assert_int_equal(rec->n_left_out, 1);
    buf_fini(&b);
    free(d);
    request_unref(req);
}

/* --- a trace, replayed --- */

static uint32_t seed = 5;

static uint32_t rnd(uint32_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(seed >> 8) * n >> 24);
}

/* What every line says is made again from its inputs: choice, reason and costs, to the bit. Returns
 * how many were new. */
static uint32_t replay(struct world *w, uint64_t *io_last, uint32_t n_of[REASON_COUNT])
{
    struct buf b = {0};
    uint32_t n_new = 0, n_lines = 0;
    const uint32_t n = router_decisions(w->router, 250, &b);
    assert_false(b.failed);
    assert_true(b.data[0] == '[' && b.data[b.len - 1] == ']');
    b.data[b.len - 1] = '\0';
    for (char *line = b.data + 1, *next; line && *line; line = next, n_lines++) {
        struct decision *d;
        struct err e = {0};
        struct buf again = {0};
        if ((next = strchr(line, '\n')))
            *next++ = '\0';
        const size_t len = strlen(line) - (next != NULL); /* without the comma */
        if (decision_from_json(line, len, &d, &e) != 0)
            fail_msg("%s: %s", e.msg, line);
        if (!decision_replay(d))
            fail_msg("not the same again: %s", line);
        decision_add_members(d, &again); /* and nothing of it was lost */
        line[len] = '\0';
        assert_non_null(strstr(line, buf_str(&again)));
        if (d->at_us > *io_last) {
            *io_last = d->at_us;
            n_of[d->reason]++;
            n_new++;
        }
        buf_fini(&again);
        free(d);
    }
    assert_int_equal(n_lines, n);
    buf_fini(&b);
    return n_new;
}

/* Somebody who looks at all of it meanwhile. */
struct watcher {
    struct router *router;
    atomic_bool stop;
    pthread_t thread;
};

static void *watch(void *arg)
{
    struct watcher *wa = arg;
    struct router_request_view v[100];
    while (!atomic_load(&wa->stop)) {
        struct buf b = {0};
        const uint32_t n = router_requests(wa->router, v, 100);
        for (uint32_t i = 0; i < n && i < 100; i++)
            assert_string_equal(v[i].model, "tiny");
        if (router_record_json(wa->router, "one of many", &b))
            assert_true(b.len > 100 && b.data[b.len - 1] == '}');
        (void)router_decisions(wa->router, 20, &b);
        buf_fini(&b);
        clock_sleep_us(500);
    }
    return NULL;
}

/* Requests of random sizes, families and sessions over workers of which one is lost now and then. */
static uint32_t run_randomly(enum route_policy policy, uint32_t n_rounds,
                             uint32_t n_of[REASON_COUNT])
{
    enum { N_WORKERS = 4, TOGETHER = 80 };
    const struct err why = {.code = LLMD_EWORKER, .msg = "a drill"};
    struct router_model_opts o = {.policy = policy, .max_queue = 1000, .max_migrations = 16};
    struct world w;
    struct watcher watcher = {.stop = false};
    struct reader rd[TOGETHER];
    uint64_t last = 0;
    uint32_t n_new = 0;
    world_init(&w, &o); /* delta is learned */
    for (uint32_t i = 0; i < N_WORKERS; i++) {
        struct worker_opts *wo = world_add(&w);
        wo->max_num_seqs = 4;
        wo->sim_row_ns = 2000;
    }
    world_start(&w);
    watcher.router = w.router;
    assert_int_equal(pthread_create(&watcher.thread, NULL, watch, &watcher), 0);
    for (uint32_t round = 0; round < n_rounds; round++) {
        for (uint32_t i = 0; i < TOGETHER; i++) {
            request_of(&rd[i], "one of many", rnd(6), 20 + rnd(300), 1 + rnd(12));
            rd[i].r->session = rnd(3) ? 1 + rnd(9) : 0;
            assert_int_equal(world_try(&w, &rd[i], NULL), 0);
        }
        router_lose(w.router, round % N_WORKERS, &why);
        int rc = router_restart_worker(w.router, round % N_WORKERS, NULL);
        assert_true(rc == 0 || rc == -LLMD_EINVAL);
        for (uint32_t i = 0; i < TOGETHER; i++) {
            reader_wait(&rd[i]);
            reader_fini(&rd[i]);
        }
        router_reap(w.router);
        n_new += replay(&w, &last, n_of);
    }
    atomic_store(&watcher.stop, true);
    pthread_join(watcher.thread, NULL);
    (void)world_end(&w);
    return n_new;
}

static void test_a_trace_is_replayed(void **state)
{
    (void)state;
    uint32_t n = 0, n_of[REASON_COUNT] = {0};
    for (int p = ROUTE_PREFIX; p <= ROUTE_LEAST_LOADED; p++)
        n += run_randomly((enum route_policy)p, p == ROUTE_PREFIX ? 10 : 4, n_of);
    if (n < 2000)
        fail_msg("%u decisions", n);
    for (int r = 0; r < REASON_COUNT; r++)
        if (n_of[r] == 0)
            fail_msg("never for the reason %s", route_reason_name((enum route_reason)r));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_from_its_start_to_its_end),
        cmocka_unit_test(test_refused_cancelled_failed),
        cmocka_unit_test(test_cancelled_by_id),
        cmocka_unit_test(test_moves_are_kept),
        cmocka_unit_test(test_what_is_left_out_is_counted),
        cmocka_unit_test(test_room_grows),
        cmocka_unit_test(test_a_trace_is_replayed),
    };
    return cmocka_run_group_tests(tests, open_llama, close_llama);
}
