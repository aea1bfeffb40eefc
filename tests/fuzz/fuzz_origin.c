/* fuzz_origin.c - any two lines as Host and Origin: what is accepted is what a browser would have sent for a
 * page of that host, and nothing that names another. */
#include <string.h>

#include "core/edge/origin.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char host[512] = "", origin[512] = "", name[HOST_NAME_BYTES];
    const uint8_t *line = memchr(data, '\n', n);
    const size_t n_host = line ? (size_t)(line - data) : n, n_origin = line ? n - n_host - 1 : 0;
    if (n_host >= sizeof(host) || n_origin >= sizeof(origin))
        return 0;
    memcpy(host, data, n_host);
    if (line)
        memcpy(origin, line + 1, n_origin);

    if (host_name(host, name)) {
        BUG_ON(!name[0] || !strstr(host, name) || strlen(name) >= HOST_NAME_BYTES);
        BUG_ON(strchr(name, ':') && host[0] != '['); /* a port is no part of it */
        if (host_is_loopback(name))                  /* an address, or that one word */
            BUG_ON(!host_is_address(name) && strlen(name) != strlen("localhost"));
    }
    for (int tls = 0; tls < 2; tls++) {
        if (!origin_is_host(origin, host, tls))
            continue;
        const char *rest = strstr(origin, "://");
        BUG_ON(!rest || strlen(rest + 3) != strlen(host));
        BUG_ON(tls && !origin_is_https(origin));
        BUG_ON(!origin_is_host(origin, host, false));
    }
    return 0;
}
