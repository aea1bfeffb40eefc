#include "core/edge/fields.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

json_t *field_get(const json_t *object, const char *name)
{
    json_t *v = json_object_get(object, name);
    return json_is_null(v) ? NULL : v;
}

const char *field_describe(const json_t *value, char *text, size_t n_text)
{
    const char *word = "null";
    switch (value ? json_typeof(value) : JSON_NULL) {
    case JSON_INTEGER:
        snprintf(text, n_text, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return text;
    case JSON_REAL:
        snprintf(text, n_text, "%.17g", json_real_value(value));
        return text;
    case JSON_STRING:
        word = json_string_length(value) ? "a string" : "an empty string";
        break;
    case JSON_ARRAY:
        word = json_array_size(value) ? "a list" : "an empty list";
        break;
    case JSON_OBJECT:
        word = "an object";
        break;
    case JSON_TRUE:
        word = "true";
        break;
    case JSON_FALSE:
        word = "false";
        break;
    case JSON_NULL:
        break;
    }
    snprintf(text, n_text, "%s", word);
    return text;
}

int field_wrong(const char *name, const char *what, const json_t *is, struct err *e)
{
    char given[40];
    return err_set_param(e, LLMD_EINVAL, name, "field '%s' must be %s, not %s", name, what,
                         field_describe(is, given, sizeof(given)));
}

int field_number(const json_t *object, const char *name, struct number_range range, float *out,
                 struct err *e)
{
    const json_t *v = field_get(object, name);
    if (!v)
        return 0;
    double d = json_is_number(v) ? json_number_value(v) : NAN;
    bool low = range.min_open ? (float)d <= (float)range.min : d < range.min;
    if (isfinite(d) && !low && d <= range.max) {
        *out = (float)d;
        return 0;
    }
    char what[96];
    if (range.max >= 1e30)
        snprintf(what, sizeof(what), "a number %s %g", range.min_open ? "above" : "of at least",
                 range.min);
    else
        snprintf(what, sizeof(what), "a number %s %g and at most %g",
                 range.min_open ? "above" : "of at least", range.min, range.max);
    return field_wrong(name, what, v, e);
}

int field_int(const json_t *object, const char *name, int64_t min, int64_t max, int64_t *out,
              struct err *e)
{
    const json_t *v = field_get(object, name);
    if (!v)
        return 0;
    bool whole = json_is_integer(v);
    int64_t i = json_integer_value(v);
    double d = json_real_value(v);
    if (json_is_real(v) && d == trunc(d) && fabs(d) < 9007199254740992.0) {
        whole = true;
        i = (int64_t)d;
    }
    if (whole && i >= min && i <= max) {
        *out = i;
        return 0;
    }
    char what[96];
    if (min == INT64_MIN)
        snprintf(what, sizeof(what), "an integer");
    else if (max == INT64_MAX)
        snprintf(what, sizeof(what), "an integer of at least %lld", (long long)min);
    else
        snprintf(what, sizeof(what), "an integer from %lld to %lld", (long long)min,
                 (long long)max);
    return field_wrong(name, what, v, e);
}

int field_bool(const json_t *object, const char *name, bool *out, struct err *e)
{
    const json_t *v = field_get(object, name);
    if (!v)
        return 0;
    if (!json_is_boolean(v))
        return field_wrong(name, "true or false", v, e);
    *out = json_is_true(v);
    return 0;
}

int field_string(const json_t *object, const char *name, const char **out, struct err *e)
{
    const json_t *v = field_get(object, name);
    if (!v)
        return 0;
    if (!json_is_string(v))
        return field_wrong(name, "a string", v, e);
    if (strlen(json_string_value(v)) != json_string_length(v))
        return err_set_param(e, LLMD_EINVAL, name, "field '%s' must not hold U+0000", name);
    *out = json_string_value(v);
    return 0;
}

int field_object(const json_t *object, const char *name, json_t **out, struct err *e)
{
    json_t *v = field_get(object, name);
    if (!v)
        return 0;
    if (!json_is_object(v))
        return field_wrong(name, "an object", v, e);
    *out = v;
    return 0;
}
