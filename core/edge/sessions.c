#include "core/edge/sessions.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <string.h>

_Static_assert(SESSION_TOKEN_BYTES == 2 * SHA256_DIGEST_LENGTH + 1,
               "a token is as long as a digest");

void sessions_init(struct sessions *s)
{
    *s = (struct sessions){.all = {{.open = false}}};
    lock_init(&s->mu, LOCK_RANK_LEAF);
}

void sessions_fini(struct sessions *s)
{
    lock_fini(&s->mu);
    OPENSSL_cleanse(s->all, sizeof(s->all));
}

static void to_hex(const uint8_t bytes[32], char out[SESSION_TOKEN_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < 32; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[SESSION_TOKEN_BYTES - 1] = '\0';
}

int session_token(char out[SESSION_TOKEN_BYTES], struct err *e)
{
    uint8_t bytes[32];
    if (RAND_bytes(bytes, sizeof(bytes)) != 1)
        return err_set(e, LLMD_EINTERNAL, "OpenSSL has no random numbers");
    to_hex(bytes, out);
    OPENSSL_cleanse(bytes, sizeof(bytes));
    return 0;
}

static void digest_of(const char *token, uint8_t out[32])
{
    SHA256((const unsigned char *)token, strlen(token), out);
}

void session_csrf(const char *token, char out[SESSION_TOKEN_BYTES])
{
    static const char tag[] = "llmd/csrf/";
    uint8_t digest[32];
    char text[sizeof(tag) + SESSION_TOKEN_BYTES];
    size_t n = sizeof(tag) - 1, n_token = strnlen(token, SESSION_TOKEN_BYTES - 1);
    memcpy(text, tag, n);
    memcpy(text + n, token, n_token);
    SHA256((const unsigned char *)text, n + n_token, digest);
    to_hex(digest, out);
    OPENSSL_cleanse(text, sizeof(text));
}

bool session_csrf_is(const char *token, const char *csrf)
{
    char want[SESSION_TOKEN_BYTES];
    if (!csrf || strlen(csrf) != sizeof(want) - 1)
        return false;
    session_csrf(token, want);
    return CRYPTO_memcmp(want, csrf, sizeof(want)) == 0;
}

static bool is_over(const struct session *one, uint64_t now_us)
{
    const uint64_t second = 1000000;
    return !one->open || now_us >= one->began_us + SESSION_MAX_S * second ||
           now_us >= one->used_us + SESSION_IDLE_S * second;
}

/* Where a new session of that key goes. */
static struct session *choose_place(struct sessions *s, const uint8_t key[32], uint64_t now_us)
{
    struct session *over = NULL, *oldest = &s->all[0], *own = NULL;
    uint32_t n_own = 0;
    for (struct session *at = s->all; at < s->all + SESSIONS_MAX; at++) {
        if (is_over(at, now_us)) {
            over = at;
            continue;
        }
        if (at->used_us < oldest->used_us)
            oldest = at;
        if (memcmp(at->key, key, sizeof(at->key)) != 0)
            continue;
        n_own++;
        if (!own || at->used_us < own->used_us)
            own = at;
    }
    if (n_own >= SESSIONS_PER_KEY)
        return own;
    return over ? over : oldest;
}

int sessions_open(struct sessions *s, const uint8_t key[32], uint64_t now_us,
                  char out_token[SESSION_TOKEN_BYTES], struct err *e)
{
    int rc = session_token(out_token, e);
    if (rc != 0)
        return rc;
    struct session one = {.began_us = now_us, .used_us = now_us, .open = true};
    digest_of(out_token, one.digest);
    memcpy(one.key, key, sizeof(one.key));
    lock_take(&s->mu);
    *choose_place(s, key, now_us) = one;
    lock_drop(&s->mu);
    return 0;
}

/* All are compared, wherever a match is. */
static struct session *find(struct sessions *s, const char *token)
{
    uint8_t digest[32];
    struct session *found = NULL;
    digest_of(token, digest);
    for (struct session *at = s->all; at < s->all + SESSIONS_MAX; at++)
        if (CRYPTO_memcmp(at->digest, digest, sizeof(digest)) == 0)
            found = at;
    return found;
}

bool sessions_find(struct sessions *s, const char *token, uint64_t now_us, struct session *out)
{
    if (strnlen(token, SESSION_TOKEN_BYTES) != SESSION_TOKEN_BYTES - 1)
        return false;
    lock_take(&s->mu);
    struct session *at = find(s, token);
    const bool found = at && !is_over(at, now_us);
    if (found) {
        at->used_us = now_us;
        *out = *at;
    } else if (at)
        *at = (struct session){.open = false};
    lock_drop(&s->mu);
    return found;
}

void sessions_close(struct sessions *s, const char *token)
{
    lock_take(&s->mu);
    struct session *at = find(s, token);
    if (at)
        *at = (struct session){.open = false};
    lock_drop(&s->mu);
}
