#include "core/edge/head_scan.h"

#include <string.h>
#include <strings.h>

/*   START -> METHOD -> TARGET -> VERSION -> LINE_LF -> FIELD -+-> NAME -> VALUE -> LINE_LF ...
 *                                                             +-> HEAD_LF -> START | BODY | SIZE
 *   SIZE -> (EXTENSION) -> SIZE_LF -> CHUNK -> CHUNK_CR -> CHUNK_LF -> SIZE ...
 *                             +-> FIELD with `trailer` -> HEAD_LF -> START */
enum state {
    START,
    START_LF,
    METHOD,
    TARGET,
    VERSION,
    LINE_LF,
    FIELD,
    NAME,
    VALUE,
    HEAD_LF,
    BODY,
    SIZE,
    EXTENSION,
    SIZE_LF,
    CHUNK,
    CHUNK_CR,
    CHUNK_LF,
    BAD,
};

enum { HTTP_BAD = 400, HTTP_FIELDS_TOO_LARGE = 431, HTTP_VERSION = 505, SIZE_DIGITS = 15 };

/* What a byte may be part of. */
enum class { CLASS_TOKEN = 1, CLASS_TARGET = 2, CLASS_VALUE = 4, CLASS_HEX = 8 };

static const uint8_t classes[256] = {
    ['\t'] = CLASS_VALUE,
    [' '] = CLASS_VALUE,
    ['!'] = CLASS_TOKEN | CLASS_TARGET | CLASS_VALUE,
    ['"'] = CLASS_TARGET | CLASS_VALUE,
    ['#' ... '\''] = CLASS_TOKEN | CLASS_TARGET | CLASS_VALUE,
    ['('] = CLASS_TARGET | CLASS_VALUE,
    [')'] = CLASS_TARGET | CLASS_VALUE,
    ['*'] = CLASS_TOKEN | CLASS_TARGET | CLASS_VALUE,
    ['+'] = CLASS_TOKEN | CLASS_TARGET | CLASS_VALUE,
    [','] = CLASS_TARGET | CLASS_VALUE,
    ['-'] = CLASS_TOKEN | CLASS_TARGET | CLASS_VALUE,
    ['.'] = CLASS_TOKEN | CLASS_TARGET | CLASS_VALUE,
    ['/'] = CLASS_TARGET | CLASS_VALUE,
    ['0' ... '9'] = CLASS_TOKEN | CLASS_TARGET | CLASS_VALUE | CLASS_HEX,
    [':' ... '@'] = CLASS_TARGET | CLASS_VALUE,
    ['A' ... 'F'] = CLASS_TOKEN | CLASS_TARGET | CLASS_VALUE | CLASS_HEX,
    ['G' ... 'Z'] = CLASS_TOKEN | CLASS_TARGET | CLASS_VALUE,
    ['[' ... ']'] = CLASS_TARGET | CLASS_VALUE,
    ['^' ... '`'] = CLASS_TOKEN | CLASS_TARGET | CLASS_VALUE,
    ['a' ... 'f'] = CLASS_TOKEN | CLASS_TARGET | CLASS_VALUE | CLASS_HEX,
    ['g' ... 'z'] = CLASS_TOKEN | CLASS_TARGET | CLASS_VALUE,
    ['{'] = CLASS_TARGET | CLASS_VALUE,
    ['|'] = CLASS_TOKEN | CLASS_TARGET | CLASS_VALUE,
    ['}'] = CLASS_TARGET | CLASS_VALUE,
    ['~'] = CLASS_TOKEN | CLASS_TARGET | CLASS_VALUE,
    [0x80 ... 0xff] = CLASS_VALUE,
};

void head_scan_init(struct head_scan *s)
{
    *s = (struct head_scan){.state = START};
}

bool head_scan_idle(const struct head_scan *s)
{
    return s->state == START;
}

bool head_scan_in_chunks(const struct head_scan *s)
{
    return s->trailer || (s->state >= SIZE && s->state != BAD);
}

/* The next request. */
static void start(struct head_scan *s)
{
    s->state = START;
    s->trailer = s->blank = false;
    s->n_fields = 0;
    s->n_head = 0;
    s->n_beside = 0;
    s->framing = (struct framing){0};
}

