/* tokenizer_json_parts.c - the sections "normalizer", "pre_tokenizer" and "decoder".
 *
 * They are read into struct parts first; then what they do together is looked up among what the
 * tokenizer can do: byte-level vocabularies (ByteLevel last, after steps that make a known split
 * pattern), and those that write a space as U+2581 (Replace, or Metaspace). Every other
 * combination is refused. */
#include <string.h>

#include "core/model/pretok_int.h"
#include "core/model/tokenizer_json_int.h"
#include "core/model/vocab_int.h"

#define SPACE_SIGN "\xe2\x96\x81" /* U+2581 */

struct parts {
    bool nfc, prepend, replace;
    struct split_step steps[TOKJSON_MAX_STEPS];
    size_t n_steps;
    bool matches_alone; /* of a Split */
    bool byte_level, add_prefix_space;
    bool metaspace, split_spaces;
    enum space_prefix prefix;
    bool decodes_byte_level;
    bool decodes_spaces, decodes_bytes, strips_first, drops_first;
};

static int unsupported(struct tokjson *t, const char *key, const json_t *step, const char *known)
{
    const char *type = tokjson_type(step);
    return tokjson_fault(t, LLMD_EUNSUPPORTED, key, "'%s' is not supported%s; known are %s",
                         quote_text(type, strlen(type)).s,
                         strstr(known, type) ? " as it stands there" : "", known);
}

/* ---- normalizer ---- */

static int read_norm_step(struct tokjson *t, const json_t *step, struct parts *p)
{
    static const char *const none[] = {"type", NULL}, *const prepend[] = {"type", "prepend", NULL},
                             *const replace[] = {"type", "pattern", "content", NULL};
    const char *key = "normalizer", *type = tokjson_type(step);
    bool *seen = NULL;
    int rc = 0;
    if (strcmp(type, "NFC") == 0) {
        rc = tokjson_only(t, key, step, none);
        p->nfc = true;
        return rc;
    }
    if (strcmp(type, "Prepend") == 0 && tokjson_has(step, "prepend", SPACE_SIGN)) {
        rc = tokjson_only(t, key, step, prepend);
        seen = &p->prepend;
    } else if (strcmp(type, "Replace") == 0 && tokjson_has(step, "content", SPACE_SIGN) &&
               tokjson_has(json_object_get(step, "pattern"), "String", " ")) {
        rc = tokjson_only(t, key, step, replace);
        seen = &p->replace;
    }
    if (rc == 0 && (!seen || *seen))
        return unsupported(t, key, step,
                           "NFC, Prepend of U+2581 and Replace of ' ' by U+2581, each once");
    *seen = true;
    return rc;
}

/* ---- pre_tokenizer ---- */

#define PRE "pre_tokenizer"

static int read_byte_level(struct tokjson *t, const json_t *step, struct parts *p)
{
    static const char *const names[] = {"type", "add_prefix_space", "trim_offsets", "use_regex",
                                        NULL};
    bool use_regex = true;
    int rc = tokjson_only(t, PRE, step, names);
    if (rc == 0)
        rc = tokjson_flag(t, PRE, step, "add_prefix_space", true, &p->add_prefix_space);
    if (rc == 0)
        rc = tokjson_flag(t, PRE, step, "use_regex", true, &use_regex);
    if (rc == 0 && p->add_prefix_space && p->n_steps > 0)
        return tokjson_fault(
            t, LLMD_EUNSUPPORTED, PRE,
            "ByteLevel with add_prefix_space behind another step is not supported");
    p->byte_level = true;
    if (use_regex)
        p->steps[p->n_steps++].kind = SPLIT_BYTE_LEVEL;
    return rc;
}

