/* fuzz_gguf.c - any bytes as a GGUF file: opened, read to the end, made a model. Whatever is
 * refused says so in one line. */
#include <stdlib.h>
#include <string.h>

#include "core/model/gguf.h"
#include "core/model/model_int.h"
#include "core/util/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static volatile unsigned char sink;

static void check_message(const struct err *e)
{
    size_t n = strlen(e->msg);
    if (e->code == 0 || n == 0 || strchr(e->msg, '\n') || strncmp(e->msg, "fuzz: ", 6) != 0)
        abort();
}

static void read_bytes(const void *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sink ^= ((const unsigned char *)p)[i];
}

static void read_array(const struct gguf *g, const char *key)
{
    struct gguf_array a;
    for (int t = GGUF_U8; t <= GGUF_F64; t++) {
        if (gguf_get_array(g, key, (enum gguf_type)t, &a, NULL) != 0)
            continue;
        if (t != GGUF_STRING) {
            read_bytes(a.data, (size_t)(a.n < 64 ? a.n : 64) * (t == GGUF_ARRAY ? 12 : 1));
            continue;
        }
        struct gguf_str *s = calloc((size_t)a.n + 1, sizeof(*s));
        if (!s)
            abort();
        gguf_array_strings(&a, s);
        for (uint64_t i = 0; i < a.n; i++)
            read_bytes(s[i].s, s[i].n);
        free(s);
    }
}

static void read_key(const struct gguf *g, struct gguf_str name)
{
    char *key = calloc(1, name.n + 1);
    struct gguf_str s;
    uint32_t u;
    float f;
    bool b;
    if (!key)
        abort();
    memcpy(key, name.s, name.n);
    if (!gguf_has(g, key))
        abort();
    (void)!gguf_get_u32(g, key, &u, NULL);
    (void)!gguf_get_f32(g, key, &f, NULL);
    (void)!gguf_get_bool(g, key, &b, NULL);
    if (gguf_get_str(g, key, &s, NULL) == 0)
        read_bytes(s.s, s.n);
    read_array(g, key);
    free(key);
}

static void read_tensor(const struct gguf *g, const struct host_tensor *t)
{
    size_t row_bytes;
    if (gguf_tensor(g, t->name) != t || !dtype_row_bytes(t->dtype, t->cols, &row_bytes))
        abort();
    read_bytes(t->data, row_bytes * t->rows);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct err e = {0};
    struct gguf *g;
    struct model *m;
    if (gguf_open_memory(data, n, "fuzz", &g, &e) != 0) {
        check_message(&e);
        return 0;
    }
    for (uint32_t i = 0; i < gguf_n_keys(g); i++)
        read_key(g, gguf_key_at(g, i));
    for (uint32_t i = 0; i < gguf_n_tensors(g); i++)
        read_tensor(g, gguf_tensor_at(g, i));
    if (model_from_gguf(g, &m, &e) == 0) {
        if (!utf8_valid(m->display_name, strlen(m->display_name)))
            abort();
        model_free(m);
    } else {
        check_message(&e);
        gguf_close(g);
    }
    return 0;
}
