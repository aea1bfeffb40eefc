/* What is read of NVML, from a made-up library (fake_nvml.c), which lies beside this program. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/util/base.h"
#include "gpu/nvml.h"

static char library[512];

static void test_what_a_gpu_tells(void **state)
{
    struct nvml *n;
    struct nvml_gpu *a, *b;
    struct nvml_reading r;
    (void)state;
    assert_int_equal(nvml_open(library, &n, NULL), 0);
    assert_int_equal(nvml_find(n, "00000000:01:00.0", &a, NULL), 0);
    assert_int_equal(nvml_find(n, "00000000:02:00.0", &b, NULL), 0);
    assert_string_equal(nvml_name(a), "Fake GPU 0");
    assert_string_equal(nvml_uuid(b), "GPU-0000-1");
    nvml_read(a, &r);
    assert_int_equal(r.known, (NVML_ECC << 1) - 1);
    assert_int_equal(r.busy_percent, 75);
    assert_int_equal(r.memory_used_bytes >> 30, 10);
    assert_int_equal(r.memory_total_bytes >> 30, 16);
    assert_int_equal(r.temperature_c, 50);
    assert_int_equal((int)(r.power_w * 1000), 123456);
    assert_int_equal((int)r.energy_j, 5);
    assert_int_equal(r.sm_mhz, 1980);
    assert_int_equal(r.memory_mhz, 2619);
    assert_int_equal(r.throttle, NVML_THROTTLE_POWER_CAP | NVML_THROTTLE_SW_THERMAL);
    assert_int_equal(r.ecc_corrected, 7);
    assert_int_equal(r.ecc_damaged, 1);
    nvml_read(b, &r);
    assert_int_equal(r.known & (NVML_POWER | NVML_ENERGY | NVML_ECC), 0);
    assert_int_equal(r.temperature_c, 51);
    nvml_close(n);
}

static void test_xid_errors(void **state)
{
    struct nvml *n;
    struct nvml_gpu *a, *which = NULL;
    uint32_t xid = 0;
    char path[] = "/tmp/fake-xid-XXXXXX";
    (void)state;
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "79\n", 3), 3);
    close(fd);
    assert_int_equal(setenv("FAKE_NVML_XID", path, 1), 0);
    assert_int_equal(nvml_open(library, &n, NULL), 0);
    assert_int_equal(nvml_find(n, "00000000:01:00.0", &a, NULL), 0);
    assert_true(nvml_wait_xid(n, 1000, &which, &xid));
    assert_ptr_equal(which, a);
    assert_int_equal(xid, 79);
    assert_false(nvml_wait_xid(n, 1, &which, &xid)); /* once */
    nvml_close(n);
    unsetenv("FAKE_NVML_XID");
}

static void test_refusals(void **state)
{
    struct nvml *n = NULL;
    struct nvml_gpu *g = NULL;
    struct err e = {0};
    (void)state;
    assert_int_equal(nvml_open("libnvidia-ml-that-is-not-there.so.1", &n, &e), -LLMD_EUNSUPPORTED);
    assert_non_null(strstr(e.msg, "NVML cannot be opened"));
    err_clear(&e);
    assert_int_equal(nvml_open("libm.so.6", &n, &e), -LLMD_EUNSUPPORTED);
    assert_non_null(strstr(e.msg, "nvmlInit_v2"));
    err_clear(&e);
    assert_int_equal(nvml_open(library, &n, NULL), 0);
    assert_int_equal(nvml_find(n, "00000000:07:00.0", &g, &e), -LLMD_ENOTFOUND);
    assert_non_null(strstr(e.msg, "Not Found"));
    nvml_close(n);
    nvml_close(NULL);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_a_gpu_tells),
        cmocka_unit_test(test_xid_errors),
        cmocka_unit_test(test_refusals),
    };
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    snprintf(library, sizeof(library), "%.*s/libnvidia-ml.so.1", slash ? (int)(slash - argv[0]) : 1,
             slash ? argv[0] : ".");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
