/* What the stand-in computes: collectives and conversions against their definitions; streams,
 * events and graphs. */
#include "tests/gpu/stand_in_case.hh"

/* --- collectives against their definitions --- */

static void warp_kernel(float *out, uint32_t *bits)
{
    const uint32_t i = gpu_thread();
    out[i] = gpu_shfl_xor(static_cast<float>(i), 5);
    out[64 + i] = gpu_shfl(static_cast<float>(i), 7);
    out[128 + i] = gpu_warp_sum(static_cast<float>(i));
    bits[i] = gpu_ballot(i % 3 == 0);
    gpu_sync_warp();
}

static void test_shuffles_and_votes(void **state)
{
    (void)state;
    float *out = device_array<float>(192), got[192];
    uint32_t *bits = device_array<uint32_t>(64), votes[64];
    assert_int_equal(gpu_launch(stream, "warp", {1, 1, 1}, 64, 0, warp_kernel, out, bits), 0);
    download(got, out, 192);
    download(votes, bits, 64);
    for (uint32_t i = 0; i < 64; i++) {
        uint32_t vote = 0;
        for (uint32_t lane = 0; lane < 32; lane++)
            vote |= static_cast<uint32_t>((i / 32 * 32 + lane) % 3 == 0) << lane;
        assert_true(got[i] == static_cast<float>(i ^ 5));
        assert_true(got[64 + i] == static_cast<float>(i / 32 * 32 + 7));
        assert_true(got[128 + i] == (i < 32 ? 496.0f : 496.0f + 32 * 32));
        assert_int_equal(votes[i], vote);
    }
    gpu_free(gpu, out);
    gpu_free(gpu, bits);
}

/* Operands as plain row-major arrays; fragments are filled as the PTX ISA's figures say: for a word
 * i of A the row is g (i even) or g + 8, the column 2 t, 8 more for i >= 2. */
template <class E, int K> static void mma_kernel(const E *a, const E *b, float *d)
{
    const uint32_t g = gpu_lane() / 4, t = gpu_lane() % 4;
    uint32_t wa[4] = {}, wb[2] = {};
    float c[4];
    for (uint32_t i = 0; i < K / 4; i++)
        memcpy(&wa[i], &a[(g + (i & 1) * 8) * K + 2 * t + (i >> 1) * 8], 4);
    for (uint32_t i = 0; i < K / 8; i++)
        wb[i] = b[(2 * t + i * 8) * 8 + g].bits |
                static_cast<uint32_t>(b[(2 * t + 1 + i * 8) * 8 + g].bits) << 16;
    for (uint32_t i = 0; i < 4; i++)
        c[i] = d[(g + (i >> 1) * 8) * 8 + 2 * t + (i & 1)];
    if constexpr (K == 16)
        gpu_mma_k16(c, wa, wb, E());
    else
        gpu_mma_k8(c, wa, wb, E());
    for (uint32_t i = 0; i < 4; i++)
        d[(g + (i >> 1) * 8) * 8 + 2 * t + (i & 1)] = c[i];
}

template <class E, int K> static void check_mma(void)
{
    E a[16 * K], b[K * 8];
    float d[128], got[128];
    srand(K);
    auto value = [](E *to) {
        gpu_from_f32(static_cast<float>(rand()) / static_cast<float>(RAND_MAX) - 0.5f, to);
    };
    for (E &v : a)
        value(&v);
    for (E &v : b)
        value(&v);
    for (int i = 0; i < 128; i++)
        d[i] = static_cast<float>(i) / 64.0f;
    E *da = device_array<E>(16 * K), *db = device_array<E>(K * 8);
    float *dd = device_array<float>(128);
    upload(da, a, 16 * K);
    upload(db, b, K * 8);
    upload(dd, d, 128);
    assert_int_equal(gpu_launch(stream, "mma", {1, 1, 1}, 32, 0, mma_kernel<E, K>,
                                static_cast<const E *>(da), static_cast<const E *>(db), dd),
                     0);
    download(got, dd, 128);
    for (int row = 0; row < 16; row++)
        for (int col = 0; col < 8; col++) {
            double want = static_cast<double>(d[row * 8 + col]);
            for (int k = 0; k < K; k++)
                want += static_cast<double>(gpu_to_f32(a[row * K + k])) *
                        static_cast<double>(gpu_to_f32(b[k * 8 + col]));
            assert_true(fabs(static_cast<double>(got[row * 8 + col]) - want) < 1e-6);
        }
    gpu_free(gpu, da);
    gpu_free(gpu, db);
    gpu_free(gpu, dd);
}

static void test_mma(void **state)
{
    (void)state;
    check_mma<struct gpu_bf16, 16>();
    check_mma<struct gpu_f16, 16>();
    check_mma<struct gpu_f16, 8>();
}

/* Rows of 16 bytes in the order of the lanes; what comes out is told by the element's own number. */
static void ldmatrix_kernel(uint32_t *out)
{
    GPU_SHARED(struct gpu_16b, rows, 32);
    uint16_t *elements = reinterpret_cast<uint16_t *>(rows);
    uint32_t r[4];
    for (uint32_t i = 0; i < 8; i++)
        elements[gpu_thread() * 8 + i] = static_cast<uint16_t>(gpu_thread() * 8 + i);
    gpu_sync_block();
    gpu_ldmatrix_x4(r, &rows[gpu_thread()]);
    for (uint32_t i = 0; i < 4; i++)
        out[gpu_thread() * 8 + i] = r[i];
    gpu_ldmatrix_x4_trans(r, &rows[gpu_thread()]);
    for (uint32_t i = 0; i < 4; i++)
        out[gpu_thread() * 8 + 4 + i] = r[i];
}

