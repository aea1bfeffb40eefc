/* pretok_int.h - splitters: cut a text into the pieces that byte-level BPE merges within.
 *
 * A model file names its split pattern; each known name is one entry of a table, and a name that
 * is not in the table is refused. The patterns are regular expressions in the models' own files;
 * here each is written by hand over character classes, in time linear in the text. The regular
 * expressions stand above the functions that do their work, and once more, as the files spell
 * them, in the table of pretok_find.c.
 *
 * Thread  the tables are constant.
 * Source  "gpt-2": the pattern of Radford et al. 2019 (encoder.py of GPT-2); the others: the
 *         tokenizer.json of SmolLM2 ("smollm": GPT-2's after the pre-tokenizer Digits),
 *         Meta-Llama-3-8B ("llama-bpe"), Qwen2-7B ("qwen2"), Mistral-Nemo-Base-2407 ("tekken"),
 *         DeepSeek-V3 ("deepseek-v3"). */
#pragma once
#include "core/model/tokenizer.h"
#include "core/model/unicode_int.h"

struct pretok {
    const char *name;
    /* Length in bytes (1..n) of the first piece of s[0..n-1]: n > 0, valid UTF-8. */
    size_t (*piece)(const struct pretok *p, const struct char_classes *c, const char *s, size_t n);
    /* A character with one of these classes is a piece of its own. Pieces to its left are cut as
     * if the text ended before it. */
    uint8_t isolate;
    uint8_t max_digits; /* longest piece of numbers, in characters */
};

/* NULL for an unknown name. */
const struct pretok *pretok_find(const char *name);
/* The i-th known name; NULL past the last. */
const char *pretok_name(size_t i);

size_t gpt2_piece(const struct pretok *p, const struct char_classes *c, const char *s, size_t n);
size_t llama3_piece(const struct pretok *p, const struct char_classes *c, const char *s, size_t n);
size_t tekken_piece(const struct pretok *p, const struct char_classes *c, const char *s, size_t n);
size_t deepseek_piece(const struct pretok *p, const struct char_classes *c, const char *s,
                      size_t n);
