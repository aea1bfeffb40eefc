/* cpu_team_int.h - a fixed team of threads that run the chunks of one job at a time.
 *
 * The owner (the worker's thread) publishes a job of n chunks and takes part in it; helpers claim
 * chunks until none is left. run() returns when every chunk is done: it never waits for a helper
 * that has claimed nothing, so a helper that the kernel has not scheduled costs nothing.
 *
 *   ticket  generation of the job (high 32 bits) | chunks not yet claimed (low 32 bits)
 *
 * Invariants  I1: the job's fields change only while its unclaimed count and its unfinished count
 *                 are both zero; a thread reads them only between a claim and its completion.
 *             I2: who publishes stores the ticket, then looks for sleepers; who goes to sleep
 *                 counts itself as a sleeper, then looks at the ticket: one sees the other.
 * Thread      run() and wake() by the owner only. Chunk functions run on any thread of the team.
 * Waiting     helpers spin (pause), then yield, then sleep once no job came for IDLE_SLEEP_US.
 * Memory      nothing is allocated after _new. */
#pragma once
#include "core/util/base.h"
#include "core/util/err.h"

struct cpu_team;

enum { CPU_TEAM_MAX = 256 };

/* thread < the team's size: which scratch to use; the owner is 0. */
typedef void cpu_chunk_fn(void *ctx, uint32_t chunk, uint32_t thread);

MUST_CHECK int cpu_team_new(uint32_t n_threads, struct cpu_team **out, struct err *e);
void cpu_team_free(struct cpu_team *t); /* NULL is fine */
uint32_t cpu_team_size(const struct cpu_team *t);
/* Calls fn for each chunk 0..n_chunks-1, in no particular order; waits for all. */
void cpu_team_run(struct cpu_team *t, uint32_t n_chunks, cpu_chunk_fn *fn, void *ctx);
/* A job will come soon: wakes sleeping helpers. */
void cpu_team_wake(struct cpu_team *t);
/* Processors that this process may use, one per physical core. */
uint32_t cpu_physical_cores(void);
