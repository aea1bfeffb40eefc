#include "core/edge/token_json.h"

#include <string.h>

#include "core/util/json.h"
#include "core/util/utf8.h"

static const float LEAST = -9999.0f;

void token_json_ids(const uint32_t *ids, size_t n, struct buf *out)
{
    for (size_t i = 0; i < n; i++)
        buf_addf(out, "%c%u", i ? ',' : '[', ids[i]);
    buf_addstr(out, n ? "]" : "[]");
}

/* The bytes of a token; none for ids that only pad the embedding. */
static struct token_text bytes_of(const struct plan *p, uint32_t id)
{
    if (id >= tokenizer_n_tokens(p->rules.tokenizer))
        return (struct token_text){"", 0};
    return tokenizer_bytes(p->rules.tokenizer, id);
}

/* Its text as tokens are shown. */
static void add_text(const struct plan *p, uint32_t id, struct buf *out)
{
    const struct token_text bytes = bytes_of(p, id);
    if (p->tokens_as_ids)
        buf_addf(out, "token_id:%u", id);
    else
        utf8_add_lossy(out, bytes.s, bytes.n);
}

/* The same as a JSON string. */
static void add_token(const struct plan *p, uint32_t id, struct buf *out)
{
    const struct token_text bytes = bytes_of(p, id);
    if (p->tokens_as_ids)
        buf_addf(out, "\"token_id:%u\"", id);
    else
        json_add_str(out, bytes.s, bytes.n);
}

void token_json_texts(const struct plan *p, const uint32_t *ids, size_t n, struct buf *out)
{
    buf_addch(out, '[');
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            buf_addch(out, ',');
        add_token(p, ids[i], out);
    }
    buf_addch(out, ']');
}

static void add_logprob(float v, struct buf *out)
{
    buf_addf(out, "%.9g", (double)(v > LEAST ? v : LEAST));
}

static bool is_left_out(const struct told_tokens *t, uint32_t i)
{
    return i > t->n_top && i <= t->n_stored_top;
}

/* Whether entry i of a token's logprobs is to be told: it is a token, wanted, and none of the entries
 * from `first` on has told it before. */
static bool is_told(const struct told_tokens *t, const struct token_logprob *of, uint32_t first,
                    uint32_t i)
{
    if (of[i].token == STREAM_NO_TOKEN || is_left_out(t, i))
        return false;
    for (uint32_t k = first; k < i; k++)
        if (of[k].token == of[i].token && !is_left_out(t, k))
            return false;
    return true;
}

/* --- chat --- */

/* "token":...,"logprob":...,"bytes":[...] */
static void add_entry(const struct plan *p, const struct token_logprob *of, struct buf *out)
{
    const struct token_text bytes = bytes_of(p, of->token);
    buf_addstr(out, "\"token\":");
    add_token(p, of->token, out);
    buf_addstr(out, ",\"logprob\":");
    add_logprob(of->logprob, out);
    buf_addstr(out, ",\"bytes\":[");
    for (size_t i = 0; i < bytes.n; i++)
        buf_addf(out, "%s%u", i ? "," : "", (unsigned)(unsigned char)bytes.s[i]);
    buf_addch(out, ']');
}

void token_json_chat(const struct plan *p, const struct told_tokens *t, struct buf *out)
{
    buf_addstr(out, "{\"content\":[");
    for (uint32_t i = 0; i < t->n; i++) {
        const struct token_logprob *of = t->logprobs + (size_t)i * t->n_each;
        const char *comma = "";
        buf_addstr(out, i ? ",{" : "{");
        add_entry(p, of, out);
        buf_addstr(out, ",\"top_logprobs\":[");
        for (uint32_t k = 1; k < t->n_each; k++) {
            if (!is_told(t, of, 1, k))
                continue;
            buf_addf(out, "%s{", comma);
            add_entry(p, &of[k], out);
            buf_addch(out, '}');
            comma = ",";
        }
        buf_addstr(out, "]}");
    }
    buf_addstr(out, "]}");
}

/* --- completions --- */

static size_t n_characters(const struct buf *text)
{
    size_t n = 0;
    for (size_t i = 0; i < text->len; i++)
        n += ((unsigned char)text->data[i] & 0xc0) != 0x80;
    return n;
}

/* What is written of every token in turn. */
enum column { TEXT_OFFSET, TOKEN_LOGPROBS, TOKENS, TOP_LOGPROBS };

