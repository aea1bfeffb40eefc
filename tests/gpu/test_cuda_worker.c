/* A GPU's worker on the host stand-in, end to end: worker, scheduler, prefix cache, layer loop, kernels,
 * sampling. With pinned kernels every variant gives the first one's tokens: prefix cache on and off,
 * chunks, one at a time or together, preempted, on two GPUs. Greedy ones are the CPU backend's, up to
 * ties. Memory is taken once; faults of the device end the worker, and the process.
 *
 *   test_cuda_worker        a selection
 *   test_cuda_worker all    every variant (a part of `make soak`) */
#include <dlfcn.h>
#include <string.h>

#include "core/supervise/supervise.h"
#include "tests/gpu/cuda_worker_case.h"
#include "tests/gpu/fake_cublaslt.h"
#include "tests/unit/forward_rig.h"
#include "tests/unit/router_fixture.h"

static bool everything;
static char fake_path[512];
static struct reader expected[N_REQUESTS];

/* cuBLASLt for steps of more than 64 rows; neither is pinned. */
static struct blas_library *blas;

static int open_blas(uint32_t gpu, struct backend **out, struct err *e)
{
    const struct cuda_opts o = {.device = gpu, .step_timeout_us = step_timeout_us, .blas = blas};
    return cuda_backend_new(&o, out, e);
}

/* Generates the first n requests at once on workers of the same options, and compares, or fills `into`.
 * Returns how often it preempted. */
static uint32_t run_into(const struct worker_opts *o, uint32_t n_workers, uint32_t n,
                         struct reader *into)
{
    struct noted_worker w[2];
    struct worker_opts opts[2];
    struct reader rd[N_REQUESTS];
    uint32_t n_preempted = 0;
    for (uint32_t i = 0; i < n_workers; i++) {
        opts[i] = *o;
        opts[i].index = opts[i].gpu = i;
        noted_start(&w[i], &opts[i]);
        if (w[i].dead)
            fail_msg("%s", w[i].why.msg);
    }
    const uint64_t n_allocated = stand_in_allocations();
    for (uint32_t i = 0; i < n; i++) {
        request_make(&rd[i], i);
        assert_int_equal(reader_submit(&rd[i], w[i % n_workers].w, NULL), 0);
    }
    for (uint32_t i = 0; i < n; i++) {
        reader_wait(&rd[i]);
        n_preempted += rd[i].r->trace.n_preemptions;
        if (into) {
            into[i] = rd[i];
            continue;
        }
        assert_same_text(&rd[i], &expected[i]);
        reader_fini(&rd[i]);
    }
    assert_int_equal(stand_in_allocations(), n_allocated); /* not one while serving */
    for (uint32_t i = 0; i < n_workers; i++)
        noted_finish(&w[i]);
    return n_preempted;
}

static uint32_t run(const struct worker_opts *o, uint32_t n_workers)
{
    return run_into(o, n_workers, N_REQUESTS, NULL);
}

/* --- set-up --- */

static int start_model(const char *name)
{
    char path[128];
    struct err e = {0};
    snprintf(path, sizeof(path), FOLDER "%s", name);
    if (model_open(path, &model, &e) != 0) {
        print_error("%s (run from the repository's root)\n", e.msg);
        return -1;
    }
    const struct worker_opts o = base_opts();
    run_into(&o, 1, N_REQUESTS, expected);
    return 0;
}

static void end_model(void)
{
    for (uint32_t i = 0; i < N_REQUESTS; i++)
        if (expected[i].r)
            reader_fini(&expected[i]);
    memset(expected, 0, sizeof(expected));
    model_free(model);
    model = NULL;
}

static int open_all(void **state)
{
    make_prompts();
    reset_machine();
    return open_llama(state) || start_model("qwen3");
}

static int close_all(void **state)
{
    end_model();
    return close_llama(state);
}

static int set_up(void **state)
{
    (void)state;
    reset_machine();
    return 0;
}

/* --- equivalence --- */

/* How much likelier, in logits, the CPU thinks one token is than another after prompt and text. */
static float cpu_gap(struct rig *rig, uint32_t i, const uint32_t *text, uint32_t n_text,
                     uint32_t one, uint32_t other)
{
    static struct step st;
    struct sequence seq = {0};
    uint32_t ids[MAX_PROMPT + LONG_ANSWER];
    const uint32_t n = n_prompt[i] + n_text;
    rig->next_block = 0;
    memcpy(ids, prompts[i], n_prompt[i] * sizeof(*ids));
    memcpy(ids + n_prompt[i], text, n_text * sizeof(*ids));
    st.batch = (struct batch){0};
    step_add(rig, &st, &seq, ids, n);
    step_want(&st, n - 1);
    step_run(rig, &st);
    const float *logits = forward_logits(rig->forward, 0);
    return logits[one] - logits[other];
}

