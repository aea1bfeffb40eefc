/* llama_fixture.h - one tiny model for all tests of a program: group set-up and tear-down. */
#pragma once
#include "tests/unit/worker_fixture.h"

static struct sample_llama llama;

static inline int open_llama(void **state)
{
    (void)state;
    sample_open(&llama);
    return 0;
}

static inline int close_llama(void **state)
{
    (void)state;
    sample_close(&llama);
    return 0;
}
