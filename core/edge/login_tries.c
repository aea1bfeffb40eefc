#include "core/edge/login_tries.h"

#include <string.h>

void login_tries_init(struct login_tries *t)
{
    memset(t, 0, sizeof(*t));
    lock_init(&t->mu, LOCK_RANK_LEAF);
}

void login_tries_fini(struct login_tries *t)
{
    lock_fini(&t->mu);
}

/* The address's place; one that is new takes that of the longest unused. The lock is held. */
static struct login_place *find(struct login_tries *t, const struct address_block *b)
{
    struct login_place *oldest = &t->all[0];
    for (struct login_place *at = t->all; at < t->all + LOGIN_PLACES; at++) {
        if (at->used_ns > 0 && memcmp(&at->block, b, sizeof(*b)) == 0)
            return at;
        if (at->used_ns < oldest->used_ns)
            oldest = at;
    }
    memset(oldest, 0, sizeof(*oldest));
    oldest->block = *b;
    return oldest;
}

uint64_t login_tries_take(struct login_tries *t, const struct address_block *b, uint64_t now_ns)
{
    lock_take(&t->mu);
    struct login_place *at = find(t, b);
    at->used_ns = now_ns;
    const uint64_t wait_ns = bucket_take(&at->bucket, LOGIN_TRIES, 1, now_ns);
    lock_drop(&t->mu);
    return wait_ns;
}

void login_tries_give_back(struct login_tries *t, const struct address_block *b, uint64_t now_ns)
{
    lock_take(&t->mu);
    bucket_settle(&find(t, b)->bucket, LOGIN_TRIES, 1, 0, now_ns);
    lock_drop(&t->mu);
}
