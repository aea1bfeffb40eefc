#include "core/bench/answer.h"

#include <string.h>

#include "core/util/json_reader.h"
#include "core/util/printable.h"

/* What one JSON value said. */
struct piece {
    struct answer *answer;
    bool text;
    struct json_reader r;
};

void answer_reset(struct answer *a)
{
    struct answer fresh = {.stream = a->stream,
                           .keep_text = a->keep_text,
                           .on_text = a->on_text,
                           .ctx = a->ctx,
                           .text = a->text,
                           .events = a->events,
                           .body = a->body};
    sse_parser_reset(&fresh.events);
    buf_clear(&fresh.text);
    buf_clear(&fresh.body);
    *a = fresh;
}

void answer_fini(struct answer *a)
{
    sse_parser_fini(&a->events);
    buf_fini(&a->text);
    buf_fini(&a->body);
}

/* An unsigned number; anything else is passed over. */
static void read_count(struct json_reader *r, uint32_t *out)
{
    struct json_str raw;
    uint64_t v = 0;
    if (!json_skip(r, &raw))
        return;
    for (size_t i = 0; i < raw.n && v <= UINT32_MAX; i++) {
        if (raw.s[i] < '0' || raw.s[i] > '9')
            return;
        v = 10 * v + (uint64_t)(raw.s[i] - '0');
    }
    *out = (uint32_t)u64_min(v, UINT32_MAX);
}

static void read_usage(struct piece *p)
{
    struct json_str key;
    struct json_reader *r = &p->r;
    if (json_peek(r) != '{') {
        (void)json_skip(r, NULL);
        return;
    }
    json_open_object(r);
    while (json_next_key(r, &key)) {
        if (json_str_is(key, "prompt_tokens"))
            read_count(r, &p->answer->prompt_tokens);
        else if (json_str_is(key, "completion_tokens"))
            read_count(r, &p->answer->completion_tokens);
        else if (json_str_is(key, "prompt_tokens_details") && json_peek(r) == '{') {
            json_open_object(r);
            while (json_next_key(r, &key))
                if (json_str_is(key, "cached_tokens"))
                    read_count(r, &p->answer->cached_tokens);
                else
                    (void)json_skip(r, NULL);
        } else
            (void)json_skip(r, NULL);
    }
    p->answer->has_usage = r->rc == 0;
}

/* A string that is not empty, or a list of tool calls, is text. */
static void read_text(struct piece *p, bool keep)
{
    struct json_str raw;
    char c = json_peek(&p->r);
    if (!json_skip(&p->r, &raw) || (c != '"' && c != '[') || raw.n <= 2)
        return;
    p->text = true;
    if (keep && c == '"' && p->answer->keep_text)
        buf_add(&p->answer->text, raw.s + 1, raw.n - 2);
}

/* "delta" or "message" of a chat. */
static void read_delta(struct piece *p)
{
    struct json_str key;
    if (json_peek(&p->r) != '{') {
        (void)json_skip(&p->r, NULL);
        return;
    }
    json_open_object(&p->r);
    while (json_next_key(&p->r, &key)) {
        if (json_str_is(key, "content"))
            read_text(p, true);
        else if (json_str_is(key, "reasoning_content") || json_str_is(key, "reasoning") ||
                 json_str_is(key, "tool_calls"))
            read_text(p, false);
        else
            (void)json_skip(&p->r, NULL);
    }
}

static void read_choices(struct piece *p)
{
    struct json_str key;
    if (json_peek(&p->r) != '[') {
        (void)json_skip(&p->r, NULL);
        return;
    }
    json_open_array(&p->r);
    while (json_next_item(&p->r)) {
        if (json_peek(&p->r) != '{') {
            (void)json_skip(&p->r, NULL);
            continue;
        }
        json_open_object(&p->r);
        while (json_next_key(&p->r, &key)) {
            if (json_str_is(key, "delta") || json_str_is(key, "message"))
                read_delta(p);
            else if (json_str_is(key, "text"))
                read_text(p, true);
            else
                (void)json_skip(&p->r, NULL);
        }
    }
}

