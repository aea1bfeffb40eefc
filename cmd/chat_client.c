#include "cmd/chat_client.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/clock.h"
#include "core/util/http.h"
#include "core/util/json.h"
#include "core/util/printable.h"
#include "core/util/sse_parser.h"

enum { SHOWN_MAX = 400 };

/* One chat_ask under way. */
struct ask {
    const struct chat_client *client;
    struct chat_answer *answer;
    struct sse_parser parser;
    uint64_t started_us;
    bool done; /* [DONE] was seen */
    struct err *err;
};

int chat_client_url(const char *url, struct buf *out, struct err *e)
{
    size_t n = strlen(url);
    if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
        return err_set(e, LLMD_EINVAL, "'%s' does not begin with http:// or https://", url);
    while (n > 0 && url[n - 1] == '/')
        n--;
    if (n > 3 && strncmp(url + n - 3, "/v1", 3) == 0)
        n -= 3;
    buf_add(out, url, n);
    return 0;
}

void chat_answer_fini(struct chat_answer *a)
{
    buf_fini(&a->text);
    *a = (struct chat_answer){0};
}

/* A text of the server for a message: printable and cut. */
static void show(const char *text, size_t n, char out[SHOWN_MAX])
{
    printable_text(text, n, "", out, SHOWN_MAX);
}

/* {"error":{"message":"..."}} of any depth that servers use; NULL when there is none. */
static const char *error_message(const json_t *v)
{
    const json_t *error = json_object_get(v, "error");
    const char *text = json_string_value(json_object_get(error, "message"));
    if (!text)
        text = json_string_value(error);
    return text ? text : json_string_value(json_object_get(v, "message"));
}

static int connect_fault(const struct chat_client *c, const struct err *why, struct err *e)
{
    return err_set(e, LLMD_EIO,
                   "%s; is the server running? Start one with: llmd serve --config FILE (asked %s)",
                   why->msg, c->url);
}

/* What to say about an answer that is not 2xx. */
static int status_fault(const struct chat_client *c, const struct http_response *r, struct err *e)
{
    char shown[SHOWN_MAX];
    json_t *v = NULL;
    if (json_parse(buf_str(&r->body), r->body.len, &v, NULL) != 0)
        v = NULL;
    const char *text = error_message(v);
    if (text)
        show(text, strlen(text), shown);
    else
        show(buf_str(&r->body), r->body.len, shown);
    json_decref(v);
    if (r->status == 401)
        return err_set(e, LLMD_EAUTH, "the server %s (%s)",
                       c->key ? "does not know this key"
                              : "wants a key; give --key-file FILE or set LLMD_API_KEY",
                       shown);
    if (r->status == 404)
        return err_set(e, LLMD_ENOTFOUND, "%s", shown);
    return err_set(e, LLMD_EIO, "the server answered %d: %s", r->status, shown);
}

/* One request to path; body NULL: GET. */
static int perform(const struct chat_client *c, const char *path, const char *body,
                   struct http_request *r, struct http_response *out, struct err *e)
{
    struct buf url = {0}, auth = {0};
    struct err why = {0};
    const char *headers[2] = {"Content-Type: application/json"};
    buf_addf(&url, "%s%s", c->url, path);
    if (c->key)
        buf_addf(&auth, "Authorization: Bearer %s", c->key);
    headers[1] = buf_str(&auth);
    r->method = body ? "POST" : "GET";
    r->url = buf_str(&url);
    r->headers = headers;
    r->n_headers = c->key ? 2 : 1;
    r->body = body;
    r->n_body = body ? strlen(body) : 0;
    int rc = http_perform(r, out, &why);
    if (rc != 0 && !out->connected && rc == -LLMD_EIO)
        rc = connect_fault(c, &why, e);
    else if (rc != 0)
        err_set(e, -rc, "%s", why.msg);
    else if (out->status / 100 != 2)
        rc = status_fault(c, out, e);
    buf_fini(&url);
    buf_fini(&auth);
    return rc;
}

int chat_models(const struct chat_client *c, struct buf *out, struct err *e)
{
    enum { TIMEOUT_MS = 30000 };
    struct http_request r = {.timeout_ms = TIMEOUT_MS, .cancelled = c->cancelled, .ctx = c->ctx};
    struct http_response answer;
    json_t *v = NULL;
    size_t i;
    json_t *card;
    int rc = perform(c, "/v1/models", NULL, &r, &answer, e);
    if (rc == 0 && (rc = json_parse(buf_str(&answer.body), answer.body.len, &v, e)) != 0)
        err_prefix(e, "%s/v1/models: ", c->url);
    json_array_foreach(json_object_get(v, "data"), i, card)
    {
        const char *id = json_string_value(json_object_get(card, "id"));
        if (id)
            buf_addf(out, "%s\n", id);
    }
    json_decref(v);
    http_response_fini(&answer);
    return rc;
}

