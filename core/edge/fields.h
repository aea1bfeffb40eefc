/* fields.h - reads typed fields of a request's JSON object.
 *
 * null equals omitted: the functions then leave *out alone and return 0. A wrong type or range is
 * EINVAL, and the message names field, expectation and what was given. */
#pragma once
#include <jansson.h>

#include "core/util/base.h"
#include "core/util/err.h"

/* The field, or NULL when it is missing or null. */
json_t *field_get(const json_t *object, const char *name);

/* A finite number in [min, max]; (min, max] when min_open. */
struct number_range {
    double min, max;
    bool min_open;
};
MUST_CHECK int field_number(const json_t *object, const char *name, struct number_range range,
                            float *out, struct err *e);
/* An integer in [min, max]; a real number without fraction will do. */
MUST_CHECK int field_int(const json_t *object, const char *name, int64_t min, int64_t max,
                         int64_t *out, struct err *e);
MUST_CHECK int field_bool(const json_t *object, const char *name, bool *out, struct err *e);
/* Borrowed from the object. Holds no NUL. */
MUST_CHECK int field_string(const json_t *object, const char *name, const char **out,
                            struct err *e);
MUST_CHECK int field_object(const json_t *object, const char *name, json_t **out, struct err *e);

/* "field 'name' must be WHAT, not (what it is)". Always EINVAL. */
int field_wrong(const char *name, const char *what, const json_t *is, struct err *e);
/* What a value is, in words: "a string", "2.5"; written to text, which is returned. */
const char *field_describe(const json_t *value, char *text, size_t n_text);
