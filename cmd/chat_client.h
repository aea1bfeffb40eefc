/* chat_client.h - the requests of `llmd chat`: which models there are, one answer.
 *
 * Errors  one line for the user: what failed and what to do. ECANCELLED when cancelled() said so. */
#pragma once
#include <jansson.h>

#include "core/util/base.h"
#include "core/util/buf.h"
#include "core/util/err.h"

struct chat_client {
    const char *url;     /* "http://127.0.0.1:8080", as chat_client_url made it */
    const char *key;     /* NULL: none */
    const char *model;   /* of chat_ask */
    double temperature;  /* NAN: the server's default */
    uint32_t max_tokens; /* 0: the server's default */
    bool stream;

    bool (*cancelled)(void *ctx);
    /* Text of the answer as it arrives; not 0 ends the request with that code. */
    int (*on_text)(void *ctx, const char *text, size_t n);
    void *ctx;
};

struct chat_answer {
    struct buf text;
    char finish_reason[32];           /* "stop", "length"; "" when it did not end */
    uint64_t completion_tokens;       /* 0: the server did not say */
    uint64_t first_text_us, total_us; /* since the request; first_text_us 0: none came */
};

/* Checks a base URL and takes a closing "/" or "/v1" away. EINVAL. */
MUST_CHECK int chat_client_url(const char *url, struct buf *out, struct err *e);
/* Appends the models' names, a line each. */
MUST_CHECK int chat_models(const struct chat_client *c, struct buf *out, struct err *e);
/* messages: OpenAI's array of {role, content}. out is filled as far as the answer got, also on
 * failure. */
MUST_CHECK int chat_ask(const struct chat_client *c, json_t *messages, struct chat_answer *out,
                        struct err *e);
void chat_answer_fini(struct chat_answer *a);
