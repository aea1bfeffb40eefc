#include "core/util/json_reader.h"

#include <string.h>

#include "core/util/json.h"
#include "core/util/utf8.h"

void json_reader_init(struct json_reader *r, const char *text, size_t n, struct arena *arena,
                      struct err *e)
{
    memset(r, 0, sizeof(*r));
    r->text = text;
    r->n = n;
    r->arena = arena;
    r->err = e;
}

/* Records a fault at byte `at`. */
static bool fault_at(struct json_reader *r, size_t at, const char *what)
{
    size_t line = 1, begin = 0;
    if (r->rc < 0)
        return false;
    for (size_t i = 0; i < at; i++) {
        if (r->text[i] == '\n') {
            line++;
            begin = i + 1;
        }
    }
    r->rc = err_set(r->err, LLMD_EPARSE, "line %zu column %zu: %s", line, at - begin + 1, what);
    return false;
}

static bool fault(struct json_reader *r, const char *what)
{
    return fault_at(r, r->at, r->at < r->n ? what : "the text ends too early");
}

/* The next character that is no white space; 0 at the end and after a fault. */
static char look(struct json_reader *r)
{
    if (r->rc < 0)
        return 0;
    while (r->at < r->n && (r->text[r->at] == ' ' || r->text[r->at] == '\n' ||
                            r->text[r->at] == '\r' || r->text[r->at] == '\t'))
        r->at++;
    return r->at < r->n ? r->text[r->at] : 0;
}

char json_peek(struct json_reader *r)
{
    char c = look(r);
    return c && strchr("{[\"tfn-0123456789", c) ? c : 0;
}

static bool open_bracket(struct json_reader *r, char bracket, const char *expected)
{
    if (look(r) != bracket)
        return fault(r, expected);
    if (r->depth == JSON_MAX_DEPTH)
        return fault(r, "nested too deeply");
    r->depth++;
    r->at++;
    r->first = true;
    return true;
}

/* Goes to the next element; false when the bracket closes. */
static bool next(struct json_reader *r, char bracket, const char *expected)
{
    char c = look(r);
    bool first = r->first;
    r->first = false;
    if (r->rc < 0)
        return false;
    if (c == bracket) {
        r->depth--;
        r->at++;
        return false;
    }
    if (first)
        return true;
    if (c != ',')
        return fault(r, expected);
    r->at++;
    return true;
}

bool json_open_object(struct json_reader *r)
{
    return open_bracket(r, '{', "an object is expected");
}

bool json_open_array(struct json_reader *r)
{
    return open_bracket(r, '[', "an array is expected");
}

bool json_next_item(struct json_reader *r)
{
    return next(r, ']', "',' or ']' is expected");
}

bool json_next_key(struct json_reader *r, struct json_str *out)
{
    if (!next(r, '}', "',' or '}' is expected"))
        return false;
    if (look(r) != '"')
        return fault(r, "a key is expected");
    if (!json_read_str(r, out))
        return false;
    if (look(r) != ':')
        return fault(r, "':' is expected");
    r->at++;
    return true;
}

/* ---- strings ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The four digits at s[0..3], which lie in the text; -1 when they are none. */
static int32_t hex4(const char *s)
{
    int32_t v = 0;
    for (int i = 0; i < 4; i++) {
        int d = hex_digit(s[i]);
        if (d < 0)
            return -1;
        v = v << 4 | d;
    }
    return v;
}

/* Decodes "\uXXXX" at s, or a pair of them, of the string that ends at `end`. Returns what it
 * took, 0 when it is none. */
