/* exchange_limits.c - a request and the limits of its key: counted when its body is complete, over when
 * its reply is made. */
#include "core/edge/edge_int.h"
#include "core/util/clock.h"

static uint64_t now_ns(void)
{
    return clock_now_us() * 1000;
}

int exchange_refuse_rate(const struct exchange *ex, const char *per_minute, uint32_t limit,
                         struct err *e)
{
    struct buf when = {0};
    limit_format_reset(ex->limited.wait_ns, &when);
    int rc =
        err_set(e, LLMD_ERATE,
                "Rate limit reached for key \"%s\" on %s per minute: limit %u. Please try again "
                "in %s.",
                ex->key->name, per_minute, limit, buf_str(&when));
    buf_fini(&when);
    return rc;
}

int exchange_enter(struct exchange *ex, struct err *e)
{
    struct key_use *use = catalog_key_use(ex->catalog, ex->key);
    if (!use || key_enter(&ex->hold, use, &ex->key->limits, now_ns(), &ex->limited))
        return 0;
    const struct key_limits *l = &ex->key->limits;
    if (ex->limited.kind == LIMIT_REQUESTS)
        return exchange_refuse_rate(ex, "requests", l->requests_per_minute, e);
    return err_set(e, LLMD_ERATE,
                   "Rate limit reached for key \"%s\" on concurrent requests: limit %u. Please try "
                   "again when one has ended.",
                   ex->key->name, l->max_concurrent);
}

void exchange_leave(struct exchange *ex, int code)
{
    if (code != 0 &&
        (code == LLMD_ERATE || err_http_status(code) >= MHD_HTTP_INTERNAL_SERVER_ERROR))
        key_give_back(&ex->hold, now_ns());
    key_leave(&ex->hold, now_ns());
}