/* Takes a piece of text (or null), in the order of the answer. */
static int take_text(struct ask *a, const json_t *piece)
{
    const char *text = json_string_value(piece);
    size_t n = json_string_length(piece);
    if (n == 0)
        return 0;
    if (a->answer->first_text_us == 0)
        a->answer->first_text_us = clock_now_us() - a->started_us;
    buf_add(&a->answer->text, text, n);
    int rc = a->client->on_text(a->client->ctx, text, n);
    return rc == 0 ? 0 : err_set(a->err, -rc, "the answer could not be written");
}

/* A chunk of a stream ("delta") or a whole answer ("message"). */
static int take_completion(struct ask *a, const json_t *v, const char *part)
{
    const json_t *choice = json_array_get(json_object_get(v, "choices"), 0);
    const char *reason = json_string_value(json_object_get(choice, "finish_reason"));
    const json_t *usage = json_object_get(v, "usage");
    const char *message = error_message(v);
    if (message) {
        char shown[SHOWN_MAX];
        show(message, strlen(message), shown);
        return err_set(a->err, LLMD_EIO, "the server broke off: %s", shown);
    }
    if (reason)
        snprintf(a->answer->finish_reason, sizeof(a->answer->finish_reason), "%s", reason);
    if (json_is_object(usage)) {
        json_int_t n = json_integer_value(json_object_get(usage, "completion_tokens"));
        a->answer->completion_tokens = n > 0 ? (uint64_t)n : 0;
    }
    return take_text(a, json_object_get(json_object_get(choice, part), "content"));
}

static int on_event(void *ctx, const struct sse_event *event)
{
    struct ask *a = ctx;
    json_t *v;
    if (strcmp(event->data, "[DONE]") == 0) {
        a->done = true;
        return 0;
    }
    int rc = json_parse(event->data, event->n_data, &v, a->err);
    if (rc != 0) {
        err_prefix(a->err, "the server sent an event that cannot be read: ");
        return rc;
    }
    rc = take_completion(a, v, "delta");
    json_decref(v);
    return rc;
}

static int on_data(void *ctx, const char *bytes, size_t n)
{
    struct ask *a = ctx;
    return sse_feed(&a->parser, bytes, n, on_event, a, a->err);
}

static bool on_poll(void *ctx)
{
    const struct chat_client *c = ((const struct ask *)ctx)->client;
    return c->cancelled && c->cancelled(c->ctx);
}

/* The request's body; NULL: out of memory. The caller frees. */
static char *build_body(const struct chat_client *c, json_t *messages)
{
    json_t *v = json_pack("{s:s, s:O, s:b}", "model", c->model, "messages", messages, "stream",
                          (int)c->stream);
    bool ok = v != NULL;
    if (ok && c->stream)
        ok = json_object_set_new(v, "stream_options", json_pack("{s:b}", "include_usage", 1)) == 0;
    if (ok && !isnan(c->temperature))
        ok = json_object_set_new(v, "temperature", json_real(c->temperature)) == 0;
    if (ok && c->max_tokens > 0)
        ok = json_object_set_new(v, "max_tokens", json_integer(c->max_tokens)) == 0;
    char *text = ok ? json_dumps(v, JSON_COMPACT) : NULL;
    json_decref(v);
    return text;
}

/* "the server has: a, b" behind a 404. */
static void add_models(const struct chat_client *c, struct err *e)
{
    struct buf names = {0}, line = {0};
    if (chat_models(c, &names, NULL) == 0 && names.len > 0) {
        struct err before = *e;
        char shown[SHOWN_MAX];
        for (size_t i = 0; i + 1 < names.len; i++)
            if (names.data[i] == '\n')
                buf_addstr(&line, ", ");
            else
                buf_addch(&line, names.data[i]);
        show(buf_str(&line), line.len, shown);
        err_clear(e);
        err_set(e, before.code, "%s; the server has: %s", before.msg, shown);
    }
    buf_fini(&names);
    buf_fini(&line);
}

int chat_ask(const struct chat_client *c, json_t *messages, struct chat_answer *out, struct err *e)
{
    struct ask a = {.client = c, .answer = out, .started_us = clock_now_us(), .err = e};
    struct http_request r = {
        .on_data = c->stream ? on_data : NULL, .cancelled = on_poll, .ctx = &a};
    struct http_response answer;
    char *body = build_body(c, messages);
    if (!body)
        return err_set(e, LLMD_ENOMEM, "out of memory");
    int rc = perform(c, "/v1/chat/completions", body, &r, &answer, e);
    if (rc == 0 && !c->stream) {
        json_t *v = NULL;
        rc = json_parse(buf_str(&answer.body), answer.body.len, &v, e);
        if (rc == 0)
            rc = take_completion(&a, v, "message");
        else
            err_prefix(e, "%s: ", c->url);
        json_decref(v);
    } else if (rc == 0 && !a.done)
        rc = err_set(e, LLMD_EIO, "the answer ended early: the server closed the stream");
    else if (rc == -LLMD_ENOTFOUND && e)
        add_models(c, e);
    out->total_us = clock_now_us() - a.started_us;
    sse_parser_fini(&a.parser);
    http_response_fini(&answer);
    free(body);
    return rc;
}
