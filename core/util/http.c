#include "core/util/http.h"

#include <curl/curl.h>
#include <string.h>

enum { CONNECT_TIMEOUT_MS = 10000, POLL_MS = 100, MAX_BODY = 16 << 20 };

struct transfer {
    const struct http_request *request;
    struct http_response *response;
    CURL *easy;
    int rc; /* why a callback ended the transfer */
    struct err *err;
};

int http_global_init(struct err *e)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return err_set(e, LLMD_EINTERNAL, "libcurl could not be initialised");
    return 0;
}

void http_response_fini(struct http_response *r)
{
    buf_fini(&r->body);
    *r = (struct http_response){0};
}

static void read_status(struct transfer *t)
{
    long status = 0;
    if (curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status) == CURLE_OK)
        t->response->status = (int)status;
    curl_off_t retry_after_s = 0;
    if (curl_easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &retry_after_s) == CURLE_OK &&
        retry_after_s > 0)
        t->response->retry_after_s = (uint64_t)retry_after_s;
}

/* libcurl's write callback: another count than n ends the transfer. */
static size_t on_write(char *bytes, size_t size, size_t n, void *ctx)
{
    struct transfer *t = ctx;
    (void)size; /* always 1 */
    read_status(t);
    t->response->connected = true;
    const struct http_request *r = t->request;
    if (r->on_data && t->response->status / 100 == 2) {
        t->rc = r->on_data(r->ctx, bytes, n);
        return t->rc == 0 ? n : CURL_WRITEFUNC_ERROR;
    }
    size_t max = r->max_body ? r->max_body : MAX_BODY;
    if (t->response->body.len + n > max) {
        t->rc =
            err_set(t->err, LLMD_ETOOBIG, "%s: the answer is larger than %zu bytes", r->url, max);
        return CURL_WRITEFUNC_ERROR;
    }
    buf_add(&t->response->body, bytes, n);
    if (t->response->body.failed) {
        t->rc = err_set(t->err, LLMD_ENOMEM, "%s: out of memory for the answer", r->url);
        return CURL_WRITEFUNC_ERROR;
    }
    return n;
}

static struct curl_slist *build_headers(const struct http_request *r, struct err *e)
{
    /* curl would wait for "100 Continue" before larger bodies. */
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    for (uint32_t i = 0; list && i < r->n_headers; i++) {
        struct curl_slist *longer = curl_slist_append(list, r->headers[i]);
        if (!longer)
            curl_slist_free_all(list);
        list = longer;
    }
    if (!list)
        err_set(e, LLMD_ENOMEM, "%s: out of memory", r->url);
    return list;
}

#define SET(option, value)                                                                         \
    do {                                                                                           \
        if (curl_easy_setopt(easy, (option), (value)) != CURLE_OK)                                 \
            return false;                                                                          \
    } while (0)

static bool set_options(struct transfer *t, const struct curl_slist *headers)
{
    const struct http_request *r = t->request;
    CURL *easy = t->easy;
    SET(CURLOPT_URL, r->url);
    if (r->unix_socket)
        SET(CURLOPT_UNIX_SOCKET_PATH, r->unix_socket);
    if (r->ca_file)
        SET(CURLOPT_CAINFO, r->ca_file);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_PROXY, ""); /* none, also not from the environment */
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_USERAGENT, "llmd/" LLMD_VERSION);
    SET(CURLOPT_HTTPHEADER, headers);
    SET(CURLOPT_CONNECTTIMEOUT_MS,
        (long)(r->connect_timeout_ms ? r->connect_timeout_ms : CONNECT_TIMEOUT_MS));
    SET(CURLOPT_TIMEOUT_MS, (long)r->timeout_ms);
    SET(CURLOPT_WRITEFUNCTION, on_write);
    SET(CURLOPT_WRITEDATA, t);
    if (r->body) {
        SET(CURLOPT_POSTFIELDS, r->body);
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->n_body);
    }
    SET(CURLOPT_CUSTOMREQUEST, r->method);
    return true;
}

#undef SET

static int fault(struct transfer *t, CURLcode code)
{
    const char *url = t->request->unix_socket ? t->request->unix_socket : t->request->url;
    if (t->rc != 0)
        return t->rc;
    switch (code) {
    case CURLE_OK:
        return 0;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return err_set(t->err, LLMD_EINVAL, "%s: not a http:// or https:// URL", url);
    case CURLE_OPERATION_TIMEDOUT:
        return err_set(t->err, LLMD_ETIMEOUT, "%s: timed out", url);
    case CURLE_OUT_OF_MEMORY:
        return err_set(t->err, LLMD_ENOMEM, "%s: out of memory", url);
    default:
        break;
    }
    long os_errno = 0;
    if (curl_easy_getinfo(t->easy, CURLINFO_OS_ERRNO, &os_errno) != CURLE_OK)
        os_errno = 0;
    t->response->os_errno = (int)os_errno;
    return err_set(t->err, LLMD_EIO, "%s: %s", url,
                   os_errno ? strerror((int)os_errno) : curl_easy_strerror(code));
}

/* Drives the transfer to its end; checks for cancellation between. */
static int drive(struct transfer *t, CURLM *multi)
{
    const struct http_request *r = t->request;
    int running = 1, left;
    while (running) {
        if (curl_multi_perform(multi, &running) != CURLM_OK)
            return err_set(t->err, LLMD_EINTERNAL, "%s: libcurl failed", r->url);
        if (!running)
            break;
        if (r->cancelled && r->cancelled(r->ctx))
            return err_set(t->err, LLMD_ECANCELLED, "%s: cancelled", r->url);
        if (curl_multi_poll(multi, NULL, 0, POLL_MS, NULL) != CURLM_OK)
            return err_set(t->err, LLMD_EINTERNAL, "%s: libcurl failed", r->url);
    }
    CURLcode code = CURLE_OK;
    for (CURLMsg *m; (m = curl_multi_info_read(multi, &left)) != NULL;)
        if (m->msg == CURLMSG_DONE)
            code = m->data.result;
    read_status(t);
    if (code != CURLE_COULDNT_CONNECT && code != CURLE_COULDNT_RESOLVE_HOST)
        t->response->connected = true;
    return fault(t, code);
}

int http_perform(const struct http_request *r, struct http_response *out, struct err *e)
{
    *out = (struct http_response){0};
    struct transfer t = {.request = r, .response = out, .err = e, .easy = curl_easy_init()};
    CURLM *multi = curl_multi_init();
    struct curl_slist *headers = build_headers(r, e);
    int rc;
    if (!t.easy || !multi || !headers)
        rc = err_set(e, LLMD_ENOMEM, "%s: out of memory", r->url);
    else if (!set_options(&t, headers) || curl_multi_add_handle(multi, t.easy) != CURLM_OK)
        rc = err_set(e, LLMD_EINTERNAL, "%s: libcurl refused an option", r->url);
    else {
        rc = drive(&t, multi);
        curl_multi_remove_handle(multi, t.easy); /* closes what still runs */
    }
    if (t.easy)
        curl_easy_cleanup(t.easy);
    if (multi)
        curl_multi_cleanup(multi);
    curl_slist_free_all(headers);
    return rc;
}
