/* replay.h - a request log as a workload: when requests came, how long they were, what they shared.
 *
 * Read are JSON lines as `llmd logs --all --json` and the access log have them, or CSV with a header line
 * (`llmd logs --all --csv`). Of each row:
 *
 *   time_us, or time (RFC 3339, or seconds)    arrival
 *   prompt_tokens, output_tokens               lengths; a row without a prompt is passed over
 *   prefix                                     names of the prompt's first 16, 32, 64, ... tokens
 *   cached_tokens, session                     how far it really went; who is likely to share
 *
 * Prompts with the same name begin with the same words again; without names, cached_tokens shares
 * with the last prompt of the session, else with the last one that is long enough. What a prompt shared
 * with an earlier answer is not replayed: prompts share with prompts, so conversations hit less by
 * about the length of their answers.
 * Memory  owned; 32 bytes per row. Read-only once loaded.
 * Errors  EIO, ENOTFOUND, EPARSE with the line, ENOMEM. */
#pragma once
#include "core/util/base.h"
#include "core/util/err.h"

enum { REPLAY_MAX_DEPTH = 256 };
#define REPLAY_NO_ROW UINT32_MAX

struct replay_row {
    uint64_t at_us; /* since the first row, as fast as wanted */
    uint32_t prompt_tokens, output_tokens;
    uint32_t cached_tokens;         /* of the log */
    uint32_t parent, shared_tokens; /* an earlier row whose prompt begins alike, and how long */
};

struct replay {
    struct replay_row *rows; /* [n_rows] by arrival */
    uint32_t n_rows;
    uint32_t n_left_out; /* rows without a prompt */
    uint64_t prompt_tokens, cached_tokens;
};

/* speed: 2 replays in half the time; > 0. */
MUST_CHECK int replay_load(struct replay *r, const char *path, double speed, struct err *e);
void replay_free(struct replay *r); /* a zeroed one is fine */