/* The greedy tokens are the CPU's. Where one differs both must be as good as equal there: four times
 * what test_cuda_models measures of BF16's error; what follows are two different texts. */
static void compare_with_cpu(const struct reader *got)
{
    static const float TIE = 0.2f;
    struct worker_opts o = base_opts();
    struct reader cpu[N_GREEDY];
    struct rig rig;
    uint32_t n_same = 0, n_all = 0;
    o.device = DEVICE_CPU;
    run_into(&o, 1, N_GREEDY, cpu);
    assert_true(rig_try(&rig, model, COMPUTE_F32, 1, "auto", NULL));
    for (uint32_t i = 0; i < N_GREEDY; i++) {
        const uint32_t *a = cpu[i].got[0], *b = got[i].got[0], n = cpu[i].n_got[0];
        uint32_t k = 0;
        while (k < n && a[k] == b[k])
            k++;
        n_same += k;
        n_all += n;
        if (k < n) {
            const float gap = cpu_gap(&rig, i, a, k, a[k], b[k]);
            print_message("request %u: token %u of %u differs, gap %.3f\n", i, k, n, (double)gap);
            assert_true(gap >= 0 && gap <= TIE);
        }
        reader_fini(&cpu[i]);
    }
    print_message("%u of %u greedy tokens before the first tie\n", n_same, n_all);
    assert_true(2 * n_same > n_all);
    rig_close(&rig);
}

static void test_greedy_tokens_are_the_cpus(void **state)
{
    (void)state;
    compare_with_cpu(expected);
}

static void test_prefix_cache_off(void **state)
{
    (void)state;
    struct worker_opts o = base_opts();
    o.enable_prefix_caching = false;
    run(&o, 1);
}

static void run_chunks(uint32_t budget)
{
    struct worker_opts o = base_opts();
    o.max_num_batched_tokens = budget;
    run(&o, 1);
}

static void test_chunks(void **state)
{
    (void)state;
    run_chunks(19);
}

/* The library, made up, in a worker: measured before it is ready, taken by prompts. */
static void test_cublaslt(void **state)
{
    (void)state;
    struct worker_opts o = base_opts();
    struct reader got[N_GREEDY];
    struct err e = {0};
    stand_in_set_memory(96u << 20);
    if (blas_library_open(fake_path, &blas, &e))
        fail_msg("%s", e.msg);
    void *so = dlopen(fake_path, RTLD_NOW), *at = dlsym(so, "fake_cublaslt_control");
    fake_cublaslt_fn *control;
    memcpy(&control, &at, sizeof(at));
    *control() = (struct fake_cublaslt){.call = stand_in_call};
    o.open_gpu = open_blas;
    o.max_num_batched_tokens = 128;
    (void)run_into(&o, 1, N_GREEDY, got);
    compare_with_cpu(got);
    for (uint32_t i = 0; i < N_GREEDY; i++)
        reader_fini(&got[i]);
    assert_true(control()->n_matmul > 0);
    assert_int_equal(control()->n_objects, 0);
    dlclose(so);
    blas_library_close(blas);
    blas = NULL;
}

static void test_one_at_a_time(void **state)
{
    (void)state;
    struct worker_opts o = base_opts();
    o.max_num_seqs = 1;
    run_into(&o, 1, everything ? N_REQUESTS : N_GREEDY, NULL);
}

static void test_preemption(void **state)
{
    (void)state;
    for (uint32_t caching = 0; caching < 1u + everything; caching++) {
        struct worker_opts o = base_opts();
        o.enable_prefix_caching = caching;
        o.kv_cache_blocks = 5;
        assert_true(run_into(&o, 1, N_LONG, NULL) > 0);
    }
}

static void test_two_gpus(void **state)
{
    (void)state;
    struct worker_opts o = base_opts();
    run(&o, 2);
}

