/* fault.h - faults on demand, for tests and drills.
 *
 * Only where LLMD_FAULTS is defined (make FAULTS=1, and tests that include this file). Elsewhere the
 * points below are constants, and nothing of this folder's fault*.c is in the program.
 *
 *   in a test       fault_add(&(struct fault){.point = FAULT_STEP_STALLS, .at = 40, .us = 3000000});
 *   in the program  LLMD_FAULTS="step-stalls worker=1 at=40 ms=3000; allocation at=100" llmd serve
 *
 * Steps and load reports are counted from 1 by the worker's thread, from its start on: the two steps
 * of the warm-up count, and a worker that is started again begins anew. Allocations are those of our
 * own code (the linker wraps malloc and its kin), in all threads together.
 *
 * Thread  any. What stalls sleeps until its time is over or fault_clear() is called. */
#pragma once
#include "core/util/base.h"
#include "core/util/err.h"

enum fault_point {
    FAULT_STEP_FAILS,   /* the step ends with a device error: the worker dies */
    FAULT_STEP_POISONS, /* as that, and only a new process heals the device (EPOISONED) */
    FAULT_STEP_STALLS,  /* the step takes us more */
    FAULT_STEP_SLOW,    /* so does each from it on */
    FAULT_LOAD_STALLS,  /* the report of how far the weights are takes us more */
    FAULT_ALLOCATION,   /* the allocation fails */
};

enum { FAULT_ANY_WORKER = UINT32_MAX };

struct fault {
    enum fault_point point;
    uint32_t worker; /* index, or FAULT_ANY_WORKER */
    uint64_t at;     /* which one, from 1 */
    uint64_t us;     /* of what stalls or is slow; UINT64_MAX: for ever */
    uint32_t times;  /* that it happens in all; 0: each time */
};

#ifdef LLMD_FAULTS
void fault_add(const struct fault *f); /* a few at a time; of allocations the last one counts */
void fault_clear(void);                /* all of them; what stalls goes on */
/* Adds faults given as text: "POINT NAME=NUMBER...; ..." with the names worker, at, ms, times. */
MUST_CHECK int fault_parse(const char *text, struct err *e);
uint64_t fault_n_allocations(void); /* since the last FAULT_ALLOCATION was added */

/* The points. */
MUST_CHECK int fault_step(uint32_t worker, struct err *e);
void fault_load(uint32_t worker);
bool fault_allocation(void);
#else
static inline int fault_step(uint32_t worker, struct err *e)
{
    (void)worker;
    (void)e;
    return 0;
}

static inline void fault_load(uint32_t worker)
{
    (void)worker;
}
#endif