static void bad(struct head_scan *s, unsigned status, const char *fault)
{
    s->state = BAD;
    s->status = status;
    s->fault = fault;
}

/* Length of the run of bytes of a class. */
static size_t span(const char *data, size_t n, enum class c)
{
    size_t i = 0;
    while (i < n && classes[(unsigned char)data[i]] & c)
        i++;
    return i;
}

/* Why a byte may not stand in a line. */
static const char *line_fault(char c, const char *otherwise)
{
    if (c == '\n')
        return "a line must end with CR LF, not with a bare LF";
    if (c == '\0')
        return "a NUL byte is not allowed";
    return otherwise;
}

static void on_start(struct head_scan *s, char c)
{
    if (c == '\r' && !s->blank) /* RFC 9112 section 2.2: some send an empty line after a body */
        s->state = START_LF;
    else if (classes[(unsigned char)c] & CLASS_TOKEN)
        s->state = METHOD;
    else
        bad(s, HTTP_BAD, line_fault(c, "a request must begin with its method"));
}

static void on_method(struct head_scan *s, char c)
{
    s->n_value = 0;
    if (c == ' ')
        s->state = TARGET;
    else
        bad(s, HTTP_BAD, line_fault(c, "a request line is METHOD TARGET HTTP/1.1"));
}

/* n_value counts the bytes of the target here. */
static void on_target(struct head_scan *s, char c)
{
    if (c != ' ' || s->n_value == 0) {
        bad(s, HTTP_BAD, line_fault(c, "a request line is METHOD TARGET HTTP/1.1"));
        return;
    }
    s->state = VERSION;
    s->n_value = 0;
}

static void on_version(struct head_scan *s, char c)
{
    static const char pattern[] = "HTTP/D.D";
    const size_t n = sizeof(pattern) - 1;
    if (s->n_value < n) {
        bool fits = pattern[s->n_value] == 'D' ? c >= '0' && c <= '9' : c == pattern[s->n_value];
        s->version[s->n_value++] = c;
        if (!fits)
            bad(s, HTTP_BAD, line_fault(c, "a request line is METHOD TARGET HTTP/1.1"));
    } else if (c != '\r')
        bad(s, HTTP_BAD, line_fault(c, "a request line is METHOD TARGET HTTP/1.1"));
    else if (memcmp(s->version, "HTTP/1.0", n) != 0 && memcmp(s->version, "HTTP/1.1", n) != 0)
        bad(s, HTTP_VERSION, "the server speaks HTTP/1.1 and HTTP/1.0");
    else
        s->state = LINE_LF;
}

static void on_field(struct head_scan *s, char c)
{
    s->n_name = 0;
    s->n_value = 0;
    if (c == '\r')
        s->state = HEAD_LF;
    else if (c == ' ' || c == '\t')
        bad(s, HTTP_BAD, "a header line must not begin with a blank");
    else if (!(classes[(unsigned char)c] & CLASS_TOKEN))
        bad(s, HTTP_BAD, line_fault(c, "a header line is NAME: VALUE"));
    else if (++s->n_fields > SCAN_FIELDS)
        bad(s, HTTP_FIELDS_TOO_LARGE, "the request has more than 100 header lines");
    else {
        s->n_beside += SCAN_ENTRY_BYTES;
        s->state = NAME;
    }
}

static void on_name(struct head_scan *s, char c)
{
    if (c == ':')
        s->state = VALUE;
    else if (c == ' ' || c == '\t')
        bad(s, HTTP_BAD, "a blank before the colon of a header line is not allowed");
    else
        bad(s, HTTP_BAD, line_fault(c, "a header line is NAME: VALUE"));
}

static void keep_name(struct head_scan *s, const char *data, size_t n)
{
    if (s->n_name + n >= SCAN_NAME_BYTES) {
        s->n_name = SCAN_NAME_BYTES;
        return;
    }
    memcpy(s->name + s->n_name, data, n);
    s->n_name = (uint8_t)(s->n_name + n);
}

