/* bench.h - the options of `llmd bench`, checked, and the run that they describe. */
#pragma once
#include "cmd/args.h"
#include "core/bench/load.h"

enum { BENCH_MAX_LEVELS = 32 };

struct bench {
    /* The server. */
    struct buf url; /* base, without "/v1" */
    const char *model, *key, *key_file, *ca;
    bool insecure, completions;
    struct arg_list headers;

    /* The load. */
    uint32_t concurrency, burst, requests, warmup;
    double rate, duration_s, ramp_s, timeout_s;
    bool constant;
    uint32_t levels[BENCH_MAX_LEVELS], n_levels; /* of a sweep; 0: none */

    /* The requests; strings of it are filled in when the server is known. */
    struct workload_opts work;
    const char *dataset, *replay;
    double speed;
    struct buf extra; /* members for each body */

    /* The report. */
    struct slo slo;
    bool json, csv, quiet;
    const char *svg;
};

/* Runs and reports; returns the exit code. */
int bench_run(struct bench *b);
