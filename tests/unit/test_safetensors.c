/* safetensors files: what is read, and how bad ones are refused. Files are built in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/model/safetensors.h"
#include "core/util/buf.h"

/* Length, header, n zero bytes of data. */
static void build(struct buf *b, const char *header, size_t n_data)
{
    uint64_t n = strlen(header);
    static const char zeros[256];
    assert_true(n_data <= sizeof(zeros));
    for (int i = 0; i < 8; i++)
        buf_addch(b, (char)(n >> (8 * i)));
    buf_addstr(b, header);
    buf_add(b, zeros, n_data);
}

static int open_built(const char *header, size_t n_data, struct safetensors **out, struct err *e)
{
    struct buf b = {0};
    build(&b, header, n_data);
    /* An exact copy, so that a sanitizer sees reads behind the end. */
    char *copy = malloc(b.len);
    memcpy(copy, b.data, b.len);
    int rc = safetensors_open_memory(copy, b.len, "t.safetensors", out, e);
    if (rc == 0) { /* nothing may point into the copy but tensor data: drop it with the set */
        safetensors_close(*out);
        *out = NULL;
    }
    free(copy);
    buf_fini(&b);
    return rc;
}

static const char two[] = "{\"__metadata__\":{\"format\":\"pt\"},"
                          "\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
                          "\"b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[24,32]},"
                          "\"c\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[32,40]},"
                          "\"d\":{\"dtype\":\"F16\",\"shape\":[1,1,2],\"data_offsets\":[40,44]}}";

static void test_reads(void **state)
{
    (void)state;
    struct buf b = {0};
    struct safetensors *s;
    struct host_tensor t;
    struct err e = {0};
    build(&b, two, 44);
    assert_int_equal(safetensors_open_memory(b.data, b.len, "x", &s, &e), 0);
    assert_int_equal(safetensors_n_tensors(s), 4);
    assert_int_equal(safetensors_total_bytes(s), 44);
    assert_int_equal(safetensors_get(s, "a", &t, &e), 0);
    assert_int_equal(t.rows, 2);
    assert_int_equal(t.cols, 3);
    assert_int_equal(t.dtype, DTYPE_F32);
    assert_ptr_equal(t.data, b.data + b.len - 44);
    assert_int_equal(safetensors_get(s, "b", &t, &e), 0);
    assert_int_equal(t.rows, 1);
    assert_int_equal(t.cols, 4);
    assert_int_equal(t.dtype, DTYPE_BF16);
    assert_int_equal(safetensors_get(s, "c", &t, &e), -LLMD_EUNSUPPORTED);
    assert_non_null(strstr(e.msg, "'c'"));
    err_clear(&e);
    assert_int_equal(safetensors_get(s, "d", &t, &e), -LLMD_EUNSUPPORTED);
    err_clear(&e);
    assert_int_equal(safetensors_get(s, "e", &t, &e), -LLMD_ENOTFOUND);
    safetensors_close(s);
    buf_fini(&b);
}

static const struct bad {
    const char *header;
    size_t n_data;
    const char *words;
} bads[] = {
    {"", 0, "header"},
    {"[]", 0, "not a JSON object"},
    {"{", 0, "line 1 column 2"},
    {"{\"a\":1}", 0, "dtype"},
    {"{\"a\":{}}", 0, "dtype"},
    {"{\"a\":{\"dtype\":\"F32\"}}", 0, "shape"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":3}}", 0, "shape"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "size"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", 4, "size"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4,
     "shape"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "data_offsets"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "data_offsets"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "data_offsets"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}", 4, "complete"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "shape needs 8"},
    {"{\"a\":{\"dtype\":\"F99\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "unknown dtype"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4611686018427387904],"
     "\"data_offsets\":[0,4]}}",
     4, "overflows"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "hole"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 8, "belong to none"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
     "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
     8, "overlaps"},
    {"{\"\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "name"},
    {"{\"a b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "name"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
     "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
     8, "twice"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,4]}}", 4,
     "no size"},
};

static void test_refuses(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bads); i++) {
        struct safetensors *s = NULL;
        struct err e = {0};
        int rc = open_built(bads[i].header, bads[i].n_data, &s, &e);
        if (rc != -LLMD_EPARSE || !strstr(e.msg, bads[i].words) || !strstr(e.msg, "t.safetensors"))
            fail_msg("%s: rc %d, \"%s\" lacks \"%s\"", bads[i].header, rc, e.msg, bads[i].words);
    }
}

static void test_lying_lengths(void **state)
{
    (void)state;
    const uint64_t lengths[] = {1, 9, 1000, 1u << 30, 1ull << 40, UINT64_MAX, UINT64_MAX - 7};
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        unsigned char file[16] = {0};
        struct safetensors *s;
        struct err e = {0};
        for (int k = 0; k < 8; k++)
            file[k] = (unsigned char)(lengths[i] >> (8 * k));
        const clock_t from = clock();
        assert_int_equal(safetensors_open_memory(file, sizeof(file), "x", &s, &e), -LLMD_EPARSE);
        assert_true(clock() - from < CLOCKS_PER_SEC / 10);
    }
    struct safetensors *s;
    assert_int_equal(safetensors_open_memory("1234567", 7, "x", &s, NULL), -LLMD_EPARSE);
}