/* The value of "error": a text, or an object with a message. */
static void read_error(struct json_reader *r, char *out, size_t n_out)
{
    struct json_str key, text;
    if (json_peek(r) == '"') {
        if (json_read_str(r, &text))
            printable_text(text.s, text.n, "", out, n_out);
        return;
    }
    if (json_peek(r) != '{') {
        (void)json_skip(r, NULL);
        return;
    }
    json_open_object(r);
    while (json_next_key(r, &key)) {
        if (json_str_is(key, "message") && json_peek(r) == '"')
            read_error(r, out, n_out);
        else
            (void)json_skip(r, NULL);
    }
}

/* One chunk of a stream, or the whole of an answer. */
static int take_value(struct answer *a, const char *text, size_t n, struct err *e)
{
    struct arena arena;
    struct piece p = {.answer = a};
    struct json_str key;
    arena_init(&arena, ANSWER_MAX_BODY);
    json_reader_init(&p.r, text, n, &arena, e);
    json_open_object(&p.r);
    while (json_next_key(&p.r, &key)) {
        if (json_str_is(key, "choices"))
            read_choices(&p);
        else if (json_str_is(key, "usage"))
            read_usage(&p);
        else if (json_str_is(key, "error") && json_peek(&p.r) != 'n') {
            a->error = true;
            read_error(&p.r, a->message, sizeof(a->message));
        } else
            (void)json_skip(&p.r, NULL);
    }
    json_end(&p.r);
    arena_fini(&arena);
    if (p.r.rc != 0) {
        err_prefix(e, "the server sent an answer that cannot be read: ");
        return p.r.rc;
    }
    if (a->text.failed)
        return err_set(e, LLMD_ENOMEM, "out of memory for an answer");
    if (p.text) {
        a->n_pieces++;
        if (a->on_text)
            a->on_text(a->ctx);
    }
    return 0;
}

static int on_event(void *ctx, const struct sse_event *event)
{
    struct answer *a = ctx;
    if (strcmp(event->data, "[DONE]") == 0) {
        a->done = true;
        return 0;
    }
    return take_value(a, event->data, event->n_data, a->err);
}

int answer_feed(struct answer *a, const char *bytes, size_t n, struct err *e)
{
    if (a->stream) {
        a->err = e;
        return sse_feed(&a->events, bytes, n, on_event, a, e);
    }
    if (n > ANSWER_MAX_BODY - a->body.len)
        return err_set(e, LLMD_ETOOBIG, "the answer is larger than %d bytes", ANSWER_MAX_BODY);
    buf_add(&a->body, bytes, n);
    return a->body.failed ? err_set(e, LLMD_ENOMEM, "out of memory for an answer") : 0;
}

int answer_end(struct answer *a, struct err *e)
{
    if (!a->stream) {
        int rc = take_value(a, buf_str(&a->body), a->body.len, e);
        a->done = rc == 0;
        return rc;
    }
    if (a->done || a->error)
        return 0;
    return err_set(e, LLMD_EIO, "the stream ended without [DONE]");
}

void answer_error_text(const char *body, size_t n, char *out, size_t n_out)
{
    struct arena arena;
    struct json_reader r;
    struct json_str key;
    out[0] = '\0';
    arena_init(&arena, ANSWER_MAX_BODY);
    json_reader_init(&r, body, n, &arena, NULL);
    if (json_peek(&r) == '{') {
        json_open_object(&r);
        while (json_next_key(&r, &key)) {
            if (json_str_is(key, "error") || json_str_is(key, "message") ||
                json_str_is(key, "detail"))
                read_error(&r, out, n_out);
            else
                (void)json_skip(&r, NULL);
        }
    }
    arena_fini(&arena);
    if (out[0] == '\0')
        printable_text(body, n, "", out, n_out);
}
