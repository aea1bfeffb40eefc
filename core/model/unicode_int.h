/* unicode_int.h - character classes for the split patterns of tokenizers.
 *
 * A class is one bit; a code point may have several. The generated runs are spread out once into
 * a table of the first two planes, so that looking up a character is one load; what lies above
 * (a handful of runs) is searched.
 *
 * Thread  immutable after char_classes_init.
 * Source  the classes are those of Hugging Face `tokenizers`, asked code point by code point
 *         (tests/golden/gen_unicode_tables.py). */
#pragma once
#include "core/util/base.h"

enum char_class {
    CLASS_LETTER = 1,  /* \p{L} */
    CLASS_NUMBER = 2,  /* \p{N} */
    CLASS_SPACE = 4,   /* \s */
    CLASS_NUMERIC = 8, /* what the pre-tokenizer Digits isolates; not quite \p{N} */
    CLASS_UPPER = 16,  /* [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}] */
    CLASS_LOWER = 32,  /* [\p{Ll}\p{Lm}\p{Lo}\p{M}] */
    CLASS_PUNCT = 64,  /* [\p{P}\p{S}] */
};
/* A mark (\p{M}) is of UPPER and LOWER and not of LETTER. PUNCT excludes the first three. */

extern const uint32_t unicode_runs[]; /* first code point << 8 | classes, ascending */
extern const uint32_t unicode_n_runs;
extern const uint32_t unicode_word_edges[]; /* where runs of \w begin and end, ascending */
extern const uint32_t unicode_n_word_edges;

#define CHAR_TABLE_END 0x20000u

struct char_classes {
    uint8_t low[CHAR_TABLE_END];
};

void char_classes_init(struct char_classes *c);
/* The classes of a code point at or above CHAR_TABLE_END. */
uint8_t char_class_high(uint32_t cp);

static inline uint8_t char_class(const struct char_classes *c, uint32_t cp)
{
    return LIKELY(cp < CHAR_TABLE_END) ? c->low[cp] : char_class_high(cp);
}

/* \w, as added tokens with single_word ask for it. */
bool unicode_is_word(uint32_t cp);