static int read_split(struct tokjson *t, const json_t *step, struct parts *p)
{
    static const char *const names[] = {"type", "pattern", "behavior", "invert", NULL};
    const json_t *pattern = json_object_get(step, "pattern");
    const json_t *regex = json_object_get(pattern, "Regex");
    bool invert = false;
    int rc = tokjson_only(t, PRE, step, names);
    if (rc == 0)
        rc = tokjson_flag(t, PRE, step, "invert", false, &invert);
    if (rc < 0)
        return rc;
    /* Where every space was replaced, a split at spaces does nothing. */
    if (p->replace && tokjson_has(pattern, "String", " "))
        return 0;
    if (!json_is_string(regex))
        return tokjson_fault(t, LLMD_EUNSUPPORTED, PRE, "Split is supported with a 'Regex' alone");
    /* What is a match and what lies between is isolated alike, so that inverting changes nothing.
     * To keep the matches alone comes to the same where every text is made of matches. */
    bool matches_alone = invert && tokjson_has(step, "behavior", "Removed");
    if (!matches_alone && !tokjson_has(step, "behavior", "Isolated"))
        return tokjson_fault(t, LLMD_EUNSUPPORTED, PRE,
                             "Split is supported with behavior 'Isolated', or 'Removed' inverted");
    p->matches_alone |= matches_alone;
    p->steps[p->n_steps++] =
        (struct split_step){SPLIT_REGEX, {json_string_value(regex), json_string_length(regex)}};
    return 0;
}

static int read_digits(struct tokjson *t, const json_t *step, struct parts *p)
{
    static const char *const names[] = {"type", "individual_digits", NULL};
    bool individual = false;
    int rc = tokjson_only(t, PRE, step, names);
    if (rc == 0)
        rc = tokjson_flag(t, PRE, step, "individual_digits", false, &individual);
    if (rc == 0 && !individual)
        return tokjson_fault(t, LLMD_EUNSUPPORTED, PRE,
                             "Digits is supported with individual_digits alone");
    p->steps[p->n_steps++].kind = SPLIT_DIGITS;
    return rc;
}

static int read_metaspace(struct tokjson *t, const char *key, const json_t *step, struct parts *p)
{
    static const char *const names[] = {
        "type", "replacement", "add_prefix_space", "prepend_scheme", "split", "str_rep", NULL};
    bool prefix = true;
    int rc = tokjson_only(t, key, step, names);
    if (rc == 0)
        rc = tokjson_flag(t, key, step, "split", true, &p->split_spaces);
    if (rc == 0)
        rc = tokjson_flag(t, key, step, "add_prefix_space", true, &prefix);
    if (rc < 0)
        return rc;
    if (!tokjson_has(step, "replacement", SPACE_SIGN))
        return tokjson_fault(t, LLMD_EUNSUPPORTED, key,
                             "Metaspace is supported with the replacement U+2581 alone");
    const json_t *scheme = json_object_get(step, "prepend_scheme");
    p->metaspace = true;
    p->prefix = SPACE_PREFIX_ABSENT;
    if (tokjson_has(step, "prepend_scheme", "never"))
        p->prefix = SPACE_PREFIX_NONE;
    else if (tokjson_has(step, "prepend_scheme", "first"))
        p->prefix = SPACE_PREFIX_FIRST;
    else if (scheme && !tokjson_has(step, "prepend_scheme", "always"))
        return tokjson_fault(t, LLMD_EPARSE, key,
                             "Metaspace: 'prepend_scheme' must be always, first or never");
    if (!prefix && p->prefix != SPACE_PREFIX_NONE)
        return tokjson_fault(t, LLMD_EPARSE, key,
                             "Metaspace: 'add_prefix_space' and 'prepend_scheme' do not agree");
    return 0;
}

static int read_pre_metaspace(struct tokjson *t, const json_t *step, struct parts *p)
{
    return read_metaspace(t, PRE, step, p);
}

static int read_pre_step(struct tokjson *t, const json_t *step, struct parts *p)
{
    static const struct {
        const char *type;
        int (*read)(struct tokjson *t, const json_t *step, struct parts *p);
    } kinds[] = {{"ByteLevel", read_byte_level},
                 {"Split", read_split},
                 {"Digits", read_digits},
                 {"Metaspace", read_pre_metaspace}};
    for (size_t i = 0; i < ARRAY_LEN(kinds) && !p->byte_level && !p->metaspace; i++)
        if (strcmp(tokjson_type(step), kinds[i].type) == 0)
            return kinds[i].read(t, step, p);
    return unsupported(t, PRE, step,
                       "Split and Digits with ByteLevel behind them, ByteLevel, Metaspace");
}

/* ---- decoder ---- */

