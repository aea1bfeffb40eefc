/* new_key.h - a bearer key: 256 bits of the system's randomness, and the digest that a configuration holds. */
#pragma once
#include "core/util/base.h"

#define NEW_KEY_PREFIX "llmd_sk_" /* so that scanners of leaked secrets can tell */

enum {
    NEW_KEY_LETTERS = 43, /* 62^43 > 2^256 */
    NEW_KEY_BYTES = sizeof(NEW_KEY_PREFIX) + NEW_KEY_LETTERS,
};

struct new_key {
    char text[NEW_KEY_BYTES];
    char sha256[65]; /* in hexadecimal digits */
};

/* False: the system has no randomness. */
MUST_CHECK bool new_key_make(struct new_key *k);
/* Leaves nothing of it in memory. */
void new_key_forget(struct new_key *k);
