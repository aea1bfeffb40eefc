/* test_gguf_faults.c - nothing malformed gets past the GGUF reader. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/gguf_sample.h"

static const uint64_t vec8[] = {8};

/* --- faults in a header that is otherwise well-formed --- */

static void fault_nothing(struct gguf_writer *w)
{
    (void)w;
}

static void fault_key_empty(struct gguf_writer *w)
{
    gw_u32(w, "", 1);
}

static void fault_key_control(struct gguf_writer *w)
{
    gw_u32(w, "a\nb", 1);
}

static void fault_key_space(struct gguf_writer *w)
{
    gw_u32(w, "a b", 1);
}

static void fault_key_latin(struct gguf_writer *w)
{
    gw_u32(w, "caf\xc3\xa9", 1);
}

static void fault_key_long(struct gguf_writer *w)
{
    w->n_kvs++;
    gw_put_u64(&w->kvs, 65536);
    BUG_ON(!buf_reserve(&w->kvs, 65536));
    memset(w->kvs.data + w->kvs.len, 'k', 65536);
    w->kvs.len += 65536;
    gw_put_u32(&w->kvs, GGUF_U8);
    buf_addch(&w->kvs, 1);
}

static void fault_key_lies(struct gguf_writer *w)
{
    w->n_kvs++;
    gw_put_u64(&w->kvs, UINT64_MAX - 3);
    buf_addstr(&w->kvs, "0123456789");
}

static void fault_key_twice(struct gguf_writer *w)
{
    gw_u32(w, "twin", 1);
    gw_str(w, "other", "x");
    gw_bool(w, "twin", 1);
}

static void fault_type(struct gguf_writer *w)
{
    gw_raw(w, "k", 13, "\0\0\0\0", 4);
}

static void fault_bool(struct gguf_writer *w)
{
    gw_bool(w, "k", 2);
}

static void fault_bools(struct gguf_writer *w)
{
    gw_array(w, "k", GGUF_BOOL, 3);
    buf_add(&w->kvs, "\1\0\2", 3);
}

static void fault_string_lies(struct gguf_writer *w)
{
    gw_key(w, "k", GGUF_STRING);
    gw_put_u64(&w->kvs, 1ull << 60);
}

static void fault_array_type(struct gguf_writer *w)
{
    gw_array(w, "k", 99, 0);
}

static void fault_array_lies_u8(struct gguf_writer *w)
{
    gw_array(w, "k", GGUF_U8, 1ull << 60);
}

static void fault_array_lies_u64(struct gguf_writer *w)
{
    gw_array(w, "k", GGUF_U64, (1ull << 61) + 1); /* times 8 wraps to 8 */
    gw_put_u64(&w->kvs, 0);
}

static void fault_array_lies_str(struct gguf_writer *w)
{
    gw_array(w, "k", GGUF_STRING, 1ull << 60);
}

static void fault_array_lies_nested(struct gguf_writer *w)
{
    gw_array(w, "k", GGUF_ARRAY, UINT64_MAX);
}

static void fault_array_element(struct gguf_writer *w)
{
    gw_array(w, "k", GGUF_STRING, 2);
    gw_put_str(&w->kvs, "fine");
    gw_put_u64(&w->kvs, 1ull << 40);
}

static void fault_nesting(struct gguf_writer *w)
{
    gw_key(w, "k", GGUF_ARRAY);
    for (int i = 0; i < 9; i++) {
        gw_put_u32(&w->kvs, i == 8 ? GGUF_U8 : GGUF_ARRAY);
        gw_put_u64(&w->kvs, i == 8 ? 0 : 1);
    }
}

static void fault_alignment_zero(struct gguf_writer *w)
{
    gw_u32(w, "general.alignment", 0);
}

static void fault_alignment_odd(struct gguf_writer *w)
{
    gw_u32(w, "general.alignment", 48);
}

static void fault_alignment_small(struct gguf_writer *w)
{
    gw_u32(w, "general.alignment", 4);
}

static void fault_alignment_huge(struct gguf_writer *w)
{
    gw_u32(w, "general.alignment", 1u << 31);
}

static void fault_alignment_type(struct gguf_writer *w)
{
    gw_str(w, "general.alignment", "32");
}

