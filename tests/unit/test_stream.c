/* Requests and streams, one thread: reference counts, ring, reserve, epochs, wakers. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/request/request.h"

struct fixture {
    struct waker waker;
    struct waker_set set;
    struct request *r;
    uint32_t epoch;
    int n_room_calls;
};

static void count_room(void *ctx)
{
    struct fixture *f = ctx;
    f->n_room_calls++;
}

static void setup_choices(struct fixture *f, uint32_t n)
{
    memset(f, 0, sizeof(*f));
    assert_int_equal(waker_init(&f->waker, NULL), 0);
    assert_int_equal(request_new(&f->r), 0);
    assert_int_equal(stream_init(f->r, &f->waker, n, NULL), 0);
    f->epoch = stream_attach(f->r, count_room, f);
}

static void teardown(struct fixture *f)
{
    request_unref(f->r);
    waker_fini(&f->waker);
}

static bool readable(const struct waker *w)
{
    struct pollfd p = {.fd = w->event_fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static int push(struct fixture *f, uint32_t choice, uint32_t token, uint8_t finish)
{
    struct stream_item it = {.choice = choice, .token = token, .stop_id = -1, .finish = finish};
    return stream_push(f->r, f->epoch, &it, &f->set);
}

static void test_request_defaults(void **state)
{
    (void)state;
    struct request *r;
    assert_int_equal(request_new(&r), 0);
    assert_int_equal(r->trace.worker, -1);
    assert_false(request_is_cancelled(r));
    assert_ptr_equal(request_ref(r), r);
    request_unref(r);
    request_cancel(r); /* before stream_init: nobody to tell */
    assert_true(request_is_cancelled(r));
    request_unref(r);
    request_unref(NULL);
}

static void test_items_come_out_in_order(void **state)
{
    (void)state;
    struct fixture f;
    setup_choices(&f, 1);
    struct stream_item out[8];

    assert_int_equal(stream_pull(f.r, out, 8), 0);
    for (uint32_t round = 0; round < 100; round++) { /* the ring goes round */
        for (uint32_t i = 0; i < 5; i++)
            assert_int_equal(push(&f, 0, round * 5 + i, FINISH_NONE), 0);
        assert_int_equal(stream_pull(f.r, out, 3), 3);
        assert_int_equal(stream_pull(f.r, out + 3, 5), 2);
        for (uint32_t i = 0; i < 5; i++) {
            assert_int_equal(out[i].token, round * 5 + i);
            assert_int_equal(out[i].finish, FINISH_NONE);
        }
    }
    assert_true(f.r->trace.first_token_us > 0);
    assert_true(f.r->trace.last_token_us >= f.r->trace.first_token_us);
    assert_int_equal(f.n_room_calls, 0);
    teardown(&f);
}

/* EFULL leaves one slot per choice for its finish item, and starves the stream. */
static void test_reserve_for_finish(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= 40; n += 13) {
        struct fixture f;
        setup_choices(&f, n);
        uint32_t cap = n * 4 > 64 ? n * 4 : 64;
        assert_int_equal(stream_room(f.r, f.epoch, 1), cap - n);
        for (uint32_t i = 0; i < cap - n; i++)
            assert_int_equal(push(&f, i % n, i, FINISH_NONE), 0);
        assert_int_equal(push(&f, 0, 1, FINISH_NONE), -LLMD_EFULL);
        for (uint32_t c = 0; c < n; c++)
            assert_int_equal(push(&f, c, c, FINISH_LENGTH), 0);
        assert_int_equal(push(&f, 0, 1, FINISH_STOP), -LLMD_ECANCELLED); /* finished already */

        struct stream_item out[256];
        assert_int_equal(stream_pull(f.r, out, 256), cap);
        for (uint32_t i = 0; i < cap; i++)
            assert_int_equal(out[i].finish, i < cap - n ? FINISH_NONE : FINISH_LENGTH);
        assert_int_equal(f.n_room_calls, 0); /* nothing is left to produce */
        teardown(&f);
    }
}

static void test_starved_producer_is_called(void **state)
{
    (void)state;
    struct fixture f;
    setup_choices(&f, 1);
    struct stream_item out[64];

    while (stream_room(f.r, f.epoch, 1) > 0)
        assert_int_equal(push(&f, 0, 7, FINISH_NONE), 0);
    assert_int_equal(f.n_room_calls, 0);
    assert_int_equal(stream_pull(f.r, out, 1), 1);
    assert_int_equal(f.n_room_calls, 1);
    assert_int_equal(stream_pull(f.r, out, 1), 1);
    assert_int_equal(f.n_room_calls, 1); /* once per starvation */

    assert_int_equal(stream_room(f.r, f.epoch, 2), 2);
    assert_int_equal(stream_pull(f.r, out, 1), 1);
    assert_int_equal(f.n_room_calls, 1);
    assert_int_equal(stream_room(f.r, f.epoch, 48), 3); /* fewer than wanted */
    assert_int_equal(stream_pull(f.r, out, 64), 60);
    assert_int_equal(f.n_room_calls, 2);
    teardown(&f);
}

