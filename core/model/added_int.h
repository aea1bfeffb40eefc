/* added_int.h - finds added tokens written in a text.
 *
 * Of the tokens that begin at the first possible position the longest matches. What the match then
 * becomes is as in Hugging Face `tokenizers`, also where it surprises: a token that is not wanted
 * here (a control token nobody asked for, a single word inside a longer one) stays plain text and
 * is not searched again; white space that a token takes in behind itself is still searched.
 *
 * Time    linear in the text times the longest added token, which is limited.
 * Thread  immutable after added_init; struct added_scan belongs to one search. */
#pragma once
#include "core/model/text_index_int.h"
#include "core/model/tokenizer.h"

#define ADDED_MAX_BYTES 1024

enum added_flag {
    ADDED_SPECIAL = 1,
    ADDED_LSTRIP = 2,
    ADDED_RSTRIP = 4,
    ADDED_SINGLE_WORD = 8,
};

struct added {
    struct text_list texts; /* ascending; those of one first byte are neighbours */
    uint32_t *ids;          /* [n] */
    uint8_t *flags;         /* [n] enum added_flag */
    uint32_t first[257];    /* texts first[c] .. first[c + 1] - 1 begin with byte c */
    bool any_plain;         /* some are not special */
};

/* What is to be found; the array is sorted in place, and only the first of equal texts counts. */
struct added_entry {
    struct token_text text;
    uint32_t id, order; /* order: place in the list that was given */
    uint8_t flags;
};

MUST_CHECK int added_init(struct added *a, struct added_entry *entries, uint32_t n,
                          const char *source, struct err *e);
void added_fini(struct added *a); /* a zeroed one is fine, and finds nothing */

struct added_scan {
    const struct added *added;
    const char *s;
    size_t n;
    bool special;                  /* special ones are wanted */
    size_t from;                   /* where the search goes on */
    size_t taken;                  /* text before it is spoken for */
    size_t white_begin, white_end; /* a known stretch of white space */
};

struct added_match {
    size_t before;     /* plain text: s[before .. begin - 1], where begin > before */
    size_t begin, end; /* of the token; n when there is none any more */
    uint32_t id;       /* TEXT_NONE: none any more */
};

struct added_scan added_scan(const struct added *a, const char *s, size_t n, bool special);
/* The next match; after the last one, the rest of the text with the id TEXT_NONE. */
struct added_match added_next(struct added_scan *sc);