#define DEC "decoder"

static bool is_type(const json_t *step, const char *type)
{
    return strcmp(tokjson_type(step), type) == 0;
}

static int read_strip(struct tokjson *t, const json_t *step, struct parts *p)
{
    const json_t *start = json_object_get(step, "start"), *stop = json_object_get(step, "stop");
    if (!tokjson_has(step, "content", " ") || !json_is_integer(start) || !json_is_integer(stop) ||
        json_integer_value(stop) != 0 || json_integer_value(start) < 0 ||
        json_integer_value(start) > 1)
        return tokjson_fault(t, LLMD_EUNSUPPORTED, DEC,
                             "Strip is supported of one ' ' at the start alone");
    p->strips_first = json_integer_value(start) == 1;
    return 0;
}

/* Replace, ByteFallback, Fuse, Strip: what undoes U+2581 and byte tokens. The second and the last
 * may be left out. */
static int read_text_steps(struct tokjson *t, const struct tokjson_steps *s, struct parts *p)
{
    size_t i = 0;
    p->decodes_spaces = i < s->n && is_type(s->at[i], "Replace") &&
                        tokjson_has(json_object_get(s->at[i], "pattern"), "String", SPACE_SIGN) &&
                        tokjson_has(s->at[i], "content", " ");
    i += p->decodes_spaces;
    p->decodes_bytes = i < s->n && is_type(s->at[i], "ByteFallback");
    i += p->decodes_bytes;
    bool fused = i < s->n && is_type(s->at[i], "Fuse");
    i += fused;
    if (p->decodes_spaces && fused && i + 1 == s->n && is_type(s->at[i], "Strip"))
        return read_strip(t, s->at[i], p);
    if (p->decodes_spaces && fused && i == s->n)
        return 0;
    return tokjson_fault(t, LLMD_EUNSUPPORTED, DEC,
                         "these steps are not supported; known are ByteLevel; Replace of U+2581 by "
                         "' ', ByteFallback, Fuse, Strip in this order; Metaspace");
}

/* Replaces U+2581 in each token; drops it in the first one, unless the scheme is "never". */
static int read_metaspace_decoder(struct tokjson *t, const json_t *step, struct parts *p)
{
    struct parts same = {0};
    int rc = read_metaspace(t, DEC, step, &same);
    p->decodes_spaces = true;
    p->drops_first = same.prefix != SPACE_PREFIX_NONE;
    return rc;
}

static int read_decoder(struct tokjson *t, struct parts *p)
{
    static const char *const names[] = {"type",    "add_prefix_space", "trim_offsets", "use_regex",
                                        "pattern", "content",          "start",        "stop",
                                        NULL};
    struct tokjson_steps s;
    int rc = tokjson_steps(t, DEC, "decoders", t->decoder, &s);
    if (rc == 0 && s.n == 1 && is_type(s.at[0], "Metaspace"))
        return read_metaspace_decoder(t, s.at[0], p);
    for (size_t i = 0; rc == 0 && i < s.n; i++)
        rc = tokjson_only(t, DEC, s.at[i], names);
    if (rc < 0)
        return rc;
    p->decodes_byte_level = s.n == 1 && is_type(s.at[0], "ByteLevel");
    return p->decodes_byte_level ? 0 : read_text_steps(t, &s, p);
}

/* ---- together ---- */

/* Names the pattern that is not known, or the steps, and what is. */
static int unknown_pattern(struct tokjson *t, const struct parts *p)
{
    struct buf known = {0}, steps = {0};
    for (size_t i = 0; pretok_name(i); i++)
        buf_addf(&known, "%s%s", i > 0 ? ", " : "", pretok_name(i));
    for (size_t i = 0; i < p->n_steps; i++) {
        const struct split_step *s = &p->steps[i];
        buf_addstr(&steps, i > 0 ? ", " : "");
        if (s->kind == SPLIT_REGEX)
            buf_addf(&steps, "Split '%s'", quote_text(s->regex.s, s->regex.n).s);
        else
            buf_addstr(&steps, s->kind == SPLIT_DIGITS ? "Digits" : "ByteLevel");
    }
    int rc = tokjson_fault(t, LLMD_EUNSUPPORTED, PRE,
                           "the split pattern is not known: %.160s; known are those of %.160s",
                           buf_str(&steps), buf_str(&known));
    buf_fini(&known);
    buf_fini(&steps);
    return rc;
}

