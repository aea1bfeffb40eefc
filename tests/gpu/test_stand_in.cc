/* What the stand-in must find: barriers and collectives that not all reach, memory overruns, copies
 * that nobody waited for, launches that a device refuses. */
#include <sys/wait.h>
#include <unistd.h>

#include "tests/gpu/stand_in_case.hh"

#ifdef __SANITIZE_ADDRESS__
enum { ASAN = 1 };
#else
enum { ASAN = 0 };
#endif

enum { SEEDS = 8 };

/* Runs the kernel, which must end with a fault that says all of these words. */
template <class... P>
static void expect_fault(uint32_t block, size_t shared_bytes, void (*kernel)(P...),
                         typename gpu_same<P>::type... args, const char *a, const char *b)
{
    struct err e = {};
    (void)gpu_launch(stream, "kernel_x", {1, 1, 1}, block, shared_bytes, kernel, args...);
    assert_int_equal(gpu_stream_wait(stream, 1000000, &e), -LLMD_EPOISONED);
    if (!strstr(e.msg, "kernel_x") || !strstr(e.msg, a) || !strstr(e.msg, b))
        fail_msg("\"%s\" lacks \"%s\" or \"%s\"", e.msg, a, b);
    assert_string_equal(gpu_fault(gpu), e.msg);
    assert_int_equal(gpu_zero(stream, NULL, 0), -LLMD_EPOISONED); /* it stays */
}

/* Runs fn in a child whose AddressSanitizer must end it with these words. */
static void expect_asan(void (*fn)(void), const char *words)
{
    int ends[2];
    char text[8192] = "";
    size_t n = 0;
    ssize_t got;
    int status;
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], 2);
        fn();
        _exit(0);
    }
    close(ends[1]);
    while (n + 1 < sizeof(text) && (got = read(ends[0], text + n, sizeof(text) - 1 - n)) > 0)
        n += static_cast<size_t>(got);
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    text[n] = 0;
    if (status == 0 || !strstr(text, words))
        fail_msg("status %d, \"%s\" lacks \"%s\"", status, text, words);
}

/* --- barriers --- */

static void reverse_kernel(uint32_t *out, bool barrier)
{
    GPU_SHARED(uint32_t, box, 128);
    box[gpu_thread()] = gpu_thread();
    if (barrier)
        gpu_sync_block();
    out[gpu_thread()] = box[127 - gpu_thread()];
}

/* How many of some seeds give the right result. */
static int n_right(bool barrier)
{
    int n = 0;
    uint32_t *out = device_array<uint32_t>(128), got[128];
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        stand_in_set_seed(seed);
        assert_int_equal(
            gpu_launch(stream, "reverse", {1, 1, 1}, 128, 0, reverse_kernel, out, barrier), 0);
        download(got, out, 128);
        bool right = true;
        for (uint32_t i = 0; i < 128; i++)
            right &= got[i] == 127 - i;
        n += right;
    }
    gpu_free(gpu, out);
    return n;
}

static void test_missing_barrier(void **state)
{
    (void)state;
    assert_int_equal(n_right(true), SEEDS);
    assert_int_equal(n_right(false), 0);
}

/* A second turn overwrites what others still read. */
static void turns_kernel(uint32_t *wrong, bool barrier)
{
    GPU_SHARED(uint32_t, box, 64);
    for (uint32_t turn = 0; turn < 4; turn++) {
        box[gpu_thread()] = turn;
        gpu_sync_block();
        if (box[63 - gpu_thread()] != turn)
            gpu_atomic_add(wrong, 1);
        if (barrier)
            gpu_sync_block();
    }
}

static void test_missing_second_barrier(void **state)
{
    (void)state;
    uint32_t *wrong = device_array<uint32_t>(1), got[2];
    for (int barrier = 0; barrier < 2; barrier++) {
        assert_int_equal(gpu_zero(stream, wrong, sizeof(*wrong)), 0);
        assert_int_equal(
            gpu_launch(stream, "turns", {1, 1, 1}, 64, 0, turns_kernel, wrong, barrier == 1), 0);
        download(&got[barrier], wrong, 1);
    }
    assert_true(got[0] > 0);
    assert_int_equal(got[1], 0);
    gpu_free(gpu, wrong);
}

static void early_kernel(uint32_t n_stay)
{
    if (gpu_thread() >= n_stay)
        return;
    gpu_sync_block();
}

static void test_barrier_that_some_miss(void **state)
{
    (void)state;
    expect_fault<uint32_t>(128, 0, early_kernel, 96, "32 of 128 threads have ended",
                           "96 wait for ever in the block's barrier");
}

static void two_barriers_kernel()
{
    if (gpu_thread() < 32)
        gpu_sync_block();
    else
        gpu_sync_block();
}

