/* cpu_team_int.h - a fixed team of threads that run the chunks of one job at a time.
 *
 * The owner (the worker's thread) publishes a job of n chunks and takes part in it. Each member
 * has its share of the chunks, a range in a word of its own:
 *
 *   range   generation of the job (high 32 bits) | next (16) | end (16)
 *
 * It takes chunks from the front of its own share; when that is empty, from the back of others'.
 * run() returns when every chunk is done: it never waits for a helper that has claimed nothing,
 * so a helper that the kernel has not scheduled costs no more than its share. A member touches
 * another's cache lines only to steal, so a job costs one line to each helper and one back.
 *
 * Invariants  I1: a member's job changes only while all chunks published before are done; a
 *                 thread reads it only between a claim from that member's range and the
 *                 completion of the chunk.
 *             I2: who publishes stores the ranges, then looks for sleepers; who goes to sleep
 *                 counts itself as a sleeper, then looks at its range: one sees the other.
 *             I3: published == sum of all members' done  <=>  no job is running.
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
