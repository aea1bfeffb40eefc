/* tmpl_filter_int.h - the filters, which tmpl_filter.c has the table of. Parameters, defaults and
 * results are those of jinja2.filters. */
#pragma once
#include "core/model/tmpl_val_int.h"

/* The value at a dotted path ("a.0.b") or index of an item, as make_attrgetter finds it. attr:
 * MISSING or None for the item itself; dflt: instead of undefined, or MISSING. */
MUST_CHECK int tmpl_get_path(struct tmpl_run *r, const struct tmpl_val *item,
                             const struct tmpl_val *attr, const struct tmpl_val *dflt,
                             struct tmpl_val *out);
/* Strings become lower case unless case_sensitive. */
MUST_CHECK int tmpl_sort_key(struct tmpl_run *r, bool case_sensitive, struct tmpl_val *v);

/* sequences (tmpl_filter_seq.c) */
tmpl_filter_fn tmpl_filter_first, tmpl_filter_last, tmpl_filter_length, tmpl_filter_list,
    tmpl_filter_reverse, tmpl_filter_join, tmpl_filter_sum, tmpl_filter_attr;
tmpl_filter_fn tmpl_filter_minmax; /* how: OP_LT or OP_GT */
/* in order (tmpl_sort.c) */
tmpl_filter_fn tmpl_filter_sort, tmpl_filter_dictsort, tmpl_filter_groupby;
/* generators (tmpl_filter_lazy.c) */
tmpl_filter_fn tmpl_filter_map, tmpl_filter_unique, tmpl_filter_batch, tmpl_filter_slice,
    tmpl_filter_items;
enum { SELECT_REJECT = 1, SELECT_ATTR = 2 };
tmpl_filter_fn tmpl_filter_select; /* how: the flags above */
/* text (tmpl_filter_text.c, tmpl_filter_html.c) */
tmpl_filter_fn tmpl_filter_case; /* how: enum tmpl_case */
tmpl_filter_fn tmpl_filter_title, tmpl_filter_trim, tmpl_filter_replace, tmpl_filter_center,
    tmpl_filter_indent, tmpl_filter_truncate, tmpl_filter_wordcount, tmpl_filter_format,
    tmpl_filter_string, tmpl_filter_safe, tmpl_filter_urlencode, tmpl_filter_xmlattr;
tmpl_filter_fn tmpl_filter_escape; /* how: escape again what is safe */
/* numbers (tmpl_filter_num.c) */
tmpl_filter_fn tmpl_filter_int, tmpl_filter_float, tmpl_filter_abs, tmpl_filter_round,
    tmpl_filter_filesize;
