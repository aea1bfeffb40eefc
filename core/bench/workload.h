/* workload.h - what is asked for: the requests of a run, one after the other, and their bodies.
 *
 * Made up (lengths drawn, words by number), out of a dataset (dataset.h), or as a request log has
 * them (replay.h). The same seed makes the same requests.
 *
 * A conversation has several turns: each asks on with what was said so far, the answers included.
 * Thread  confined. */
#pragma once
#include "core/bench/lengths.h"
#include "core/bench/words.h"
#include "core/util/base.h"
#include "core/util/buf.h"

struct dataset;
struct replay;

struct workload_opts {
    bool chat;         /* /v1/chat/completions, else /v1/completions */
    const char *model; /* borrowed, like all here */
    bool stream, ignore_eos;
    double temperature; /* NAN: the server's */
    const char *extra;  /* members of a JSON object, without braces: added to each body; or "" */
    bool token_ids;     /* prompts of completions as ids first_id..last_id */
    uint32_t first_id, last_id;
    uint64_t seed;

    struct lengths prompt, output;
    uint32_t prefix_groups, prefix_tokens; /* 0: none; in front of the prompt's own tokens */
    uint32_t turns;                        /* of a conversation; > 0 */
    const struct dataset *dataset;         /* instead of made-up prompts, round and round */
    const struct replay *replay;           /* instead of all that */
    struct word_scale scale;
};

struct workload {
    struct workload_opts o;
    uint64_t n_given; /* conversations so far */
};

/* One request. */
struct work {
    uint64_t number; /* of its conversation */
    uint32_t turn;   /* 0: the first */
    uint64_t due_us; /* replay: since the start */
    uint32_t prompt_tokens, output_tokens;
    uint32_t group; /* of the shared prefix */
};

void workload_init(struct workload *w, const struct workload_opts *o);
/* The first request of the next conversation; false when there is none any more. */
bool workload_next(struct workload *w, struct work *out);
/* The next turn after `work`; false when that was the last. */
bool workload_turn(const struct workload *w, struct work *work);
/* Appends the body. history: what workload_heard made of the turns before, empty at first. */
void workload_body(const struct workload *w, const struct work *work, const struct buf *history,
                   struct buf *out);
/* Adds a turn's request and its answer (the inside of a JSON string) to the history. */
void workload_heard(const struct workload *w, const struct work *work, const struct buf *answer,
                    struct buf *history);
/* "/v1/chat/completions" or "/v1/completions". */
const char *workload_path(const struct workload *w);