/* min_tokens forbids the only allowed token: it comes all the same, none that is not allowed. */
static void test_nothing_but_allowed_tokens(void **state)
{
    (void)state;
    enum { N = 3 };
    static const uint32_t only[] = {200};
    const struct worker_opts o = base_opts();
    struct noted_worker w;
    struct reader rd;
    noted_start(&w, &o);
    reader_init(&rd, NULL, prompts[0], 20, N, 1);
    rd.r->model = "tiny";
    struct sampling_params *p = &rd.r->sampling;
    p->allowed_ids = p->stop_ids = only;
    p->n_allowed_ids = p->n_stop_ids = 1;
    p->min_tokens = N;
    assert_int_equal(reader_submit(&rd, w.w, NULL), 0);
    reader_wait(&rd);
    assert_int_equal(rd.n_shown[0], N);
    for (uint32_t i = 0; i < N; i++)
        assert_int_equal(rd.got[0][i], only[0]);
    reader_fini(&rd);
    noted_finish(&w);
}

/* Other models, chunk sizes, older kernels: too long for each time. */
static void test_the_rest(void **state)
{
    static const char *const names[] = {"qwen3", "llama-llama3", "mistral-window", "qwen2-yarn"};
    (void)state;
    if (!everything) {
        print_message("a part of make soak\n");
        skip();
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct worker_opts o = base_opts();
        end_model();
        assert_int_equal(start_model(names[i]), 0);
        o = base_opts();
        compare_with_cpu(expected);
        run_chunks(1);
        run_chunks(16);
        run_chunks(37);
        o.enable_prefix_caching = false;
        run(&o, 2);
        o.max_num_seqs = 1;
        run(&o, 1);
    }
}

/* --- memory --- */

static void test_memory_is_what_the_option_says(void **state)
{
    (void)state;
    struct noted_worker n;
    struct worker_opts o = base_opts();
    uint32_t blocks[2];
    o.kv_cache_blocks = 0;
    for (uint32_t i = 0; i < 2; i++) {
        o.gpu_memory_percent = i == 0 ? 90 : 50;
        noted_start(&n, &o);
        if (n.dead)
            fail_msg("%s", n.why.msg);
        blocks[i] = n.last.n_kv_blocks;
        noted_finish(&n);
    }
    /* a block of qwen3: 2 layers, 2 heads of 32, keys and values, 2 bytes */
    const uint32_t bytes = 2 * 2 * 32 * 2 * 2 * KV_BLOCK_TOKENS;
    assert_in_range(blocks[0] - blocks[1], MEMORY / 10 * 4 / bytes - 1,
                    MEMORY / 10 * 4 / bytes + 1);
    assert_true((uint64_t)blocks[0] * bytes > MEMORY / 2);
}

static void refused(const struct worker_opts *o, const char *why)
{
    struct noted_worker n;
    noted_start(&n, o);
    noted_wait_dead(&n);
    if (!strstr(n.why.msg, why))
        fail_msg("'%s' does not say '%s'", n.why.msg, why);
    noted_free(&n);
}

static void test_what_does_not_fit(void **state)
{
    (void)state;
    struct worker_opts o = base_opts();
    stand_in_set_memory(64 << 10);
    refused(&o, "a GPU that has");
    stand_in_set_memory(4 << 20);
    o.kv_cache_blocks = 0;
    o.gpu_memory_percent = 1;
    refused(&o, "raise gpu_memory_utilization or free memory of the GPU");
    o.kv_cache_bytes = 64 << 20;
    refused(&o, "lower kv_cache_mb");
    o = base_opts();
    o.gpu = 2;
    refused(&o, "there is no cuda:2; the machine has 2 GPUs");
    stand_in_set_capability(0);
    refused(&o, "no NVIDIA driver");
}

/* --- faults --- */

/* Two GPUs, of which the first breaks under load: what it had goes on at the other one, with the same
 * text, and the supervisor wants a new process, for this one cannot heal it. */
