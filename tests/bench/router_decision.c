/* router_decision.c - how long the router's critical section takes.
 *
 *     router_decision [N_BLOCKS [N_TOKENS]]       (default 100000 blocks, 2048 tokens, 8 workers)
 *
 * The map holds N_BLOCKS blocks of prompts that share prefixes; each decision looks one prompt up
 * for all workers, prices them, chooses and is recorded, in the request and among the last decisions:
 * what router_submit does under its lock. Hashing the prompt, which is done outside, is timed beside
 * it. Before it the pieces are timed in which the entries of a worker that died leave such a map.
 * Last line: decision_us p50=R p99=R */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/request/request.h"
#include "core/router/history.h"
#include "core/router/prefix_map.h"
#include "core/router/record.h"

enum { N_WORKERS = 8, N_RUNS = 20000, MAX_PIECES = 10000, SLOTS_AT_ONCE = 8192 };

static uint32_t seed = 1;

static uint32_t rnd(uint32_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(seed >> 8) * n >> 24);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Family f's prompt: the first half is the family's, the rest the member's. */
static void make_prompt(uint32_t f, uint32_t member, uint32_t n, uint32_t *out)
{
    for (uint32_t i = 0; i < n; i++)
        out[i] = i < n / 2 ? f * 7919 + i : member * 104729 + i;
}

/* What router_reap does for a dead worker, each piece under the lock. */
static void time_forget(uint32_t n_blocks)
{
    static uint64_t piece_ns[MAX_PIECES];
    struct prefix_map *map;
    uint32_t n = 0;
    if (prefix_map_new(n_blocks * N_WORKERS, &map) != 0)
        exit(1);
    for (uint32_t i = 0; i < n_blocks * N_WORKERS; i++)
        prefix_map_add(map, i % N_WORKERS, (struct prefix_hash){i * 0x9e3779b97f4a7c15u, i});
    prefix_map_forget(map, 0);
    for (bool done = false; !done && n < MAX_PIECES; n++) {
        const uint64_t t0 = now_ns();
        done = prefix_map_sweep(map, SLOTS_AT_ONCE);
        piece_ns[n] = now_ns() - t0;
    }
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += piece_ns[i];
    qsort(piece_ns, n, sizeof(*piece_ns), by_value);
    printf("forget one of %u workers of %u blocks: %.1f ms in %u pieces, p50=%.1f us p99=%.1f us\n",
           (unsigned)N_WORKERS, n_blocks, (double)sum / 1e6, n, (double)piece_ns[n / 2] / 1e3,
           (double)piece_ns[n * 99 / 100] / 1e3);
    prefix_map_free(map);
}

int main(int argc, char **argv)
{
    const uint32_t n_blocks = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 100000;
    const uint32_t n_tokens = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 2048;
    const uint32_t n_names = n_tokens / PREFIX_BLOCK_TOKENS;
    uint32_t *prompt = calloc(n_tokens, sizeof(*prompt));
    struct prefix_hash *names = calloc(n_names, sizeof(*names));
    static uint64_t decision_ns[N_RUNS], hash_ns[N_RUNS];
    struct prefix_match match[PREFIX_MAP_WORKERS];
    struct decision *d = calloc(1, sizeof(*d) + N_WORKERS * sizeof(d->candidates[0]));
    struct prefix_map *map;
    struct history last;
    struct request *req;
    time_forget(n_blocks);
    if (!prompt || !names || !d || prefix_map_new(n_blocks * 2, &map) != 0 ||
        history_init(&last, 8192, 1 << 20) != 0 || request_new(&req) != 0)
        return 1;
    for (uint32_t family = 0; prefix_map_n_entries(map) < n_blocks; family++) {
        make_prompt(family, family, n_tokens, prompt);
        prefix_hash_prompt(prompt, n_tokens, 0, names);
        for (uint32_t i = 0; i < n_names; i++)
            prefix_map_add(map, (family + i / 64) % N_WORKERS, names[i]);
    }
    const uint32_t n_families = n_blocks / n_names;
    *d = (struct decision){.policy = ROUTE_PREFIX, .n_prompt_tokens = n_tokens, .alpha = 0.1};
    d->delta = 250;
    d->n_candidates = N_WORKERS;
    uint64_t chosen = 0;
    for (uint32_t run = 0; run < N_RUNS; run++) {
        const uint32_t family = rnd(n_families);
        make_prompt(family, rnd(2) ? family : run, n_tokens, prompt);
        struct route_record *rec = record_begin(req, N_WORKERS);
        const uint64_t t0 = now_ns();
        prefix_hash_prompt(prompt, n_tokens, 0, names);
        const uint64_t t1 = now_ns();
        memset(match, 0, sizeof(match));
        prefix_map_match(map, names, n_names, (1u << N_WORKERS) - 1, match);
        for (uint32_t w = 0; w < N_WORKERS; w++)
            d->candidates[w] = (struct candidate){
                .worker = w,
                .n_owed_tokens = rnd(4096),
                .n_cached_tokens = match[w].n_known * PREFIX_BLOCK_TOKENS,
                .n_decoding = rnd(64),
            };
        decision_make(d);
        record_decision(rec, req, d);
        memcpy(history_add(&last, decision_bytes(N_WORKERS)), d, decision_bytes(N_WORKERS));
        const uint64_t t2 = now_ns();
        hash_ns[run] = t1 - t0;
        decision_ns[run] = t2 - t1;
        chosen += (uint64_t)d->chosen;
    }
    qsort(decision_ns, N_RUNS, sizeof(*decision_ns), by_value);
    qsort(hash_ns, N_RUNS, sizeof(*hash_ns), by_value);
    printf("%u workers, %u blocks, prompts of %u tokens, map of %.1f MB (sum of choices %llu)\n",
           (unsigned)N_WORKERS, prefix_map_n_entries(map), n_tokens,
           (double)prefix_map_bytes(map) / 1e6, (unsigned long long)chosen);
    printf("hash_us p50=%.1f p99=%.1f\n", (double)hash_ns[N_RUNS / 2] / 1e3,
           (double)hash_ns[N_RUNS * 99 / 100] / 1e3);
    printf("decision_us p50=%.1f p99=%.1f\n", (double)decision_ns[N_RUNS / 2] / 1e3,
           (double)decision_ns[N_RUNS * 99 / 100] / 1e3);
    request_unref(req);
    history_fini(&last);
    prefix_map_free(map);
    free(prompt);
    free(names);
    free(d);
    return 0;
}
