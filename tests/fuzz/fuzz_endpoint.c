/* fuzz_endpoint.c - any text as an address to listen on: what is taken for one is written, and read again,
 * as the same. */
#include <string.h>

#include "core/util/endpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char text[256], written[128];
    struct endpoint p, again;
    struct err e = {0};
    if (n >= sizeof(text) || memchr(data, 0, n))
        return 0;
    memcpy(text, data, n);
    text[n] = '\0';
    if (endpoint_parse(text, &p, &e) != 0) {
        BUG_ON(e.code != LLMD_EINVAL || e.msg[0] == '\0');
        return 0;
    }
    if (p.path)
        return 0;
    endpoint_write((const struct sockaddr_storage *)&p.ip, p.n_ip, written, sizeof(written));
    BUG_ON(endpoint_parse(written, &again, &e) != 0);
    BUG_ON(endpoint_port(&again) != endpoint_port(&p));
    BUG_ON(!p.both && !endpoint_matches(&again, &p.ip, p.n_ip));
    return 0;
}