static void fault_name_empty(struct gguf_writer *w)
{
    gw_tensor(w, "", 1, vec8, GW_F32, 32);
}

static void fault_name_long(struct gguf_writer *w)
{
    char name[66];
    memset(name, 'n', 65);
    name[65] = '\0';
    gw_tensor(w, name, 1, vec8, GW_F32, 32);
}

static void fault_name_control(struct gguf_writer *w)
{
    gw_tensor(w, "a\x1b[2J", 1, vec8, GW_F32, 32);
}

static void fault_name_twice(struct gguf_writer *w)
{
    gw_tensor(w, "twin", 1, vec8, GW_F32, 32);
    gw_tensor(w, "x", 1, vec8, GW_F32, 32);
    gw_tensor(w, "twin", 1, vec8, GW_F32, 32);
}

static void fault_dims_none(struct gguf_writer *w)
{
    gw_tensor(w, "x", 0, vec8, GW_F32, 32);
}

static void fault_dims_five(struct gguf_writer *w)
{
    gw_tensor(w, "x", 5, (uint64_t[]){8, 1, 1, 1, 1}, GW_F32, 32);
}

static void fault_dims_many(struct gguf_writer *w)
{
    uint64_t d[4] = {8, 1, 1, 1};
    gw_tensor(w, "x", 1, d, GW_F32, 32);
    memcpy(w->infos.data + 8 + 1, &(uint32_t){UINT32_MAX}, 4);
}

static void fault_dim_zero(struct gguf_writer *w)
{
    gw_tensor(w, "x", 2, (uint64_t[]){8, 0}, GW_F32, 32);
}

static void fault_dims_three(struct gguf_writer *w)
{
    gw_tensor(w, "x", 3, (uint64_t[]){2, 2, 2}, GW_F32, 32);
}

static void fault_dims_four(struct gguf_writer *w)
{
    gw_tensor(w, "x", 4, (uint64_t[]){2, 2, 1, 2}, GW_F32, 32);
}

static void fault_block(struct gguf_writer *w)
{
    gw_tensor(w, "x", 2, (uint64_t[]){48, 2}, GW_Q8_0, 102);
}

static void fault_type_q5k(struct gguf_writer *w)
{
    gw_tensor(w, "x", 2, (uint64_t[]){256, 1}, GW_Q5_K, 176);
}

static void fault_type_removed(struct gguf_writer *w)
{
    gw_tensor(w, "x", 1, vec8, 4, 32);
}

static void fault_type_unknown(struct gguf_writer *w)
{
    gw_tensor(w, "x", 1, vec8, 1000, 32);
}

static void fault_row_overflow(struct gguf_writer *w)
{
    gw_tensor(w, "x", 1, (uint64_t[]){(1ull << 62) + 8}, GW_F32, 32); /* wraps to 32 bytes */
}

static void fault_size_overflow(struct gguf_writer *w)
{
    gw_tensor(w, "x", 2, (uint64_t[]){8, (1ull << 59) + 1}, GW_F32, 32);
}

static void fault_size_lies(struct gguf_writer *w)
{
    gw_tensor(w, "x", 2, (uint64_t[]){8, 1ull << 50}, GW_F32, 32);
}

static void fault_too_short(struct gguf_writer *w)
{
    gw_tensor(w, "x", 1, vec8, GW_F32, 31);
}

static void fault_offset_odd(struct gguf_writer *w)
{
    gw_tensor(w, "a", 1, vec8, GW_F32, 96);
    gw_info(w, "x", 1, vec8, GW_F32, 40);
}

static void fault_offset_far(struct gguf_writer *w)
{
    gw_tensor(w, "a", 1, vec8, GW_F32, 32);
    gw_info(w, "x", 1, vec8, GW_F32, 64);
}

static void fault_offset_wraps(struct gguf_writer *w)
{
    gw_tensor(w, "a", 1, vec8, GW_F32, 32);
    gw_info(w, "x", 1, vec8, GW_F32, UINT64_MAX - 31);
}

static void fault_overlap_whole(struct gguf_writer *w)
{
    gw_tensor(w, "a", 1, vec8, GW_F32, 32);
    gw_info(w, "x", 1, vec8, GW_F32, 0);
}