static void test_epochs(void **state)
{
    (void)state;
    struct fixture f, other;
    setup_choices(&f, 1);
    memset(&other, 0, sizeof(other));

    assert_int_equal(push(&f, 0, 1, FINISH_NONE), 0);
    uint32_t old = f.epoch;
    f.epoch = stream_attach(f.r, count_room, &other);
    assert_int_not_equal(old, f.epoch);
    struct stream_item late = {.token = 2, .stop_id = -1, .finish = FINISH_STOP};
    assert_int_equal(stream_push(f.r, old, &late, &f.set), -LLMD_ECANCELLED);
    struct err why = {.code = LLMD_EWORKER};
    stream_fail(f.r, old, &why, &f.set);
    assert_int_equal(stream_room(f.r, old, 1), 1); /* not paused for ever */
    assert_false(stream_error(f.r, &why));
    assert_int_equal(push(&f, 0, 3, FINISH_LENGTH), 0);

    struct stream_item out[8];
    assert_int_equal(stream_pull(f.r, out, 8), 2);
    assert_int_equal(out[0].token, 1);
    assert_int_equal(out[1].token, 3);
    teardown(&f);
}

/* Each item's logprobs travel with it through the ring; scores are the current producer's to give. */
static void test_logprobs_travel_with_their_items(void **state)
{
    (void)state;
    enum { TOP = 2, N = 1 + TOP, N_PROMPT = 3 };
    static const uint32_t prompt[N_PROMPT] = {4, 5, 6};
    struct fixture f = {.n_room_calls = 0};
    assert_int_equal(waker_init(&f.waker, NULL), 0);
    assert_int_equal(request_new(&f.r), 0);
    f.r->prompt = prompt;
    f.r->n_prompt = N_PROMPT;
    f.r->sampling.logprobs = (struct logprobs_wanted){.on = true, .n_top = TOP};
    f.r->sampling.prompt_logprobs = (struct logprobs_wanted){.on = true};
    assert_int_equal(stream_init(f.r, &f.waker, 1, NULL), 0);
    f.epoch = stream_attach(f.r, count_room, &f);

    const struct token_logprob score = {5, -1.5f};
    assert_int_equal(stream_n_scored(f.r), 1);
    assert_int_equal(stream_push_score(f.r, f.epoch - 1, &score, 2), -LLMD_ECANCELLED);
    assert_int_equal(stream_n_scored(f.r), 1);
    assert_int_equal(stream_push_score(f.r, f.epoch, &score, 2), 0);
    assert_int_equal(stream_n_scored(f.r), 2);
    assert_int_equal(f.r->stream.scores->ranks[1], 2);

    struct stream_item out[8];
    struct token_logprob got[8][N];
    for (uint32_t round = 0; round < 100; round++) { /* the ring goes round */
        for (uint32_t i = 0; i < 5; i++) {
            const uint32_t t = round * 5 + i;
            struct token_logprob lps[N] = {{t, -1}, {t + 1, -2}, {t + 2, -3}};
            struct stream_item it = {.token = t, .stop_id = -1, .logprobs = i < 4 ? lps : NULL};
            assert_int_equal(stream_push(f.r, f.epoch, &it, &f.set), 0);
        }
        assert_int_equal(stream_pull_logprobs(f.r, out, 3, got[0]), 3);
        assert_int_equal(stream_pull_logprobs(f.r, out + 3, 8, got[3]), 2);
        for (uint32_t i = 0; i < 4; i++) {
            assert_ptr_equal(out[i].logprobs, got[i]);
            assert_int_equal(got[i][0].token, out[i].token);
            assert_int_equal(got[i][TOP].token, out[i].token + TOP);
        }
        assert_null(out[4].logprobs);
    }
    struct token_logprob last[N] = {{1, 0}, {2, 0}, {3, 0}};
    struct stream_item it = {.stop_id = -1, .logprobs = last, .finish = FINISH_LENGTH};
    assert_int_equal(stream_push(f.r, f.epoch, &it, &f.set), 0);
    assert_int_equal(stream_pull(f.r, out, 8), 1);
    assert_null(out[0].logprobs); /* not asked for */
    teardown(&f);
}

