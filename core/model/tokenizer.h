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
 * Source  byte-level BPE: Radford et al. 2019 (GPT-2); Sennrich et al., arXiv:1508.07909. BPE with
 *         scores and byte fallback: Kudo and Richardson, arXiv:1808.06226 (SentencePiece). */
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

/* How a vocabulary writes text. */
enum tokenizer_form {
    TOKENIZER_BYTE_LEVEL, /* bytes in GPT-2's alphabet ("Ġthe"); a split pattern cuts the text */
    TOKENIZER_SPM,        /* plain text, U+2581 for a space ("\xe2\x96\x81the"); no split pattern */
};

/* TOKENIZER_SPM: where U+2581 is put in front. A stretch is what lies between added tokens. */
enum space_prefix {
    SPACE_PREFIX_NONE,
    SPACE_PREFIX_EVERY,  /* of every stretch: the normalizer Prepend, add_space_prefix of GGUF */
    SPACE_PREFIX_ABSENT, /* of every stretch without one: Metaspace, prepend_scheme "always" */
    SPACE_PREFIX_FIRST,  /* the same, only where the text begins: prepend_scheme "first" */
};

/* A token that is looked for in the text before anything else: an entry of "added_tokens". */
struct added_token {
    struct token_text text;
    uint32_t id;
    bool special;        /* a control token: found only when asked, left out when skipped */
    bool lstrip, rstrip; /* takes in the white space before, behind it */
    bool single_word;    /* only where no word character stands beside it */
    bool normalized;     /* looked for in the normalized text, in its own normalized form */
};

struct merge_pair {
    struct token_text left, right;
};

/* A vocabulary as a model file gives it; everything is borrowed for the length of the call. What
 * is zero is not there: a spec that sets nothing behind add_bos is that of a GGUF file of the
 * "gpt2" kind. */
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

    enum tokenizer_form form;
    /* Instead of merges, one of: pairs (their texts may hold spaces); for TOKENIZER_SPM, scores:
     * the adjacent pair whose joined token scores best is merged first, the leftmost of equals. */
    const struct merge_pair *merge_pairs; /* [n_merges] */
    const float *scores;                  /* [n_tokens] */
    bool ignore_merges;                   /* a piece that is a token becomes it unmerged */
    bool has_unk;                         /* unk_id stands for characters that no token writes */
    bool fuse_unk;                        /* one for a whole run of them */
    uint32_t unk_id;
    bool nfc; /* text is brought to normalization form C */

    bool add_prefix_space; /* TOKENIZER_BYTE_LEVEL: a stretch begins with a space, one is put there
                            * where it does not (ByteLevel's flag, where it alone splits) */

    /* TOKENIZER_SPM; pretokenizer is NULL. */
    enum space_prefix space_prefix;
    /* A normalizer writes U+2581 for a space, before normalized added tokens are looked for;
     * with SPACE_PREFIX_EVERY it is so anyway. */
    bool spaces_normalized;
    bool split_spaces;      /* Metaspace with split: nothing is merged across a space */
    bool byte_fallback;     /* characters that no token writes become tokens "<0xNN>" */
    bool strip_first_space; /* decoding drops a space that the whole text begins with */
    bool drop_first_spaces; /* decoding drops each U+2581 of the first token (decoder Metaspace) */
    bool bytes_as_text;     /* decoding leaves byte tokens as they are written, "<0xNN>" */

    /* Tokens found in the text. has_added: exactly these, which may name ids whose texts[id] is
     * empty (kind TOKEN_UNUSED), i.e. that are not in the model's own vocabulary; they also decide
     * which tokens are control and which user-defined: kinds[] says TOKEN_NORMAL. Not has_added:
     * every token of kind CONTROL, UNKNOWN and USER_DEFINED, without flags, as GGUF has it.
     * Ids that nobody names (texts[id] empty, TOKEN_UNUSED) are holes: fine, never made, and
     * decoded as nothing. */
    bool has_added;
    const struct added_token *added; /* [n_added] */
    uint32_t n_added;

    /* TOKENIZE_ADD_SPECIAL puts these around the text (add_bos, if set, comes before them). */
    const uint32_t *prefix_ids, *suffix_ids;
    uint32_t n_prefix_ids, n_suffix_ids;
    /* Further ids that end generation. eos_complete: that is the model's whole word; otherwise
     * control tokens that are known ends of a turn are counted too. */
    const uint32_t *eos_ids;
    uint32_t n_eos_ids;
    bool eos_complete;
};