static void fault_overlap_part(struct gguf_writer *w)
{
    gw_info(w, "x", 2, (uint64_t[]){8, 2}, GW_F32, 32);
    gw_tensor(w, "a", 1, (uint64_t[]){9}, GW_F32, 96); /* its last element is x's first */
}

static void fault_count_kvs(struct gguf_writer *w)
{
    gw_u32(w, "k", 1);
    w->n_kvs = 1ull << 60;
}

static void fault_count_tensors(struct gguf_writer *w)
{
    gw_tensor(w, "x", 1, vec8, GW_F32, 32);
    w->n_tensors = 1ull << 60;
}

static void fault_count_wraps(struct gguf_writer *w)
{
    w->n_kvs = UINT64_MAX;
}

static void fault_count_one_more(struct gguf_writer *w)
{
    gw_str(w, "k", "a string that is long enough for another key");
    w->n_kvs++;
}

static void fault_count_many(struct gguf_writer *w)
{
    gw_array(w, "k", GGUF_U8, 14 * 65537);
    BUG_ON(!buf_reserve(&w->kvs, 14 * 65537));
    memset(w->kvs.data + w->kvs.len, 0, 14 * 65537);
    w->kvs.len += 14 * 65537;
    w->n_kvs = 65537;
}

static const struct fault {
    void (*make)(struct gguf_writer *w);
    int code; /* 0: opens */
    const char *msg;
} faults[] = {
    {fault_nothing, 0, ""},
    {fault_key_empty, LLMD_EPARSE, "key 1 of 1: its name has 0 bytes"},
    {fault_key_control, LLMD_EPARSE, "key 1 of 1: its name holds byte 0x0a"},
    {fault_key_space, LLMD_EPARSE, "key 1 of 1: its name holds byte 0x20"},
    {fault_key_latin, LLMD_EPARSE, "key 1 of 1: its name holds byte 0xc3"},
    {fault_key_long, LLMD_EPARSE, "key 1 of 1: its name has 65536 bytes, not 1 to 65535"},
    {fault_key_lies, LLMD_EPARSE, "key 1 of 1: claims a string of 18446744073709551612 bytes"},
    {fault_key_twice, LLMD_EPARSE, "key 'twin': appears twice"},
    {fault_type, LLMD_EPARSE, "key 'k': unknown value type 13"},
    {fault_bool, LLMD_EPARSE, "key 'k': a boolean holds 2"},
    {fault_bools, LLMD_EPARSE, "key 'k': a boolean holds 2"},
    {fault_string_lies, LLMD_EPARSE, "key 'k': claims a string of 1152921504606846976 bytes"},
    {fault_array_type, LLMD_EPARSE, "key 'k': unknown value type 99"},
    {fault_array_lies_u8, LLMD_EPARSE, "key 'k': claims an array of 1152921504606846976"},
    {fault_array_lies_u64, LLMD_EPARSE, "key 'k': claims an array of 2305843009213693953"},
    {fault_array_lies_str, LLMD_EPARSE, "key 'k': claims an array of 1152921504606846976"},
    {fault_array_lies_nested, LLMD_EPARSE, "key 'k': claims an array of 18446744073709551615"},
    {fault_array_element, LLMD_EPARSE, "key 'k': claims a string of 1099511627776 bytes"},
    {fault_nesting, LLMD_EPARSE, "key 'k': arrays are nested deeper than 8 levels"},
    {fault_alignment_zero, LLMD_EPARSE, "key 'general.alignment': not a power of two from 8"},
    {fault_alignment_odd, LLMD_EPARSE, "key 'general.alignment': not a power of two from 8"},
    {fault_alignment_small, LLMD_EPARSE, "key 'general.alignment': not a power of two from 8"},
    {fault_alignment_huge, LLMD_EPARSE, "key 'general.alignment': not a power of two from 8"},
    {fault_alignment_type, LLMD_EPARSE, "key 'general.alignment': not a power of two from 8"},
    {fault_name_empty, LLMD_EPARSE, "tensor 1 of 1: its name has 0 bytes"},
    {fault_name_long, LLMD_EPARSE, "tensor 1 of 1: its name has 65 bytes, not 1 to 64"},
    {fault_name_control, LLMD_EPARSE, "tensor 1 of 1: its name holds byte 0x1b"},
    {fault_name_twice, LLMD_EPARSE, "tensor 'twin': appears twice"},
    {fault_dims_none, LLMD_EPARSE, "tensor 'x': has 0 dimensions, not 1 to 4"},
    {fault_dims_five, LLMD_EPARSE, "tensor 'x': has 5 dimensions, not 1 to 4"},
    {fault_dims_many, LLMD_EPARSE, "tensor 'x': has 4294967295 dimensions, not 1 to 4"},
    {fault_dim_zero, LLMD_EPARSE, "tensor 'x': dimension 2 is 0"},
    {fault_dims_three, LLMD_EUNSUPPORTED, "tensor 'x': its shape is 2 x 2 x 2 x 1"},
    {fault_dims_four, LLMD_EUNSUPPORTED, "tensor 'x': its shape is 2 x 2 x 1 x 2"},
    {fault_block, LLMD_EPARSE, "tensor 'x': has rows of 48 elements, no multiple of the 32"},
    {fault_type_q5k, LLMD_EUNSUPPORTED, "tensor 'x': its type is Q5_K, which is not read (F32, "},
    {fault_type_removed, LLMD_EUNSUPPORTED, "tensor 'x': its type is number 4, which is not known"},
    {fault_type_unknown, LLMD_EUNSUPPORTED, "tensor 'x': its type is number 1000"},
    {fault_row_overflow, LLMD_EPARSE, "tensor 'x': its size (4611686018427387912 x 1) overflows"},
    {fault_size_overflow, LLMD_EPARSE, "tensor 'x': its size (8 x 576460752303423489) overflows"},
    {fault_size_lies, LLMD_EPARSE, "tensor 'x': 36028797018963968 bytes at offset 0 end behind"},
    {fault_too_short, LLMD_EPARSE, "tensor 'x': 32 bytes at offset 0 end behind the file's 31"},
    {fault_offset_odd, LLMD_EPARSE, "tensor 'x': its offset 40 is no multiple of the alignment 32"},
    {fault_offset_far, LLMD_EPARSE, "tensor 'x': 32 bytes at offset 64 end behind the file's 32"},
    {fault_offset_wraps, LLMD_EPARSE, "tensor 'x': 32 bytes at offset 18446744073709551584 end"},
    {fault_overlap_whole, LLMD_EPARSE, "its data overlaps that of '"},
    {fault_overlap_part, LLMD_EPARSE, "tensor 'x': its data overlaps that of 'a'"},
    {fault_count_kvs, LLMD_EPARSE, "claims 1152921504606846976 keys, more than its 41 bytes"},
    {fault_count_tensors, LLMD_EPARSE,
     "claims 1152921504606846976 tensors, more than its 96 bytes"},
    {fault_count_wraps, LLMD_EPARSE, "claims 18446744073709551615 keys"},
    {fault_count_one_more, LLMD_EPARSE, "key 2 of 2: the file ends inside it (at byte 89)"},
    {fault_count_many, LLMD_EPARSE, "claims 65537 keys; at most 65536 are read"},
};

