/* test_fsio.c - mappings and whole-file reads. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/util/buf.h"
#include "core/util/fsio.h"

static char folder[] = "/tmp/llmd_test_fsio_XXXXXX";
static char path[64];

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof(path), "%s/file", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

static void write_file(const void *data, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, n), (ssize_t)n);
    close(fd);
}

static void test_map(void **state)
{
    static unsigned char bytes[5 * 4096 + 123];
    struct file_map m = {0};
    struct err e = {0};
    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(i * 31 >> 3);
    write_file(bytes, sizeof(bytes));
    assert_int_equal(file_map_open(&m, path, &e), 0);
    assert_string_equal(m.path, path);
    assert_int_equal(m.size_bytes, sizeof(bytes));
    assert_memory_equal(m.data, bytes, sizeof(bytes));
    /* What was given back is read from the file again, whatever piece it was. */
    static const size_t pieces[][2] = {{0, 0}, {1, 1}, {0, 4096}, {100, 9000}, {4096, 4096}};
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        file_map_drop(&m, (const char *)m.data + pieces[i][0], pieces[i][1]);
        assert_memory_equal(m.data, bytes, sizeof(bytes));
    }
    file_map_drop(&m, m.data, m.size_bytes);
    assert_memory_equal(m.data, bytes, sizeof(bytes));
    unlink(path); /* the mapping outlives the name */
    assert_int_equal(((const unsigned char *)m.data)[5000], bytes[5000]);
    file_map_close(&m);
    assert_null(m.data);
    file_map_close(&m);
}

static void test_empty(void **state)
{
    struct file_map m;
    struct buf b = {0};
    struct err e = {0};
    (void)state;
    write_file("", 0);
    assert_int_equal(file_map_open(&m, path, &e), 0);
    assert_null(m.data);
    assert_int_equal(m.size_bytes, 0);
    file_map_close(&m);
    assert_int_equal(file_read(path, 0, &b, &e), 0);
    assert_int_equal(b.len, 0);
    buf_fini(&b);
}

static void test_missing(void **state)
{
    struct file_map m = {.size_bytes = 77};
    struct buf b = {0};
    struct err e = {0};
    char name[128];
    (void)state;
    write_file("x", 1);
    snprintf(name, sizeof(name), "%s/none", folder);
    assert_int_equal(file_map_open(&m, name, &e), -LLMD_ENOTFOUND);
    assert_int_equal(m.size_bytes, 77); /* untouched */
    assert_int_equal(strncmp(e.msg, name, strlen(name)), 0);
    assert_int_equal(file_read(name, 10, &b, NULL), -LLMD_ENOTFOUND);
    snprintf(name, sizeof(name), "%s/file/below", folder);
    assert_int_equal(file_read(name, 10, &b, NULL), -LLMD_ENOTFOUND);
    assert_int_equal(file_map_open(&m, folder, NULL), -LLMD_EINVAL);
    snprintf(name, sizeof(name), "%s/pipe", folder);
    assert_int_equal(mkfifo(name, 0600), 0); /* opening it must not wait for a writer */
    err_clear(&e);
    assert_int_equal(file_read(name, 10, &b, &e), -LLMD_EINVAL);
    assert_non_null(strstr(e.msg, "not a regular file"));
    unlink(name);
    assert_int_equal(file_read("/dev/zero", 10, &b, NULL), -LLMD_EINVAL);
    buf_fini(&b);
}

static void test_read(void **state)
{
    static char text[200000];
    struct buf b = {0};
    struct err e = {0};
    (void)state;
    memset(text, 't', sizeof(text));
    write_file(text, sizeof(text));
    buf_addstr(&b, "head:");
    assert_int_equal(file_read(path, sizeof(text), &b, &e), 0);
    assert_int_equal(b.len, 5 + sizeof(text));
    assert_memory_equal(b.data, "head:ttt", 8);
    assert_int_equal(b.data[b.len], '\0');
    assert_int_equal(file_read(path, sizeof(text) - 1, &b, &e), -LLMD_ETOOBIG);
    assert_int_equal(b.len, 5 + sizeof(text)); /* as it was */
    buf_fini(&b);

    b = (struct buf){.max_len = 1000};
    buf_addstr(&b, "kept");
    err_clear(&e);
    assert_int_equal(file_read(path, sizeof(text), &b, &e), -LLMD_ENOMEM);
    assert_string_equal(buf_str(&b), "kept");
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_map),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_missing),
        cmocka_unit_test(test_read),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
