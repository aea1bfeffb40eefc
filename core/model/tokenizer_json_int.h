/* tokenizer_json_int.h - what the files of the tokenizer.json reader share.
 *
 *   tokenizer_json.c        walks the file, hands each section to its reader, builds the tokenizer
 *   tokenizer_json_model.c  "model": vocabulary, merges, switches
 *   tokenizer_json_added.c  "added_tokens", and which id every token has
 *   tokenizer_json_parts.c  "normalizer", "pre_tokenizer", "decoder": what they do together
 *   tokenizer_json_post.c   "post_processor": what is put around a text
 *
 * The large sections are read token by token (json_reader.h), the small ones as trees. Texts are
 * borrowed from the file or lie in the arena. Messages name key and fault; the file's name is put
 * in front of them at the end. */
#pragma once
#include "core/model/tokenizer_json.h"
#include "core/util/arena.h"
#include "core/util/json.h"
#include "core/util/json_reader.h"

enum {
    TOKJSON_MAX_BYTES = 128 << 20,
    TOKJSON_MAX_PART_BYTES = 1 << 20, /* of a section that is read as a tree */
    TOKJSON_MAX_TOKENS = 1 << 20,
    TOKJSON_MAX_MERGES = 1 << 21,
    TOKJSON_MAX_ADDED = 1 << 16,
    TOKJSON_MAX_HOLES = 1 << 16, /* ids below the highest that no token has */
    TOKJSON_MAX_STEPS = 16,      /* in a normalizer, pre-tokenizer, decoder, post-processor */
};

struct vocab_entry {
    struct token_text text;
    uint32_t id;
};

struct tokjson {
    const struct tokenizer_json_opts *opts;
    struct arena arena;
    struct json_reader r;
    struct err *err;

    /* Sections in the order of their keys in tokenizer_json.c; bits of those that were seen. */
    uint32_t seen;
    json_t *normalizer, *pre_tokenizer, *decoder, *post_processor; /* NULL: absent or null */

    struct vocab_entry *vocab; /* [n_vocab], as in the file */
    struct merge_pair *merges;
    struct added_token *added;
    size_t n_vocab, cap_vocab, n_merges, cap_merges, n_added, cap_added;
    struct json_str unk; /* s NULL: none */

    /* By id, made when all is read. */
    struct token_text *texts;
    enum token_kind *kinds;
    uint32_t *eos_ids;
    struct tokenizer_spec spec;
};

/* Room for one more of the n items of `size` bytes. */
MUST_CHECK bool tokjson_room(void *items, size_t n, size_t *cap, size_t size);
/* Records a fault of a key: the message is "key 'KEY': ...". Returns -code. */
int tokjson_fault(struct tokjson *t, int code, const char *key, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
int tokjson_no_memory(struct tokjson *t);

MUST_CHECK int tokjson_read_model(struct tokjson *t);
MUST_CHECK int tokjson_read_added(struct tokjson *t);
/* Gives every token its id: texts, kinds, added ids, unk_id, eos_ids of the spec. */
MUST_CHECK int tokjson_set_ids(struct tokjson *t);
/* Form, split pattern, normalization and decoding of the spec. */
MUST_CHECK int tokjson_set_parts(struct tokjson *t);
/* prefix_ids and suffix_ids of the spec; after tokjson_set_ids. */
MUST_CHECK int tokjson_set_post(struct tokjson *t);

/* ---- trees ---- */

/* The steps of a section: of a Sequence its members, else the section itself. */
struct tokjson_steps {
    const char *key; /* of the section, for messages */
    const json_t *at[TOKJSON_MAX_STEPS];
    size_t n;
};
MUST_CHECK int tokjson_steps(struct tokjson *t, const char *key, const char *members,
                             const json_t *section, struct tokjson_steps *out);
/* The step's "type", known to be a string. */
const char *tokjson_type(const json_t *step);
/* Refuses members of an object other than those listed (NULL at the end). */
MUST_CHECK int tokjson_only(struct tokjson *t, const char *key, const json_t *object,
                            const char *const names[]);
/* A boolean member; `absent` where there is none. */
MUST_CHECK int tokjson_flag(struct tokjson *t, const char *key, const json_t *object,
                            const char *name, bool absent, bool *out);
/* Whether a string member holds this text. */
bool tokjson_has(const json_t *object, const char *name, const char *text);
