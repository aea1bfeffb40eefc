/* Available memory is a number that makes sense. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/util/meminfo.h"

static void test_is_within_the_machine(void **state)
{
    (void)state;
    uint64_t total = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t available = mem_available_bytes();
    assert_true(available > 1 << 20);
    assert_true(available <= total);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_is_within_the_machine)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