static int set_byte_level(struct tokjson *t, const struct parts *p)
{
    if (p->prepend || p->replace)
        return tokjson_fault(t, LLMD_EUNSUPPORTED, "normalizer",
                             "Prepend and Replace are not supported before ByteLevel");
    if (t->spec.byte_fallback)
        return tokjson_fault(t, LLMD_EUNSUPPORTED, "model.byte_fallback",
                             "true is not supported with the pre-tokenizer ByteLevel");
    if (!p->decodes_byte_level)
        return tokjson_fault(t, LLMD_EUNSUPPORTED, DEC,
                             "ByteLevel is needed, as the pre-tokenizer ends with it");
    if (p->matches_alone && p->n_steps > 1) /* each known pattern of one step matches all texts */
        return tokjson_fault(
            t, LLMD_EUNSUPPORTED, PRE,
            "Split with behavior 'Removed', inverted, is supported as the only one");
    t->spec.form = TOKENIZER_BYTE_LEVEL;
    t->spec.nfc = p->nfc;
    t->spec.add_prefix_space = p->add_prefix_space;
    t->spec.pretokenizer = tokenizer_find_pretokenizer(p->steps, p->n_steps);
    return t->spec.pretokenizer ? 0 : unknown_pattern(t, p);
}

static int set_spm(struct tokjson *t, const struct parts *p)
{
    if (p->n_steps > 0)
        return tokjson_fault(t, LLMD_EUNSUPPORTED, PRE,
                             "Split and Digits are supported with ByteLevel behind them alone");
    if (p->metaspace ? p->prepend || p->replace : !p->replace)
        return tokjson_fault(t, LLMD_EUNSUPPORTED, "normalizer",
                             "with no pre-tokenizer Replace of ' ' by U+2581 (and Prepend) is "
                             "supported, with Metaspace none of them");
    if (p->nfc)
        return tokjson_fault(t, LLMD_EUNSUPPORTED, "normalizer",
                             "NFC is supported with ByteLevel alone");
    if (!p->decodes_spaces)
        return tokjson_fault(t, LLMD_EUNSUPPORTED, DEC,
                             "ByteLevel needs a pre-tokenizer ByteLevel");
    if (p->drops_first && !p->metaspace)
        return tokjson_fault(t, LLMD_EUNSUPPORTED, DEC,
                             "Metaspace needs a pre-tokenizer Metaspace");
    if (p->decodes_bytes && !t->spec.byte_fallback)
        return tokjson_fault(t, LLMD_EUNSUPPORTED, "model.byte_fallback",
                             "it must be true where the decoder has ByteFallback");
    t->spec.form = TOKENIZER_SPM;
    t->spec.space_prefix = p->prefix;
    if (!p->metaspace)
        t->spec.space_prefix = p->prepend ? SPACE_PREFIX_EVERY : SPACE_PREFIX_NONE;
    t->spec.spaces_normalized = p->replace;
    t->spec.split_spaces = p->metaspace && p->split_spaces;
    t->spec.strip_first_space = p->strips_first;
    t->spec.drop_first_spaces = p->drops_first;
    t->spec.bytes_as_text = !p->decodes_bytes;
    return 0;
}

int tokjson_set_parts(struct tokjson *t)
{
    struct parts p = {0};
    struct tokjson_steps s;
    int rc = tokjson_steps(t, "normalizer", "normalizers", t->normalizer, &s);
    for (size_t i = 0; rc == 0 && i < s.n; i++)
        rc = read_norm_step(t, s.at[i], &p);
    if (rc == 0)
        rc = tokjson_steps(t, PRE, "pretokenizers", t->pre_tokenizer, &s);
    for (size_t i = 0; rc == 0 && i < s.n; i++)
        rc = read_pre_step(t, s.at[i], &p);
    if (rc == 0)
        rc = read_decoder(t, &p);
    if (rc < 0)
        return rc;
    return p.byte_level ? set_byte_level(t, &p) : set_spm(t, &p);
}