/* One step of a pre-tokenizer of the byte-level kind, in order. */
enum split_step_kind {
    SPLIT_REGEX,      /* Split, behavior Isolated, not inverted: regex holds the pattern's source */
    SPLIT_DIGITS,     /* Digits with individual_digits */
    SPLIT_BYTE_LEVEL, /* ByteLevel with use_regex (one without it is no step) */
};
struct split_step {
    enum split_step_kind kind;
    struct token_text regex;
};

/* Name of the split pattern (tokenizer_spec.pretokenizer) that these steps make; NULL when it is
 * not known. Steps must be byte for byte those of a known model; no steps are the pattern "none":
 * a stretch is one piece. */
const char *tokenizer_find_pretokenizer(const struct split_step steps[], size_t n);

struct token_list {
    uint32_t *ids;
    size_t n, cap;
};
void token_list_fini(struct token_list *l);

enum tokenize_flags {
    TOKENIZE_ADD_SPECIAL = 1,   /* add bos where the model wants it */
    TOKENIZE_PARSE_SPECIAL = 2, /* control tokens written in the text become their ids */
};

/* EUNSUPPORTED for an unknown pretokenizer (named, with the list of known ones) and for byte
 * tokens in a byte-level vocabulary; EPARSE for a merge that names no token, duplicate or empty
 * tokens, ids out of range, a printable ASCII character that no token writes; ELIMIT. */
MUST_CHECK int tokenizer_new(const struct tokenizer_spec *spec, struct tokenizer **out,
                             struct err *e);
void tokenizer_free(struct tokenizer *t); /* NULL is fine */

/* Appends the ids of text to *out. User-defined tokens are always found in the text, control
 * tokens when flags ask for it. Errors: ENOMEM, EINVAL (not valid UTF-8), ETOOBIG (over 1 GiB; over
 * 512 MiB where text is normalized). */
MUST_CHECK int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n,
                                unsigned flags, struct token_list *out, struct err *e);

uint32_t tokenizer_n_tokens(const struct tokenizer *t);
/* Name of the split pattern ("gpt-2", "llama3", ...); NULL: TOKENIZER_SPM. */
const char *tokenizer_pretokenizer(const struct tokenizer *t);
/* The bytes that a token stands for (byte-level alphabet undone; control tokens as written). */
struct token_text tokenizer_bytes(const struct tokenizer *t, uint32_t id);
bool tokenizer_is_control(const struct tokenizer *t, uint32_t id);
/* Id of a token by its exact written form (vocabulary text, e.g. "<|im_end|>"); -1 when absent. */
int64_t tokenizer_find(const struct tokenizer *t, const char *text, size_t n);
/* Token ids that end generation by the model's own word: the eos first, then the ends of a turn
 * among the control tokens (<|im_end|>, <|eot_id|>, <|eom_id|>); borrowed. A separator of
 * documents (<|endoftext|>) counts only where it is the eos. */
const uint32_t *tokenizer_eos_ids(const struct tokenizer *t, uint32_t *out_n);

/* A streaming detokenizer: never emits part of a character. In a vocabulary with byte fallback a
 * run of byte tokens comes out at its end, as `tokenizers` decides about a run as a whole; a run
 * longer than DETOK_RUN_BYTES, in parts. */
#define DETOK_RUN_BYTES 256
struct detok {
    const struct tokenizer *tok;
    bool skip_control;
    bool strip;      /* nothing came out yet, and spaces in front are to be dropped */
    uint16_t n_held; /* bytes of an unfinished character, or run */
    char held[DETOK_RUN_BYTES];
};
/* The text begins here: a vocabulary that puts a space before every text loses it again. */
void detok_init(struct detok *d, const struct tokenizer *t, bool skip_control);
/* To be called behind detok_init where the text goes on after other text: nothing is dropped. */
void detok_after_text(struct detok *d);
/* Appends the text that became complete with this token. Bytes that can never be valid become
 * U+FFFD, as `tokenizers` and Python's errors="replace" do. An id past the vocabulary (padding of
 * the embedding) adds nothing. */
void detok_push(struct detok *d, uint32_t id, struct buf *out);
/* End of stream: what is still held becomes U+FFFD. */
void detok_flush(struct detok *d, struct buf *out);
