/* hf_rope.c - rotary embedding as config.json has it: `rope_theta` with `rope_scaling` (types
 * named `type` or `rope_type`), or transformers 5's `rope_parameters`, which holds all of it.
 *
 * Source  transformers 5, modeling_rope_utils.py: which fields each type takes, their defaults. */
#include <math.h>
#include <string.h>

#include "core/model/hf_int.h"
#include "core/util/printable.h"

enum {
    NONE = 1u << ROPE_SCALING_NONE,
    LINEAR = 1u << ROPE_SCALING_LINEAR,
    LLAMA3 = 1u << ROPE_SCALING_LLAMA3,
    YARN = 1u << ROPE_SCALING_YARN,
    ALL = NONE | LINEAR | LLAMA3 | YARN,
};

static const struct {
    const char *name;
    enum rope_scaling type;
} types[] = {
    {"default", ROPE_SCALING_NONE},
    {"linear", ROPE_SCALING_LINEAR},
    {"llama3", ROPE_SCALING_LLAMA3},
    {"yarn", ROPE_SCALING_YARN},
};

/* Fields and the types that they belong to. */
static const struct {
    const char *key;
    unsigned types;
} fields[] = {
    {"type", ALL},
    {"rope_type", ALL},
    {"rope_theta", ALL},
    {"partial_rotary_factor", ALL}, /* 1 */
    {"finetuned", ALL},             /* information */
    {"factor", LINEAR | LLAMA3 | YARN},
    {"original_max_position_embeddings", LLAMA3 | YARN},
    {"low_freq_factor", LLAMA3},
    {"high_freq_factor", LLAMA3},
    {"attention_factor", YARN},
    {"beta_fast", YARN},
    {"beta_slow", YARN},
    {"mscale", YARN},
    {"mscale_all_dim", YARN},
    {"truncate", YARN},
};

static int read_type(const struct hf_reader *r, enum rope_scaling *out, const char **out_name)
{
    const char *key = json_object_get(r->object, "rope_type") ? "rope_type" : "type", *name;
    char shown[64];
    int rc = hf_read_string(r, key, &name);
    if (rc)
        return rc;
    if (!name)
        name = types[0].name;
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (strcmp(name, types[i].name) == 0) {
            *out = types[i].type;
            *out_name = types[i].name;
            return 0;
        }
    printable_text(name, strlen(name), "", shown, sizeof(shown));
    return hf_fault(r, LLMD_EUNSUPPORTED, key,
                    "RoPE scaling '%s' is not supported (default, linear, llama3 and yarn are)",
                    shown);
}

static int check_fields(const struct hf_reader *r, enum rope_scaling type, const char *name)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)r->object, key, v)
    {
        size_t i = 0;
        while (i < ARRAY_LEN(fields) && strcmp(fields[i].key, key) != 0)
            i++;
        if (json_is_null(v))
            continue;
        if (i == ARRAY_LEN(fields))
            return hf_fault(r, LLMD_EUNSUPPORTED, key,
                            "not known; RoPE scaling '%s' has no such "
                            "field here",
                            name);
        if (!(fields[i].types & 1u << type))
            return hf_fault(r, LLMD_EUNSUPPORTED, key, "does not belong to RoPE scaling '%s'",
                            name);
    }
    float partial = 1;
    int rc = hf_get(r, "partial_rotary_factor")
                 ? hf_read_f32(r, "partial_rotary_factor", 0, 1, &partial)
                 : 0;
    if (rc == 0 && partial != 1)
        rc = hf_fault(r, LLMD_EUNSUPPORTED, "partial_rotary_factor",
                      "%g: partial RoPE is not supported", (double)partial);
    return rc;
}

static int required(const struct hf_reader *r, const char *key, const char *name)
{
    return hf_get(r, key)
               ? 0
               : hf_fault(r, LLMD_EPARSE, key, "missing; RoPE scaling '%s' needs it", name);
}

/* As hf_read_f32, but null is as good as absent. */
static int read_optional(const struct hf_reader *r, const char *key, double min, double max,
                         float *io)
{
    return hf_get(r, key) ? hf_read_f32(r, key, min, max, io) : 0;
}

static int read_llama3(const struct hf_reader *r, struct rope_scaling_params *s)
{
    int rc = required(r, "low_freq_factor", "llama3");
    if (!rc)
        rc = required(r, "high_freq_factor", "llama3");
    if (!rc)
        rc = hf_read_f32(r, "low_freq_factor", 1e-6, 1e6, &s->low_freq_factor);
    if (!rc)
        rc = hf_read_f32(r, "high_freq_factor", 1e-6, 1e6, &s->high_freq_factor);
    if (!rc && s->high_freq_factor <= s->low_freq_factor)
        rc = hf_fault(r, LLMD_EPARSE, "high_freq_factor", "%g is not above low_freq_factor, %g",
                      (double)s->high_freq_factor, (double)s->low_freq_factor);
    return rc;
}