static void test_two_barriers(void **state)
{
    (void)state;
    expect_fault<>(64, 0, two_barriers_kernel, "a barrier while", "test_stand_in.cc");
}

static void half_shuffle_kernel(float *out)
{
    if (gpu_lane() < 16)
        out[gpu_thread()] = gpu_shfl_xor(1.0f, 1);
    else
        gpu_sync_block();
}

static void test_collective_that_some_miss(void **state)
{
    (void)state;
    float *out = device_array<float>(32);
    expect_fault<float *>(32, 0, half_shuffle_kernel, out, "16 wait for ever in gpu_shfl_xor",
                          "16 wait for ever in the block's barrier");
    gpu_free(gpu, out);
}

static void mixed_kernel(float *out)
{
    if (gpu_lane() < 16)
        out[gpu_thread()] = gpu_shfl(1.0f, 1);
    else
        out[gpu_thread()] = static_cast<float>(gpu_ballot(true));
}

static void test_two_collectives(void **state)
{
    (void)state;
    float *out = device_array<float>(32);
    expect_fault<float *>(32, 0, mixed_kernel, out, "lanes of its warp wait in", "thread ");
    gpu_free(gpu, out);
}

/* --- memory --- */

static void shared_overrun_kernel(uint32_t at, bool dynamic)
{
    GPU_SHARED(float, box, 5);
    float *to = dynamic ? reinterpret_cast<float *>(gpu_dynamic_shared()) : box;
    if (gpu_thread() == 0)
        to[at] = 1;
}

static void global_overrun_kernel(float *p, uint32_t at)
{
    if (gpu_thread() == 0)
        p[at] = 1;
}

/* For what ends in a fault, or ends the process. */
static void wait_anyway(void)
{
    if (gpu_stream_wait(stream, 1000000, NULL) != 0)
        fprintf(stderr, "%s\n", gpu_fault(gpu));
}

static void overrun_static(void)
{
    (void)gpu_launch(stream, "k", {1, 1, 1}, 32, 20, shared_overrun_kernel, 5u, false);
    wait_anyway();
}

static void overrun_dynamic(void)
{
    (void)gpu_launch(stream, "k", {1, 1, 1}, 32, 20, shared_overrun_kernel, 5u, true);
    wait_anyway();
}

static void overrun_global(void)
{
    float *p = device_array<float>(5);
    (void)gpu_launch(stream, "k", {1, 1, 1}, 32, 0, global_overrun_kernel, p, 5u);
    wait_anyway();
}

static void touch_from_host(void)
{
    float *p = device_array<float>(5);
    *p = 1;
}

static void test_memory_overruns(void **state)
{
    (void)state;
    if (ASAN) {
        expect_asan(overrun_static, "use-after-poison");
        expect_asan(overrun_dynamic, "use-after-poison");
        expect_asan(overrun_global, "use-after-poison");
        expect_asan(touch_from_host, "use-after-poison");
        return;
    }
    expect_fault<uint32_t, bool>(32, 20, shared_overrun_kernel, 5, false, "beyond an array",
                                 "shared");
    close_device(NULL);
    open_device(NULL);
    expect_fault<uint32_t, bool>(32, 20, shared_overrun_kernel, 5, true, "beyond an array",
                                 "shared");
    close_device(NULL);
    open_device(NULL);
    float *p = device_array<float>(5);
    expect_fault<float *, uint32_t>(32, 0, global_overrun_kernel, p, 5, "beyond an allocation",
                                    "20 bytes");
    gpu_free(gpu, p);
}

static void fresh_shared_kernel(float *out)
{
    GPU_SHARED(float, box, 32);
    out[gpu_block().x * 32 + gpu_thread()] = box[gpu_thread()];
    box[gpu_thread()] = 1;
}

/* A block does not find what the one before left. */
static void test_shared_memory_begins_as_nan(void **state)
{
    (void)state;
    float *out = device_array<float>(64), got[64];
    assert_int_equal(gpu_launch(stream, "fresh", {2, 1, 1}, 32, 0, fresh_shared_kernel, out), 0);
    download(got, out, 64);
    for (int i = 0; i < 64; i++)
        assert_true(isnan(got[i]));
    gpu_free(gpu, out);
}

static void plain_kernel()
{
}

static void test_launch_limits(void **state)
{
    (void)state;
    stand_in_set_capability(75);
    close_device(NULL);
    assert_int_equal(gpu_open(0, &gpu, NULL), 0);
    assert_int_equal(gpu_stream_new(gpu, &stream, NULL), 0);
    stand_in_set_capability(75);
    expect_fault<>(64, 64 * 1024 + 16, plain_kernel, "bytes of shared memory", "65536");
    close_device(NULL);
    open_device(NULL);
    expect_fault<>(48, 0, plain_kernel, "blocks of 48 threads", "");
    close_device(NULL);
    open_device(NULL);
    expect_fault<>(2048, 0, plain_kernel, "blocks of 2048 threads", "");
    close_device(NULL);
    open_device(NULL);
    (void)gpu_launch(stream, "wide", {1, 65536, 1}, 32, 0, plain_kernel);
    assert_int_equal(gpu_stream_wait(stream, 1000, NULL), -LLMD_EPOISONED);
    assert_non_null(strstr(gpu_fault(gpu), "grid of 1 x 65536 x 1"));
}

