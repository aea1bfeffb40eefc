/* tokenizer_json_post.c - the section "post_processor": what is put around a text. */
#include <string.h>

#include "core/model/tokenizer_json_int.h"
#include "core/model/vocab_int.h"

#define KEY "post_processor"

/* Ids that are put on one side of the text. */
struct side {
    uint32_t *ids; /* in the arena */
    uint32_t n;
};

static int bad_template(struct tokjson *t, const char *fault)
{
    return tokjson_fault(t, LLMD_EPARSE, KEY, "TemplateProcessing: %s", fault);
}

/* Appends the ids of special token `name` to a side. */
static int add_special(struct tokjson *t, const json_t *step, const char *name, struct side *side)
{
    const json_t *special = json_object_get(json_object_get(step, "special_tokens"), name);
    const json_t *list = json_object_get(special, "ids");
    size_t n = json_array_size(list);
    if (n == 0)
        return tokjson_fault(t, LLMD_EPARSE, KEY, "TemplateProcessing: '%s' has no ids",
                             quote_text(name, strlen(name)).s);
    uint32_t *ids = arena_array(&t->arena, side->n + n, sizeof(*ids));
    if (!ids)
        return tokjson_no_memory(t);
    for (uint32_t i = 0; i < side->n; i++)
        ids[i] = side->ids[i];
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0 ||
            json_integer_value(v) >= t->spec.n_tokens)
            return tokjson_fault(t, LLMD_EPARSE, KEY,
                                 "TemplateProcessing: '%s' has an id that no token has",
                                 quote_text(name, strlen(name)).s);
        ids[side->n + i] = (uint32_t)json_integer_value(v);
    }
    side->ids = ids;
    side->n += (uint32_t)n;
    return 0;
}

/* "single": special tokens around the one sequence A. */
static int read_template(struct tokjson *t, const json_t *step, struct side sides[2])
{
    static const char *const names[] = {"type", "single", "pair", "special_tokens", NULL};
    const json_t *single = json_object_get(step, "single");
    int rc = tokjson_only(t, KEY, step, names);
    if (rc < 0)
        return rc;
    if (!json_is_array(single) || json_array_size(single) > TOKJSON_MAX_STEPS)
        return bad_template(t, "'single' must be an array of a few pieces");
    bool behind = false;
    for (size_t i = 0; i < json_array_size(single) && rc == 0; i++) {
        const json_t *piece = json_array_get(single, i);
        const json_t *sequence = json_object_get(piece, "Sequence");
        const char *name =
            json_string_value(json_object_get(json_object_get(piece, "SpecialToken"), "id"));
        if (name)
            rc = add_special(t, step, name, &sides[behind]);
        else if (behind || !tokjson_has(sequence, "id", "A"))
            rc = bad_template(t, "'single' must hold the sequence A once, and special tokens");
        else
            behind = true;
    }
    return rc < 0 || behind ? rc : bad_template(t, "'single' must hold the sequence A");
}

int tokjson_set_post(struct tokjson *t)
{
    static const char *const byte_level[] = {"type", "add_prefix_space", "trim_offsets",
                                             "use_regex", NULL};
    struct tokjson_steps steps;
    struct side sides[2] = {{NULL, 0}, {NULL, 0}};
    bool have_template = false;
    int rc = tokjson_steps(t, KEY, "processors", t->post_processor, &steps);
    for (size_t i = 0; rc == 0 && i < steps.n; i++) {
        const char *type = tokjson_type(steps.at[i]);
        if (strcmp(type, "ByteLevel") == 0) { /* moves offsets, which nobody asks for */
            rc = tokjson_only(t, KEY, steps.at[i], byte_level);
        } else if (strcmp(type, "TemplateProcessing") == 0 && !have_template) {
            have_template = true;
            rc = read_template(t, steps.at[i], sides);
        } else {
            rc = tokjson_fault(t, LLMD_EUNSUPPORTED, KEY,
                               "'%s' is not supported; known are one TemplateProcessing, and "
                               "ByteLevel",
                               quote_text(type, strlen(type)).s);
        }
    }
    t->spec.prefix_ids = sides[0].ids;
    t->spec.n_prefix_ids = sides[0].n;
    t->spec.suffix_ids = sides[1].ids;
    t->spec.n_suffix_ids = sides[1].n;
    return rc;
}
