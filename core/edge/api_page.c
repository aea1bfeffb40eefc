/* api_page.c - / and /ui/...: the files of the status page. They are the same for everybody and hold no
 * secret: what a page may see is asked for by its scripts. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/edge/api.h"
#include "core/edge/caller.h"
#include "core/edge/page_assets.h"
#include "core/edge/respond.h"

enum { ETAG_BYTES = 32 };

/* Of an Accept-Encoding; "gzip;q=0" is a no. */
static bool takes_gzip(const char *accepted)
{
    static const char word[] = "gzip";
    const char *at = accepted;
    while (at && *at) {
        at += strspn(at, " \t,");
        const size_t n = strcspn(at, ",");
        if (strncasecmp(at, word, sizeof(word) - 1) == 0) {
            const char *rest = at + sizeof(word) - 1, *end = at + n;
            rest += strspn(rest, " \t");
            const char *q = rest < end && *rest == ';' ? strchr(rest, '=') : NULL;
            if (rest == end || *rest == ';')
                return !q || q > end || strspn(q + 1, "0.") != strcspn(q + 1, ", \t");
        }
        at += n;
    }
    return false;
}

/* What a page of ours may do, and what others may do with it. */
static bool add_headers(struct MHD_Response *r, const struct page_asset *a, const char *etag,
                        bool gzip)
{
    const char *const headers[][2] = {
        {MHD_HTTP_HEADER_CONTENT_TYPE, a->type},
        {MHD_HTTP_HEADER_ETAG, etag},
        {MHD_HTTP_HEADER_CACHE_CONTROL, "no-cache"},
        {MHD_HTTP_HEADER_VARY, "Accept-Encoding"},
        {"Content-Security-Policy",
         "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
         "img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"},
        {"Cross-Origin-Opener-Policy", "same-origin"},
        {"Permissions-Policy", "camera=(), geolocation=(), microphone=()"},
    };
    for (size_t i = 0; i < ARRAY_LEN(headers); i++)
        if (MHD_add_response_header(r, headers[i][0], headers[i][1]) != MHD_YES)
            return false;
    return !gzip || MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_ENCODING, "gzip") == MHD_YES;
}

static enum MHD_Result respond_asset(struct exchange *ex, const struct page_asset *a)
{
    const char *known = caller_header(ex, MHD_HTTP_HEADER_IF_NONE_MATCH);
    const bool gzip = takes_gzip(caller_header(ex, MHD_HTTP_HEADER_ACCEPT_ENCODING));
    const unsigned char *from = gzip ? a->gzip : a->plain;
    size_t n = (size_t)((gzip ? a->gzip_end : a->plain_end) - from);
    char etag[ETAG_BYTES];
    snprintf(etag, sizeof(etag), "\"%s%s\"", a->hash, gzip ? "-gzip" : "");
    const bool same = known && strstr(known, etag) != NULL;
    if (same)
        n = 0;
    struct MHD_Response *r =
        MHD_create_response_from_buffer(n, (void *)from, MHD_RESPMEM_PERSISTENT);
    if (r && !add_headers(r, a, etag, gzip && !same)) {
        MHD_destroy_response(r);
        return MHD_NO;
    }
    ex->n_reply = n;
    return respond_made(ex, same ? MHD_HTTP_NOT_MODIFIED : MHD_HTTP_OK, r);
}

enum MHD_Result api_page(struct exchange *ex)
{
    static const char folder[] = "/ui/";
    const bool in_folder = strncmp(ex->url, folder, sizeof(folder) - 1) == 0;
    const struct page_asset *a =
        page_asset(in_folder ? ex->url + sizeof(folder) - 1 : "index.html");
    struct err e = {0};
    if (a)
        return respond_asset(ex, a);
    err_set(&e, LLMD_ENOTFOUND, "the status page has no such file");
    return respond_error(ex, &e);
}
