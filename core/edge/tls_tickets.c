#include "core/edge/tls_tickets.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/clock.h"
#include "core/util/lock.h"

enum { NAME_BYTES = 16, SECRET_BYTES = 32, IV_BYTES = 16 };
#define TURN_US ((uint64_t)TICKET_KEY_S * 1000000)

struct ticket_key {
    unsigned char name[NAME_BYTES];
    unsigned char cipher[SECRET_BYTES], mac[SECRET_BYTES];
};

struct tickets {
    struct lock mu; /* rank LEAF; guards all */
    struct ticket_key
        keys[2];       /* [0] seals and opens, [1] opens what it sealed before; never guessable */
    uint64_t until_us; /* when [0] becomes [1] */
};

static int slot = -1; /* of a context's extra data; set once */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void tickets_free(void *parent, void *data, CRYPTO_EX_DATA *ad, int index, long argl,
                         void *argp)
{
    (void)parent, (void)ad, (void)index, (void)argl, (void)argp;
    struct tickets *t = data;
    if (!t)
        return;
    lock_fini(&t->mu);
    OPENSSL_cleanse(t, sizeof(*t));
    free(t);
}

static void make_slot(void)
{
    slot = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, tickets_free);
}

static uint64_t until(struct tickets *t)
{
    lock_take(&t->mu);
    const uint64_t until_us = t->until_us;
    lock_drop(&t->mu);
    return until_us;
}

/* Changes the keys if they still are those that were to be changed at until_us. False: there is no
 * randomness for new ones. */
static bool turn(struct tickets *t, uint64_t until_us)
{
    const uint64_t now_us = clock_now_us();
    struct ticket_key fresh[2];
    if (RAND_bytes((unsigned char *)fresh, sizeof(fresh)) != 1)
        return false;
    lock_take(&t->mu);
    if (t->until_us == until_us) { /* else another thread was first */
        t->keys[1] = now_us < until_us + TURN_US ? t->keys[0] : fresh[1];
        t->keys[0] = fresh[0];
        t->until_us = now_us + TURN_US;
    }
    lock_drop(&t->mu);
    OPENSSL_cleanse(fresh, sizeof(fresh));
    return true;
}

bool tls_tickets_turn(SSL_CTX *ctx)
{
    struct tickets *t = SSL_CTX_get_ex_data(ctx, slot);
    return turn(t, until(t));
}

/* What the callback returns: 0: no key of that name; 1: it seals; 2: it opens only, and the client is to
 * get a new ticket. */
static int find_key(struct tickets *t, const unsigned char name[NAME_BYTES], struct ticket_key *out)
{
    int found = 0;
    lock_take(&t->mu);
    for (int i = 0; i < 2 && found == 0; i++)
        if (memcmp(name, t->keys[i].name, NAME_BYTES) == 0) {
            *out = t->keys[i];
            found = 1 + i;
        }
    lock_drop(&t->mu);
    return found;
}

static void key_of_now(struct tickets *t, struct ticket_key *out)
{
    lock_take(&t->mu);
    *out = t->keys[0];
    lock_drop(&t->mu);
}

static int start(const struct ticket_key *key, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                 EVP_MAC_CTX *mac, bool seal)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)key->mac, SECRET_BYTES),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_MAC_CTX_set_params(mac, params) == 1 &&
           EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->cipher, iv, seal) == 1;
}

static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     EVP_MAC_CTX *mac, int seal)
{
    struct tickets *t = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), slot);
    struct ticket_key key = {.name = {0}};
    const uint64_t until_us = until(t);
    int rc = clock_now_us() < until_us || turn(t, until_us) ? 1 : -1;
    if (rc > 0 && !seal) {
        rc = find_key(t, name, &key);
        if (rc == 1 && SSL_version(ssl) == TLS1_3_VERSION)
            rc = 2; /* clients use a ticket once */
    }
    if (rc > 0 && seal) {
        key_of_now(t, &key);
        memcpy(name, key.name, NAME_BYTES);
        rc = RAND_bytes(iv, IV_BYTES) == 1 ? 1 : -1;
    }
    if (rc > 0 && !start(&key, iv, cipher, mac, seal))
        rc = -1;
    OPENSSL_cleanse(&key, sizeof(key));
    return rc;
}

bool tls_tickets_attach(SSL_CTX *ctx)
{
    pthread_once(&once, make_slot);
    struct tickets *t = slot >= 0 ? calloc(1, sizeof(*t)) : NULL;
    if (!t)
        return false;
    lock_init(&t->mu, LOCK_RANK_LEAF);
    t->until_us = clock_now_us() + TURN_US;
    if (RAND_bytes((unsigned char *)t->keys, sizeof(t->keys)) != 1 ||
        SSL_CTX_set_ex_data(ctx, slot, t) != 1) {
        tickets_free(NULL, t, NULL, 0, 0, NULL);
        return false;
    }
    return SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket) == 1;
}
