/* tmpl_strmeth_int.h - the methods of str, which tmpl_strmeth.c has the table of. */
#pragma once
#include "core/model/tmpl_val_int.h"

/* Pays for a search; a backward search for a long text may take n * n_sub. */
MUST_CHECK int tmpl_charge_search(struct tmpl_run *r, size_t n, size_t n_sub, bool backward);

tmpl_method_fn tmpl_meth_split;     /* how: from the right */
tmpl_method_fn tmpl_meth_partition; /* how: from the right */
tmpl_method_fn tmpl_meth_splitlines, tmpl_meth_join;

enum { FIND_FIRST, FIND_LAST, FIND_INDEX, FIND_RINDEX, FIND_COUNT };
tmpl_method_fn tmpl_meth_find;   /* how: one of the above */
tmpl_method_fn tmpl_meth_affix;  /* startswith; how: endswith */
tmpl_method_fn tmpl_meth_remove; /* removeprefix; how: removesuffix */
tmpl_method_fn tmpl_meth_strip;  /* how: 1 left, 2 right */
tmpl_method_fn tmpl_meth_replace;
/* str.replace with count < 0 for all; the result is a copy or s itself. */
MUST_CHECK int tmpl_replace(struct tmpl_run *r, struct tmpl_str *s, const struct tmpl_str *old,
                            const struct tmpl_str *new, int64_t count, struct tmpl_val *out);
MUST_CHECK int tmpl_strip(struct tmpl_run *r, struct tmpl_str *s, const struct tmpl_val *chars,
                          int sides, struct tmpl_val *out);
MUST_CHECK int tmpl_to_case(struct tmpl_run *r, const struct tmpl_str *s, int how,
                            struct tmpl_val *out);
/* center, ljust, rjust. */
enum { PAD_CENTER, PAD_LEFT, PAD_RIGHT };
MUST_CHECK int tmpl_pad(struct tmpl_run *r, struct tmpl_str *s, int64_t width, const char *fill,
                        size_t n_fill, int how, struct tmpl_val *out);
MUST_CHECK int tmpl_predicate(struct tmpl_run *r, const struct tmpl_str *s, int how, bool *out);
enum {
    IS_ALNUM,
    IS_ALPHA,
    IS_ASCII,
    IS_DECIMAL,
    IS_DIGIT,
    IS_IDENTIFIER,
    IS_LOWER,
    IS_NUMERIC,
    IS_PRINTABLE,
    IS_SPACE,
    IS_TITLE,
    IS_UPPER
};
