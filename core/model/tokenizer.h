/* tokenizer.h - text to token ids and back.
 *
 * Encoding is identical, id for id, to Hugging Face `tokenizers` for the same vocabulary, on any
 * valid UTF-8. Bytes that are not valid UTF-8 must be rejected or replaced by the caller before.
 * Bytes that no token writes are left out, as it does (SmolLM2 lacks a few control characters).
 * Time is near-linear in the text whatever it holds: a long piece without a split point is merged
 * over a tree of its ranks, not by rescanning.
 *
 * Thread  a tokenizer is immutable after _new: any number of threads may use it at once.
 *         struct detok is one stream's own state.
 * Memory  tokenizer_new copies what it needs from the spec.
 * Source  byte-level BPE: Radford et al. 2019 (GPT-2); Sennrich et al., arXiv:1508.07909. */
#pragma once
#include "core/util/base.h"
#include "core/util/buf.h"
#include "core/util/err.h"

struct tokenizer;

struct token_text {
    const char *s; /* not NUL-terminated; may hold any byte */
    size_t n;
};

enum token_kind {
    TOKEN_NORMAL,
    TOKEN_UNKNOWN,
    TOKEN_CONTROL,
    TOKEN_USER_DEFINED,
    TOKEN_UNUSED,
    TOKEN_BYTE
};

/* A vocabulary as a model file gives it; everything is borrowed for the length of the call. */
struct tokenizer_spec {
    const char *source;             /* for messages: file name */
    const char *pretokenizer;       /* "gpt-2", "smollm", ...: name of the split pattern */
    const struct token_text *texts; /* [n_tokens] in the byte-level alphabet ("Ġthe") */
    const enum token_kind *kinds;   /* [n_tokens] */
    uint32_t n_tokens;
    const struct token_text *merges; /* [n_merges] "left right", best rank first */
    uint32_t n_merges;
    int64_t bos_id, eos_id; /* -1: none */
    bool add_bos;           /* encode() with TOKENIZE_ADD_SPECIAL puts bos first */
};

struct token_list {
    uint32_t *ids;
    size_t n, cap;
};
void token_list_fini(struct token_list *l);

enum tokenize_flags {
    TOKENIZE_ADD_SPECIAL = 1,   /* add bos where the model wants it */
    TOKENIZE_PARSE_SPECIAL = 2, /* control tokens written in the text become their ids */
};

/* EUNSUPPORTED for an unknown pretokenizer (named, with the list of known ones) and for
 * SentencePiece vocabularies; EPARSE for a merge that names no token, duplicate or empty tokens,
 * ids out of range, a printable ASCII character that no token writes; ELIMIT. */
MUST_CHECK int tokenizer_new(const struct tokenizer_spec *spec, struct tokenizer **out,
                             struct err *e);
void tokenizer_free(struct tokenizer *t); /* NULL is fine */

/* Appends the ids of text to *out. User-defined tokens are always found in the text, control
 * tokens when flags ask for it. Errors: ENOMEM, EINVAL (not valid UTF-8), ETOOBIG (over 1 GiB). */
MUST_CHECK int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n,
                                unsigned flags, struct token_list *out, struct err *e);

uint32_t tokenizer_n_tokens(const struct tokenizer *t);
/* The bytes that a token stands for (byte-level alphabet undone; control tokens as written). */
struct token_text tokenizer_bytes(const struct tokenizer *t, uint32_t id);
bool tokenizer_is_control(const struct tokenizer *t, uint32_t id);
/* Id of a token by its exact written form (vocabulary text, e.g. "<|im_end|>"); -1 when absent. */
int64_t tokenizer_find(const struct tokenizer *t, const char *text, size_t n);
/* Token ids that end generation by the model's own word: the eos first, then the ends of a turn
 * among the control tokens (<|im_end|>, <|eot_id|>, <|eom_id|>); borrowed. A separator of
 * documents (<|endoftext|>) counts only where it is the eos. */
const uint32_t *tokenizer_eos_ids(const struct tokenizer *t, uint32_t *out_n);

/* A streaming detokenizer: never emits part of a character. */
struct detok {
    const struct tokenizer *tok;
    bool skip_control;
    char held[8]; /* bytes of an unfinished character */
    uint8_t n_held;
};
void detok_init(struct detok *d, const struct tokenizer *t, bool skip_control);
/* Appends the text that became complete with this token. Bytes that can never be valid become
 * U+FFFD, as `tokenizers` and Python's errors="replace" do. An id past the vocabulary (padding of
 * the embedding) adds nothing. */
void detok_push(struct detok *d, uint32_t id, struct buf *out);
/* End of stream: what is still held becomes U+FFFD. */
void detok_flush(struct detok *d, struct buf *out);
