/* admin_page.c - GET /admin/v1/snapshot, stream, history: what the status page paints. */
#include <string.h>

#include "core/edge/admin_int.h"
#include "core/edge/api.h"
#include "core/edge/page.h"
#include "core/edge/page_stream.h"
#include "core/edge/respond.h"

enum MHD_Result admin_snapshot(struct exchange *ex)
{
    struct snapshot *s = page_latest(ex->conn->loop->edge->page);
    struct buf body = {0};
    struct err e = {0};
    if (!s) {
        err_set(&e, LLMD_ENOTREADY, "there is no snapshot yet; ask again in a second");
        return respond_error(ex, &e);
    }
    buf_add(&body, s->event.data + s->n_head, s->n_json);
    snapshot_unref(s);
    return respond_json(ex, MHD_HTTP_OK, &body);
}

enum MHD_Result admin_stream(struct exchange *ex)
{
    return page_stream_begin(ex);
}

enum MHD_Result admin_history(struct exchange *ex)
{
    struct page *p = ex->conn->loop->edge->page;
    const char *name = MHD_lookup_connection_value(ex->mhd, MHD_GET_ARGUMENT_KIND, "span");
    enum page_span span = SPAN_15M;
    uint64_t after = 0;
    struct buf body = {0};
    struct err e = {0};
    if (admin_query(ex, "after", &after, &e) != 0)
        return respond_error(ex, &e);
    if (name && !page_span_parse(name, &span)) {
        err_set_param(&e, LLMD_EINVAL, "span", "span must be 15m or 6h");
        return respond_error(ex, &e);
    }
    page_history_add_json(&p->history, span, (int64_t)u64_min(after, INT64_MAX), p->process, &body);
    return respond_json(ex, MHD_HTTP_OK, &body);
}
