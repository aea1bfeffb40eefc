/* gguf_writer.h - makes GGUF files in memory for tests, well-formed and otherwise.
 *
 *     struct gguf_writer w = {0};
 *     gw_str(&w, "general.architecture", "llama");
 *     gw_tensor(&w, "x", 1, (uint64_t[]){8}, GW_F32, 32);
 *     gw_finish(&w, &file);    appends the file to a buf
 *     gw_fini(&w);
 *
 * Tensor data is zero unless the test writes to w.data. */
#pragma once
#include <stdlib.h>
#include <string.h>

#include "core/model/gguf.h"
#include "core/util/base.h"
#include "core/util/buf.h"

/* The format's numbers of element types. */
enum { GW_F32 = 0, GW_F16 = 1, GW_Q4_0 = 2, GW_Q4_1 = 3, GW_Q5_K = 13, GW_Q8_0 = 8, GW_BF16 = 30 };

struct gguf_writer {
    struct buf kvs, infos, data;
    uint64_t n_kvs, n_tensors;
    uint32_t alignment; /* 0: 32, and no key says so */
};

static inline void gw_fini(struct gguf_writer *w)
{
    buf_fini(&w->kvs);
    buf_fini(&w->infos);
    buf_fini(&w->data);
}

static inline void gw_put_u32(struct buf *b, uint32_t v)
{
    buf_add(b, &v, sizeof(v));
}

static inline void gw_put_u64(struct buf *b, uint64_t v)
{
    buf_add(b, &v, sizeof(v));
}

static inline void gw_put_str(struct buf *b, const char *s)
{
    gw_put_u64(b, strlen(s));
    buf_addstr(b, s);
}

/* Begins a metadata entry; the caller appends the value to w->kvs. */
static inline void gw_key(struct gguf_writer *w, const char *key, uint32_t type)
{
    w->n_kvs++;
    gw_put_str(&w->kvs, key);
    gw_put_u32(&w->kvs, type);
}

static inline void gw_raw(struct gguf_writer *w, const char *key, uint32_t type, const void *value,
                          size_t n)
{
    gw_key(w, key, type);
    buf_add(&w->kvs, value, n);
}

static inline void gw_u32(struct gguf_writer *w, const char *key, uint32_t v)
{
    gw_raw(w, key, GGUF_U32, &v, sizeof(v));
}

static inline void gw_f32(struct gguf_writer *w, const char *key, float v)
{
    gw_raw(w, key, GGUF_F32, &v, sizeof(v));
}

static inline void gw_bool(struct gguf_writer *w, const char *key, uint8_t v)
{
    gw_raw(w, key, GGUF_BOOL, &v, sizeof(v));
}

static inline void gw_str(struct gguf_writer *w, const char *key, const char *v)
{
    gw_key(w, key, GGUF_STRING);
    gw_put_str(&w->kvs, v);
}

/* Begins an array; the caller appends n elements to w->kvs. */
static inline void gw_array(struct gguf_writer *w, const char *key, uint32_t type, uint64_t n)
{
    gw_key(w, key, GGUF_ARRAY);
    gw_put_u32(&w->kvs, type);
    gw_put_u64(&w->kvs, n);
}

static inline void gw_strings(struct gguf_writer *w, const char *key, const char *const *v,
                              size_t n)
{
    gw_array(w, key, GGUF_STRING, n);
    for (size_t i = 0; i < n; i++)
        gw_put_str(&w->kvs, v[i]);
}

/* A tensor's entry in the header as the test wants it. */
static inline void gw_info(struct gguf_writer *w, const char *name, uint32_t n_dims,
                           const uint64_t *dims, uint32_t type, uint64_t offset)
{
    w->n_tensors++;
    gw_put_str(&w->infos, name);
    gw_put_u32(&w->infos, n_dims);
    for (uint32_t i = 0; i < n_dims; i++)
        gw_put_u64(&w->infos, dims[i]);
    gw_put_u32(&w->infos, type);
    gw_put_u64(&w->infos, offset);
}

static inline void gw_pad(struct buf *b, size_t alignment)
{
    while (b->len % alignment != 0)
        buf_addch(b, '\0');
}

/* Entry and n_bytes of zeros, at the next aligned offset. */
static inline void gw_tensor(struct gguf_writer *w, const char *name, uint32_t n_dims,
                             const uint64_t *dims, uint32_t type, size_t n_bytes)
{
    gw_pad(&w->data, w->alignment ? w->alignment : 32);
    gw_info(w, name, n_dims, dims, type, w->data.len);
    BUG_ON(!buf_reserve(&w->data, n_bytes));
    memset(w->data.data + w->data.len, 0, n_bytes);
    w->data.len += n_bytes;
}

static inline void gw_finish(struct gguf_writer *w, struct buf *out)
{
    buf_addstr(out, "GGUF");
    gw_put_u32(out, 3);
    gw_put_u64(out, w->n_tensors);
    gw_put_u64(out, w->n_kvs);
    buf_add(out, w->kvs.data, w->kvs.len);
    buf_add(out, w->infos.data, w->infos.len);
    if (w->n_tensors)
        gw_pad(out, w->alignment ? w->alignment : 32);
    buf_add(out, w->data.data, w->data.len);
    BUG_ON(out->failed);
}

/* Exactly n bytes on the heap, so that a sanitizer sees every read behind them. */
static inline unsigned char *gw_copy(const void *data, size_t n)
{
    unsigned char *p = malloc(n ? n : 1);
    BUG_ON(!p);
    if (n)
        memcpy(p, data, n);
    return p;
}
