/* Loading a model's weights, alone and shared, against a backend that writes down what it is asked
 * to do. */
#include <pthread.h>

#include "tests/unit/recording_backend.h"

struct progress {
    struct load_progress last;
    int n_calls, n_whole;
    int stop_at; /* the call that asks to end */
};

static bool note_progress(void *ctx, const struct load_progress *at)
{
    struct progress *p = ctx;
    assert_true(at->total_bytes > 0 && at->done_bytes <= at->total_bytes);
    if (p->n_calls == 0) {
        assert_int_equal(at->done_bytes, 0);
        assert_true(load_mib_per_s(at) == 0 && load_seconds_left(at) < 0);
    } else {
        assert_int_equal(at->total_bytes, p->last.total_bytes);
        assert_true(at->done_bytes > p->last.done_bytes);
        assert_true(at->elapsed_us >= p->last.elapsed_us);
        assert_true(load_seconds_left(at) >= 0);
    }
    p->last = *at;
    p->n_calls++;
    p->n_whole += at->done_bytes == at->total_bytes;
    return p->n_calls != p->stop_at;
}

static void test_progress_grows_to_100(void **state)
{
    (void)state;
    for (int tied = 0; tied < 2; tied++) {
        struct fixture f;
        setup(&f);
        model_fill(&f.model, f.layers, tied != 0);
        struct engine_weights *w;
        struct progress p = {0};
        f.rec.n_created = 0;
        assert_int_equal(engine_weights_new(&f.rec.base, &f.model, note_progress, &p, &w, NULL), 0);
        assert_int_equal(load_percent(&p.last), 100);
        assert_true(load_seconds_left(&p.last) == 0);
        assert_int_equal(p.n_whole, 1);
        assert_true(p.n_calls > 5);
        assert_int_equal(f.rec.n_created, 2 + 6 * N_LAYERS + !tied);
        assert_int_equal(w->n_bytes, 10 * f.rec.n_created);
        assert_int_equal(w->lm_head == w->embed, tied);
        engine_weights_unref(w);
        engine_weights_unref(NULL);
        teardown(&f);
    }
}

/* What only some architectures have is loaded where it is, used, counted and freed. */
static void test_optional_tensors(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    struct engine_weights *w;
    struct forward *fw;
    struct progress p = {0};
    struct batch b = {.n_rows = 1};
    f.layers[0].q_bias = tensor("+qb", 1, 8);
    f.layers[0].v_bias = tensor("+vb", 1, 4);
    f.layers[0].o_bias = tensor("+ob", 1, HIDDEN);
    f.layers[1].q_norm = tensor("qn", 1, 4);
    f.layers[1].k_norm = tensor("kn", 1, 4);
    f.rec.n_created = 0;
    assert_int_equal(engine_weights_new(&f.rec.base, &f.model, note_progress, &p, &w, NULL), 0);
    assert_int_equal(f.rec.n_created, 2 + 6 * N_LAYERS + 2);
    assert_int_equal(p.n_whole, 1);
    assert_int_equal(forward_new(&f.rec.base, &f.model, w, &f.shape, &f.limits, &fw, NULL), 0);
    engine_weights_unref(w);
    assert_int_equal(forward_step(fw, &b, NULL), 0);
    assert_string_equal(buf_str(&f.rec.log),
                        "begin 1\nembed emb:embed 8\nnorm vec:an 8>8\n"
                        "mul lin:q+qb:k:v+vb 8>16\nrope 0 16\nattn 0 16>8\nmul lin:o+ob 8>8\n"
                        "norm vec:fn + 8>8\nmul gu:g:u 8>12\nmul lin:d 12>8\nnorm vec:an + 8>8\n"
                        "mul lin:q:k:v 8>16\nrope 1 16 vec:qn vec:kn\nfinish\n");
    forward_free(fw);
    teardown(&f);
}

/* Whatever the progress is, a load can be stopped there and leaves nothing behind. */
static void test_a_load_can_be_stopped(void **state)
{
    (void)state;
    struct fixture f;
    struct engine_weights *w = NULL;
    setup(&f);
    const int before = atomic_load(&f.rec.n_weights);
    for (int i = 1;; i++) {
        struct progress p = {.stop_at = i};
        struct err e = {0};
        int rc = engine_weights_new(&f.rec.base, &f.model, note_progress, &p, &w, &e);
        if (rc == 0) {
            assert_true(i > 5 && p.n_calls == i - 1);
            break;
        }
        assert_int_equal(rc, -LLMD_EDRAINING);
        assert_int_equal(p.n_calls, i);
        assert_int_equal(atomic_load(&f.rec.n_weights), before);
        assert_null(w);
    }
    engine_weights_unref(w);
    teardown(&f);
}

static void test_failed_load_frees_everything_and_names_the_tensor(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    int before = atomic_load(&f.rec.n_weights);
    for (int i = 1; i <= 2 + 6 * N_LAYERS; i++) {
        struct engine_weights *w = NULL;
        struct err e = {0};
        f.rec.fail_at = i;
        assert_int_equal(engine_weights_new(&f.rec.base, &f.model, NULL, NULL, &w, &e),
                         -LLMD_ENOMEM);
        assert_null(w);
        assert_int_equal(atomic_load(&f.rec.n_weights), before);
        assert_non_null(strstr(e.msg, ": no room"));
        if (i == 1)
            assert_string_equal(e.msg, "embed: no room");
    }
    teardown(&f);
}