static void test_faults(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        struct gguf_writer w = {0};
        struct buf b = {0};
        struct gguf *g = NULL;
        struct err e = {0};
        faults[i].make(&w);
        gw_finish(&w, &b);
        unsigned char *p = gw_copy(b.data, b.len);
        int rc = gguf_open_memory(p, b.len, "mem", &g, &e);
        if (rc != -faults[i].code || !strstr(e.msg, faults[i].msg))
            print_error("case %zu: rc %d, '%s', expected '%s'\n", i, rc, e.msg, faults[i].msg);
        assert_int_equal(rc, -faults[i].code);
        assert_non_null(strstr(e.msg, faults[i].msg));
        if (rc) {
            assert_null(g); /* outputs untouched */
            assert_one_line(&e);
        }
        if (!rc)
            gguf_close(g);
        assert_int_equal(gguf_open_memory(p, b.len, "mem", &g, NULL), rc); /* err is optional */
        if (!rc)
            gguf_close(g);
        free(p);
        buf_fini(&b);
        gw_fini(&w);
    }
}

/* --- faults in the bytes --- */

static void expect_bytes(const char *bytes, size_t n, int code, const char *msg)
{
    struct gguf *g;
    struct err e = {0};
    unsigned char *p = gw_copy(bytes, n);
    assert_int_equal(gguf_open_memory(p, n, "mem", &g, &e), -code);
    if (!strstr(e.msg, msg))
        print_error("'%s', expected '%s'\n", e.msg, msg);
    assert_non_null(strstr(e.msg, msg));
    assert_one_line(&e);
    free(p);
}

