#include "core/util/json.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/json_memory.h"
#include "core/util/printable.h"
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

static int no_memory(size_t n, struct err *e)
{
    return err_set(e, LLMD_ENOMEM, "out of memory for %zu bytes of JSON", n);
}

/* The text as a value, with the memory of json_memory.h. */
static int load(const char *text, size_t n, size_t flags, json_t **out, struct err *e)
{
    json_error_t je;
    json_t *v = json_loadb(text, n, JSON_DECODE_ANY | JSON_ALLOW_NUL | flags, &je);
    if (json_memory_failed()) {
        json_decref(v);
        return no_memory(n, e);
    }
    if (!v) {
        char shown[2 * JSON_ERROR_TEXT_LENGTH]; /* the message quotes the input */
        printable_text(je.text, strlen(je.text), "", shown, sizeof(shown));
        return err_set(e, LLMD_EPARSE, "invalid JSON at line %d column %d: %s", je.line, je.column,
                       shown);
    }
    *out = v;
    return 0;
}

static int parse(const char *text, size_t n, size_t flags, json_t **out, struct err *e)
{
    const char *nul = n ? memchr(text, '\0', n) : NULL; /* jansson would take it for the end */
    if (nul)
        return err_set(e, LLMD_EPARSE, "invalid JSON: byte %zu is NUL", (size_t)(nul - text));
    if (nesting(text, n) > JSON_MAX_DEPTH)
        return err_set(e, LLMD_EPARSE, "JSON is nested deeper than %d levels", JSON_MAX_DEPTH);
    if (!json_memory_begin(n))
        return no_memory(n, e);
    const int rc = load(text, n, flags, out, e);
    json_memory_end();
    return rc;
}

int json_parse(const char *text, size_t n, json_t **out, struct err *e)
{
    return parse(text, n, 0, out, e);
}

int json_parse_reals(const char *text, size_t n, json_t **out, struct err *e)
{
    return parse(text, n, JSON_DECODE_INT_AS_REAL, out, e);
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

/* Digits behind the first one that v needs to read back the same; its decimal exponent. Up to 15
 * digits in all survive the way through a double, so that zeros at their end may go; not so below
 * DBL_MIN, where each count is tried. */
static int needed_digits(double v, int *out_exponent)
{
    char text[40];
    int n = fabs(v) < DBL_MIN ? 0 : 14;
    for (;; n++) {
        snprintf(text, sizeof(text), "%.*e", n, v);
        if (n == 16 || strtod(text, NULL) == v)
            break;
    }
    const char *e = strchr(text, 'e');
    *out_exponent = (int)strtol(e + 1, NULL, 10);
    while (n > 0 && *--e == '0')
        n--;
    return n;
}

void json_add_double(struct buf *b, double v)
{
    if (!isfinite(v)) {
        buf_addstr(b, "null");
        return;
    }
    int exponent, n = needed_digits(v, &exponent);
    if (exponent >= -5 && exponent <= 15) /* 0.00001 and 100, not 1e-05 and 1e+02 */
        buf_addf(b, "%.*f", n > exponent ? n - exponent : 0, v);
    else
        buf_addf(b, "%.*e", n, v);
}