/* Every truncation and 20,000 random byte changes: opened or refused, never worse. */
static void test_damage(void **state)
{
    (void)state;
    struct buf b = {0};
    struct safetensors *s;
    uint32_t random = 1, opened = 0;
    build(&b, two, 44);
    for (size_t n = 0; n < b.len; n++) {
        struct err e = {0};
        char *copy = malloc(n + 1);
        memcpy(copy, b.data, n);
        assert_int_not_equal(safetensors_open_memory(copy, n, "x", &s, &e), 0);
        assert_true(e.msg[0]);
        free(copy);
    }
    for (int i = 0; i < 20000; i++) {
        struct err e = {0};
        char *copy = malloc(b.len);
        memcpy(copy, b.data, b.len);
        for (uint32_t k = 0; k <= random >> 30; k++) {
            random = random * 1664525u + 1013904223u;
            copy[(random >> 8) % b.len] = (char)(random >> 3);
        }
        if (safetensors_open_memory(copy, b.len, "x", &s, &e) == 0) {
            opened++;
            safetensors_close(s);
        }
        free(copy);
    }
    assert_true(opened > 0 && opened < 20000);
    buf_fini(&b);
}

static void write_file(const char *folder, const char *name, const char *data, size_t n)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
}

static void write_shard(const char *folder, const char *name, const char *tensor)
{
    struct buf b = {0}, header = {0};
    buf_addf(&header, "{\"%s\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", tensor);
    build(&b, header.data, 4);
    write_file(folder, name, b.data, b.len);
    buf_fini(&b);
    buf_fini(&header);
}

static int open_with_index(const char *folder, const char *index, struct err *e)
{
    struct safetensors *s;
    write_file(folder, "model.safetensors.index.json", index, strlen(index));
    int rc = safetensors_open(folder, &s, e);
    if (rc == 0) {
        assert_int_equal(safetensors_n_tensors(s), 2);
        safetensors_close(s);
    }
    return rc;
}

static void test_shards(void **state)
{
    (void)state;
    static const struct {
        const char *index;
        int rc;
        const char *words;
    } cases[] = {
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}}", 0, ""},
        {"{\"weight_map\":{\"a\":\"2.safetensors\",\"b\":\"1.safetensors\"}}", LLMD_EPARSE,
         "index says"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"3.safetensors\"}}", LLMD_ENOTFOUND,
         "3.safe"},
        {"{\"weight_map\":{\"a\":\"../1.safetensors\"}}", LLMD_EPARSE, "file names"},
        {"{\"weight_map\":{\"a\":5}}", LLMD_EPARSE, "file names"},
        {"{\"weight_map\":{}}", LLMD_EPARSE, "empty"},
        {"{}", LLMD_EPARSE, "weight_map"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"x\":\"2.safetensors\"}}", LLMD_EPARSE, "'x'"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"4.safetensors\"}}", LLMD_EPARSE,
         "two files"},
    };
    char folder[] = "/tmp/llmd-test-XXXXXX";
    assert_non_null(mkdtemp(folder));
    write_shard(folder, "1.safetensors", "a");
    write_shard(folder, "2.safetensors", "b");
    write_shard(folder, "4.safetensors", "a");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err e = {0};
        int rc = open_with_index(folder, cases[i].index, &e);
        if (rc != -cases[i].rc || !strstr(e.msg, cases[i].words))
            fail_msg("%s: rc %d \"%s\"", cases[i].index, rc, e.msg);
    }
    static const char *const files[] = {"1.safetensors", "2.safetensors", "4.safetensors",
                                        "model.safetensors.index.json"};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        char path[512];
        snprintf(path, sizeof(path), "%s/%s", folder, files[i]);
        unlink(path);
    }
    struct safetensors *s;
    struct err e = {0};
    assert_int_equal(safetensors_open(folder, &s, &e), -LLMD_ENOTFOUND);
    assert_non_null(strstr(e.msg, "model.safetensors"));
    rmdir(folder);
}

/* Headers of many megabytes: what is passed over takes no memory, and the tensors have a limit. */
static void test_large_headers(void **state)
{
    enum { N = 2000000 };
    struct buf b = {0};
    struct safetensors *s = NULL;
    struct err e = {0};
    (void)state;
    buf_addstr(&b, "{\"__metadata__\":[");
    for (int i = 0; i < N; i++)
        buf_addstr(&b, "[],");
    buf_addstr(&b, "[]]}");
    const clock_t from = clock();
    assert_int_equal(open_built(b.data, 0, &s, &e), 0);
    assert_true(clock() - from < 5 * CLOCKS_PER_SEC);
    buf_clear(&b);
    buf_addch(&b, '{');
    for (int i = 0; i < 70000; i++)
        buf_addf(&b, "%s\"t%d\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
                 i ? "," : "", i);
    buf_addch(&b, '}');
    assert_int_equal(open_built(b.data, 0, &s, &e), -LLMD_EUNSUPPORTED);
    assert_non_null(strstr(e.msg, "more than 65536 tensors"));
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads),  cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_damage), cmocka_unit_test(test_lying_lengths),
        cmocka_unit_test(test_shards), cmocka_unit_test(test_large_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
