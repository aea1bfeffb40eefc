/* test_trace.c - where a request's time went: sums, the slowest gaps, causes by the facts of a step. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/engine/step_trace.h"
#include "core/request/trace.h"
#include "core/util/json.h"

static void test_the_slowest_are_kept(void **state)
{
    (void)state;
    struct request_trace t = {.worker = -1};
    for (uint64_t i = 1; i <= 100; i++) { /* 37, 74, 10, ...: each of 1 to 100 once */
        struct trace_gap g = {.us = i * 37 % 101, .cause = GAP_STEP};
        g.part_us[GAP_STEP] = g.us;
        trace_add_gap(&t, &g);
    }
    assert_int_equal(t.part_us[GAP_STEP], 5050);
    assert_int_equal(t.n_gaps, TRACE_GAPS);
    for (uint32_t i = 0; i < TRACE_GAPS; i++)
        assert_int_equal(t.gaps[i].us, 100 - i);
}

static void test_chunks_beyond_the_last_add_up(void **state)
{
    (void)state;
    struct request_trace t = {.worker = -1};
    for (uint32_t i = 0; i < TRACE_CHUNKS + 3; i++) {
        struct trace_chunk c = {
            .began_us = 1000 + i * 10, .us = 8, .n_rows = 5, .n_step_rows = 7, .n_steps = 1};
        trace_add_chunk(&t, &c);
    }
    assert_int_equal(t.n_chunks, TRACE_CHUNKS);
    const struct trace_chunk *last = &t.chunks[TRACE_CHUNKS - 1];
    assert_int_equal(last->n_steps, 4);
    assert_int_equal(last->n_rows, 20);
    assert_int_equal(last->us, 38); /* with the time between */
    assert_int_equal(t.chunks[0].n_steps, 1);
}

static void test_two_make_one(void **state)
{
    (void)state;
    struct request_trace a = {.worker = -1},
                         b = {.worker = 3, .queued_us = 9, .first_token_us = 50};
    struct request_trace c = {.worker = 1, .queued_us = 7, .last_token_us = 90, .n_migrations = 1};
    struct trace_gap slow = {.us = 40, .cause = GAP_PREFILL}, fast = {.us = 4};
    struct trace_chunk chunk = {.n_rows = 5, .n_steps = 1};
    slow.part_us[GAP_PREFILL] = 40;
    trace_add_gap(&b, &fast);
    trace_add_gap(&c, &slow);
    trace_add_chunk(&c, &chunk);
    trace_merge(&a, &b);
    trace_merge(&a, &c);
    assert_int_equal(a.queued_us, 7);
    assert_int_equal(a.first_token_us, 50);
    assert_int_equal(a.last_token_us, 90);
    assert_int_equal(a.worker, 1);
    assert_int_equal(a.n_migrations, 1);
    assert_int_equal(a.gaps[0].us, 40);
    assert_int_equal(a.gaps[1].us, 4);
    assert_int_equal(a.part_us[GAP_PREFILL], 40);
    assert_int_equal(a.n_chunks, 1);
}

static void test_json(void **state)
{
    (void)state;
    struct request_trace t = {.worker = 0, .last_token_us = 1500};
    struct trace_gap g = {.ended_us = 1400,
                          .us = 100,
                          .cause = GAP_PREFILL,
                          .n_tokens = 3,
                          .other = "chatcmpl-\"x\""};
    struct trace_chunk c = {
        .began_us = 1010, .us = 20, .n_rows = 5, .n_step_rows = 5, .n_steps = 1};
    struct buf b = {0};
    struct err e = {0};
    json_t *j;
    g.part_us[GAP_STEP] = 30;
    g.part_us[GAP_PREFILL] = 70;
    trace_add_gap(&t, &g);
    trace_add_chunk(&t, &c);
    trace_add_json(&t, 1000, &b);
    assert_int_equal(json_parse(buf_str(&b), b.len, &j, &e), 0);
    const json_t *gap = json_array_get(json_object_get(j, "gaps"), 0);
    assert_int_equal(json_integer_value(json_object_get(gap, "at_us")), 300);
    assert_string_equal(json_string_value(json_object_get(gap, "cause")), "prefill");
    assert_string_equal(json_string_value(json_object_get(gap, "other")), "chatcmpl-\"x\"");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "part_us"), "prefill")),
                     70);
    json_decref(j);
    buf_fini(&b);
}

/* ---- causes ---- */

struct step {
    struct request *r;
    struct seq_group *g;
    struct seq *q;
    struct step_facts facts;
};

/* A sequence that had its last token at 10,000 us, in step 41; now is step 42. */
static void begin(struct step *s)
{
    struct err e = {0};
    assert_int_equal(request_new(&s->r), 0);
    s->r->id = "mine";
    assert_int_equal(stream_init(s->r, NULL, 1, &e), 0);
    s->g = calloc(1, sizeof(*s->g) + sizeof(struct seq));
    assert_non_null(s->g);
    s->g->req = s->r;
    s->g->n_prompt = 10;
    s->q = &s->g->seqs[0];
    *s->q = (struct seq){.group = s->g, .n_known = 14, .last_token_us = 10000, .last_step = 41};
    s->facts = (struct step_facts){
        .number = 42, .n_rows = 4, .n_decodes = 4, .alone_us = 1000, .decode_us = 1500};
}

