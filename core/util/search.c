/* search.c - Knuth, Morris, Pratt (1977), run from the end of both texts to their beginning. */
#include "core/util/search.h"

#include <stdlib.h>

/* fail[i]: length of the longest proper suffix of the needle's last i + 1 bytes that they also
 * begin with, seen from the end. */
static void build_table(const char *needle, size_t n, uint32_t *fail)
{
    uint32_t k = 0;
    fail[0] = 0;
    for (size_t i = 1; i < n; i++) {
        while (k > 0 && needle[n - 1 - i] != needle[n - 1 - k])
            k = fail[k - 1];
        if (needle[n - 1 - i] == needle[n - 1 - k])
            k++;
        fail[i] = k;
    }
}

int search_last(const char *hay, size_t hay_len, const char *needle, size_t needle_len,
                size_t *out_at)
{
    BUG_ON(needle_len == 0 || needle_len > UINT32_MAX);
    if (needle_len > hay_len)
        return -LLMD_ENOTFOUND;
    uint32_t *fail = malloc(needle_len * sizeof(*fail));
    if (!fail)
        return -LLMD_ENOMEM;
    build_table(needle, needle_len, fail);
    int rc = -LLMD_ENOTFOUND;
    uint32_t matched = 0;
    for (size_t i = hay_len; i-- > 0;) {
        while (matched > 0 && hay[i] != needle[needle_len - 1 - matched])
            matched = fail[matched - 1];
        if (hay[i] == needle[needle_len - 1 - matched])
            matched++;
        if (matched == needle_len) {
            *out_at = i;
            rc = 0;
            break;
        }
    }
    free(fail);
    return rc;
}
