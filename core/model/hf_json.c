/* hf_json.c - reads the keys of a JSON object that comes with a model, with a message that names
 * file, key and fault. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/model/hf_int.h"
#include "core/util/json.h"
#include "core/util/printable.h"

int hf_parse_object(const char *text, size_t n, const char *source, json_t **out, struct err *e)
{
    json_t *v = NULL;
    int rc = json_parse_reals(text, n, &v, e);
    if (rc == 0 && !json_is_object(v))
        rc = err_set(e, LLMD_EPARSE, "not a JSON object");
    if (rc != 0) {
        err_prefix(e, "%s: ", source);
        json_decref(v);
        return rc;
    }
    *out = v;
    return 0;
}

const json_t *hf_get(const struct hf_reader *r, const char *key)
{
    const json_t *v = json_object_get(r->object, key);
    return json_is_null(v) ? NULL : v;
}

int hf_fault_of(const struct hf_reader *r, int code, const char *key, const char *fmt, ...)
{
    char shown[96], what[320];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    printable_text(key, strlen(key), "", shown, sizeof(shown));
    return err_set(r->e, code, "%s: key '%s%s': %s", r->source, r->within, shown, what);
}

/* "a string": what a value is, for messages. */
static const char *kind(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "true or false";
    case JSON_NULL:
        break;
    }
    return "null";
}

int hf_read_u32(const struct hf_reader *r, const char *key, uint32_t min, uint32_t max,
                uint32_t *io)
{
    const json_t *v = json_object_get(r->object, key);
    if (!v)
        return 0;
    if (!json_is_number(v))
        return hf_fault(r, LLMD_EPARSE, key, "is %s, not a number from %u to %u", kind(v), min,
                        max);
    double d = json_number_value(v);
    if (d != floor(d))
        return hf_fault(r, LLMD_EPARSE, key, "%g is not a whole number from %u to %u", d, min, max);
    if (d < min || d > max)
        return hf_fault(r, LLMD_EPARSE, key, "%.15g is not within %u to %u", d, min, max);
    *io = (uint32_t)d;
    return 0;
}

int hf_read_f32(const struct hf_reader *r, const char *key, double min, double max, float *io)
{
    const json_t *v = json_object_get(r->object, key);
    if (!v)
        return 0;
    if (!json_is_number(v))
        return hf_fault(r, LLMD_EPARSE, key, "is %s, not a number from %g to %g", kind(v), min,
                        max);
    double d = json_number_value(v);
    if (!(d >= min && d <= max))
        return hf_fault(r, LLMD_EPARSE, key, "%g is not within %g to %g", d, min, max);
    *io = (float)d;
    return 0;
}

int hf_read_bool(const struct hf_reader *r, const char *key, bool *io)
{
    const json_t *v = json_object_get(r->object, key);
    if (!v)
        return 0;
    if (!json_is_boolean(v))
        return hf_fault(r, LLMD_EPARSE, key, "is %s, not true or false", kind(v));
    *io = json_is_true(v);
    return 0;
}

int hf_read_string(const struct hf_reader *r, const char *key, const char **out)
{
    const json_t *v = json_object_get(r->object, key);
    *out = NULL;
    if (!v)
        return 0;
    if (!json_is_string(v))
        return hf_fault(r, LLMD_EPARSE, key, "is %s, not a string", kind(v));
    if (strlen(json_string_value(v)) != json_string_length(v))
        return hf_fault(r, LLMD_EPARSE, key, "holds a NUL character");
    *out = json_string_value(v);
    return 0;
}

static int add_eos(const struct hf_reader *r, const json_t *v, uint32_t vocab_size,
                   struct hf_eos *out)
{
    const char *key = "eos_token_id";
    if (!json_is_number(v))
        return hf_fault(r, LLMD_EPARSE, key, "is %s, not a token id or a list of them", kind(v));
    double id = json_number_value(v);
    if (id < 0 || id >= vocab_size || id != floor(id))
        return hf_fault(r, LLMD_EPARSE, key, "there is no token %.15g (vocabulary of %u)", id,
                        vocab_size);
    for (uint32_t i = 0; i < out->n; i++)
        if (out->ids[i] == (uint32_t)id)
            return 0;
    if (out->n == HF_MAX_EOS)
        return hf_fault(r, LLMD_EUNSUPPORTED, key, "more than %d ids", HF_MAX_EOS);
    out->ids[out->n++] = (uint32_t)id;
    return 0;
}

int hf_read_eos(const struct hf_reader *r, uint32_t vocab_size, struct hf_eos *out)
{
    const json_t *v = hf_get(r, "eos_token_id");
    struct hf_eos eos = {.given = v != NULL};
    int rc = 0;
    if (v && !json_is_array(v))
        rc = add_eos(r, v, vocab_size, &eos);
    for (size_t i = 0; rc == 0 && i < json_array_size(v); i++)
        rc = add_eos(r, json_array_get(v, i), vocab_size, &eos);
    if (rc == 0)
        *out = eos;
    return rc;
}
