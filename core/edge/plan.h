/* plan.h - what a chat or completions body asks for, checked and tokenized.
 *
 *   body bytes -> JSON -> parameters (params.c) -> prompts (api_chat.c, api_completions.c)
 *
 * JSON ends here: a plan holds no json_t. generate.c turns it into one struct request per prompt.
 *
 * Thread  any one; touches nothing shared but the immutable models.
 * Errors  EINVAL, EPARSE, ELIMIT, EUNSUPPORTED, ECONTEXT, ENOTFOUND (model) with the field in
 *         e->param; ENOMEM. The plan is to be freed either way. */
#pragma once
#include <jansson.h>

#include "core/edge/catalog.h"
#include "core/edge/choice.h"
#include "core/model/tokenizer.h"
#include "core/request/request.h"
#include "core/util/arena.h"
#include "core/util/base.h"
#include "core/util/err.h"

enum {
    PLAN_MAX_CHOICES = 128,  /* n */
    PLAN_MAX_PROMPTS = 1024, /* of one completions body; also prompts times n */
};

struct plan_prompt {
    struct token_list tokens; /* n >= 1, and one more fits the context */
    const char *text;         /* [n_text], only with echo: what comes before the generated text */
    size_t n_text;
    const char *rendered; /* [n_rendered], only with return_prompt_text: by the chat template */
    size_t n_rendered;
};

struct plan {
    struct arena arena;
    const struct edge_model *model;
    bool chat;
    bool stream;
    bool include_usage;    /* a last chunk with usage */
    bool continuous_usage; /* usage in every chunk */
    bool echo; /* the prompt comes first; of a chat, its last message when that goes on */
    bool return_token_ids;
    bool return_token_strs;    /* tokenize */
    bool tokens_as_ids;        /* logprobs name tokens by their ids */
    bool return_prompt_text;   /* chat: what the template made of the messages */
    bool tell_prompt_logprobs; /* as field prompt_logprobs (echo with logprobs tells them, too): */
    uint32_t n_tell_prompt;    /* with so many of the most likely */
    uint32_t stream_interval;  /* tokens of an event; >= 1 */
    size_t max_prompt;         /* tokens; longer prompts are cut, */
    bool keep_prompt_begin;    /* at their end; else at their beginning */
    unsigned tokenize_flags;
    struct choice_rules rules;
    struct sampling_params sampling; /* arrays in the arena; n >= 1; max_tokens not clamped yet: */
    bool no_max_tokens;              /* as many as the context takes */
    bool no_output;                  /* max_tokens = 0: nothing is generated */
    struct plan_prompt *prompts;     /* [n_prompts] */
    uint32_t n_prompts;
    int64_t priority; /* lower first */
    bool has_priority;
    uint64_t cache_salt;
    uint64_t session;       /* request_session(); 0: none */
    const char *request_id; /* the client's; NULL */
};

/* Which body it is; PLAN_EITHER: what has messages is a chat. */
enum plan_kind { PLAN_CHAT, PLAN_COMPLETIONS, PLAN_EITHER };

/* The plan borrows from the catalogue. key: whose models it may be for; NULL: all. */
MUST_CHECK int plan_parse(const struct catalog *c, const struct edge_key *key, enum plan_kind kind,
                          const char *body, size_t n, struct plan *out, struct err *e);
/* The bodies of /tokenize and /detokenize (plan_tokens.c): the tokens, respectively the text, of what
 * is then the only prompt. */
MUST_CHECK int plan_tokenize(const struct catalog *c, const struct edge_key *key, const char *body,
                             size_t n, struct plan *out, struct err *e);
MUST_CHECK int plan_detokenize_body(const struct catalog *c, const struct edge_key *key,
                                    const char *body, size_t n, struct plan *out, struct err *e);
/* Also a zeroed or half-built plan. */
void plan_fini(struct plan *p);
/* Frees the token lists, which the requests have copied. */
void plan_drop_tokens(struct plan *p);

/* The parts of plan_parse, in this order. */
MUST_CHECK int plan_parse_object(const char *body, size_t n, json_t **out, struct err *e);
MUST_CHECK int plan_choose_model(const struct catalog *c, const struct edge_key *key,
                                 const json_t *body, struct plan *p, struct err *e);
MUST_CHECK int plan_params(const json_t *body, struct plan *p, struct err *e);
MUST_CHECK int plan_chat_prompt(const json_t *body, struct plan *p, struct err *e);
MUST_CHECK int plan_completions_prompts(const json_t *body, struct plan *p, struct err *e);
/* Refuses by name what would change the output and cannot be done (unsupported.c). */
MUST_CHECK int plan_refuse_unsupported(const json_t *body, bool chat, struct err *e);

/* Cuts the prompt to max_prompt tokens, as truncate_prompt_tokens says. True: something was cut. */
bool plan_truncate(const struct plan *p, struct token_list *tokens);
/* The text of token ids, in the plan's arena. */
MUST_CHECK int plan_detokenize(struct plan *p, const uint32_t *ids, size_t n, const char **out,
                               size_t *out_n, struct err *e);

/* 1 to 128 of letters, digits and ._:- */
bool request_id_valid(const char *s);
