/* choice.h - from the tokens of one choice to the text that its client may see.
 *
 * Token by token: detokenize, look for stop strings, hold back what may still become one. The
 * text that is safe to send is text[0 .. choice_safe()).
 *
 * Invariants  I1: finish, once set, stays; later items change nothing and are not counted.
 *             I2: text is valid UTF-8 and no stop string ever gets into the safe part (unless
 *                 the client asked to see it, then as the very end).
 * Thread      confined to the connection's loop. */
#pragma once
#include "core/edge/stop_match.h"
#include "core/model/tokenizer.h"
#include "core/request/stream.h"
#include "core/util/base.h"
#include "core/util/buf.h"

/* The same for all choices of a reply. */
struct choice_rules {
    const struct tokenizer *tokenizer;
    struct stop_set stops;
    uint32_t min_tokens;      /* stop strings that complete earlier do not count */
    bool skip_special_tokens; /* control tokens are not shown */
    bool include_stop;        /* the stop string or token is shown */
    bool keep_ids;            /* remember the ids of the tokens, */
    uint32_t n_logprobs;      /* and so many logprobs of each; 0: none */
    bool continues;           /* the text goes on where the prompt ends: a space in front stays */
};

struct choice {
    struct stop_match match;
    struct buf text;     /* visible and not yet sent */
    struct buf ids;      /* uint32_t of each token that was not sent yet; when they are kept */
    struct buf logprobs; /* likewise: rules.n_logprobs struct token_logprob of each */
    size_t text_offset;  /* logprobs of completions: characters of the tokens told so far */
    uint32_t n_unsent;   /* tokens since choice_sent() */
    uint32_t n_tokens;   /* generated, including the one that ended it */
    uint8_t finish;      /* enum finish_reason */
    int8_t stop_string;  /* index of the stop string that ended it; -1 */
    int64_t stop_id;     /* the client's stop id that ended it; -1 */
    struct detok detok;  /* large, and mostly not looked at */
};

void choice_init(struct choice *c, const struct choice_rules *rules);
void choice_fini(struct choice *c);
/* Takes the next item; ignored when the choice has finished. */
void choice_take(struct choice *c, const struct choice_rules *rules,
                 const struct stream_item *item);
/* Length of the part of text that may be sent. */
size_t choice_safe(const struct choice *c, const struct choice_rules *rules);
/* Forgets text[0..choice_safe()) and all about tokens, which was sent. */
void choice_sent(struct choice *c, const struct choice_rules *rules);
