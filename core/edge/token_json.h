/* token_json.h - what replies say of single tokens: ids, logprobs, the scores of the prompt.
 *
 * A token is written as the text of its bytes alone (U+FFFD for what is no whole character), or as
 * "token_id:N" when the client asked for that. Logarithms below -9999 are written as that. */
#pragma once
#include "core/edge/plan.h"
#include "core/request/stream.h"
#include "core/util/buf.h"

/* Tokens with their logprobs, n of them. */
struct told_tokens {
    const struct token_logprob
        *logprobs; /* [n][n_each]: the token itself, the likeliest, listed ones */
    uint32_t n, n_each;
    uint32_t n_stored_top; /* of them the likeliest; */
    uint32_t n_top;        /* so many of those are told */
    bool first_unknown;    /* the first token of a prompt: it has no logprob */
};

/* [1,2,3] */
void token_json_ids(const uint32_t *ids, size_t n, struct buf *out);
/* ["a","b"] */
void token_json_texts(const struct plan *p, const uint32_t *ids, size_t n, struct buf *out);
/* {"content":[...]} of chat. */
void token_json_chat(const struct plan *p, const struct told_tokens *t, struct buf *out);
/* {"text_offset":[...],...} of completions: one or two pieces, the prompt and what was generated.
 * *offset: characters of the text before; counted on. */
void token_json_completions(const struct plan *p, const struct told_tokens pieces[],
                            uint32_t n_pieces, size_t *offset, struct buf *out);
/* Field prompt_logprobs: [null,{"<id>":{"logprob","rank","decoded_token"}},...]. */
void token_json_prompt(const struct plan *p, const struct told_tokens *t, const uint32_t *ranks,
                       struct buf *out);
