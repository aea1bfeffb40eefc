/* sessions.h - who is logged in at the status page.
 *
 * A session is 256 random bits that only the browser knows; kept here is their digest. It stands for a
 * key of the configuration, by the key's digest: what that may is looked up with every request, so that
 * a key that is changed, removed or past its time changes or ends its sessions.
 *
 * It ends SESSION_MAX_S after its beginning, SESSION_IDLE_S after it was used last, or by sessions_close.
 * There are at most SESSIONS_MAX: a key that has SESSIONS_PER_KEY of them loses the one that it used
 * longest ago to a new one; where the table is full, anybody's that was used longest ago goes.
 *
 * Thread  any; a lock of rank LEAF. Looking one up takes the same time whatever of it is right.
 * Time    an argument: clock_now_us(). */
#pragma once
#include "core/util/base.h"
#include "core/util/err.h"
#include "core/util/lock.h"

enum {
    SESSIONS_MAX = 256,
    SESSIONS_PER_KEY = 16,
    SESSION_IDLE_S = 3600,
    SESSION_MAX_S = 12 * 3600,
    SESSION_TOKEN_BYTES = 65, /* 64 hexadecimal digits */
};

struct session {
    uint8_t digest[32]; /* of the token */
    uint8_t key[32];    /* its digest */
    uint64_t began_us, used_us;
    bool open;
};

struct sessions {
    struct lock mu;
    struct session all[SESSIONS_MAX];
};

void sessions_init(struct sessions *s);
void sessions_fini(struct sessions *s);
/* Begins one; what of it the browser gets. EINTERNAL: no randomness. */
MUST_CHECK int sessions_open(struct sessions *s, const uint8_t key[32], uint64_t now_us,
                             char out_token[SESSION_TOKEN_BYTES], struct err *e);
/* Whether there is one; it is used now. out: a copy. */
bool sessions_find(struct sessions *s, const char *token, uint64_t now_us, struct session *out);
/* Nothing when there is none. */
void sessions_close(struct sessions *s, const char *token);

/* What a page of the session sends along to prove that it is ours: other sites' pages cannot read it. */
void session_csrf(const char *token, char out[SESSION_TOKEN_BYTES]);
/* In a time that does not depend on how much is right; NULL is not. */
bool session_csrf_is(const char *token, const char *csrf);
/* A token. EINTERNAL: no randomness. */
MUST_CHECK int session_token(char out[SESSION_TOKEN_BYTES], struct err *e);
