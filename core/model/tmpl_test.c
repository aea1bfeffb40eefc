/* tmpl_test.c - the tests of `is`. */
#include <string.h>

#include "core/model/tmpl_ast_int.h"
#include "core/model/tmpl_strmeth_int.h"
#include "core/model/tmpl_val_int.h"

/* Tests of a value's type; how: one of these. */
enum {
    KIND_DEFINED,
    KIND_UNDEFINED,
    KIND_NONE,
    KIND_BOOLEAN,
    KIND_TRUE,
    KIND_FALSE,
    KIND_INTEGER,
    KIND_FLOAT,
    KIND_NUMBER,
    KIND_STRING,
    KIND_MAPPING,
    KIND_SEQUENCE,
    KIND_ITERABLE,
    KIND_CALLABLE,
    KIND_ESCAPED
};

static bool is_kind(const struct tmpl_val *v, int kind)
{
    switch (kind) {
    case KIND_DEFINED:
        return v->type != TV_UNDEF;
    case KIND_UNDEFINED:
        return v->type == TV_UNDEF;
    case KIND_NONE:
        return v->type == TV_NONE;
    case KIND_BOOLEAN:
        return v->type == TV_BOOL;
    case KIND_TRUE:
        return v->type == TV_BOOL && v->b;
    case KIND_FALSE:
        return v->type == TV_BOOL && !v->b;
    case KIND_INTEGER:
        return v->type == TV_INT;
    case KIND_FLOAT:
        return v->type == TV_FLOAT;
    case KIND_NUMBER:
        return tmpl_is_num(v);
    case KIND_STRING:
        return v->type == TV_STR;
    case KIND_MAPPING:
        return v->type == TV_DICT;
    case KIND_SEQUENCE:
        return tmpl_has_len(v) && v->type != TV_VIEW && v->type != TV_LOOP;
    case KIND_ITERABLE:
        return tmpl_iterable(v);
    case KIND_CALLABLE:
        return tmpl_callable(v);
    default:
        return v->type == TV_STR && v->str->markup;
    }
}

static int test_kind(struct tmpl_run *r, const struct tmpl_val *in, int kind,
                     const struct tmpl_args *a, struct tmpl_val *out)
{
    int rc = tmpl_bind_none(r, "test", a);
    *out = tmpl_bool(is_kind(in, kind));
    return rc;
}

static int test_compare(struct tmpl_run *r, const struct tmpl_val *in, int op,
                        const struct tmpl_args *a, struct tmpl_val *out)
{
    static const char *const names[] = {""};
    static const char *const seq_names[] = {"seq"};
    struct tmpl_val other;
    bool yes = false;
    int rc = tmpl_bind(r, "test", a, op == OP_IN ? seq_names : names, 1, 1, &other);
    if (rc == 0)
        rc = tmpl_compare(r, op, in, &other, &yes);
    *out = tmpl_bool(yes);
    return rc;
}

static int test_sameas(struct tmpl_run *r, const struct tmpl_val *in, int how,
                       const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    static const char *const names[] = {"other"};
    struct tmpl_val other;
    int rc = tmpl_bind(r, "sameas", a, names, 1, 1, &other);
    *out = tmpl_bool(rc == 0 && tmpl_same(in, &other));
    return rc;
}

/* in % divisor == rest */
static int has_rest(struct tmpl_run *r, const struct tmpl_val *in, const struct tmpl_val *divisor,
                    int64_t rest, struct tmpl_val *out)
{
    struct tmpl_val mod, want = tmpl_int(rest);
    bool yes = false;
    int rc = tmpl_binary(r, OP_MOD, in, divisor, &mod);
    if (rc == 0)
        rc = tmpl_eq(r, &mod, &want, &yes);
    *out = tmpl_bool(yes);
    return rc;
}

