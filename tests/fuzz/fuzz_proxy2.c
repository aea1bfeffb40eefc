/* fuzz_proxy2.c - any bytes as a PROXY header: the verdict on a beginning never turns from bad to good,
 * and what lies behind the header does not matter. */
#include <string.h>

#include "core/edge/proxy2.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct sockaddr_storage a, b;
    socklen_t n_a = 0, n_b = 0;
    size_t len = 0, again = 0;
    const enum proxy2_verdict all = proxy2_parse(data, n, &len, &a, &n_a);
    for (size_t i = 0; i < n && i < 64; i++) {
        const enum proxy2_verdict v = proxy2_parse(data, i, &again, &b, &n_b);
        BUG_ON(v == PROXY2_BAD && all != PROXY2_BAD);
        BUG_ON(v == PROXY2_MORE && proxy2_missing(data, i) - 1 >= PROXY2_BYTES_MAX);
    }
    if (all != PROXY2_PEER && all != PROXY2_LOCAL)
        return 0;
    BUG_ON(len < PROXY2_HEADER_BYTES || len > n);
    BUG_ON(proxy2_parse(data, len, &again, &b, &n_b) != all || again != len);
    if (all == PROXY2_PEER)
        BUG_ON(n_a != n_b || memcmp(&a, &b, n_a) != 0);
    return 0;
}