static void test_room_goes_to_the_current_producer(void **state)
{
    (void)state;
    struct fixture f, other;
    setup_choices(&f, 1);
    memset(&other, 0, sizeof(other));
    f.epoch = stream_attach(f.r, count_room, &other);
    request_cancel(f.r);
    request_cancel(f.r);
    assert_int_equal(f.n_room_calls, 0);
    assert_int_equal(other.n_room_calls, 1);
    teardown(&f);
}

static void test_cancel(void **state)
{
    (void)state;
    struct fixture f;
    setup_choices(&f, 3);
    assert_int_equal(push(&f, 1, 5, FINISH_STOP), 0);
    request_cancel(f.r);
    assert_int_equal(f.n_room_calls, 1);
    assert_int_equal(push(&f, 0, 5, FINISH_NONE), -LLMD_ECANCELLED);
    assert_int_equal(push(&f, 0, 5, FINISH_STOP), -LLMD_ECANCELLED);
    struct err why = {0};
    err_set(&why, LLMD_ECANCELLED, "client gone");
    stream_fail(f.r, f.epoch, &why, &f.set);
    stream_fail(f.r, f.epoch, &why, &f.set);

    struct stream_item out[8];
    assert_int_equal(stream_pull(f.r, out, 8), 3);
    assert_int_equal(out[0].choice, 1);
    assert_int_equal(out[0].finish, FINISH_STOP);
    assert_int_equal(out[1].choice, 0);
    assert_int_equal(out[1].finish, FINISH_ABORT);
    assert_int_equal(out[1].token, STREAM_NO_TOKEN);
    assert_int_equal(out[2].choice, 2);
    assert_int_equal(out[2].finish, FINISH_ABORT);
    teardown(&f);
}

static void test_fail_on_a_full_ring(void **state)
{
    (void)state;
    struct fixture f;
    setup_choices(&f, 2);
    while (push(&f, 0, 1, FINISH_NONE) == 0)
        ;
    struct err why = {0}, seen;
    err_set(&why, LLMD_EWORKER, "device lost");
    stream_fail(f.r, f.epoch, &why, &f.set);
    assert_true(stream_error(f.r, &seen));
    assert_int_equal(seen.code, LLMD_EWORKER);
    assert_string_equal(seen.msg, "device lost");

    struct stream_item out[64];
    assert_int_equal(stream_pull(f.r, out, 64), 64);
    assert_int_equal(out[62].finish, FINISH_ERROR);
    assert_int_equal(out[63].finish, FINISH_ERROR);
    assert_int_equal(out[62].choice + out[63].choice, 1);
    teardown(&f);
}

static void test_waker_links_once_and_writes_once(void **state)
{
    (void)state;
    struct fixture f;
    setup_choices(&f, 1);
    struct request *got[4];

    assert_int_equal(push(&f, 0, 1, FINISH_NONE), 0);
    assert_int_equal(push(&f, 0, 2, FINISH_NONE), 0);
    assert_int_equal(f.set.n, 1);
    assert_false(readable(&f.waker)); /* of so few only the flush writes */
    waker_set_flush(&f.set);
    assert_int_equal(f.set.n, 0);
    assert_true(readable(&f.waker));
    assert_int_equal(push(&f, 0, 3, FINISH_NONE), 0);
    waker_set_flush(&f.set);
    uint64_t count;
    assert_int_equal(read(f.waker.event_fd, &count, sizeof(count)), sizeof(count));
    assert_int_equal(count, 1); /* it was armed: no second write */

    assert_int_equal(waker_take(&f.waker, got, 4), 1);
    assert_ptr_equal(got[0], f.r);
    assert_int_equal(waker_take(&f.waker, got + 1, 3), 0);
    request_unref(got[0]);

    assert_int_equal(push(&f, 0, 4, FINISH_NONE), 0); /* linked and armed again */
    waker_set_flush(&f.set);
    assert_true(readable(&f.waker));
    assert_int_equal(waker_take(&f.waker, got, 4), 1);
    assert_false(readable(&f.waker));
    request_unref(got[0]);
    teardown(&f);
}

