/* roll.h - one model comes, goes, or is replaced by another of its name, while requests run.
 *
 *   replaced, two workers or more          replaced, one worker           came       went
 *     drain one old worker                   new requests go to the new,    start      requests for it
 *     start a new one in its place           where they wait                one        are refused
 *     it is ready: new requests go to        what runs ends                 it is      what runs ends
 *     the new ones, the old take no more     drain it, start a new one      ready:     drain, remove
 *     the rest one by one; the last of the   in its place                   serve it
 *     old when its requests have ended       it is ready: they go           the rest
 *
 * A request is for the model that tokenized it, so nobody is ever moved between the two, but for those that
 * only wait, between generations of the same files. When the first new worker dies before it is ready
 * everything goes back: an old worker is started in its place again and the old model is served on. Requests
 * that waited for the new one (one worker, other files) then fail with 503.
 *
 * Nothing here waits: roll_step() does what can be done now. It is called every few milliseconds, by the
 * main thread. */
#pragma once
#include "cmd/fleet.h"

enum roll_outcome { ROLL_GOES_ON, ROLL_DONE, ROLL_FAILED };

enum roll_state {
    ROLL_CHOOSE,     /* what is next? */
    ROLL_QUIET,      /* the old model's requests end */
    ROLL_DRAIN,      /* the old worker at `index` ends */
    ROLL_START,      /* the new worker at `index` gets ready */
    ROLL_BACK_DRAIN, /* the new worker at `index` goes */
    ROLL_BACK_START, /* the old worker at `index` gets ready again */
};

struct roll {
    struct fleet *fleet;
    struct served *old, *new; /* NULL: the model comes; it goes */
    enum roll_state state;
    uint32_t index;     /* of the worker that it is about */
    uint32_t n_started; /* new workers so far */
    bool switched;      /* new requests go to the new model, or are refused */
    bool arrived;       /* a new worker was ready */
    struct err why;     /* of the failure */
};

/* The new model was added to the fleet (fleet_add), the old one is in its line-up. */
void roll_begin(struct roll *r, struct fleet *f, struct served *old, struct served *new);
/* ROLL_DONE, ROLL_FAILED: the other one is retired. *out says why it failed. */
enum roll_outcome roll_step(struct roll *r, struct err *out);