static void test_ldmatrix(void **state)
{
    (void)state;
    uint32_t *out = device_array<uint32_t>(256), got[256];
    assert_int_equal(gpu_launch(stream, "ldmatrix", {1, 1, 1}, 32, 0, ldmatrix_kernel, out), 0);
    download(got, out, 256);
    for (uint32_t lane = 0; lane < 32; lane++)
        for (uint32_t m = 0; m < 4; m++) {
            const uint32_t g = lane / 4, t = lane % 4, base = m * 64; /* of matrix m, 8 x 8 */
            assert_int_equal(got[lane * 8 + m], (base + g * 8 + 2 * t) | (base + g * 8 + 2 * t + 1)
                                                                             << 16);
            assert_int_equal(got[lane * 8 + 4 + m],
                             (base + 2 * t * 8 + g) | (base + (2 * t + 1) * 8 + g) << 16);
        }
    gpu_free(gpu, out);
}

/* Every bf16 and f16 value survives the way through float; ties go to even. */
static void test_conversions(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        struct gpu_bf16 b = {static_cast<uint16_t>(bits)}, b2;
        struct gpu_f16 h = {static_cast<uint16_t>(bits)}, h2;
        gpu_from_f32(gpu_to_f32(b), &b2);
        gpu_from_f32(gpu_to_f32(h), &h2);
        assert_true(isnan(gpu_to_f32(b)) || b2.bits == b.bits);
        assert_true(isnan(gpu_to_f32(h)) || isinf(gpu_to_f32(h)) || h2.bits == h.bits);
    }
    struct gpu_bf16 b;
    gpu_from_f32(1.0f + 0x1p-8f, &b); /* halfway, the lower one is even */
    assert_int_equal(b.bits, 0x3f80);
    gpu_from_f32(1.0f + 3 * 0x1p-8f, &b);
    assert_int_equal(b.bits, 0x3f82);
    struct gpu_f16 h;
    gpu_from_f32(1e9f, &h);
    assert_int_equal(h.bits, 0x7bff);
}

/* --- the runtime --- */

static void add_kernel(float *x, float v)
{
    x[gpu_thread()] += v;
}

static void add(float *x, float v)
{
    assert_int_equal(gpu_launch(stream, "add", {1, 1, 1}, 32, 0, add_kernel, x, v), 0);
}

static void test_streams_run_later(void **state)
{
    (void)state;
    float *x = device_array<float>(32), got[32] = {-1};
    add(x, 2);
    assert_int_equal(gpu_copy_out(stream, got, x, sizeof(got)), 0);
    assert_true(got[0] == -1.0f);
    wait_well();
    assert_true(got[0] == 2.0f && got[31] == 2.0f);
    gpu_free(gpu, x);
}

static void test_events(void **state)
{
    (void)state;
    struct gpu_event *ev;
    struct gpu_stream *second;
    float *x = device_array<float>(32), got[32];
    assert_int_equal(gpu_event_new(gpu, &ev, NULL), 0);
    assert_int_equal(gpu_stream_new(gpu, &second, NULL), 0);
    add(x, 1);
    add(x, 1);
    assert_int_equal(gpu_event_record(ev, stream), 0);
    add(x, 1);
    assert_int_equal(gpu_event_done(ev), 0); /* one entry per poll */
    assert_int_equal(gpu_event_done(ev), 1);
    add(x, 1);
    assert_int_equal(gpu_event_record(ev, stream), 0);
    assert_int_equal(gpu_event_order(ev, second), 0);
    assert_int_equal(gpu_copy_out(second, got, x, sizeof(got)), 0);
    assert_int_equal(gpu_stream_wait(second, 1000000, NULL), 0);
    assert_true(got[0] == 4.0f);
    gpu_stream_free(second);
    gpu_event_free(ev);
    gpu_free(gpu, x);
}

static void test_graphs(void **state)
{
    (void)state;
    struct gpu_graph *graph;
    float *x = device_array<float>(32), got[32];
    assert_int_equal(gpu_capture_begin(stream), 0);
    add(x, 1);
    add(x, 2);
    assert_int_equal(gpu_capture_end(stream, &graph, NULL), 0);
    download(got, x, 32);
    assert_true(got[0] == 0.0f); /* recorded, not run */
    for (int i = 0; i < 3; i++)
        assert_int_equal(gpu_graph_launch(graph, stream), 0);
    download(got, x, 32);
    assert_true(got[0] == 9.0f);
    gpu_graph_free(graph);
    gpu_free(gpu, x);
}

static void test_a_device_that_hangs(void **state)
{
    (void)state;
    struct err e = {};
    float *x = device_array<float>(32);
    stand_in_stall(gpu);
    add(x, 1);
    assert_int_equal(gpu_stream_wait(stream, 2000, &e), -LLMD_EPOISONED);
    assert_non_null(strstr(e.msg, "no answer for 2 ms"));
    gpu_free(gpu, x);
}

static void test_no_device(void **state)
{
    (void)state;
    struct gpu *other;
    struct err e = {};
    assert_int_equal(gpu_open(1, &other, &e), -LLMD_EUNSUPPORTED);
    stand_in_set_capability(0);
    err_clear(&e);
    assert_int_equal(gpu_open(0, &other, &e), -LLMD_EUNSUPPORTED);
    assert_non_null(strstr(e.msg, "driver"));
    void *p;
    err_clear(&e);
    assert_int_equal(gpu_alloc(gpu, 1 << 27, &p, &e), -LLMD_ENOMEM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_shuffles_and_votes),
        TEST(test_mma),
        TEST(test_ldmatrix),
        TEST(test_conversions),
        TEST(test_streams_run_later),
        TEST(test_events),
        TEST(test_graphs),
        TEST(test_a_device_that_hangs),
        TEST(test_no_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
