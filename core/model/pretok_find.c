/* pretok_find.c - the known split patterns by name and by the text of their regular
 * expressions. */
#include <string.h>

#include "core/model/pretok_int.h"
#include "core/model/tokenizer_int.h"

/* A stretch without a split pattern. */
static size_t whole_piece(const struct pretok *p, const struct char_classes *c, const char *s,
                          size_t n)
{
    (void)p;
    (void)c;
    (void)s;
    return n;
}

static const struct pretok pretoks[] = {
    {"gpt-2", gpt2_piece, 0, 0},       {"smollm", gpt2_piece, CLASS_NUMERIC, 0},
    {"llama-bpe", llama3_piece, 0, 3}, {"qwen2", llama3_piece, 0, 1},
    {"tekken", tekken_piece, 0, 1},    {"deepseek-v3", deepseek_piece, 0, 3},
    {"none", whole_piece, 0, 0},
};

/* Other names for the same. */
static const struct {
    const char *name, *same_as;
} aliases[] = {
    {"llama3", "llama-bpe"},
    {"llama-v3", "llama-bpe"},
    {"deepseek-r1-qwen", "qwen2"},
};

const struct pretok *pretok_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(aliases); i++)
        if (strcmp(aliases[i].name, name) == 0)
            name = aliases[i].same_as;
    for (size_t i = 0; i < ARRAY_LEN(pretoks); i++)
        if (strcmp(pretoks[i].name, name) == 0)
            return &pretoks[i];
    return NULL;
}

const char *pretok_name(size_t i)
{
    if (i < ARRAY_LEN(pretoks))
        return pretoks[i].name;
    i -= ARRAY_LEN(pretoks);
    return i < ARRAY_LEN(aliases) ? aliases[i].name : NULL;
}

#define CASELESS_A "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define CASELESS_B "'(?i:[sdmt]|ll|ve|re)"
#define WORDS      "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define OTHERS     "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
#define WHITE      "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
/* The same with possessive quantifiers, which change nothing here. */
#define WORDS_P  "|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+"
#define OTHERS_P "| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*"
#define WHITE_P  "|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"

#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define TEKKEN                                                                                     \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*"        \
    "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" WHITE

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/* [<4e00>-<9fa5><3040>-<309f><30a0>-<30ff>]+ */
#define CJK "[\xe4\xb8\x80-\xe9\xbe\xa5\xe3\x81\x80-\xe3\x82\x9f\xe3\x82\xa0-\xe3\x83\xbf]+"
#define DEEPSEEK(cr_lf)                                                                            \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^" cr_lf                               \
    "\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[" cr_lf "]*|\\s*[" cr_lf                \
    "]+|\\s+(?!\\S)|\\s+"

#define MAX_STEPS 3

/* Regular expressions stand for themselves; the other kinds of step are these. */
static const char digits_step[] = "<Digits>", byte_level_step[] = "<ByteLevel>";

static const struct {
    const char *name;
    const char *steps[MAX_STEPS + 1];
} known[] = {
    {"none", {NULL}},
    {"gpt-2", {byte_level_step}},
    {"gpt-2", {GPT2}},
    {"smollm", {digits_step, byte_level_step}},
    {"smollm", {digits_step, GPT2}},
    {"llama-bpe", {CASELESS_A WORDS "|\\p{N}{1,3}" OTHERS WHITE}},
    {"llama-bpe", {CASELESS_B WORDS "|\\p{N}{1,3}" OTHERS WHITE}},
    {"llama-bpe", {CASELESS_B WORDS_P "|\\p{N}{1,3}" OTHERS_P WHITE_P}},
    {"qwen2", {CASELESS_A WORDS "|\\p{N}" OTHERS WHITE}},
    {"qwen2", {CASELESS_B WORDS "|\\p{N}" OTHERS WHITE}},
    {"tekken", {TEKKEN}},
    {"deepseek-v3", {"\\p{N}{1,3}", CJK, DEEPSEEK("\r\n")}},
    {"deepseek-v3", {"\\p{N}{1,3}", CJK, DEEPSEEK("\\r\\n")}},
};

static bool step_is(const struct split_step *step, const char *want)
{
    switch (step->kind) {
    case SPLIT_DIGITS:
        return want == digits_step;
    case SPLIT_BYTE_LEVEL:
        return want == byte_level_step;
    case SPLIT_REGEX:
        return want != digits_step && want != byte_level_step && strlen(want) == step->regex.n &&
               memcmp(want, step->regex.s, step->regex.n) == 0;
    }
    return false;
}

const char *tokenizer_find_pretokenizer(const struct split_step steps[], size_t n)
{
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        size_t k = 0;
        while (k < n && known[i].steps[k] && step_is(&steps[k], known[i].steps[k]))
            k++;
        if (k == n && !known[i].steps[k])
            return known[i].name;
    }
    return NULL;
}

const char *tokenizer_pretokenizer(const struct tokenizer *t)
{
    return t->pretok ? t->pretok->name : NULL;
}
