/* gpu_case.h - what the tests of the CUDA kernels share: a stand-in device per test, and arrays that
 * go there and back. Values are rounded to elements before they are used on either side. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/half.h"
#include "gpu/kernels.h"
#include "tests/gpu/host/control.h"

static struct gpu *gpu;
static struct gpu_stream *stream;

static uint64_t case_random_state = 1;

/* Uniform in -1..1. */
static inline float random_float(void)
{
    case_random_state = case_random_state * 6364136223846793005u + 1442695040888963407u;
    return (float)(case_random_state >> 40) / 8388608.0f - 1.0f;
}

static inline int open_device(void **state)
{
    (void)state;
    case_random_state = 1;
    stand_in_set_capability(90);
    stand_in_set_memory(1u << 30);
    stand_in_set_seed(1);
    assert_int_equal(gpu_open(0, &gpu, NULL), 0);
    assert_int_equal(gpu_stream_new(gpu, &stream, NULL), 0);
    return 0;
}

/* Every array of the test is freed: gpu_close() insists. */
static inline int close_device(void **state)
{
    (void)state;
    gpu_stream_free(stream);
    gpu_close(gpu);
    return 0;
}

static inline void wait_well(int rc)
{
    struct err e = {0};
    if (rc != 0 || gpu_stream_wait(stream, 10000000, &e) != 0)
        fail_msg("%s", e.code ? e.msg : "the launch failed");
}

static inline void *device_new(size_t bytes)
{
    void *p;
    assert_int_equal(gpu_alloc(gpu, bytes, &p, NULL), 0);
    return p;
}

static inline void *device_copy(const void *from, size_t bytes)
{
    void *p = device_new(bytes);
    wait_well(gpu_copy_in(stream, p, from, bytes));
    return p;
}

static inline void device_read(void *to, const void *from, size_t bytes)
{
    wait_well(gpu_copy_out(stream, to, from, bytes));
}

/* --- elements --- */

static inline float elem_round(enum gpu_flavour f, float x)
{
    return f == GPU_FLAVOUR_SM75 ? f32_from_f16(f16_from_f32(x)) : f32_from_bf16(bf16_from_f32(x));
}

/* The relative error that one rounding to an element makes at most. */
static inline double elem_error(enum gpu_flavour f)
{
    return f == GPU_FLAVOUR_SM75 ? 0x1p-11 : 0x1p-8;
}

/* Random numbers that are elements. */
static inline float *random_elems(enum gpu_flavour f, size_t n)
{
    float *x = malloc(n * sizeof(*x));
    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = elem_round(f, random_float());
    return x;
}

static inline uint16_t elem_bits(enum gpu_flavour f, float x)
{
    return f == GPU_FLAVOUR_SM75 ? f16_from_f32(x) : bf16_from_f32(x);
}

/* A matrix of elements on the device, padded with zeros to to_rows and to_cols. */
static inline void *device_elems(enum gpu_flavour f, const float *x, size_t rows, size_t cols,
                                 size_t to_rows, size_t to_cols)
{
    uint16_t *bits = calloc(to_rows * to_cols, sizeof(*bits));
    assert_non_null(bits);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            bits[r * to_cols + c] = elem_bits(f, x[r * cols + c]);
    void *p = device_copy(bits, to_rows * to_cols * sizeof(*bits));
    free(bits);
    return p;
}

static inline void read_elems(enum gpu_flavour f, float *to, const void *from, size_t n)
{
    uint16_t *bits = malloc(n * sizeof(*bits));
    assert_non_null(bits);
    device_read(bits, from, n * sizeof(*bits));
    for (size_t i = 0; i < n; i++)
        to[i] = f == GPU_FLAVOUR_SM75 ? f32_from_f16(bits[i]) : f32_from_bf16(bits[i]);
    free(bits);
}

static inline void assert_near(double got, double want, double bound, const char *what, size_t at)
{
    if (!(fabs(got - want) <= bound))
        fail_msg("%s, element %zu: %.8g, not %.8g (bound %.3g)", what, at, got, want, bound);
}
