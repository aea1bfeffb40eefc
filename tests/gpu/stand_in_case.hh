/* stand_in_case.hh - what the tests of the stand-in share: a device per test, arrays on it. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/flavour.cuh"
#include "tests/gpu/host/control.h"

/* --- one device per test --- */

static struct gpu *gpu;
static struct gpu_stream *stream;

static inline int open_device(void **state)
{
    (void)state;
    stand_in_set_capability(90);
    stand_in_set_memory(1 << 26);
    assert_int_equal(gpu_open(0, &gpu, NULL), 0);
    assert_int_equal(gpu_stream_new(gpu, &stream, NULL), 0);
    return 0;
}

static inline int close_device(void **state)
{
    (void)state;
    gpu_stream_free(stream);
    gpu_close(gpu);
    return 0;
}

template <class T> static inline T *device_array(size_t n)
{
    void *p;
    assert_int_equal(gpu_alloc(gpu, n * sizeof(T), &p, NULL), 0);
    return static_cast<T *>(p);
}

template <class T> static inline void upload(T *to, const T *from, size_t n)
{
    assert_int_equal(gpu_copy_in(stream, to, from, n * sizeof(T)), 0);
    assert_int_equal(gpu_stream_wait(stream, 1000000, NULL), 0);
}

template <class T> static inline void download(T *to, const T *from, size_t n)
{
    assert_int_equal(gpu_copy_out(stream, to, from, n * sizeof(T)), 0);
    assert_int_equal(gpu_stream_wait(stream, 1000000, NULL), 0);
}

static inline void wait_well(void)
{
    struct err e = {};
    if (gpu_stream_wait(stream, 1000000, &e) != 0)
        fail_msg("%s", e.msg);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_device, close_device)