/* Of a large batch the consumer hears before all of it is pushed, once. */
static void test_many_pushes_wake_early(void **state)
{
    (void)state;
    enum { N = 20, EARLY = 8 };
    struct fixture f;
    struct request *got;
    uint64_t count;
    setup_choices(&f, 1);
    for (uint32_t i = 0; i < N; i++) {
        assert_int_equal(push(&f, 0, i, FINISH_NONE), 0);
        assert_int_equal(readable(&f.waker), i + 1 >= EARLY);
    }
    waker_set_flush(&f.set);
    assert_int_equal(read(f.waker.event_fd, &count, sizeof(count)), sizeof(count));
    assert_int_equal(count, 1);
    assert_int_equal(waker_take(&f.waker, &got, 1), 1);
    request_unref(got);
    assert_int_equal(push(&f, 0, N, FINISH_NONE), 0); /* another step begins to count anew */
    assert_false(readable(&f.waker));
    waker_set_flush(&f.set);
    assert_true(readable(&f.waker));
    teardown(&f);
}

static void test_take_in_portions_oldest_first(void **state)
{
    (void)state;
    struct waker w;
    struct waker_set set = {.n = 0};
    struct request *rs[5], *got[5];
    assert_int_equal(waker_init(&w, NULL), 0);
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(request_new(&rs[i]), 0);
        assert_int_equal(stream_init(rs[i], &w, 1, NULL), 0);
        uint32_t epoch = stream_attach(rs[i], NULL, NULL);
        struct stream_item it = {.token = i, .stop_id = -1, .finish = FINISH_STOP};
        assert_int_equal(stream_push(rs[i], epoch, &it, &set), 0);
    }
    waker_set_flush(&set);
    assert_int_equal(waker_take(&w, got, 2), 2);
    assert_int_equal(waker_take(&w, got + 2, 2), 2);
    for (uint32_t i = 0; i < 4; i++) {
        assert_ptr_equal(got[i], rs[i]);
        request_unref(got[i]);
    }
    for (uint32_t i = 0; i < 5; i++)
        request_unref(rs[i]);
    waker_fini(&w); /* drops the link's reference to the fifth */
}

/* More wakers than a set holds: it is flushed early and nothing is lost. */
static void test_waker_set_overflow(void **state)
{
    (void)state;
    enum { N = WAKER_SET_MAX + 9 };
    static struct waker wakers[N];
    struct waker_set set = {.n = 0};
    struct request *got;
    for (uint32_t i = 0; i < N; i++) {
        struct request *r;
        assert_int_equal(waker_init(&wakers[i], NULL), 0);
        assert_int_equal(request_new(&r), 0);
        assert_int_equal(stream_init(r, &wakers[i], 1, NULL), 0);
        struct stream_item it = {.token = i, .stop_id = -1};
        assert_int_equal(stream_push(r, stream_attach(r, NULL, NULL), &it, &set), 0);
        request_unref(r);
    }
    assert_int_equal(set.n, 9);
    waker_set_flush(&set);
    for (uint32_t i = 0; i < N; i++) {
        assert_true(readable(&wakers[i]));
        assert_int_equal(waker_take(&wakers[i], &got, 1), 1);
        request_unref(got);
        waker_fini(&wakers[i]);
    }
}

static void test_polling_consumer(void **state)
{
    (void)state;
    struct request *r;
    struct waker_set set = {.n = 0};
    struct stream_item it = {.token = 1, .stop_id = -1, .finish = FINISH_STOP}, out[2];
    assert_int_equal(request_new(&r), 0);
    assert_int_equal(stream_init(r, NULL, 1, NULL), 0);
    assert_int_equal(stream_push(r, stream_attach(r, NULL, NULL), &it, &set), 0);
    assert_int_equal(set.n, 0);
    assert_int_equal(stream_pull(r, out, 2), 1);
    request_unref(r);
}

static void test_absurd_n_is_refused(void **state)
{
    (void)state;
    struct request *r;
    struct err e = {0};
    assert_int_equal(request_new(&r), 0);
    assert_int_equal(stream_init(r, NULL, UINT32_MAX, &e), -LLMD_EINVAL);
    assert_string_equal(e.param, "n");
    request_unref(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_defaults),
        cmocka_unit_test(test_items_come_out_in_order),
        cmocka_unit_test(test_reserve_for_finish),
        cmocka_unit_test(test_starved_producer_is_called),
        cmocka_unit_test(test_epochs),
        cmocka_unit_test(test_logprobs_travel_with_their_items),
        cmocka_unit_test(test_room_goes_to_the_current_producer),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_fail_on_a_full_ring),
        cmocka_unit_test(test_waker_links_once_and_writes_once),
        cmocka_unit_test(test_many_pushes_wake_early),
        cmocka_unit_test(test_take_in_portions_oldest_first),
        cmocka_unit_test(test_waker_set_overflow),
        cmocka_unit_test(test_polling_consumer),
        cmocka_unit_test(test_absurd_n_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
