#include "core/bench/log_rows.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/util/json_reader.h"

enum { MAX_COLUMNS = 128, MAX_NUMBER = 40 };

enum field { TIME, TIME_US, PROMPT, CACHED, OUTPUT, PREFIX, SESSION, OTHER };

static enum field field_of(const char *name, size_t n)
{
    static const char *const names[] = {
        [TIME] = "time",       [TIME_US] = "time_us",      [PROMPT] = "prompt_tokens",
        [PREFIX] = "prefix",   [CACHED] = "cached_tokens", [OUTPUT] = "output_tokens",
        [SESSION] = "session",
    };
    for (int f = TIME; f < OTHER; f++)
        if (strlen(names[f]) == n && memcmp(names[f], name, n) == 0)
            return (enum field)f;
    return OTHER;
}

/* "2026-11-21T09:00:00.123456Z" or "...+01:00", or seconds. */
static bool parse_time(const char *text, int64_t *out_us)
{
    struct tm tm = {0};
    char *end;
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    if (!rest) {
        double s = strtod(text, &end);
        if (end == text || *end || !(s >= 0 && s < 1e11))
            return false;
        *out_us = (int64_t)(s * 1e6);
        return true;
    }
    double fraction = 0;
    if (*rest == '.') {
        fraction = strtod(rest, &end);
        rest = end;
        if (!(fraction < 1))
            return false;
    }
    int64_t offset_s = 0;
    if (*rest == '+' || *rest == '-') {
        long hours = strtol(rest + 1, &end, 10);
        if (end != rest + 3 || *end != ':')
            return false;
        long minutes = strtol(rest + 4, &end, 10);
        if (end != rest + 6 || *end || hours < 0 || minutes < 0)
            return false;
        offset_s = (*rest == '-' ? -60 : 60) * (int64_t)(60 * hours + minutes);
    } else if (strcmp(rest, "Z") != 0)
        return false;
    *out_us = ((int64_t)timegm(&tm) - offset_s) * 1000000 + (int64_t)(fraction * 1e6);
    return *out_us >= 0;
}

/* A value as text, without quotes; "" and "null" are no value. False: it is no number or time. */
static bool take(struct log_row *row, enum field f, const char *text, size_t n)
{
    int64_t *numbers[] = {[TIME_US] = &row->time_us,
                          [PROMPT] = &row->prompt_tokens,
                          [CACHED] = &row->cached_tokens,
                          [OUTPUT] = &row->output_tokens};
    char copy[MAX_NUMBER];
    char *end;
    if (f == OTHER || n == 0 || (n == 4 && memcmp(text, "null", 4) == 0))
        return true;
    if (f == PREFIX) {
        row->prefix = text;
        row->n_prefix = n;
        return true;
    }
    if (f == SESSION) {
        row->session = text;
        row->n_session = n;
        return true;
    }
    if (n >= sizeof(copy))
        return false;
    memcpy(copy, text, n);
    copy[n] = '\0';
    if (f == TIME) /* time_us, where both are, says the same */
        return parse_time(copy, &row->time_us);
    *numbers[f] = strtoll(copy, &end, 10);
    return *end == '\0' && *numbers[f] >= -1;
}

static struct log_row empty_row(void)
{
    return (struct log_row){
        .time_us = -1, .prompt_tokens = -1, .cached_tokens = -1, .output_tokens = -1};
}

static int bad_value(const char *text, size_t n, struct err *e)
{
    return err_set(e, LLMD_EPARSE, "'%.*s' is no number or time", (int)u64_min(n, 60), text);
}

static int json_row(const char *text, size_t n, struct log_row *row, struct err *e)
{
    struct arena arena;
    struct json_reader r;
    struct json_str key, raw;
    int rc = 0;
    arena_init(&arena, 0);
    json_reader_init(&r, text, n, &arena, e);
    json_open_object(&r);
    while (rc == 0 && json_next_key(&r, &key)) {
        enum field f = field_of(key.s, key.n);
        if (!json_skip(&r, &raw))
            break;
        if (raw.n >= 2 && raw.s[0] == '"') {
            raw.s++;
            raw.n -= 2;
        }
        if (!take(row, f, raw.s, raw.n))
            rc = bad_value(raw.s, raw.n, e);
    }
    if (rc == 0)
        json_end(&r);
    arena_fini(&arena);
    return rc ? rc : r.rc;
}

/* ---- CSV (RFC 4180) ---- */

/* Takes one cell; the text behind it begins at *at. Doubled quotes stay doubled: no field that is
 * read here holds any. */
static bool next_cell(const char *text, size_t n, size_t *at, const char **out, size_t *out_n)
{
    size_t i = *at, from = i;
    if (i > n)
        return false;
    if (i < n && text[i] == '"') {
        from = ++i;
        while (i < n && (text[i] != '"' || (i + 1 < n && text[i + 1] == '"')))
            i += text[i] == '"' ? 2 : 1;
        *out_n = i - from;
        while (i < n && text[i] != ',')
            i++;
    } else {
        while (i < n && text[i] != ',')
            i++;
        *out_n = i - from;
    }
    *out = text + from;
    *at = i + 1;
    return true;
}

/* Bytes of a record, of which quoted line ends are a part. */
static size_t record_length(const char *text, size_t n)
{
    bool quoted = false;
    size_t i = 0;
    for (; i < n && (quoted || text[i] != '\n'); i++)
        quoted ^= text[i] == '"';
    return i;
}

struct header {
    enum field fields[MAX_COLUMNS];
    uint32_t n;
};

static void read_header(struct header *h, const char *text, size_t n)
{
    const char *cell;
    size_t n_cell;
    for (size_t at = 0; h->n < MAX_COLUMNS && next_cell(text, n, &at, &cell, &n_cell);)
        h->fields[h->n++] = field_of(cell, n_cell);
}

static int csv_row(const struct header *h, const char *text, size_t n, struct log_row *row,
                   struct err *e)
{
    const char *cell;
    size_t n_cell, at = 0;
    for (uint32_t i = 0; i < h->n && next_cell(text, n, &at, &cell, &n_cell); i++)
        if (!take(row, h->fields[i], cell, n_cell))
            return bad_value(cell, n_cell, e);
    return 0;
}

int log_rows_read(const char *text, size_t n, log_row_fn fn, void *ctx, struct err *e)
{
    struct header header = {.n = 0};
    size_t at = 0;
    while (at < n && (text[at] == ' ' || text[at] == '\n' || text[at] == '\r' || text[at] == '\t'))
        at++;
    bool json = at < n && text[at] == '{';
    int rc = 0;
    for (uint32_t line = 1; at < n && rc == 0; line++) {
        const char *newline = memchr(text + at, '\n', n - at);
        size_t k = json ? (newline ? (size_t)(newline - text) - at : n - at)
                        : record_length(text + at, n - at);
        size_t used = k + 1;
        struct log_row row = empty_row();
        while (k > 0 && text[at + k - 1] == '\r')
            k--;
        if (k > 0 && !json && header.n == 0)
            read_header(&header, text + at, k);
        else if (k > 0) {
            rc = json ? json_row(text + at, k, &row, e) : csv_row(&header, text + at, k, &row, e);
            if (rc != 0)
                err_prefix(e, "row %u: ", line);
            else
                rc = fn(ctx, &row);
        }
        at += used;
    }
    return rc;
}
