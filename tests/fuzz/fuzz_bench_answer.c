/* fuzz_bench_answer.c - any bytes as a server's response to a streamed request, in one piece and cut
 * in two places: the same reading. */
#include <stdlib.h>
#include <string.h>

#include "core/bench/answer.h"
#include "core/bench/response.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct reading {
    struct response response;
    struct answer answer;
    struct buf refusal;
    struct err err;
    uint32_t n_pieces;
    int rc;
};

static void on_text(void *ctx)
{
    ((struct reading *)ctx)->n_pieces++;
}

static int on_body(void *ctx, const char *bytes, size_t n)
{
    struct reading *r = ctx;
    if (r->response.status / 100 == 2)
        return answer_feed(&r->answer, bytes, n, &r->err);
    buf_add(&r->refusal, bytes, n);
    return 0;
}

static void feed(struct reading *r, const char *bytes, size_t n)
{
    if (r->rc == 0)
        r->rc = response_feed(&r->response, bytes, n, on_body, r, &r->err);
}

static void end(struct reading *r)
{
    char shown[ANSWER_SHOWN];
    if (r->rc == 0)
        r->rc = response_close(&r->response, &r->err);
    if (r->rc == 0)
        r->rc = answer_end(&r->answer, &r->err);
    BUG_ON((r->rc != 0) != (r->err.code != 0));
    BUG_ON(r->n_pieces != r->answer.n_pieces);
    answer_error_text(buf_str(&r->refusal), r->refusal.len, shown, sizeof(shown));
}

static void start(struct reading *r, bool stream)
{
    *r = (struct reading){.answer = {.stream = stream, .keep_text = true, .on_text = on_text}};
    r->answer.ctx = r;
}

static void fini(struct reading *r)
{
    response_fini(&r->response);
    answer_fini(&r->answer);
    buf_fini(&r->refusal);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct reading a, b;
    if (n-- < 1)
        return 0;
    const char *bytes = (const char *)data + 1;
    size_t cut = n * (data[0] >> 1) / 127;
    start(&a, data[0] & 1);
    start(&b, data[0] & 1);
    feed(&a, bytes, n);
    feed(&b, bytes, cut);
    feed(&b, bytes + cut, n - cut);
    end(&a);
    end(&b);
    BUG_ON(a.rc != b.rc || a.n_pieces != b.n_pieces || a.response.status != b.response.status);
    BUG_ON((a.rc == 0 && a.response.state != b.response.state) || a.answer.done != b.answer.done);
    BUG_ON(a.answer.text.len != b.answer.text.len || a.refusal.len != b.refusal.len);
    BUG_ON(a.answer.completion_tokens != b.answer.completion_tokens);
    fini(&a);
    fini(&b);
    return 0;
}
