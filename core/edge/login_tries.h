/* login_tries.h - how often an address may try to log in: LOGIN_TRIES at once, and so many per minute.
 * A try that succeeds does not count.
 *
 * Addresses count as in address_counts.h; who has none (a UNIX socket) shares one place. The table is
 * bounded: where it is full, the place of the address whose tries are longest ago goes.
 *
 * Thread  any; a lock of rank LEAF. */
#pragma once
#include "core/edge/address_counts.h"
#include "core/edge/limits.h"
#include "core/util/base.h"
#include "core/util/lock.h"

enum { LOGIN_TRIES = 10, LOGIN_PLACES = 256 };

struct login_place {
    struct address_block block;
    struct bucket bucket;
    uint64_t used_ns; /* 0: a free place */
};

struct login_tries {
    struct lock mu;
    struct login_place all[LOGIN_PLACES];
};

void login_tries_init(struct login_tries *t);
void login_tries_fini(struct login_tries *t);
/* 0: it may, and it counts; else in so many nanoseconds. */
uint64_t login_tries_take(struct login_tries *t, const struct address_block *b, uint64_t now_ns);
/* It was right. */
void login_tries_give_back(struct login_tries *t, const struct address_block *b, uint64_t now_ns);
