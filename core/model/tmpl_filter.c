/* tmpl_filter.c - the table of filters. */
#include "core/model/tmpl_filter_int.h"

#include <string.h>

#include "core/model/tmpl_ast_int.h"
#include "core/model/tmpl_text_int.h"

static int filter_default(struct tmpl_run *r, const struct tmpl_val *in, int how,
                          const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    static const char *const names[] = {"default_value", "boolean"};
    struct tmpl_val v[2];
    int rc = tmpl_bind(r, "default", a, names, 2, 0, v);
    if (rc)
        return rc;
    bool use = in->type == TV_UNDEF || (tmpl_truthy(&v[1]) && !tmpl_truthy(in));
    if (use && v[0].type == TV_MISSING)
        return tmpl_str_ref(r, "", 0, out);
    *out = use ? v[0] : *in;
    return 0;
}

static const struct tmpl_filter filters[] = {
    {"abs", tmpl_filter_abs, 0},
    {"attr", tmpl_filter_attr, 0},
    {"batch", tmpl_filter_batch, 0},
    {"capitalize", tmpl_filter_case, CASE_CAPITAL},
    {"center", tmpl_filter_center, 0},
    {"count", tmpl_filter_length, 0},
    {"d", filter_default, 0},
    {"default", filter_default, 0},
    {"dictsort", tmpl_filter_dictsort, 0},
    {"e", tmpl_filter_escape, 0},
    {"escape", tmpl_filter_escape, 0},
    {"filesizeformat", tmpl_filter_filesize, 0},
    {"first", tmpl_filter_first, 0},
    {"float", tmpl_filter_float, 0},
    {"forceescape", tmpl_filter_escape, 1},
    {"format", tmpl_filter_format, 0},
    {"groupby", tmpl_filter_groupby, 0},
    {"indent", tmpl_filter_indent, 0},
    {"int", tmpl_filter_int, 0},
    {"items", tmpl_filter_items, 0},
    {"join", tmpl_filter_join, 0},
    {"last", tmpl_filter_last, 0},
    {"length", tmpl_filter_length, 0},
    {"list", tmpl_filter_list, 0},
    {"lower", tmpl_filter_case, CASE_LOWER},
    {"map", tmpl_filter_map, 0},
    {"max", tmpl_filter_minmax, OP_GT},
    {"min", tmpl_filter_minmax, OP_LT},
    {"pprint", NULL, 0},
    {"random", NULL, 0},
    {"reject", tmpl_filter_select, SELECT_REJECT},
    {"rejectattr", tmpl_filter_select, SELECT_REJECT | SELECT_ATTR},
    {"replace", tmpl_filter_replace, 0},
    {"reverse", tmpl_filter_reverse, 0},
    {"round", tmpl_filter_round, 0},
    {"safe", tmpl_filter_safe, 0},
    {"select", tmpl_filter_select, 0},
    {"selectattr", tmpl_filter_select, SELECT_ATTR},
    {"slice", tmpl_filter_slice, 0},
    {"sort", tmpl_filter_sort, 0},
    {"string", tmpl_filter_string, 0},
    {"striptags", NULL, 0},
    {"sum", tmpl_filter_sum, 0},
    {"title", tmpl_filter_title, 0},
    {"tojson", tmpl_filter_tojson, 0},
    {"trim", tmpl_filter_trim, 0},
    {"truncate", tmpl_filter_truncate, 0},
    {"unique", tmpl_filter_unique, 0},
    {"upper", tmpl_filter_case, CASE_UPPER},
    {"urlencode", tmpl_filter_urlencode, 0},
    {"urlize", NULL, 0},
    {"wordcount", tmpl_filter_wordcount, 0},
    {"wordwrap", NULL, 0},
    {"xmlattr", tmpl_filter_xmlattr, 0},
};

const struct tmpl_filter *tmpl_find_filter(const char *s, size_t n)
{
    for (size_t i = 0; i < ARRAY_LEN(filters); i++)
        if (strlen(filters[i].name) == n && memcmp(filters[i].name, s, n) == 0)
            return &filters[i];
    return NULL;
}