/* Of names that are short enough to matter; without blanks at the beginning. */
static void keep_value(struct head_scan *s, const char *data, size_t n)
{
    if (s->n_name == SCAN_NAME_BYTES)
        return;
    while (s->n_value == 0 && n > 0 && (*data == ' ' || *data == '\t')) {
        data++;
        n--;
    }
    if (s->n_value + n >= SCAN_VALUE_BYTES) {
        s->n_value = SCAN_VALUE_BYTES;
        return;
    }
    memcpy(s->value + s->n_value, data, n);
    s->n_value = (uint16_t)(s->n_value + n);
}

/* Entries that these bytes may begin: each mark is in front of one. */
static uint32_t beside(const char *data, size_t n, const char marks[2])
{
    uint32_t n_bytes = 0;
    for (size_t i = 0; i < n; i++)
        if (data[i] == marks[0] || data[i] == marks[1])
            n_bytes += SCAN_ENTRY_BYTES;
    return n_bytes;
}

/* More of a value. Cookies are copied, too. */
static void charge_value(struct head_scan *s, const char *data, size_t n)
{
    static const char name[] = "cookie";
    if (s->n_name == sizeof(name) - 1 && strncasecmp(s->name, name, sizeof(name) - 1) == 0)
        s->n_beside += (uint32_t)n + beside(data, n, ";,");
}

/* A field that matters is complete. One whose value does not fit is given a value that is bad for
 * every field with a grammar. */
static void take_field(struct head_scan *s)
{
    if (s->n_name == SCAN_NAME_BYTES || s->trailer)
        return;
    s->name[s->n_name] = '\0';
    if (s->n_value == SCAN_VALUE_BYTES)
        s->n_value = (uint16_t)(stpcpy(s->value, "\"too long\"") - s->value);
    s->value[s->n_value] = '\0';
    framing_header(&s->framing, s->name, s->value);
}

static void on_value(struct head_scan *s, char c)
{
    if (c != '\r') {
        bad(s, HTTP_BAD, line_fault(c, "a header value holds a control character"));
        return;
    }
    take_field(s);
    s->state = LINE_LF;
}

static void on_head_end(struct head_scan *s)
{
    const char *fault = framing_fault(&s->framing, s->version);
    s->n_head = 0;
    s->n_digits = 0;
    s->left = framing_chunked(&s->framing) ? 0 : s->framing.length;
    if (fault)
        bad(s, HTTP_BAD, fault);
    else if (framing_chunked(&s->framing))
        s->state = SIZE;
    else if (s->left > 0)
        s->state = BODY;
    else
        start(s);
}

static void on_size(struct head_scan *s, char c)
{
    if (classes[(unsigned char)c] & CLASS_HEX) {
        unsigned digit = c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a') + 10;
        s->left = s->left << 4 | digit;
        if (++s->n_digits > SIZE_DIGITS)
            bad(s, HTTP_BAD, "the size of a chunk has too many digits");
    } else if (s->n_digits > 0 && c == '\r')
        s->state = SIZE_LF;
    else if (s->n_digits > 0 && c == ';')
        s->state = EXTENSION;
    else
        bad(s, HTTP_BAD, line_fault(c, "the size of a chunk must be a plain hexadecimal number"));
}

static void on_size_end(struct head_scan *s)
{
    s->n_digits = 0;
    if (s->left > 0) {
        s->state = CHUNK;
        s->n_head = 0;
        return;
    }
    s->trailer = true;
    s->state = FIELD;
}

/* After CR. */
static void on_lf(struct head_scan *s, char c)
{
    if (c != '\n') {
        bad(s, HTTP_BAD, "a bare CR is not allowed");
        return;
    }
    switch ((enum state)s->state) {
    case START_LF:
        s->blank = true;
        s->state = START;
        s->n_head = 0;
        break;
    case HEAD_LF:
        if (s->trailer)
            start(s);
        else
            on_head_end(s);
        break;
    case SIZE_LF:
        on_size_end(s);
        break;
    case CHUNK_LF:
        s->state = SIZE;
        break;
    default:
        s->state = FIELD;
    }
}

