#include "core/edge/auth.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <string.h>
#include <strings.h>

const struct edge_key *auth_find_key(const struct edge_key *keys, uint32_t n_keys,
                                     const char *value, size_t n)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    SHA256((const unsigned char *)value, n, digest);
    uint32_t found = UINT32_MAX;
    for (uint32_t i = 0; i < n_keys; i++) {
        /* found = i where the digests are equal, by masks instead of a branch */
        uint32_t differs = (uint32_t)CRYPTO_memcmp(digest, keys[i].sha256, sizeof(digest));
        uint32_t mask = 0u - (((differs | (0u - differs)) >> 31) ^ 1u);
        found = (found & ~mask) | (i & mask);
    }
    OPENSSL_cleanse(digest, sizeof(digest));
    return found < n_keys ? &keys[found] : NULL;
}

const struct edge_key *auth_find(const struct edge_key *keys, uint32_t n_keys, const char *value)
{
    static const char scheme[] = "bearer ";
    if (!value || strncasecmp(value, scheme, sizeof(scheme) - 1) != 0)
        return NULL;
    value += sizeof(scheme) - 1;
    value += strspn(value, " ");
    size_t n = strlen(value);
    while (n > 0 && (value[n - 1] == ' ' || value[n - 1] == '\t'))
        n--;
    return n > 0 ? auth_find_key(keys, n_keys, value, n) : NULL;
}