struct getter {
    pthread_t thread;
    struct shared_weights *shared;
    struct recorder *rec;
    const struct model *model;
    struct engine_weights *got;
    int rc;
};

static void *get_main(void *arg)
{
    struct getter *g = arg;
    g->rc = shared_weights_get(g->shared, &g->rec->base, g->model, NULL, NULL, &g->got, NULL);
    return NULL;
}

/* Several workers at once: one loads, and when it fails exactly one other tries again. */
static void test_shared_weights_load_once(void **state)
{
    (void)state;
    for (int fail = 0; fail < 2; fail++) {
        enum { N = 4 };
        struct fixture f;
        struct getter g[N];
        int n_failed = 0;
        setup(&f);
        f.rec.n_created = 0;
        f.rec.weight_us = 500;
        f.rec.fail_at = fail ? 6 : 0;
        struct shared_weights *s;
        assert_int_equal(shared_weights_new(&s), 0);
        for (int i = 0; i < N; i++) {
            g[i] = (struct getter){.shared = s, .rec = &f.rec, .model = &f.model};
            pthread_create(&g[i].thread, NULL, get_main, &g[i]);
        }
        struct engine_weights *w = NULL;
        for (int i = 0; i < N; i++) {
            pthread_join(g[i].thread, NULL);
            if (g[i].rc) {
                n_failed++;
                continue;
            }
            assert_true(!w || w == g[i].got);
            w = g[i].got;
        }
        assert_int_equal(n_failed, fail);
        assert_int_equal(f.rec.n_created, 2 + 6 * N_LAYERS + (fail ? 5 : 0));
        assert_int_equal(atomic_load(&w->refs), N - n_failed + 1);
        for (int i = 0; i < N - n_failed; i++)
            engine_weights_unref(w);
        shared_weights_unref(s);
        teardown(&f);
    }
}

struct slow_loader {
    struct getter g;
    atomic_bool began, go_on;
};

static bool wait_in_the_load(void *ctx, const struct load_progress *p)
{
    struct slow_loader *l = ctx;
    (void)p;
    atomic_store(&l->began, true);
    while (!atomic_load(&l->go_on))
        clock_sleep_us(1000);
    return true;
}

static void *load_slowly(void *arg)
{
    struct slow_loader *l = arg;
    l->g.rc = shared_weights_get(l->g.shared, &l->g.rec->base, l->g.model, wait_in_the_load, l,
                                 &l->g.got, NULL);
    return NULL;
}

static bool no_more(void *ctx, const struct load_progress *p)
{
    (void)ctx;
    assert_int_equal(p->total_bytes, 0);
    return false;
}

/* Who waits for a load that hangs can end; when its worker is given up, the next one loads. */
static void test_a_hanging_load_is_left(void **state)
{
    (void)state;
    struct fixture f;
    struct recorder second;
    struct engine_weights *w = NULL;
    struct err e = {0};
    setup(&f);
    second = f.rec; /* two backends: recorders are not shared between threads */
    second.log = (struct buf){0};
    struct slow_loader l = {.g = {.rec = &second, .model = &f.model}};
    assert_int_equal(shared_weights_new(&l.g.shared), 0);
    assert_int_equal(pthread_create(&l.g.thread, NULL, load_slowly, &l), 0);
    while (!atomic_load(&l.began))
        clock_sleep_us(1000);
    assert_int_equal(shared_weights_get(l.g.shared, &f.rec.base, &f.model, no_more, &f, &w, &e),
                     -LLMD_EDRAINING);
    shared_weights_disown(l.g.shared, &f); /* not the one that loads */
    shared_weights_disown(l.g.shared, &l);
    assert_int_equal(shared_weights_get(l.g.shared, &f.rec.base, &f.model, NULL, &f, &w, NULL), 0);
    atomic_store(&l.go_on, true);
    pthread_join(l.g.thread, NULL);
    assert_int_equal(l.g.rc, 0);
    assert_ptr_not_equal(l.g.got, w);
    assert_int_equal(atomic_load(&w->refs), 2);
    engine_weights_unref(l.g.got);
    engine_weights_unref(w);
    shared_weights_unref(l.g.shared);
    buf_fini(&second.log);
    teardown(&f);
}

static void test_shared_weights_serve_one_model(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    struct shared_weights *s;
    struct engine_weights *w, *other = NULL;
    struct model second = f.model;
    struct err e = {0};
    assert_int_equal(shared_weights_new(&s), 0);
    assert_int_equal(shared_weights_get(s, &f.rec.base, &f.model, NULL, NULL, &w, NULL), 0);
    assert_int_equal(shared_weights_get(s, &f.rec.base, &second, NULL, NULL, &other, &e),
                     -LLMD_EINVAL);
    assert_null(other);
    engine_weights_unref(w);
    shared_weights_unref(s);
    shared_weights_unref(NULL);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_progress_grows_to_100),
        cmocka_unit_test(test_optional_tensors),
        cmocka_unit_test(test_a_load_can_be_stopped),
        cmocka_unit_test(test_failed_load_frees_everything_and_names_the_tensor),
        cmocka_unit_test(test_shared_weights_load_once),
        cmocka_unit_test(test_a_hanging_load_is_left),
        cmocka_unit_test(test_shared_weights_serve_one_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
