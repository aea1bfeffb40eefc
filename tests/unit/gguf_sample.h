/* gguf_sample.h - a small file with every kind of value and some tensors, and what the tests of the
 * reader do with any file that opens. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/unit/gguf_writer.h"

enum { SAMPLE_DATA_BYTES = 32 + 224 + 32 + 20 }; /* of the tensors, at the end of the file */

/* Every kind of value, four tensors; the file ends with the last tensor's last byte. */
static inline void write_sample(struct gguf_writer *w)
{
    static const char *const words[] = {"", "one", "\xff\x00two", "drei"};
    int8_t i8 = -8;
    uint16_t u16 = 65535;
    int16_t i16 = -300;
    int32_t i32 = -7, i32s[] = {-1, 0, 5};
    uint64_t u64 = 5, big = UINT64_MAX;
    int64_t i64 = INT64_MIN;
    double f64 = 0.25, huge = 1e300;
    gw_raw(w, "t.u8", GGUF_U8, "\xc8", 1);
    gw_raw(w, "t.i8", GGUF_I8, &i8, sizeof(i8));
    gw_raw(w, "t.u16", GGUF_U16, &u16, sizeof(u16));
    gw_raw(w, "t.i16", GGUF_I16, &i16, sizeof(i16));
    gw_u32(w, "t.u32", UINT32_MAX);
    gw_raw(w, "t.i32", GGUF_I32, &i32, sizeof(i32));
    gw_raw(w, "t.u64", GGUF_U64, &u64, sizeof(u64));
    gw_raw(w, "t.big", GGUF_U64, &big, sizeof(big));
    gw_raw(w, "t.i64", GGUF_I64, &i64, sizeof(i64));
    gw_f32(w, "t.f32", -1.5f);
    gw_raw(w, "t.f64", GGUF_F64, &f64, sizeof(f64));
    gw_raw(w, "t.huge", GGUF_F64, &huge, sizeof(huge));
    gw_bool(w, "t.yes", 1);
    gw_bool(w, "t.no", 0);
    gw_str(w, "t.str", "text");
    gw_str(w, "t.empty", "");
    gw_strings(w, "t.strs", words, ARRAY_LEN(words));
    gw_strings(w, "t.none", words, 0);
    gw_array(w, "t.i32s", GGUF_I32, 3);
    buf_add(&w->kvs, i32s, sizeof(i32s));
    gw_array(w, "t.bools", GGUF_BOOL, 2);
    buf_add(&w->kvs, "\1\0", 2);
    gw_array(w, "t.nested", GGUF_ARRAY, 2); /* [["x"], []] */
    gw_put_u32(&w->kvs, GGUF_STRING);
    gw_put_u64(&w->kvs, 1);
    gw_put_str(&w->kvs, "x");
    gw_put_u32(&w->kvs, GGUF_U8);
    gw_put_u64(&w->kvs, 0);
    gw_tensor(w, "vector", 1, (uint64_t[]){8}, GW_F32, 32);
    gw_tensor(w, "matrix", 2, (uint64_t[]){64, 3}, GW_Q8_0, 3 * 68);
    gw_tensor(w, "flat", 4, (uint64_t[]){4, 2, 1, 1}, GW_F16, 16);
    gw_tensor(w, "last", 2, (uint64_t[]){32, 1}, GW_Q4_1, 20);
}

static inline void make_sample(struct buf *out)
{
    struct gguf_writer w = {0};
    write_sample(&w);
    gw_finish(&w, out);
    gw_fini(&w);
}

static inline void assert_one_line(const struct err *e)
{
    assert_int_not_equal(e->code, 0);
    assert_int_equal(strncmp(e->msg, "mem: ", 5), 0);
    assert_null(strchr(e->msg, '\n'));
}

/* Reads everything that an opened file offers, so that a sanitizer can object. */
static inline uint64_t touch_all(const struct gguf *g)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < gguf_n_keys(g); i++) {
        struct gguf_str k = gguf_key_at(g, i), s;
        struct gguf_array a;
        char key[128];
        uint32_t u;
        float f;
        bool b;
        snprintf(key, sizeof(key), "%.*s", (int)k.n, k.s);
        sum += gguf_get_u32(g, key, &u, NULL) == 0 ? u : 0;
        sum += gguf_get_f32(g, key, &f, NULL) == 0;
        sum += gguf_get_bool(g, key, &b, NULL) == 0 && b;
        if (gguf_get_str(g, key, &s, NULL) == 0)
            for (size_t j = 0; j < s.n; j++)
                sum += (unsigned char)s.s[j];
        if (gguf_get_array(g, key, GGUF_STRING, &a, NULL) == 0) {
            struct gguf_str *strings = calloc(a.n + 1, sizeof(*strings));
            gguf_array_strings(&a, strings);
            for (uint64_t j = 0; j < a.n; j++)
                sum += strings[j].n ? (unsigned char)strings[j].s[strings[j].n - 1] : 0;
            free(strings);
        }
    }
    for (uint32_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct host_tensor *t = gguf_tensor_at(g, i);
        size_t row_bytes;
        assert_ptr_equal(gguf_tensor(g, t->name), t);
        assert_true(dtype_row_bytes(t->dtype, t->cols, &row_bytes));
        for (size_t j = 0; j < row_bytes * t->rows; j++)
            sum += ((const unsigned char *)t->data)[j];
    }
    return sum;
}
