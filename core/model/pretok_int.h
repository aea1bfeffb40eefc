/* pretok_int.h - splitters: cut a text into the pieces that byte-level BPE merges within.
 *
 * A model file names its split pattern; each known name is one entry of a table, and a name that
 * is not in the table is refused. The patterns are regular expressions in the models' own files;
 * here each is written by hand over character classes, in time linear in the text.
 *
 * Thread  the table is constant.
 * Source  "gpt-2": the pattern of Radford et al. 2019 (encoder.py of GPT-2);
 *         "smollm": the same after the pre-tokenizer Digits (tokenizer.json of SmolLM2). */
#pragma once
#include "core/model/unicode_int.h"

struct pretok {
    const char *name;
    /* A character with one of these classes is a piece of its own. Pieces to its left are cut as
     * if the text ended before it. */
    uint8_t isolate;
    /* Length in bytes (1..n) of the first piece of s[0..n-1]: n > 0, valid UTF-8. */
    size_t (*piece)(const struct pretok *p, const struct char_classes *c, const char *s, size_t n);
};

/* NULL for an unknown name. */
const struct pretok *pretok_find(const char *name);
/* The i-th known name; NULL past the last. */
const char *pretok_name(size_t i);