static double mscale_of(double factor, double mscale)
{
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

static int read_yarn(const struct hf_reader *r, struct rope_scaling_params *s)
{
    float mscale = 0, mscale_all = 0;
    s->truncate = true;
    int rc = read_optional(r, "beta_fast", 0, 1e6, &s->beta_fast);
    if (!rc)
        rc = read_optional(r, "beta_slow", 0, 1e6, &s->beta_slow);
    if (!rc)
        rc = read_optional(r, "mscale", 0, 1e3, &mscale);
    if (!rc)
        rc = read_optional(r, "mscale_all_dim", 0, 1e3, &mscale_all);
    if (!rc)
        rc = read_optional(r, "attention_factor", 1e-6, 1e3, &s->attention_factor);
    if (!rc && hf_get(r, "truncate"))
        rc = hf_read_bool(r, "truncate", &s->truncate);
    if (rc)
        return rc;
    if (s->beta_fast == 0) /* as the reference takes a zero */
        s->beta_fast = 32;
    if (s->beta_slow == 0)
        s->beta_slow = 1;
    if (s->beta_fast < s->beta_slow)
        return hf_fault(r, LLMD_EPARSE, "beta_fast", "%g is below beta_slow, %g",
                        (double)s->beta_fast, (double)s->beta_slow);
    if (s->attention_factor == 0 && mscale > 0 && mscale_all > 0)
        s->attention_factor =
            (float)(mscale_of(s->factor, mscale) / mscale_of(s->factor, mscale_all));
    return 0;
}

/* The original context: the key beside the object wins, as in transformers. */
static int read_original(const struct hf_reader *top, const struct hf_reader *r, uint32_t *io)
{
    const char *key = "original_max_position_embeddings";
    const struct hf_reader *from = hf_get(top, key) ? top : r;
    return hf_get(from, key) ? hf_read_u32(from, key, 1, 1 << 24, io) : 0;
}

static int read_scaling(const struct hf_reader *top, const struct hf_reader *r, const char *name,
                        struct hparams *hp)
{
    struct rope_scaling_params *s = &hp->scaling;
    const bool is_yarn = hp->rope_scaling == ROPE_SCALING_YARN;
    s->original_context = hp->context_length;
    int rc = read_original(top, r, &s->original_context);
    if (rc)
        return rc;
    s->factor = is_yarn ? fmaxf(1, (float)hp->context_length / (float)s->original_context) : 1;
    rc = is_yarn && !hf_get(r, "factor") ? 0 : required(r, "factor", name);
    if (!rc)
        rc = read_optional(r, "factor", 1, 1e6, &s->factor);
    if (!rc && hp->rope_scaling == ROPE_SCALING_LLAMA3)
        rc = read_llama3(r, s);
    if (!rc && is_yarn) {
        /* Files name the context before or after stretching; what was stretched is both. */
        double stretched = (double)s->original_context * s->factor;
        rc = read_yarn(r, s);
        if (stretched > hp->context_length)
            hp->context_length = stretched < 1 << 24 ? (uint32_t)stretched : 1 << 24;
    }
    return rc;
}

/* The object that holds the scaling; *out NULL: there is none. */
static int find_object(const struct hf_reader *top, const char **out_within, const json_t **out)
{
    static const struct {
        const char *key, *within;
    } places[] = {{"rope_scaling", "rope_scaling."}, {"rope_parameters", "rope_parameters."}};
    *out = NULL;
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        const json_t *v = hf_get(top, places[i].key);
        if (v && !json_is_object(v))
            return hf_fault(top, LLMD_EPARSE, places[i].key, "must be an object");
        if (json_object_size(v) == 0)
            continue;
        if (*out && !json_equal(*out, v))
            return hf_fault(top, LLMD_EPARSE, places[i].key,
                            "differs from 'rope_scaling'; keep one of them");
        if (!*out) {
            *out = v;
            *out_within = places[i].within;
        }
    }
    return 0;
}

int hf_read_rope(const struct hf_reader *r, struct hparams *hp)
{
    struct hf_reader inner = {.source = r->source, .within = "", .e = r->e};
    const char *name;
    int rc = find_object(r, &inner.within, &inner.object);
    if (!rc)
        rc = hf_read_f32(r, "rope_theta", 1, 1e12, &hp->rope_theta);
    if (rc || !inner.object)
        return rc;
    rc = read_type(&inner, &hp->rope_scaling, &name);
    if (!rc)
        rc = check_fields(&inner, hp->rope_scaling, name);
    if (!rc)
        rc = hf_read_f32(&inner, "rope_theta", 1, 1e12, &hp->rope_theta);
    if (!rc && hp->rope_scaling != ROPE_SCALING_NONE)
        rc = read_scaling(r, &inner, name, hp);
    return rc;
}
