#include "cmd/new_key.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>

/* Every letter equally likely. */
static bool make_text(char out[NEW_KEY_BYTES])
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    enum { N = sizeof(letters) - 1, FAIR = 256 / N * N };
    unsigned char random[64];
    uint32_t n = sizeof(NEW_KEY_PREFIX) - 1;
    memcpy(out, NEW_KEY_PREFIX, n);
    while (n < NEW_KEY_BYTES - 1) {
        if (RAND_priv_bytes(random, sizeof(random)) != 1)
            return false;
        for (size_t i = 0; i < sizeof(random) && n < NEW_KEY_BYTES - 1; i++)
            if (random[i] < FAIR)
                out[n++] = letters[random[i] % N];
    }
    out[n] = '\0';
    OPENSSL_cleanse(random, sizeof(random));
    return true;
}

bool new_key_make(struct new_key *k)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    if (!make_text(k->text))
        return false;
    SHA256((const unsigned char *)k->text, strlen(k->text), digest);
    for (size_t i = 0; i < sizeof(digest); i++)
        snprintf(k->sha256 + 2 * i, 3, "%02x", digest[i]);
    return true;
}

void new_key_forget(struct new_key *k)
{
    OPENSSL_cleanse(k, sizeof(*k));
}