static int test_parity(struct tmpl_run *r, const struct tmpl_val *in, int rest,
                       const struct tmpl_args *a, struct tmpl_val *out)
{
    struct tmpl_val two = tmpl_int(2);
    int rc = tmpl_bind_none(r, "odd or even", a);
    return rc ? rc : has_rest(r, in, &two, rest, out);
}

static int test_divisibleby(struct tmpl_run *r, const struct tmpl_val *in, int how,
                            const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    static const char *const names[] = {"num"};
    struct tmpl_val num;
    int rc = tmpl_bind(r, "divisibleby", a, names, 1, 1, &num);
    return rc ? rc : has_rest(r, in, &num, 0, out);
}

static int test_case(struct tmpl_run *r, const struct tmpl_val *in, int how,
                     const struct tmpl_args *a, struct tmpl_val *out)
{
    struct tmpl_val s;
    bool yes = false;
    int rc = tmpl_bind_none(r, "lower or upper", a);
    if (rc == 0)
        rc = tmpl_str_of(r, in, &s);
    if (rc == 0)
        rc = tmpl_predicate(r, s.str, how, &yes);
    *out = tmpl_bool(yes);
    return rc;
}

/* Whether a filter (how: 0) or test of that name exists. */
static int test_exists(struct tmpl_run *r, const struct tmpl_val *in, int is_test,
                       const struct tmpl_args *a, struct tmpl_val *out)
{
    uint64_t hash;
    int rc = tmpl_bind_none(r, "filter or test", a);
    if (rc == 0)
        rc = tmpl_hash_val(r, in, &hash);
    if (rc)
        return rc;
    *out = tmpl_bool(in->type == TV_STR &&
                     (is_test ? tmpl_find_test(in->str->s, in->str->n) != NULL
                              : tmpl_find_filter(in->str->s, in->str->n) != NULL));
    return 0;
}

static const struct tmpl_filter tests[] = {
    {"defined", test_kind, KIND_DEFINED},
    {"undefined", test_kind, KIND_UNDEFINED},
    {"none", test_kind, KIND_NONE},
    {"boolean", test_kind, KIND_BOOLEAN},
    {"true", test_kind, KIND_TRUE},
    {"false", test_kind, KIND_FALSE},
    {"integer", test_kind, KIND_INTEGER},
    {"float", test_kind, KIND_FLOAT},
    {"number", test_kind, KIND_NUMBER},
    {"string", test_kind, KIND_STRING},
    {"mapping", test_kind, KIND_MAPPING},
    {"sequence", test_kind, KIND_SEQUENCE},
    {"iterable", test_kind, KIND_ITERABLE},
    {"callable", test_kind, KIND_CALLABLE},
    {"escaped", test_kind, KIND_ESCAPED},
    {"sameas", test_sameas, 0},
    {"odd", test_parity, 1},
    {"even", test_parity, 0},
    {"divisibleby", test_divisibleby, 0},
    {"lower", test_case, IS_LOWER},
    {"upper", test_case, IS_UPPER},
    {"filter", test_exists, 0},
    {"test", test_exists, 1},
    {"in", test_compare, OP_IN},
    {"==", test_compare, OP_EQ},
    {"eq", test_compare, OP_EQ},
    {"equalto", test_compare, OP_EQ},
    {"!=", test_compare, OP_NE},
    {"ne", test_compare, OP_NE},
    {">", test_compare, OP_GT},
    {"gt", test_compare, OP_GT},
    {"greaterthan", test_compare, OP_GT},
    {">=", test_compare, OP_GE},
    {"ge", test_compare, OP_GE},
    {"<", test_compare, OP_LT},
    {"lt", test_compare, OP_LT},
    {"lessthan", test_compare, OP_LT},
    {"<=", test_compare, OP_LE},
    {"le", test_compare, OP_LE},
};

const struct tmpl_filter *tmpl_find_test(const char *s, size_t n)
{
    for (size_t i = 0; i < ARRAY_LEN(tests); i++)
        if (strlen(tests[i].name) == n && memcmp(tests[i].name, s, n) == 0)
            return &tests[i];
    return NULL;
}
