/* Rows that readers fill and streams copy: all of them arrive, in their place, whatever the number of
 * readers; what fails ends the load and leaves nothing behind. */
#include "tests/gpu/gpu_case.h"

#include "core/util/clock.h"
#include "gpu/loader.h"

static const uint64_t PATIENCE_US = 60000000;

static uint32_t word_at(uint64_t row, size_t i)
{
    return (uint32_t)(row * 2654435761u + i * 40503u);
}

/* ctx: words of a row. */
static void fill(const void *ctx, uint64_t first, uint64_t end, float *scratch, void *out)
{
    const size_t n = *(const size_t *)ctx;
    uint32_t *to = out;
    for (uint64_t r = first; r < end; r++)
        for (size_t i = 0; i < n; i++)
            *to++ = word_at(r, i);
    scratch[0] = scratch[6] = 1; /* it is there */
}

static struct gpu_rows rows_of(void *device, uint64_t n_rows, const size_t *n_words)
{
    return (struct gpu_rows){.device = device,
                             .n_rows = n_rows,
                             .row_bytes = *n_words * sizeof(uint32_t),
                             .n_scratch = 7,
                             .fill = fill,
                             .ctx = n_words};
}

static void test_rows_arrive(void **state)
{
    static const struct {
        uint64_t n_rows;
        size_t n_words;
    } shapes[] = {{1, 1}, {17, 8}, {3, GPU_SLOT_BYTES / 4}, {20000, 64}, {1500, 4096}};
    (void)state;
    for (uint32_t n_readers = 1; n_readers <= 3; n_readers += 2) {
        struct gpu_loader *l;
        assert_int_equal(gpu_loader_new(gpu, n_readers, &l, NULL), 0);
        for (size_t s = 0; s < ARRAY_LEN(shapes); s++) {
            const size_t n = shapes[s].n_rows * shapes[s].n_words;
            void *device = device_new(n * sizeof(uint32_t));
            uint32_t *back = malloc(n * sizeof(*back));
            const struct gpu_rows r = rows_of(device, shapes[s].n_rows, &shapes[s].n_words);
            struct err e = {0};
            assert_non_null(back);
            if (gpu_loader_rows(l, &r, PATIENCE_US, &e) != 0)
                fail_msg("%s", e.msg);
            device_read(back, device, n * sizeof(*back));
            for (size_t i = 0; i < n; i++)
                assert_int_equal(back[i], word_at(i / shapes[s].n_words, i % shapes[s].n_words));
            free(back);
            gpu_free(gpu, device);
        }
        gpu_loader_free(l);
    }
}

static void test_a_device_that_hangs(void **state)
{
    const size_t n_words = 4096;
    struct gpu_loader *l;
    struct err e = {0};
    void *device = device_new(1000 * n_words * sizeof(uint32_t));
    const struct gpu_rows r = rows_of(device, 1000, &n_words);
    (void)state;
    assert_int_equal(gpu_loader_new(gpu, 2, &l, NULL), 0);
    stand_in_stall(gpu);
    assert_int_equal(gpu_loader_rows(l, &r, 20000, &e), -LLMD_EPOISONED);
    assert_non_null(strstr(e.msg, "load: nothing moved for 20 ms"));
    gpu_loader_free(l);
    gpu_free(gpu, device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_rows_arrive, open_device, close_device),
        cmocka_unit_test_setup_teardown(test_a_device_that_hangs, open_device, close_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