static void on_byte(struct head_scan *s, char c)
{
    switch ((enum state)s->state) {
    case START:
        on_start(s, c);
        break;
    case METHOD:
        on_method(s, c);
        break;
    case TARGET:
        on_target(s, c);
        break;
    case VERSION:
        on_version(s, c);
        break;
    case FIELD:
        on_field(s, c);
        if (s->state == NAME)
            keep_name(s, &c, 1);
        break;
    case NAME:
        on_name(s, c);
        break;
    case VALUE:
        on_value(s, c);
        break;
    case SIZE:
        on_size(s, c);
        break;
    case EXTENSION:
        if (c == '\r')
            s->state = SIZE_LF;
        else
            bad(s, HTTP_BAD, line_fault(c, "a chunk's extension holds a control character"));
        break;
    case CHUNK_CR:
        if (c == '\r')
            s->state = CHUNK_LF;
        else
            bad(s, HTTP_BAD, "a chunk is longer than it says");
        break;
    default:
        on_lf(s, c);
    }
}

/* The bytes at the front of data that need no look at each other. */
static size_t run(struct head_scan *s, const char *data, size_t n)
{
    size_t k = 0;
    switch ((enum state)s->state) {
    case METHOD:
        k = span(data, n, CLASS_TOKEN);
        break;
    case TARGET:
        k = span(data, n, CLASS_TARGET);
        s->n_value |= k > 0; /* one byte or more */
        s->n_beside += beside(data, k, "?&");
        break;
    case NAME:
        k = span(data, n, CLASS_TOKEN);
        keep_name(s, data, k);
        break;
    case VALUE:
        k = span(data, n, CLASS_VALUE);
        keep_value(s, data, k);
        charge_value(s, data, k);
        break;
    case EXTENSION:
        k = span(data, n, CLASS_VALUE);
        break;
    default:
        break;
    }
    return k;
}

static void check_size(struct head_scan *s)
{
    if (!head_scan_in_chunks(s) && s->n_beside > SCAN_BESIDE_BYTES)
        bad(s, HTTP_FIELDS_TOO_LARGE,
            "the request has too many header lines, arguments or cookies");
    else if (!head_scan_in_chunks(s) && s->n_head + s->n_beside > SCAN_HEAD_BYTES)
        bad(s, HTTP_FIELDS_TOO_LARGE,
            "the head of the request has more than 16 KiB (each header line counts 64 bytes more)");
    else if (head_scan_in_chunks(s) && s->n_head > SCAN_MARK_BYTES)
        bad(s, HTTP_BAD, "a chunk's extensions or trailers have more than 1 KiB");
}

/* Reads at most a run of bytes of one sort and the byte after it. */
static size_t step(struct head_scan *s, const char *data, size_t n, enum scan_kind *out_kind)
{
    const bool marks = head_scan_in_chunks(s);
    const uint8_t before = s->state;
    size_t k = run(s, data, n);
    const bool more = k < n;
    s->n_head += (uint32_t)(k + more);
    check_size(s);
    if (more && s->state != BAD)
        on_byte(s, data[k++]);
    if (s->state == BAD)
        *out_kind = SCAN_BAD;
    else if (before == HEAD_LF)
        *out_kind = marks ? SCAN_BODY_END : SCAN_HEAD_END;
    else if (marks || before == START_LF || s->state == START_LF)
        *out_kind = SCAN_SKIP;
    else
        *out_kind = SCAN_HEAD;
    return k;
}

static size_t content(struct head_scan *s, size_t n)
{
    size_t k = (size_t)u64_min(n, s->left);
    s->left -= k;
    if (s->left > 0)
        return k;
    if (s->state == CHUNK)
        s->state = CHUNK_CR;
    else
        start(s);
    return k;
}

size_t head_scan_next(struct head_scan *s, const char *data, size_t n, enum scan_kind *out_kind)
{
    BUG_ON(n == 0);
    *out_kind = SCAN_BODY;
    if (s->state == BODY || s->state == CHUNK)
        return content(s, n);
    size_t at = 0;
    do {
        at += step(s, data + at, n - at, out_kind);
        if (*out_kind == SCAN_BAD)
            return 0;
        if (*out_kind != SCAN_HEAD && *out_kind != SCAN_SKIP)
            break;
    } while (at < n && s->state != START && s->state != CHUNK);
    return at;
}
