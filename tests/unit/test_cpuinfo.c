/* The processors that a process may use: affinity, cores, quotas of control groups. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/util/cpuinfo.h"

static char root[] = "/tmp/llmd_test_cpuinfo_XXXXXX";

static void write_file(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", root, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static uint32_t quota(const char *groups)
{
    char self[128];
    write_file("self", groups);
    snprintf(self, sizeof(self), "%s/self", root);
    return cpu_quota_cores(self, root);
}

static void test_quotas(void **state)
{
    char path[128];
    (void)state;
    assert_non_null(mkdtemp(root));
    snprintf(path, sizeof(path), "%s/slice", root);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof(path), "%s/slice/llmd", root);
    assert_int_equal(mkdir(path, 0700), 0);

    assert_int_equal(quota("0::/slice/llmd\n"), UINT32_MAX); /* no file says anything */
    write_file("slice/llmd/cpu.max", "max 100000\n");
    assert_int_equal(quota("0::/slice/llmd\n"), UINT32_MAX);
    write_file("slice/llmd/cpu.max", "450000 100000\n");
    assert_int_equal(quota("0::/slice/llmd\n"), 4);
    assert_int_equal(quota("5:cpu:/x\n0::/slice/llmd\n"), 4);
    write_file("slice/cpu.max", "200000 100000\n"); /* a parent allows less */
    assert_int_equal(quota("0::/slice/llmd\n"), 2);
    assert_int_equal(quota("0::/slice\n"), 2);
    write_file("slice/cpu.max", "20000 100000\n");
    assert_int_equal(quota("0::/slice/llmd\n"), 1);
    assert_int_equal(quota("0::/\n"), UINT32_MAX);
    write_file("cpu.max", "300000 100000\n"); /* a container sees its own group as the root */
    assert_int_equal(quota("0::/\n"), 3);
    assert_int_equal(quota("5:cpu:/x\n"), 3);
    assert_int_equal(quota(""), 3);
    assert_int_equal(quota("0::/gone\n"), 3);
    write_file("cpu.max", "nonsense");
    assert_int_equal(quota("0::/\n"), UINT32_MAX);
    write_file("cpu.max", "100000 0");
    assert_int_equal(quota("0::/\n"), UINT32_MAX);
    assert_int_equal(cpu_quota_cores("/nonexistent", "/nonexistent"), UINT32_MAX);

    static const char *const files[] = {
        "slice/llmd/cpu.max", "slice/llmd", "slice/cpu.max", "slice", "cpu.max", "self", ""};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        snprintf(path, sizeof(path), "%s/%s", root, files[i]);
        assert_int_equal(remove(path), 0);
    }
}

static void test_affinity_counts(void **state)
{
    cpu_set_t all, one;
    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
    const uint32_t n = cpu_usable_cores();
    assert_true(n >= 1 && n <= (uint32_t)CPU_COUNT(&all));
    int cpu = 0;
    while (!CPU_ISSET(cpu, &all))
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
    assert_int_equal(cpu_usable_cores(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quotas),
        cmocka_unit_test(test_affinity_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