#define BYTES(s) s, sizeof(s) - 1

static void test_other_files(void **state)
{
    (void)state;
    expect_bytes(BYTES(""), LLMD_EPARSE, "it is empty");
    expect_bytes(BYTES("GGU"), LLMD_EPARSE, "does not begin with \"GGUF\"");
    expect_bytes(BYTES("GGUF"), LLMD_EPARSE, "header: the file ends inside it (at byte 4)");
    expect_bytes(BYTES("GGUF\3\0\0\0"), LLMD_EPARSE, "header: the file ends inside it");
    expect_bytes(BYTES("GGUF\2\0\0\0"), LLMD_EUNSUPPORTED, "GGUF version 2; only version 3");
    expect_bytes(BYTES("GGUF\4\0\0\0"), LLMD_EUNSUPPORTED, "GGUF version 4; only version 3");
    expect_bytes(BYTES("GGUF\0\0\0\3"), LLMD_EUNSUPPORTED, "big-endian");
    expect_bytes(BYTES("version https://git-lfs.github.com/spec/v1\n"), LLMD_EPARSE,
                 "git lfs pull");
    expect_bytes(BYTES("PK\3\4\n\0"), LLMD_EPARSE, "ZIP");
    expect_bytes(BYTES("<!doctype html>"), LLMD_EPARSE, "web page");
    expect_bytes(BYTES("\x10\0\0\0\0\0\0\0{\"a\":1}"), LLMD_EPARSE, "safetensors");
    expect_bytes(BYTES("lmgg\0\0\0\0"), LLMD_EPARSE, "older GGML");
}

/* Whatever byte the file ends at, it is refused. */
static void test_truncated(void **state)
{
    struct buf b = {0};
    struct gguf *g;
    (void)state;
    make_sample(&b);
    for (size_t n = 0; n < b.len; n++) {
        struct err e = {0};
        unsigned char *p = gw_copy(b.data, n);
        assert_int_equal(gguf_open_memory(p, n, "mem", &g, &e), -LLMD_EPARSE);
        assert_one_line(&e);
        free(p);
    }
    assert_int_equal(gguf_open_memory(b.data, b.len, "mem", &g, NULL), 0);
    gguf_close(g);
    buf_fini(&b);
}

/* Flipped bits give a file that opens and can be read to its end, or one line. */
static void test_flipped(void **state)
{
    struct buf b = {0};
    uint64_t seed = 88172645463325252u;
    unsigned opened = 0, refused = 0;
    (void)state;
    make_sample(&b);
    size_t header = b.len - SAMPLE_DATA_BYTES; /* flips in tensor data prove nothing */
    unsigned char *p = gw_copy(b.data, b.len);
    for (int round = 0; round < 20000; round++) {
        struct gguf *g;
        struct err e = {0};
        size_t at[4];
        unsigned bit[4], n = 1 + (unsigned)round % 4;
        for (unsigned i = 0; i < n; i++) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            at[i] = (size_t)(seed >> 8) % header;
            bit[i] = seed & 7;
            p[at[i]] ^= (unsigned char)(1u << bit[i]);
        }
        if (gguf_open_memory(p, b.len, "mem", &g, &e) == 0) {
            (void)touch_all(g);
            gguf_close(g);
            opened++;
        } else {
            assert_one_line(&e);
            refused++;
        }
        for (unsigned i = 0; i < n; i++)
            p[at[i]] ^= (unsigned char)(1u << bit[i]);
    }
    assert_memory_equal(p, b.data, b.len);
    assert_true(opened > 500 && refused > 5000); /* the flips reach both outcomes */
    free(p);
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_other_files),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_flipped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
