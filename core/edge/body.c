/* body.c - takes a request's body, up to the limit.
 *
 * A body over the limit is read on and dropped as long as that costs little, so that the client
 * gets a clean 413 and not a reset; one that declares, or sends, many times the limit is not. For who may
 * not even ask that holds for a small body; a larger one, or of unknown length, is not waited for. */
#include <string.h>
#include <strings.h>

#include "core/edge/edge_int.h"
#include "core/edge/routes.h"

enum { DRAIN_FACTOR = 16, STRANGER_BYTES = 16 * 1024, LOGIN_BYTES = 4096 };

uint32_t body_limit(const struct exchange *ex)
{
    const uint32_t max = ex->catalog->limits.max_body_bytes;
    const bool login = ex->route && ex->route->access == ACCESS_PAGE;
    return login ? (uint32_t)u64_min(max, LOGIN_BYTES) : max;
}

/* How much of the body is read in all. */
static uint64_t drain_limit(const struct exchange *ex)
{
    uint64_t limit = body_limit(ex);
    if (ex->refusal == REFUSE_ACCESS)
        return u64_min(limit, STRANGER_BYTES);
    return ex->refusal == REFUSE_NOT || ex->refusal == REFUSE_SIZE ? limit * DRAIN_FACTOR : limit;
}

void body_admit(struct exchange *ex, const struct framing *f)
{
    if (ex->refusal == REFUSE_NOT && f->length > body_limit(ex))
        ex->refusal = REFUSE_SIZE;
    ex->drain_body = !f->expects && f->length <= drain_limit(ex) &&
                     !(ex->refusal == REFUSE_ACCESS && framing_chunked(f));
}

/* What no handler reads is not kept: it may be a stranger's, who would fill our memory with it. */
static bool is_read(const struct exchange *ex)
{
    return route_method(ex->method) == ROUTE_POST && ex->route->access != ACCESS_OPEN;
}

bool body_take(struct exchange *ex, const char *data, size_t n)
{
    ex->n_body += n;
    if (ex->refusal == REFUSE_NOT && ex->n_body > body_limit(ex)) {
        ex->refusal = REFUSE_SIZE;
        buf_fini(&ex->body);
    }
    if (ex->refusal != REFUSE_NOT)
        return ex->n_body <= drain_limit(ex);
    if (is_read(ex))
        buf_add(&ex->body, data, n);
    return true;
}

int body_check_type(const struct exchange *ex, struct err *e)
{
    static const char want[] = "application/json";
    const char *type =
        MHD_lookup_connection_value(ex->mhd, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_TYPE);
    const char *encoding =
        MHD_lookup_connection_value(ex->mhd, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_ENCODING);
    size_t n = type ? strcspn(type, "; \t") : 0;
    if (n != sizeof(want) - 1 || strncasecmp(type, want, n) != 0)
        return err_set(e, LLMD_EINVAL, "Content-Type must be application/json");
    if (encoding && strcasecmp(encoding, "identity") != 0)
        return err_set(e, LLMD_EINVAL,
                       "Content-Encoding is not supported; send the body uncompressed");
    return 0;
}