static void break_under_load(enum stand_in_break how, const char *why)
{
    const struct router_model_opts route = {.max_queue = 100, .max_migrations = 2};
    const uint64_t never_us = 600u * 1000000u; /* the stand-in is slow, not stuck */
    struct supervise_opts so = {
        .tick_us = 5000, .suspect_us = never_us, .stall_us = never_us, .unknown_us = never_us};
    struct supervise *supervise;
    struct world w;
    struct reader rd[N_REQUESTS];
    struct err reason = {0};
    uint32_t n_moved = 0;
    world_init(&w, &route);
    for (uint32_t i = 0; i < 2; i++) {
        struct worker_opts *o = world_add(&w);
        *o = base_opts();
        o->index = o->gpu = i;
    }
    world_start(&w);
    so.router = w.router;
    assert_int_equal(supervise_start(&so, &supervise, NULL), 0);
    stand_in_break_kernel(0, how, 60);
    for (uint32_t i = 0; i < N_REQUESTS; i++) {
        request_make(&rd[i], i);
        world_submit(&w, &rd[i]);
    }
    for (uint32_t i = 0; i < N_REQUESTS; i++) {
        reader_wait(&rd[i]);
        n_moved += rd[i].r->trace.n_migrations;
        assert_same_text(&rd[i], &expected[i]);
        reader_fini(&rd[i]);
    }
    assert_true(n_moved > 0);
    assert_soon(supervise_must_exit(supervise, &reason));
    assert_int_equal(reason.code, LLMD_EPOISONED);
    if (!strstr(reason.msg, why))
        fail_msg("'%s' does not say '%s'", reason.msg, why);
    assert_int_equal(world_view(&w, 0).n_starts, 1);
    supervise_stop(supervise);
    world_fini(&w);
}

static void test_an_illegal_address(void **state)
{
    (void)state;
    break_under_load(STAND_IN_ILLEGAL_ADDRESS, "illegal memory access");
}

static void test_a_kernel_that_never_ends(void **state)
{
    (void)state;
    step_timeout_us = 3000000;
    break_under_load(STAND_IN_ENDLESS, "no answer for 3000 ms");
}

/* The supervisor sees it before the worker does: there is no second try in this process. */
static void test_a_lost_gpu_needs_a_new_process(void **state)
{
    (void)state;
    const struct router_model_opts route = {.max_queue = 100};
    struct supervise_opts so = {
        .tick_us = 5000, .suspect_us = 100000, .stall_us = 200000, .unknown_us = 200000};
    struct supervise *supervise;
    struct reader rd;
    struct world w;
    struct err reason = {0};
    step_timeout_us = 2000000;
    world_init(&w, &route);
    *world_add(&w) = base_opts();
    world_start(&w);
    so.router = w.router;
    assert_int_equal(supervise_start(&so, &supervise, NULL), 0);
    stand_in_break_kernel(0, STAND_IN_ENDLESS, 1);
    request_make(&rd, 0);
    world_submit(&w, &rd);
    reader_wait(&rd);
    assert_int_equal(rd.finish[0], FINISH_ERROR);
    assert_soon(supervise_must_exit(supervise, &reason));
    assert_int_equal(reason.code, LLMD_EPOISONED);
    assert_non_null(strstr(reason.msg, "stalls"));
    reader_fini(&rd);
    supervise_stop(supervise);
    world_fini(&w);
}

/* In the trial of the largest step already. */
static void test_a_device_that_is_broken_from_the_start(void **state)
{
    (void)state;
    const struct worker_opts o = base_opts();
    stand_in_break_kernel(0, STAND_IN_ILLEGAL_ADDRESS, 3);
    refused(&o, "illegal memory access");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_greedy_tokens_are_the_cpus, set_up),
        cmocka_unit_test_setup(test_prefix_cache_off, set_up),
        cmocka_unit_test_setup(test_chunks, set_up),
        cmocka_unit_test_setup(test_one_at_a_time, set_up),
        cmocka_unit_test_setup(test_cublaslt, set_up),
        cmocka_unit_test_setup(test_preemption, set_up),
        cmocka_unit_test_setup(test_two_gpus, set_up),
        cmocka_unit_test_setup(test_nothing_but_allowed_tokens, set_up),
        cmocka_unit_test_setup(test_memory_is_what_the_option_says, set_up),
        cmocka_unit_test_setup(test_what_does_not_fit, set_up),
        cmocka_unit_test_setup(test_an_illegal_address, set_up),
        cmocka_unit_test_setup(test_a_kernel_that_never_ends, set_up),
        cmocka_unit_test_setup(test_a_lost_gpu_needs_a_new_process, set_up),
        cmocka_unit_test_setup(test_a_device_that_is_broken_from_the_start, set_up),
        cmocka_unit_test_setup(test_the_rest, set_up),
    };
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    snprintf(fake_path, sizeof(fake_path), "%.*s/libfake_cublaslt.so",
             slash ? (int)(slash - argv[0]) : 1, slash ? argv[0] : ".");
    everything = argc > 1 && strcmp(argv[1], "all") == 0;
    return cmocka_run_group_tests(tests, open_all, close_all);
}