/* --- copies --- */

enum { COPY_EARLY, COPY_GROUP_EARLY, COPY_WELL, COPY_LEFT, COPY_ODD };

/* Two groups of 512 bytes each; `how` says what of them is waited for. */
static void copy_kernel(const float *in, float *out, int how)
{
    GPU_SHARED(struct gpu_16b, box, 65);
    const struct gpu_16b *from = reinterpret_cast<const struct gpu_16b *>(in);
    gpu_copy_begin(&box[gpu_thread()], from + gpu_thread(), true);
    gpu_copy_commit();
    gpu_copy_begin(&box[32 + gpu_thread()], from + 32 + gpu_thread(), gpu_thread() % 2 == 0);
    gpu_copy_commit();
    if (how == COPY_ODD)
        gpu_copy_begin(reinterpret_cast<uint8_t *>(box) + 8, from, true);
    if (how == COPY_LEFT)
        return;
    if (how == COPY_GROUP_EARLY)
        gpu_copy_wait<1>();
    if (how == COPY_WELL)
        gpu_copy_wait<0>();
    for (uint32_t i = 0; i < 2; i++)
        out[i * 32 + gpu_thread()] = f32_from_bits(box[i * 32 + gpu_thread()].w[1]);
    gpu_copy_wait<0>();
}

static float *copy_in, *copy_out;

static void launch_copies(int how, float got[64])
{
    float in[256];
    for (int i = 0; i < 256; i++)
        in[i] = static_cast<float>(i);
    copy_in = device_array<float>(256);
    copy_out = device_array<float>(64);
    upload(copy_in, in, 256);
    (void)gpu_launch(stream, "copies", {1, 1, 1}, 32, 0, copy_kernel,
                     static_cast<const float *>(copy_in), copy_out, how);
    if (gpu_stream_wait(stream, 1000000, NULL) == 0)
        download(got, copy_out, 64);
    gpu_free(gpu, copy_in);
    gpu_free(gpu, copy_out);
}

static void copies_early(void)
{
    float got[64];
    launch_copies(COPY_EARLY, got);
}

static void copies_group_early(void)
{
    float got[64];
    launch_copies(COPY_GROUP_EARLY, got);
}

static void test_copies(void **state)
{
    (void)state;
    float got[64];
    launch_copies(COPY_WELL, got);
    for (int i = 0; i < 64; i++)
        assert_true(got[i] == (i >= 32 && i % 2 ? 0.0f : static_cast<float>(i * 4 + 1)));
    if (ASAN) {
        expect_asan(copies_early, "use-after-poison");
        expect_asan(copies_group_early, "use-after-poison");
    } else {
        launch_copies(COPY_EARLY, got);
        assert_true(isnan(got[0]) && isnan(got[63]));
        launch_copies(COPY_GROUP_EARLY, got);
        assert_true(got[3] == 13.0f && isnan(got[32]) && isnan(got[33]));
    }
    launch_copies(COPY_LEFT, got);
    assert_non_null(strstr(gpu_fault(gpu), "copies that it did not wait for"));
}

static void test_odd_copy(void **state)
{
    (void)state;
    float got[64];
    launch_copies(COPY_ODD, got);
    assert_non_null(strstr(gpu_fault(gpu), "multiples of 16"));
}

/* Half of the threads end before they know that the kernel in front has. */
GPU_KERNEL(32) static void hasty_kernel()
{
    if (gpu_lane() < 16)
        gpu_await_previous();
}

static void test_a_kernel_that_does_not_wait(void **state)
{
    struct err e = {};
    (void)state;
    (void)gpu_chain(stream, "hasty", {1, 1, 1}, 32, 0, hasty_kernel);
    assert_int_equal(gpu_stream_wait(stream, 1000000, &e), -LLMD_EPOISONED);
    assert_non_null(strstr(e.msg, "without gpu_await_previous()"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_missing_barrier),
        TEST(test_missing_second_barrier),
        TEST(test_barrier_that_some_miss),
        TEST(test_two_barriers),
        TEST(test_collective_that_some_miss),
        TEST(test_two_collectives),
        TEST(test_memory_overruns),
        TEST(test_shared_memory_begins_as_nan),
        TEST(test_launch_limits),
        TEST(test_a_kernel_that_does_not_wait),
        TEST(test_copies),
        TEST(test_odd_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
