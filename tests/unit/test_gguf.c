/* test_gguf.c - the GGUF reader: values, tensors, files. Malformed input: test_gguf_faults.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/gguf_sample.h"

static void test_integers(void **state)
{
    struct buf b = {0};
    struct gguf *g;
    struct err e = {0};
    (void)state;
    make_sample(&b);
    assert_int_equal(gguf_open_memory(b.data, b.len, "mem", &g, &e), 0);
    static const struct {
        const char *key;
        int rc;
        uint32_t v;
    } cases[] = {
        {"t.u8", 0, 200},
        {"t.u16", 0, 65535},
        {"t.u32", 0, UINT32_MAX},
        {"t.u64", 0, 5},
        {"t.i8", -LLMD_EPARSE, 0},
        {"t.i16", -LLMD_EPARSE, 0},
        {"t.i32", -LLMD_EPARSE, 0},
        {"t.i64", -LLMD_EPARSE, 0},
        {"t.big", -LLMD_EPARSE, 0},
        {"t.f32", -LLMD_EPARSE, 0},
        {"t.yes", -LLMD_EPARSE, 0},
        {"t.str", -LLMD_EPARSE, 0},
        {"t.strs", -LLMD_EPARSE, 0},
        {"t.u", -LLMD_ENOTFOUND, 0},
        {"t.u88", -LLMD_ENOTFOUND, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint32_t v = 12345;
        err_clear(&e);
        assert_int_equal(gguf_get_u32(g, cases[i].key, &v, &e), cases[i].rc);
        assert_int_equal(v, cases[i].rc ? 12345 : cases[i].v);
        if (cases[i].rc)
            assert_one_line(&e);
    }
    err_clear(&e);
    (void)!gguf_get_u32(g, "t.i64", &(uint32_t){0}, &e);
    assert_string_equal(e.msg,
                        "mem: key 't.i64': -9223372036854775808 is not within 0 to 4294967295");
    err_clear(&e);
    (void)!gguf_get_u32(g, "t.strs", &(uint32_t){0}, &e);
    assert_string_equal(e.msg, "mem: key 't.strs': holds an array, expected an integer");
    gguf_close(g);
    buf_fini(&b);
}

static void test_other_values(void **state)
{
    struct buf b = {0};
    struct gguf *g;
    struct err e = {0};
    struct gguf_str s;
    struct gguf_str words[4];
    struct gguf_array a;
    float f;
    bool yes;
    (void)state;
    make_sample(&b);
    assert_int_equal(gguf_open_memory(b.data, b.len, "mem", &g, &e), 0);
    assert_string_equal(gguf_path(g), "mem");
    assert_int_equal(gguf_n_keys(g), 21);
    assert_true(gguf_has(g, "t.str") && !gguf_has(g, "t.st") && !gguf_has(g, "t.strx"));
    assert_int_equal(gguf_get_f32(g, "t.f32", &f, &e), 0);
    assert_true(f == -1.5f);
    assert_int_equal(gguf_get_f32(g, "t.f64", &f, &e), 0);
    assert_true(f == 0.25f);
    assert_int_equal(gguf_get_f32(g, "t.huge", &f, &e), -LLMD_EPARSE);
    assert_int_equal(gguf_get_f32(g, "t.u32", &f, &e), -LLMD_EPARSE);
    assert_int_equal(gguf_get_bool(g, "t.yes", &yes, NULL), 0);
    assert_true(yes);
    assert_int_equal(gguf_get_bool(g, "t.no", &yes, NULL), 0);
    assert_false(yes);
    assert_int_equal(gguf_get_bool(g, "t.u8", &yes, NULL), -LLMD_EPARSE);
    assert_int_equal(gguf_get_str(g, "t.str", &s, NULL), 0);
    assert_int_equal(s.n, 4);
    assert_memory_equal(s.s, "text", 4);
    assert_int_equal(gguf_get_str(g, "t.empty", &s, NULL), 0);
    assert_int_equal(s.n, 0);
    assert_int_equal(gguf_get_str(g, "t.u8", &s, NULL), -LLMD_EPARSE);
    assert_int_equal(gguf_get_array(g, "t.strs", GGUF_STRING, &a, NULL), 0);
    assert_int_equal(a.n, 4);
    gguf_array_strings(&a, words);
    assert_int_equal(words[0].n, 0);
    assert_memory_equal(words[3].s, "drei", 4);
    assert_int_equal(gguf_get_array(g, "t.none", GGUF_STRING, &a, NULL), 0);
    assert_int_equal(a.n, 0);
    assert_int_equal(gguf_get_array(g, "t.i32s", GGUF_I32, &a, NULL), 0);
    assert_int_equal(((const unsigned char *)a.data)[8], 5);
    assert_int_equal(gguf_get_array(g, "t.i32s", GGUF_U32, &a, NULL), -LLMD_EPARSE);
    assert_int_equal(gguf_get_array(g, "t.str", GGUF_U32, &a, NULL), -LLMD_EPARSE);
    assert_int_equal(gguf_get_array(g, "t.x", GGUF_U32, &a, NULL), -LLMD_ENOTFOUND);
    gguf_close(g);
    buf_fini(&b);
}

static void test_tensors(void **state)
{
    struct buf b = {0};
    struct gguf *g;
    struct err e = {0};
    const void *start;
    size_t n;
    uint32_t i;
    (void)state;
    make_sample(&b);
    assert_int_equal(gguf_open_memory(b.data, b.len, "mem", &g, &e), 0);
    assert_int_equal(gguf_n_tensors(g), 4);
    gguf_tensor_range(g, &start, &n);
    assert_ptr_equal((const char *)start + n, b.data + b.len);
    const struct host_tensor *t = gguf_tensor_at(g, 0);
    assert_string_equal(t->name, "vector");
    assert_ptr_equal(t->data, start);
    assert_int_equal(t->rows, 1);
    assert_int_equal(t->cols, 8);
    t = gguf_tensor(g, "matrix");
    assert_int_equal(t->dtype, DTYPE_Q8_0);
    assert_int_equal(t->rows, 3);
    assert_int_equal(t->cols, 64);
    t = gguf_tensor(g, "flat");
    assert_int_equal(t->rows, 2);
    assert_int_equal(t->cols, 4);
    assert_true(gguf_find_tensor(g, "last", &i));
    assert_int_equal(i, 3);
    assert_null(gguf_tensor(g, "las"));
    assert_null(gguf_tensor(g, "lastx"));
    gguf_release_pages(g); /* memory of somebody else: must stay */
    assert_int_equal(b.data[0], 'G');
    gguf_close(g);
    gguf_close(NULL);
    buf_fini(&b);
}

