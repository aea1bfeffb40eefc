/* json_tree.h - a tree made by the reader without trees, to be held against that of jansson. */
#pragma once
#include <stdlib.h>
#include <string.h>

#include "core/util/json.h"
#include "core/util/json_reader.h"

/* *out_odd: a number or key that jansson does not take (out of range, U+0000 in a key). NULL after
 * a fault. */
static inline json_t *json_tree(struct json_reader *r, bool *out_odd)
{
    struct json_str s = {NULL, 0};
    json_t *v = NULL, *item;
    bool flag;
    switch (json_peek(r)) {
    case '{':
        v = json_object();
        json_open_object(r);
        while (json_next_key(r, &s)) {
            *out_odd |= s.n > 0 && memchr(s.s, 0, s.n);
            item = json_tree(r, out_odd);
            if (item)
                json_object_setn_new_nocheck(v, s.s ? s.s : "", s.n, item);
        }
        break;
    case '[':
        v = json_array();
        json_open_array(r);
        while (json_next_item(r)) {
            item = json_tree(r, out_odd);
            if (item)
                json_array_append_new(v, item);
        }
        break;
    case '"':
        return json_read_str(r, &s) ? json_stringn(s.n ? s.s : "", s.n) : NULL;
    case 't':
    case 'f':
        return json_read_bool(r, &flag) ? json_boolean(flag) : NULL;
    case 'n':
        if (json_read_null(r))
            return json_null();
        json_skip(r, NULL); /* reports the fault */
        return NULL;
    default:
        if (!json_skip(r, &s))
            return NULL;
        if (json_parse(s.s, s.n, &v, NULL) < 0) {
            *out_odd = true;
            return json_null();
        }
        return v;
    }
    if (r->rc == 0)
        return v;
    json_decref(v);
    return NULL;
}

/* Whether both readers agree on the text; explains a difference in *out_why. */
static inline bool json_readers_agree(const char *text, size_t n, const char **out_why)
{
    struct json_reader r;
    struct arena arena;
    struct err e = {0};
    json_t *want = NULL;
    bool odd = false, agree = true;
    arena_init(&arena, 0);
    json_reader_init(&r, text, n, &arena, &e);
    json_t *got = json_tree(&r, &odd);
    bool ok = json_end(&r) && got;
    int rc = json_parse(text, n, &want, NULL);
    *out_why = "";
    if (!ok && rc == 0)
        *out_why = "only jansson takes it";
    else if (ok && rc < 0 && !odd)
        *out_why = "jansson refuses it";
    else if (ok && rc == 0 && !odd && !json_equal(got, want))
        *out_why = "it is read otherwise";
    else if (!ok && (e.code == 0 || e.msg[0] == '\0' || r.rc == 0))
        *out_why = "refused without a message";
    agree = **out_why == '\0';
    json_decref(got);
    json_decref(want);
    arena_fini(&arena);
    return agree;
}
