/* vocab_int.h - the tokens of a tokenizer: written form, bytes, kind.
 *
 * The byte-level alphabet writes each of the 256 bytes as one printable character: those that
 * are printable in Latin-1 as themselves, the others as U+0100 and up in ascending order, so that
 * a space is "Ġ". A normal token stands for the bytes that its characters stand for; a token with
 * a character outside the alphabet, or of another kind, stands for its written form.
 *
 * In a SentencePiece-style vocabulary U+2581 is a space; a token "<0xNN>" is one byte where bytes
 * are fallen back to; every other token stands for its written form.
 *
 * Invariants  I1: written forms are valid UTF-8, and no two are equal; only that of a hole is
 *                 empty, and it is not found.
 * Thread      immutable after vocab_init.
 * Source      the alphabet: Radford et al. 2019 (bytes_to_unicode of GPT-2). */
#pragma once
#include "core/model/text_index_int.h"
#include "core/model/tokenizer.h"

#define VOCAB_MAX_TOKENS (1u << 24)

#define SPM_SPACE   "\xe2\x96\x81" /* U+2581 */
#define SPM_SPACE_N 3u

enum vocab_flag {
    VOCAB_EXTRA = 1,   /* an added token that the model's own vocabulary does not have, or a hole */
    VOCAB_SPELLED = 2, /* the written form is in the byte-level alphabet and read by it */
    VOCAB_BYTE = 4,    /* a byte that is fallen back to */
};

struct vocab {
    struct text_list written;
    struct text_list bytes;
    struct text_index by_written;
    uint8_t *kinds; /* [n] enum token_kind */
    uint8_t *flags; /* [n] enum vocab_flag */
    uint32_t n;
    size_t max_written_bytes; /* longest written form */
};

/* forms: [n_added] what each added token is decoded as, its normalized form. */
MUST_CHECK int vocab_init(struct vocab *v, const struct tokenizer_spec *spec,
                          const struct token_text *forms, struct err *e);
void vocab_fini(struct vocab *v); /* a zeroed vocab is fine */
/* Id of a written form, or TEXT_NONE. */
uint32_t vocab_find(const struct vocab *v, const char *s, size_t n);
/* The same in the model's own vocabulary, which merging knows. */
uint32_t vocab_find_own(const struct vocab *v, const char *s, size_t n);
/* For each byte the id of the token that writes it alone, or TEXT_NONE: by the byte-level
 * alphabet; as "<0xNN>". */
void vocab_byte_ids(const struct vocab *v, uint32_t out_ids[256]);
void vocab_fallback_ids(const struct vocab *v, uint32_t out_ids[256]);

/* A text from a model file as it may stand in a message: cut short, what a
 * terminal would act on escaped. */
struct quoted {
    char s[48];
};
struct quoted quote_text(const char *s, size_t n);