/* Through a file: mapped, pages given back and read again. */
static void test_file(void **state)
{
    char path[] = "/tmp/llmd_test_gguf_XXXXXX";
    struct gguf_writer w = {0};
    struct buf b = {0};
    struct gguf *g;
    struct err e = {0};
    (void)state;
    gw_tensor(&w, "big", 2, (uint64_t[]){1024, 16}, GW_F32, 65536);
    memset(w.data.data, 0x5a, w.data.len);
    gw_finish(&w, &b);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, b.data, b.len), (ssize_t)b.len);
    close(fd);
    assert_int_equal(gguf_open(path, &g, &e), 0);
    assert_string_equal(gguf_path(g), path);
    uint64_t before = touch_all(g);
    gguf_release_pages(g);
    assert_int_equal(touch_all(g), before);
    gguf_close(g);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(gguf_open(path, &g, &e), -LLMD_EPARSE);
    assert_non_null(strstr(e.msg, "it is empty"));
    unlink(path);
    err_clear(&e);
    assert_int_equal(gguf_open(path, &g, &e), -LLMD_ENOTFOUND);
    err_clear(&e);
    assert_int_equal(gguf_open("/tmp", &g, &e), -LLMD_EINVAL);
    gw_fini(&w);
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_other_values),
        cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
