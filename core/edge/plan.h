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
    const char *text;         /* [n_text], only with echo */
    size_t n_text;
};

struct plan {
    struct arena arena;
    const struct edge_model *model;
    bool chat;
    bool stream;
    bool include_usage;    /* a last chunk with usage */
    bool continuous_usage; /* usage in every chunk */
    bool echo;             /* completions: the prompt comes first */
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

/* Which body it is. */
enum plan_kind { PLAN_CHAT, PLAN_COMPLETIONS };

/* The plan borrows from the catalogue. key: whose models it may be for; NULL: all. */
MUST_CHECK int plan_parse(const struct catalog *c, const struct edge_key *key, enum plan_kind kind,
                          const char *body, size_t n, struct plan *out, struct err *e);
/* Also a zeroed or half-built plan. */
void plan_fini(struct plan *p);
/* Frees the token lists, which the requests have copied. */
void plan_drop_tokens(struct plan *p);

/* The parts of plan_parse, in this order. */
MUST_CHECK int plan_params(const json_t *body, struct plan *p, struct err *e);
MUST_CHECK int plan_chat_prompt(const json_t *body, struct plan *p, struct err *e);
MUST_CHECK int plan_completions_prompts(const json_t *body, struct plan *p, struct err *e);
/* Refuses by name what would change the output and cannot be done (unsupported.c). */
MUST_CHECK int plan_refuse_unsupported(const json_t *body, bool chat, struct err *e);

/* 1 to 128 of letters, digits and ._:- */
bool request_id_valid(const char *s);
