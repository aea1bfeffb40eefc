#include "core/util/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/utf8.h"

/* Deepest nesting of brackets outside strings; stops early beyond the limit. */
static int nesting(const char *s, size_t n)
{
    int depth = 0, deepest = 0;
    bool in_string = false;
    for (size_t i = 0; i < n && deepest <= JSON_MAX_DEPTH; i++) {
        if (in_string) {
            if (s[i] == '\\')
                i++;
            else if (s[i] == '"')
                in_string = false;
        } else if (s[i] == '"')
            in_string = true;
        else if (s[i] == '[' || s[i] == '{')
            deepest = ++depth > deepest ? depth : deepest;
        else if (s[i] == ']' || s[i] == '}')
            depth--;
    }
    return deepest;
}

int json_parse(const char *text, size_t n, json_t **out, struct err *e)
{
    json_error_t je;
    if (nesting(text, n) > JSON_MAX_DEPTH)
        return err_set(e, LLMD_EPARSE, "JSON is nested deeper than %d levels", JSON_MAX_DEPTH);
    json_t *v = json_loadb(text, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &je);
    if (!v)
        return err_set(e, LLMD_EPARSE, "invalid JSON at line %d column %d: %s", je.line, je.column,
                       je.text);
    *out = v;
    return 0;
}

static void add_escaped(struct buf *b, const char *s, size_t n)
{
    size_t from = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        buf_add(b, s + from, i - from);
        from = i + 1;
        static const char shorts[] = "\b\t\n\f\r\"\\", letters[] = "btnfr\"\\";
        const char *p = c ? strchr(shorts, c) : NULL;
        if (p) {
            buf_addch(b, '\\');
            buf_addch(b, letters[p - shorts]);
        } else
            buf_addf(b, "\\u%04x", c);
    }
    buf_add(b, s + from, n - from);
}

void json_add_str(struct buf *b, const char *s, size_t n)
{
    buf_addch(b, '"');
    if (utf8_valid(s, n))
        add_escaped(b, s, n);
    else {
        struct buf clean = {0};
        utf8_add_lossy(&clean, s, n);
        add_escaped(b, buf_str(&clean), clean.len);
        b->failed |= clean.failed;
        buf_fini(&clean);
    }
    buf_addch(b, '"');
}

void json_add_cstr(struct buf *b, const char *s)
{
    if (s)
        json_add_str(b, s, strlen(s));
    else
        buf_addstr(b, "null");
}

void json_add_double(struct buf *b, double v)
{
    char text[40];
    if (!isfinite(v)) {
        buf_addstr(b, "null");
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    buf_addstr(b, text);
}