static size_t decode_u(const char *s, const char *end, uint32_t *out_cp)
{
    int32_t high = end - s >= 6 ? hex4(s + 2) : -1;
    if (high < 0 || (high >= 0xdc00 && high <= 0xdfff))
        return 0;
    *out_cp = (uint32_t)high;
    if (high < 0xd800 || high > 0xdfff)
        return 6;
    int32_t low = end - s >= 12 && s[6] == '\\' && s[7] == 'u' ? hex4(s + 8) : -1;
    if (low < 0xdc00 || low > 0xdfff)
        return 0;
    *out_cp = 0x10000 + (((uint32_t)high - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
    return 12;
}

/* Writes what the escape at s stands for (up to 4 bytes) to out; what it took goes to *taken. */
static size_t decode_escape(const char *s, const char *end, char *out, size_t *taken)
{
    static const char letters[] = "\"\\/bfnrt", bytes[] = "\"\\/\b\f\n\r\t";
    uint32_t cp;
    if (s[1] == 'u') {
        *taken = decode_u(s, end, &cp);
        return *taken > 0 ? utf8_encode(cp, out) : 0;
    }
    const char *p = s[1] ? strchr(letters, s[1]) : NULL;
    *taken = p ? 2 : 0;
    if (p)
        *out = bytes[p - letters];
    return p ? 1 : 0;
}

/* Decodes the string text[from..to-1], which holds escapes, into the arena. A backslash is never
 * its last character. */
static bool decode(struct json_reader *r, size_t from, size_t to, struct json_str *out)
{
    char *mem = arena_alloc(r->arena, to - from), *p = mem;
    const char *s = r->text + from, *end = r->text + to;
    if (!mem) {
        r->rc = err_set(r->err, LLMD_ENOMEM, "out of memory");
        return false;
    }
    while (s < end) {
        const char *escape = memchr(s, '\\', (size_t)(end - s));
        size_t plain = (size_t)((escape ? escape : end) - s), taken;
        memcpy(p, s, plain);
        p += plain;
        s += plain;
        if (!escape)
            break;
        p += decode_escape(s, end, p, &taken);
        if (taken == 0)
            return fault_at(r, (size_t)(s - r->text), "no valid escape");
        s += taken;
    }
    *out = (struct json_str){mem, (size_t)(p - mem)};
    return true;
}

enum { STR_PLAIN, STR_STOP, STR_HIGH }; /* kinds of bytes in a string */

static inline int str_byte(unsigned char c)
{
    if (c >= 0x80)
        return STR_HIGH;
    return c < 0x20 || c == '"' || c == '\\' ? STR_STOP : STR_PLAIN;
}

bool json_read_str(struct json_reader *r, struct json_str *out)
{
    bool escapes = false, high = false;
    if (look(r) != '"')
        return fault(r, "a string is expected");
    size_t from = r->at + 1, i = from;
    for (;; i++) {
        int kind = i < r->n ? str_byte((unsigned char)r->text[i]) : STR_STOP;
        high |= kind == STR_HIGH;
        if (kind != STR_STOP)
            continue;
        if (i >= r->n) /* a backslash may have been the last character */
            return fault_at(r, r->n, "the string does not end");
        if ((unsigned char)r->text[i] < 0x20)
            return fault_at(r, i, "a control character in a string");
        if (r->text[i] == '"')
            break;
        escapes = true;
        i++; /* what is escaped is looked at later; it may be a quote */
    }
    if (high && !utf8_valid(r->text + from, i - from))
        return fault_at(r, from, "the string is not valid UTF-8");
    r->at = i + 1;
    if (escapes)
        return decode(r, from, i, out);
    *out = (struct json_str){r->text + from, i - from};
    return true;
}

/* ---- other values ---- */

static bool word(struct json_reader *r, const char *w)
{
    size_t n = strlen(w);
    if (look(r) != w[0] || r->n - r->at < n || memcmp(r->text + r->at, w, n) != 0)
        return false;
    r->at += n;
    return true;
}

bool json_read_null(struct json_reader *r)
{
    return word(r, "null");
}

bool json_read_bool(struct json_reader *r, bool *out)
{
    bool is_true = word(r, "true");
    if (!is_true && !word(r, "false"))
        return fault(r, "true or false is expected");
    *out = is_true;
    return true;
}

static size_t digits(const struct json_reader *r, size_t at)
{
    size_t n = 0;
    while (at + n < r->n && r->text[at + n] >= '0' && r->text[at + n] <= '9')
        n++;
    return n;
}

static bool char_at(const struct json_reader *r, size_t at, char a, char b)
{
    return at < r->n && (r->text[at] == a || r->text[at] == b);
}

/* Takes a number; out_integer: it has neither fraction nor exponent. */
static bool number(struct json_reader *r, bool *out_integer)
{
    size_t at = r->at + char_at(r, r->at, '-', '-'), n = digits(r, at);
    if (n == 0 || (n > 1 && r->text[at] == '0'))
        return fault(r, "a value is expected");
    at += n;
    *out_integer = true;
    if (char_at(r, at, '.', '.')) {
        n = digits(r, at + 1);
        if (n == 0)
            return fault_at(r, at, "no valid number");
        at += 1 + n;
        *out_integer = false;
    }
    if (char_at(r, at, 'e', 'E')) {
        at += 1 + char_at(r, at + 1, '+', '-');
        n = digits(r, at);
        if (n == 0)
            return fault_at(r, at, "no valid number");
        at += n;
        *out_integer = false;
    }
    r->at = at;
    return true;
}

bool json_read_u32(struct json_reader *r, uint32_t *out)
{
    bool integer = false;
    uint64_t v = 0;
    look(r);
    size_t from = r->at;
    if (r->rc < 0 || !number(r, &integer))
        return false;
    for (size_t i = from; integer && i < r->at && v <= UINT32_MAX; i++)
        v = r->text[i] == '-' ? UINT64_MAX : v * 10 + (uint64_t)(r->text[i] - '0');
    if (!integer || v > UINT32_MAX)
        return fault_at(r, from, "an integer from 0 to 4294967295 is expected");
    *out = (uint32_t)v;
    return true;
}

static bool skip_value(struct json_reader *r)
{
    struct json_str s;
    bool unused = false;
    switch (look(r)) {
    case '{':
        for (json_open_object(r); json_next_key(r, &s);)
            skip_value(r);
        return r->rc == 0;
    case '[':
        for (json_open_array(r); json_next_item(r);)
            skip_value(r);
        return r->rc == 0;
    case '"':
        return json_read_str(r, &s);
    case 't':
    case 'f':
        return json_read_bool(r, &unused);
    case 'n':
        return json_read_null(r) || fault(r, "a value is expected");
    default:
        return r->rc == 0 && number(r, &unused);
    }
}

bool json_skip(struct json_reader *r, struct json_str *out)
{
    look(r);
    size_t from = r->at;
    if (!skip_value(r))
        return false;
    if (out)
        *out = (struct json_str){r->text + from, r->at - from};
    return true;
}

bool json_end(struct json_reader *r)
{
    look(r);
    if (r->rc < 0)
        return false;
    return r->at == r->n || fault(r, "something follows the value");
}

bool json_str_is(struct json_str s, const char *text)
{
    size_t n = strlen(text);
    return s.n == n && memcmp(s.s, text, n) == 0;
}