/* {"token":logprob,...}: the token itself and the likeliest. Tokens may look alike: the first is told. */
static void add_top(const struct plan *p, const struct told_tokens *t,
                    const struct token_logprob *of, struct buf *out)
{
    size_t begins[1 + MAX_TOP_LOGPROBS + MAX_LOGPROB_IDS + 1] = {0};
    struct buf texts = {0};
    uint32_t n = 0;
    buf_addch(out, '{');
    for (uint32_t i = 0; i < t->n_each; i++) {
        if (!is_told(t, of, 0, i))
            continue;
        add_text(p, of[i].token, &texts);
        const char *s = buf_str(&texts);
        size_t len = texts.len - begins[n];
        bool again = false;
        for (uint32_t k = 0; k < n; k++)
            again |=
                begins[k + 1] - begins[k] == len && memcmp(s + begins[k], s + begins[n], len) == 0;
        if (again) {
            buf_truncate(&texts, begins[n]);
            continue;
        }
        if (n > 0)
            buf_addch(out, ',');
        json_add_str(out, s + begins[n], len);
        buf_addch(out, ':');
        add_logprob(of[i].logprob, out);
        begins[++n] = texts.len;
    }
    buf_addch(out, '}');
    out->failed |= texts.failed;
    buf_fini(&texts);
}

static void add_offset(const struct plan *p, uint32_t id, size_t *offset, struct buf *out)
{
    struct buf text = {0};
    buf_addf(out, "%zu", *offset);
    add_text(p, id, &text);
    *offset += n_characters(&text);
    out->failed |= text.failed;
    buf_fini(&text);
}

static void add_cell(const struct plan *p, const struct told_tokens *t, uint32_t i,
                     enum column column, size_t *offset, struct buf *out)
{
    const struct token_logprob *of = t->logprobs + (size_t)i * t->n_each;
    const bool unknown = t->first_unknown && i == 0;
    switch (column) {
    case TEXT_OFFSET:
        add_offset(p, of->token, offset, out);
        return;
    case TOKENS:
        add_token(p, of->token, out);
        return;
    case TOKEN_LOGPROBS:
        if (unknown)
            buf_addstr(out, "null");
        else
            add_logprob(of->logprob, out);
        return;
    case TOP_LOGPROBS:
        if (unknown)
            buf_addstr(out, "null");
        else
            add_top(p, t, of, out);
        return;
    }
}

void token_json_completions(const struct plan *p, const struct told_tokens pieces[],
                            uint32_t n_pieces, size_t *offset, struct buf *out)
{
    static const char *const names[] = {[TEXT_OFFSET] = "{\"text_offset\":[",
                                        [TOKEN_LOGPROBS] = "],\"token_logprobs\":[",
                                        [TOKENS] = "],\"tokens\":[",
                                        [TOP_LOGPROBS] = "],\"top_logprobs\":["};
    for (size_t column = 0; column < ARRAY_LEN(names); column++) {
        const char *comma = "";
        buf_addstr(out, names[column]);
        for (uint32_t k = 0; k < n_pieces; k++)
            for (uint32_t i = 0; i < pieces[k].n; i++) {
                buf_addstr(out, comma);
                add_cell(p, &pieces[k], i, (enum column)column, offset, out);
                comma = ",";
            }
    }
    buf_addstr(out, "]}");
}

/* --- prompts --- */

void token_json_prompt(const struct plan *p, const struct told_tokens *t, const uint32_t *ranks,
                       struct buf *out)
{
    buf_addch(out, '[');
    for (uint32_t i = 0; i < t->n; i++) {
        const struct token_logprob *of = t->logprobs + (size_t)i * t->n_each;
        buf_addstr(out, i == 0 ? "null" : ",{");
        for (uint32_t k = 0; i > 0 && k < t->n_each; k++) {
            if (!is_told(t, of, 0, k))
                continue;
            buf_addf(out, "%s\"%u\":{\"logprob\":", k ? "," : "", of[k].token);
            add_logprob(of[k].logprob, out);
            buf_addf(out, ",\"rank\":%u,\"decoded_token\":", k ? k : ranks[i]);
            add_token(p, of[k].token, out);
            buf_addch(out, '}');
        }
        if (i > 0)
            buf_addch(out, '}');
    }
    buf_addch(out, ']');
}