static void end(struct step *s)
{
    free(s->g);
    request_unref(s->r);
}

static struct trace_gap gap_of(const struct step *s, uint64_t us)
{
    struct trace_gap g;
    uint64_t sum = 0;
    assert_true(step_trace_gap(&s->facts, s->q, 10000 + us, &g));
    for (int i = 0; i < GAP_N_CAUSES; i++)
        sum += g.part_us[i];
    assert_int_equal(g.us, us);
    assert_int_equal(sum, us);
    return g;
}

static void test_causes(void **state)
{
    (void)state;
    struct step s;
    begin(&s);
    struct trace_gap g = gap_of(&s, 1600);
    assert_int_equal(g.cause, GAP_STEP);
    assert_int_equal(g.n_steps, 1);
    assert_int_equal(g.n_tokens, 5);
    assert_int_equal(gap_of(&s, 900).part_us[GAP_STEP], 900); /* faster than what is known */
    g = gap_of(&s, 5000);
    assert_int_equal(g.cause, GAP_STALL); /* twice what it should take, and nobody to blame */
    assert_int_equal(g.part_us[GAP_BATCH], 500);
    s.facts.decode_us = 4000;
    assert_int_equal(gap_of(&s, 4100).cause, GAP_BATCH);
    s.facts.decode_us = 1500;
    s.facts.n_prefill_rows = 256;
    s.facts.n_rows = 260;
    g = gap_of(&s, 5000);
    assert_int_equal(g.cause, GAP_PREFILL);
    assert_int_equal(g.part_us[GAP_PREFILL], 3500);
    assert_int_equal(gap_of(&s, 1700).cause, GAP_STEP); /* a little of it only */
    s.facts.alone_us = s.facts.decode_us = 0;           /* nothing is known yet: by rows */
    s.facts.us = 5200;
    assert_int_equal(gap_of(&s, 5200).part_us[GAP_STEP], 80);
    end(&s);
}

static void test_interruptions(void **state)
{
    (void)state;
    struct step s;
    begin(&s);
    s.facts.number = 99;
    s.facts.n_prefill_rows = 10;
    s.q->was_paused = true;
    struct trace_gap g = gap_of(&s, 90000);
    assert_int_equal(g.cause, GAP_CLIENT);
    assert_int_equal(g.part_us[GAP_CLIENT], 88500);
    assert_int_equal(g.n_steps, 58);
    s.q->was_preempted = true; /* its blocks went while it was paused, or not */
    assert_int_equal(gap_of(&s, 90000).cause, GAP_PREEMPTION);
    s.q->last_token_us = 0; /* another worker gave the last token */
    s.r->trace.last_token_us = 10000;
    assert_int_equal(gap_of(&s, 90000).cause, GAP_MIGRATION);
    s.q->n_known = 10; /* its first token: there is no gap */
    assert_false(step_trace_gap(&s.facts, s.q, 100000, &g));
    end(&s);
}

static void test_whose_prompt_it_was(void **state)
{
    (void)state;
    struct step s, other;
    begin(&s);
    begin(&other);
    other.r->id = "chatcmpl-of-somebody-else-with-a-name-that-is-longer-than-the-room";
    other.q->state = SEQ_PREFILL;
    s.q->state = SEQ_DECODE;
    struct plan_entry entries[] = {{.seq = s.q, .n_rows = 1, .wants_token = true},
                                   {.seq = other.q, .n_rows = 300}};
    const struct plan plan = {.entries = entries, .n = 2, .n_rows = 301, .n_out = 1};
    const struct step_cost nothing = {.n_steps = 0};
    step_facts_take(&s.facts, &plan, &nothing);
    assert_int_equal(s.facts.n_decodes, 1);
    assert_int_equal(s.facts.n_prefill_rows, 300);
    struct trace_gap g = gap_of(&s, 5000);
    assert_int_equal(strlen(g.other), TRACE_OTHER_BYTES - 1);
    assert_memory_equal(g.other, other.r->id, TRACE_OTHER_BYTES - 1);
    s.facts.us = 4000;
    step_trace_chunks(&s.facts, &plan);
    assert_int_equal(s.r->trace.n_chunks, 0);
    assert_int_equal(other.r->trace.chunks[0].n_rows, 300);
    assert_int_equal(other.r->trace.chunks[0].n_decodes, 1);
    end(&s);
    end(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_slowest_are_kept),
        cmocka_unit_test(test_chunks_beyond_the_last_add_up),
        cmocka_unit_test(test_two_make_one),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_causes),
        cmocka_unit_test(test_interruptions),
        cmocka_unit_test(test_whose_prompt_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
